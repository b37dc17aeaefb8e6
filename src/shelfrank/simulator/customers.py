"""The customers of the simulated shop: hidden tastes, and demographics as a noisy signal of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32, Integer

from shelfrank.simulator.catalogue import D_STYLE, Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import exp, gumbel, log, normal, row_products
from shelfrank.simulator.randomness import pick, stream
from shelfrank.simulator.words import AGE_GROUPS, COLOR_WEIGHTS

REGIONS = ("north", "south", "east", "west", "midwest", "coast", "lakes", "mountain")
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
AGE_BAND_EDGES = (25, 35, 45, 55, 65)
INCOME_BANDS = ("under 30k", "30k-60k", "60k-100k", "100k-150k", "over 150k")
INCOME_BAND_EDGES = (-1.0, -0.2, 0.6, 1.4)
MEMBERSHIPS = ("none", "basic", "plus")
MEMBERSHIP_EDGES = (0.3, 1.2)
FAVORITE_SHARES = np.array([0.38, 0.24, 0.15, 0.1, 0.08, 0.05], dtype=np.float32)
"""Shares of a customer's favourite categories in the visits to them."""
CHUNK = 50_000


@dataclass(frozen=True)
class Customers:
    """Hidden tastes of all customers, and the columns of the customers table.

    Attributes:
        activity: Visit rate, relative to the others.
        eagerness: Readiness to click and buy, in logits.
        style: Preferences among brand styles.
        price_level: Preferred price, in the units of `Catalogue.price_z`.
        minds_quality: Weight of quality; 1 is usual.
        household: By `AGE_GROUPS`, whether the household has a member of the group.
        favorite_brand: Favourite brand, by department.
        favorite_colors: Two colours.
        favorite_categories: Favourite categories, the first ones preferred, as many as `FAVORITE_SHARES`.
        shown: The shop's knowledge: column name to values.
    """

    activity: Float32[np.ndarray, " customers"]
    eagerness: Float32[np.ndarray, " customers"]
    style: Float32[np.ndarray, "customers style"]
    price_level: Float32[np.ndarray, " customers"]
    minds_quality: Float32[np.ndarray, " customers"]
    household: Bool[np.ndarray, "customers ages"]
    favorite_brand: Int32[np.ndarray, "customers departments"]
    favorite_colors: Int32[np.ndarray, "customers two"]
    favorite_categories: Int32[np.ndarray, "customers favorites"]
    shown: dict[str, pa.Array]

    @property
    def n_customers(self) -> int:
        """Number of customers."""
        return len(self.activity)


def make_customers(config: StorefrontConfig, catalogue: Catalogue) -> Customers:
    """Draws the customers, who depend on the catalogue's brands and categories but not on the searches.

    Args:
        config: The shop.
        catalogue: Its products.

    Returns:
        The customers.
    """
    seed, n = config.seed, config.customers

    def drawn(name: str) -> Float32[np.ndarray, " customers"]:
        return normal(stream(seed, f"customers.{name}"), n).astype(np.float32)

    def uniform(name: str) -> Float32[np.ndarray, " customers"]:
        return stream(seed, f"customers.{name}").random(n).astype(np.float32)

    age_years = np.clip(46 + 16 * drawn("age"), 18, 90)
    # Most parents are 28 to 52 years old.
    parent = uniform("parent") < 0.15 + 0.5 * exp(-np.square((age_years - 40) / 10))
    household = np.stack(
        [
            np.ones(n, dtype=bool),
            parent & (uniform("teens") < np.clip((age_years - 30) / 25, 0.05, 0.6)),
            parent & (uniform("kids") < 0.6),
            parent & (uniform("babies") < np.clip((46 - age_years) / 30, 0.02, 0.5)),
        ],
        axis=1,
    )
    income = drawn("income")
    region = pick(uniform("region"), np.ones(len(REGIONS)))
    # One axis of style depends on the region.
    style = normal(stream(seed, "customers.style"), (n, D_STYLE))
    style[:, 0] = 0.8 * style[:, 0] + 0.6 * normal(stream(seed, "regions"), len(REGIONS))[region]
    price_level = 0.6 * income + 0.65 * drawn("price")
    activity = drawn("activity")
    style = style.astype(np.float32)
    shown = {
        "age_band": (np.searchsorted(AGE_BAND_EDGES, age_years, side="right"), AGE_BANDS),
        "has_children": (np.any(household[:, 1:], axis=1).astype(np.int64), ("no", "yes")),
        "region": (region, REGIONS),
        "income_band": (
            np.searchsorted(INCOME_BAND_EDGES, income + 0.4 * drawn("income noise")), INCOME_BANDS
        ),
        "membership": (
            np.searchsorted(MEMBERSHIP_EDGES, 0.7 * activity + 0.7 * drawn("membership noise")), MEMBERSHIPS
        ),
    }  # fmt: skip
    size = 1 + (uniform("partner") < 0.6) + np.sum(household[:, 1:], axis=1) + (uniform("more") < 0.15)
    columns = {name: _noisy(config, name, codes, words) for name, (codes, words) in shown.items()}
    columns["household_size"] = pa.array(
        size.astype(np.float32), mask=uniform("size missing") < config.traffic.demographics_missing
    )
    columns["tenure_days"] = pa.array(np.floor(600 * -log(1 - uniform("tenure") * 0.98)).astype(np.float32))
    return Customers(
        activity=exp(config.traffic.activity_spread * activity),
        eagerness=0.4 * drawn("eagerness"),
        style=style,
        price_level=price_level.astype(np.float32),
        minds_quality=exp(0.4 * drawn("quality")),
        household=household,
        favorite_brand=_favorite_brands(config, catalogue, style, price_level),
        favorite_colors=np.stack([pick(uniform(f"color {i}"), np.array(COLOR_WEIGHTS)) for i in (1, 2)], axis=1),
        favorite_categories=_favorite_categories(config, catalogue, household, uniform("pets") < 0.4),
        shown=columns,
    )


def _noisy(
    config: StorefrontConfig, name: str, codes: Integer[np.ndarray, " customers"], words: tuple[str, ...]
) -> pa.Array:
    rng = stream(config.seed, f"customers.shown.{name}")
    draws = rng.random((len(codes), 3))
    wrong = (draws[:, 2] * len(words)).astype(codes.dtype)
    codes = np.where(draws[:, 1] < config.traffic.demographics_wrong, wrong, codes)
    missing = draws[:, 0] < config.traffic.demographics_missing
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=missing), pa.array(words)).cast(pa.string())


def _favorite_brands(
    config: StorefrontConfig,
    catalogue: Catalogue,
    style: Float32[np.ndarray, "customers style"],
    price_level: Float32[np.ndarray, " customers"],
) -> Int32[np.ndarray, "customers departments"]:
    assortment = catalogue.assortment
    each, n_departments = assortment.n_brands_each, len(assortment.departments)
    tier = assortment.brand_tier()
    rng = stream(config.seed, "customers.brands")
    parts = []
    for start in range(0, len(style), CHUNK):
        rows = slice(start, start + CHUNK)
        liking = row_products(style[rows], catalogue.brand_style) / 2 - np.abs(tier - price_level[rows, None])
        liking = (liking + gumbel(rng, liking.shape)).reshape(-1, n_departments, each)
        parts.append(np.argmax(liking, axis=2) + each * np.arange(n_departments))
    return np.concatenate(parts).astype(np.int32)


def _favorite_categories(
    config: StorefrontConfig,
    catalogue: Catalogue,
    household: Bool[np.ndarray, "customers ages"],
    pets: Bool[np.ndarray, " customers"],
) -> Int32[np.ndarray, "customers favorites"]:
    assortment = catalogue.assortment
    department = assortment.department
    for_babies = department == assortment.departments.index("Baby")
    for_kids = department == assortment.departments.index("Toys")
    for_pets = department == assortment.departments.index("Pets")
    baby, kids = household[:, list(AGE_GROUPS).index("B")], household[:, list(AGE_GROUPS).index("K")]
    departments, categories = (stream(config.seed, f"customers.{name}") for name in ("departments", "categories"))
    parts = []
    for start in range(0, len(household), CHUNK):
        rows = slice(start, start + CHUNK)
        n = len(household[rows])
        liking = 0.6 * normal(departments, (n, len(assortment.departments)))[:, department]
        liking += log(catalogue.category_weight) + gumbel(categories, liking.shape)
        # Customers without babies, children or pets rarely buy for them: presents only.
        for has, concerned in ((baby, for_babies), (kids, for_kids), (pets, for_pets)):
            liking += np.where(has[rows, None], 1.0, -2.5) * concerned
        parts.append(np.argsort(-liking, axis=1, kind="stable")[:, : len(FAVORITE_SHARES)])
    return np.concatenate(parts).astype(np.int32)
