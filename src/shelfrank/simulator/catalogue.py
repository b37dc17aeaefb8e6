"""The products of the simulated shop: attributes, prices, and true quality."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from shelfrank.simulator.assortment import Assortment
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import exp, log, normal, power
from shelfrank.simulator.randomness import hashed_normal, hashed_uniform, pick, stream
from shelfrank.simulator.words import AGE_GROUPS, COLOR_WEIGHTS

D_STYLE = 4
LOG_PRICE_UNIT = 0.55
"""Log USD per unit of price utility."""
MEAN_AGE_DAYS = 400.0
DISCOUNT_LEVELS = 3
DISCOUNT_STEP = 0.1
AGE_LETTERS = "".join(AGE_GROUPS)
AGE_SLOTS = 60
"""Divisible by the length of every category's age list, so that its letters have equal weights."""


@dataclass(frozen=True)
class Catalogue:
    """The products, and the trends of brands and categories.

    Attributes:
        assortment: The vocabulary that the numbers refer to.
        category: Each product's leaf category.
        kind: Each product's type.
        attributes: By name in `assortment.ATTRIBUTES`, each product's value, -1 for none.
        price_usd: Listed price.
        price_z: Log price relative to the usual one of the type, in units of `LOG_PRICE_UNIT`.
        quality: True quality, about standard normal.
        appeal: Appeal to all customers, about standard normal.
        demand: Appeal as past sales show it, about standard normal.
        merchandising: The shop's interest in selling it, standard normal.
        launch_day: The day of its launch, counted from the log's first; negative before.
        rating: Mean stars when the log begins; NaN without reviews.
        n_reviews: Reviews when the log begins.
        brand_style: Each brand's position in style space.
        brand_trend: Each brand's demand by week.
        category_weight: Each category's sales over the year.
    """

    assortment: Assortment
    category: Int32[np.ndarray, " products"]
    kind: Int32[np.ndarray, " products"]
    attributes: dict[str, Int32[np.ndarray, " products"]]
    price_usd: Float32[np.ndarray, " products"]
    price_z: Float32[np.ndarray, " products"]
    quality: Float32[np.ndarray, " products"]
    appeal: Float32[np.ndarray, " products"]
    demand: Float32[np.ndarray, " products"]
    merchandising: Float32[np.ndarray, " products"]
    launch_day: Int32[np.ndarray, " products"]
    rating: Float32[np.ndarray, " products"]
    n_reviews: Int32[np.ndarray, " products"]
    brand_style: Float32[np.ndarray, "brands style"]
    brand_trend: Float32[np.ndarray, "weeks brands"]
    category_weight: Float32[np.ndarray, " categories"]

    @property
    def n_products(self) -> int:
        """Number of products."""
        return len(self.kind)

    def department(self) -> Int32[np.ndarray, " products"]:
        """Each product's department."""
        return self.assortment.department[self.category]


def make_catalogue(config: StorefrontConfig, assortment: Assortment) -> Catalogue:
    """Draws the products; a larger number does not change the earlier ones.

    Args:
        config: The shop.
        assortment: Its vocabulary.

    Returns:
        The catalogue.
    """
    parameters, seed, n = config.catalogue, config.seed, config.products

    def drawn(name: str) -> Float32[np.ndarray, " products"]:
        return normal(stream(seed, f"products.{name}"), n).astype(np.float32)

    def uniform(name: str) -> Float32[np.ndarray, " products"]:
        return stream(seed, f"products.{name}").random(n).astype(np.float32)

    n_categories, n_brands = len(assortment.categories), len(assortment.values["brand"])
    size = exp(parameters.category_concentration * hashed_normal(seed, 1, np.arange(n_categories)))
    category = pick(uniform("category"), size)
    n_kinds = np.diff(assortment.kind_start)[category]
    # Types are sorted by importance; the power gives the first of four 33 %, the last 20 %.
    kind = assortment.kind_start[category] + (skewed_to_first(uniform("kind")) * n_kinds).astype(np.int32)
    attributes = {
        name: _draw_options(assortment, name, category, uniform(name))
        for name in ("color", "material", "feature", "size")
    }
    attributes["age_group"] = _draw_ages(assortment, category, uniform("ages"))
    attributes["brand"] = _draw_brands(config, assortment, category, uniform("brand"))

    tier = assortment.brand_tier()[attributes["brand"]]
    log_step = parameters.tier_price_step * tier + parameters.price_spread * drawn("price")
    kind_log_price = 0.35 * hashed_normal(seed, 2, np.arange(len(assortment.kinds)))
    usual = log(np.array([category.price for category in assortment.categories]))[category] + kind_log_price[kind]
    quality = 0.35 * tier + 0.9 * drawn("quality")
    appeal = 0.5 * quality + 0.87 * drawn("appeal")
    demand = 0.6 * appeal + 0.8 * drawn("demand")
    launch_day = _draw_launches(config, uniform("new"), uniform("age"))
    age_days = np.maximum(-launch_day, 0)
    n_reviews = np.where(age_days > 0, np.floor(exp(2.0 + demand + 0.6 * log(1 + age_days / 60))), 0).astype(np.int32)
    stars = 4.1 + 0.35 * quality + 0.8 * drawn("rating") / np.sqrt(n_reviews + 1.0)
    weeks = normal(stream(seed, "brands.trend"), (config.days // 7 + 1, n_brands))
    return Catalogue(
        assortment=assortment,
        category=category,
        kind=kind.astype(np.int32),
        attributes=attributes,
        price_usd=(np.maximum(np.round(exp(usual + log_step)), 1) - 0.01).astype(np.float32),
        price_z=(log_step / LOG_PRICE_UNIT).astype(np.float32),
        quality=quality.astype(np.float32),
        appeal=appeal.astype(np.float32),
        demand=demand.astype(np.float32),
        merchandising=drawn("merchandising"),
        launch_day=launch_day,
        # Ratings are bounded, so they cannot distinguish the very best products.
        rating=np.where(n_reviews > 0, np.round(np.clip(stars, 1, 5), 1), np.nan).astype(np.float32),
        n_reviews=n_reviews,
        brand_style=normal(stream(seed, "brands.style"), (n_brands, D_STYLE)).astype(np.float32),
        brand_trend=np.cumsum(parameters.trend_step * weeks, axis=0).astype(np.float32),
        category_weight=exp(0.5 * log(size) + 0.3 * hashed_normal(seed, 3, np.arange(n_categories))),
    )


def discount_share(
    config: StorefrontConfig, product: Int[np.ndarray, "..."], day: Int[np.ndarray, "..."]
) -> Float32[np.ndarray, "..."]:
    """The discount on a product on a day; offers last a week, and the listed price does not change.

    Args:
        config: The shop.
        product: Product numbers.
        day: Days since the log's first.

    Returns:
        The discount as a share of the price: 0, 0.1, 0.2 or 0.3.
    """
    draw = hashed_uniform(config.seed, 4, product, day // 7) / max(config.catalogue.discounted, 1e-9)
    level = np.where(draw < 1, np.floor(draw * DISCOUNT_LEVELS) + 1, 0)
    return (level * DISCOUNT_STEP).astype(np.float32)


def skewed_to_first(draws: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Skews uniform draws towards 0 by the power 1.25, so that earlier types are more frequent."""
    return draws * np.sqrt(np.sqrt(draws))


def _draw_options(
    assortment: Assortment,
    name: str,
    category: Int32[np.ndarray, " products"],
    draws: Float32[np.ndarray, " products"],
) -> Int32[np.ndarray, " products"]:
    options = assortment.options[name]
    counts = np.array([len(values) for values in options])[category]
    if name == "color":
        chosen = pick(draws, np.array(COLOR_WEIGHTS, dtype=np.float64))
        return np.where(counts > 0, chosen, -1).astype(np.int32)
    table = np.full((len(options), max(map(len, options))), -1, dtype=np.int32)
    for row, values in enumerate(options):
        table[row, : len(values)] = values
    return table[category, (draws * counts).astype(np.int32)]


def _draw_ages(
    assortment: Assortment, category: Int32[np.ndarray, " products"], draws: Float32[np.ndarray, " products"]
) -> Int32[np.ndarray, " products"]:
    letters = [words.ages for words in assortment.categories]
    table = np.array(
        [[AGE_LETTERS.find(text[i % len(text)]) for i in range(AGE_SLOTS)] for text in letters],
        dtype=np.int32,
    )
    return table[category, (draws * AGE_SLOTS).astype(np.int32)]


def _draw_brands(
    config: StorefrontConfig,
    assortment: Assortment,
    category: Int32[np.ndarray, " products"],
    draws: Float32[np.ndarray, " products"],
) -> Int32[np.ndarray, " products"]:
    each = assortment.n_brands_each
    brand = np.empty(len(category), dtype=np.int32)
    department = assortment.department[category]
    for number in range(len(assortment.departments)):
        # The sizes of brands are drawn, independent of tier and alphabet.
        rank = np.argsort(hashed_uniform(config.seed, 5, number, np.arange(each)), kind="stable")
        weights = power(rank + 1.0, -config.catalogue.brand_concentration)
        rows = department == number
        brand[rows] = number * each + pick(draws[rows], weights)
    return brand


def _draw_launches(
    config: StorefrontConfig, new: Float32[np.ndarray, " products"], age: Float32[np.ndarray, " products"]
) -> Int32[np.ndarray, " products"]:
    before = -1 - np.floor(-MEAN_AGE_DAYS * log(1 - age * 0.95)).astype(np.int32)
    within = (age * config.days).astype(np.int32)
    return np.where(new < config.catalogue.launched_during, within, before).astype(np.int32)
