"""A visit's need: the category, and the preferences that the query does not state."""

from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from shelfrank.simulator.catalogue import AGE_LETTERS, Catalogue, skewed_to_first
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import FAVORITE_SHARES, Customers
from shelfrank.simulator.portable import cos_of_turns, exp, normal, row_products
from shelfrank.simulator.randomness import hashed_uniform, pick, pick_rows
from shelfrank.simulator.words import COLOR_WEIGHTS

LAST_DAY = datetime(2025, 6, 30, tzinfo=UTC)
COLOR_SHARE = 0.6
"""Share of visits with a preferred colour; half of these prefer a favourite one."""
ADULT_SHARE = 3.0
"""Purchases for an adult relative to those for a child of the household."""

NEED = np.dtype(
    [
        ("customer", np.int32),
        ("kind", np.int32),
        ("color", np.int32),
        ("age_group", np.int32),
        ("eagerness", np.float32),
    ]
)
"""One need: the customer, the sought product type, colour (-1 for any) and age group, and the visit's readiness to
click and buy, in logits."""


def first_day(config: StorefrontConfig) -> datetime:
    """Midnight (UTC) at which the log begins."""
    return LAST_DAY - timedelta(days=config.days - 1)


def season_weights(config: StorefrontConfig, catalogue: Catalogue) -> Float32[np.ndarray, "days categories"]:
    """Demand for each category on each day of the log."""
    categories = catalogue.assortment.categories
    begin = first_day(config).timetuple().tm_yday
    month = (begin + np.arange(config.days)) / 365.25 * 12 + 0.5
    peak = np.array([category.peak_month for category in categories])
    strength = np.array([category.season for category in categories])
    swing = exp(strength * cos_of_turns((month[:, None] - peak) / 12))
    return (swing * catalogue.category_weight).astype(np.float32)


def draw_categories(
    config: StorefrontConfig,
    customers: Customers,
    customer: Int32[np.ndarray, " visits"],
    weights: Float32[np.ndarray, "visits categories"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, " visits"]:
    """Draws the category of each visit: mostly a favourite one, weighted by the season.

    Args:
        config: The shop.
        customers: All customers.
        customer: The customer of each visit.
        weights: Each visit's row of `season_weights`.
        rng: The random generator.

    Returns:
        The categories.
    """
    n = len(customer)
    favorites = customers.favorite_categories[customer]
    liking = FAVORITE_SHARES * np.take_along_axis(weights, favorites, axis=1)
    favorite = favorites[np.arange(n), pick_rows(rng.random(n), liking)]
    anything = pick_rows(rng.random(n), weights)
    # A small shop may sell nothing in any favourite category.
    follows = (rng.random(n) < config.traffic.favorite_category) & np.any(liking > 0, axis=1)
    return np.where(follows, favorite, anything).astype(np.int32)


def draw_needs(
    config: StorefrontConfig,
    catalogue: Catalogue,
    customers: Customers,
    customer: Int32[np.ndarray, " visits"],
    category: Int32[np.ndarray, " visits"],
    habit: Bool[np.ndarray, " visits"],
    rng: np.random.Generator,
) -> Shaped[np.ndarray, " visits"]:
    """Draws each visit's need within its category.

    Args:
        config: The shop.
        catalogue: Its products.
        customers: All customers.
        customer: The customer of each visit.
        category: The category of each visit.
        habit: Whether the customer seeks the usual type.
        rng: The random generator.

    Returns:
        Rows of `NEED`.
    """
    n, assortment = len(customer), catalogue.assortment
    needs = np.zeros(n, dtype=NEED)
    needs["customer"] = customer
    usual = hashed_uniform(config.seed, 6, customer, category)
    draws = skewed_to_first(np.where(habit, usual, rng.random(n)))
    first = assortment.kind_start[category]
    needs["kind"] = first + (draws * (assortment.kind_start[category + 1] - first)).astype(np.int32)
    favorite = customers.favorite_colors[customer, (rng.random(n) < 0.4).astype(np.int32)]
    color = np.where(rng.random(n) < 0.5, favorite, pick(rng.random(n), np.array(COLOR_WEIGHTS)))
    colored = np.array([len(values) > 0 for values in assortment.options["color"]])[category]
    needs["color"] = np.where(colored & (rng.random(n) < COLOR_SHARE), color, -1)
    needs["age_group"] = _draw_age_groups(catalogue, customers, customer, category, rng)
    eagerness = config.behaviour.eagerness * normal(rng, n)
    needs["eagerness"] = customers.eagerness[customer] + eagerness
    return needs


def sample_panel(
    customers: Customers, category: int, general_weight: float, rng: np.random.Generator, n: int
) -> Int32[np.ndarray, " panel"]:
    """Draws customers in proportion to their searches in a category.

    Args:
        customers: All customers.
        category: The category.
        general_weight: The category's share of visits without a favourite category, times their odds.
        rng: The random generator.
        n: Number of customers.

    Returns:
        Customer numbers; active customers may repeat, as in the log.
    """
    liking = row_products(customers.favorite_categories == category, FAVORITE_SHARES[None, :])[:, 0] + general_weight
    return pick(rng.random(n), customers.activity * liking)


def _draw_age_groups(
    catalogue: Catalogue,
    customers: Customers,
    customer: Int32[np.ndarray, " visits"],
    category: Int32[np.ndarray, " visits"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, " visits"]:
    # Products without an age group are bought for adults.
    ages = [words.ages.replace("-", "A") for words in catalogue.assortment.categories]
    sold = np.array([[letter in text for letter in AGE_LETTERS] for text in ages])[category]
    share = np.where(np.array(list(AGE_LETTERS)) == "A", ADULT_SHARE, 1.0)
    # A household without any of the category's age groups buys a present for one of them.
    weights = (sold * share * (customers.household[customer] + 0.05)).astype(np.float32)
    return pick_rows(rng.random(len(customer)), weights)
