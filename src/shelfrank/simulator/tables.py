"""The simulated shop as tables of a search log, and the schema that declares them."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Shaped

from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import Customers
from shelfrank.simulator.needs import first_day
from shelfrank.simulator.queries import Intents
from shelfrank.simulator.randomness import hashed_uniform
from shelfrank.simulator.visits import DEVICES, forms_of
from shelfrank.simulator.words import AGE_GROUPS, COLORS

SCHEMA = Schema(
    name="storefront",
    features=(
        *(
            Feature(name=name, side=Side.PRODUCT, kind=Kind.CATEGORICAL)
            for name in ("brand", "color", "material", "age_group", "department", "category")
        ),
        Feature(name="price", side=Side.PRODUCT, kind=Kind.NUMERICAL, unit="USD", log1p=True),
        Feature(name="rating", side=Side.PRODUCT, kind=Kind.NUMERICAL, unit="stars"),
        Feature(name="review_count", side=Side.PRODUCT, kind=Kind.NUMERICAL, unit="reviews", log1p=True),
        *(
            Feature(name=name, side=Side.CUSTOMER, kind=Kind.CATEGORICAL)
            for name in ("age_band", "has_children", "region", "income_band", "membership")
        ),
        Feature(name="household_size", side=Side.CUSTOMER, kind=Kind.NUMERICAL, unit="people"),
        Feature(name="tenure_days", side=Side.CUSTOMER, kind=Kind.NUMERICAL, unit="days", log1p=True),
        Feature(name="device", side=Side.CONTEXT, kind=Kind.CATEGORICAL),
        Feature(name="discount", side=Side.CONTEXT, kind=Kind.NUMERICAL, unit="share of the price"),
    ),
)
"""`launched_at` of the products is not declared: as a number it is a date, not an age."""

ID_DIGITS = 7


def make_ids(prefix: str, numbers: Int[np.ndarray, " rows"]) -> pa.Array:
    """Ids such as `p0000001` for product number 0."""
    return pa.array([f"{prefix}{number + 1:0{ID_DIGITS}d}" for number in numbers.tolist()], pa.string())


def product_tables(config: StorefrontConfig, catalogue: Catalogue, titles: list[str]) -> tuple[pa.Table, pa.Table]:
    """The products as listed by the shop, and their truth.

    Args:
        config: The shop.
        catalogue: Its products.
        titles: Their titles.

    Returns:
        The table `products` and the table `truth/products`.
    """
    assortment, ids = catalogue.assortment, make_ids("p", np.arange(catalogue.n_products))
    values = dict(assortment.values) | {"color": tuple(color.split("/")[0] for color in COLORS)}
    listed = {"product_id": ids, "title": pa.array(titles, pa.string())}
    for number, name in enumerate(("brand", "color", "material", "age_group")):
        codes = catalogue.attributes[name]
        draws = hashed_uniform(config.seed, 12, number, np.arange(catalogue.n_products))
        listed[name] = _words(codes, values[name], (codes < 0) | (draws < config.catalogue.missing_attribute))
    listed["department"] = _words(catalogue.department(), assortment.departments)
    listed["category"] = _words(catalogue.category, tuple(words.name for words in assortment.categories))
    listed["price"] = pa.array(catalogue.price_usd)
    listed["rating"] = pa.array(catalogue.rating, mask=np.isnan(catalogue.rating))
    listed["review_count"] = pa.array(catalogue.n_reviews)
    begin = np.datetime64(first_day(config).replace(tzinfo=None), "us")
    launched = begin + catalogue.launch_day * np.timedelta64(86_400_000_000, "us")
    listed["launched_at"] = pa.array(launched).cast(pa.timestamp("us", tz="UTC"))
    truth = {"product_id": ids, "kind": _words(catalogue.kind, tuple(words[0] for words in assortment.kinds))}
    for name, codes in catalogue.attributes.items():
        truth[name] = _words(codes, values[name], codes < 0)
    for name in ("price_z", "quality", "appeal", "demand", "merchandising", "launch_day"):
        truth[name] = pa.array(getattr(catalogue, name))
    return pa.table(listed), pa.table(truth)


def customer_tables(catalogue: Catalogue, customers: Customers) -> tuple[pa.Table, pa.Table]:
    """The customers as known to the shop, and their truth.

    Args:
        catalogue: The shop's products.
        customers: Its customers.

    Returns:
        The table `customers` and the table `truth/customers`.
    """
    assortment, ids = catalogue.assortment, make_ids("c", np.arange(customers.n_customers))
    truth: dict[str, pa.Array] = {"customer_id": ids}
    for name in ("activity", "eagerness", "price_level", "minds_quality"):
        truth[name] = pa.array(getattr(customers, name))
    for axis in range(customers.style.shape[1]):
        truth[f"style_{axis}"] = pa.array(customers.style[:, axis].copy())
    for place, age in enumerate(AGE_GROUPS.values()):
        truth[f"has_{age}"] = pa.array(customers.household[:, place].copy())
    for place, department in enumerate(assortment.departments):
        name = f"brand_in_{department.lower().replace(' ', '_')}"
        truth[name] = _words(customers.favorite_brand[:, place], assortment.values["brand"])
    categories = tuple(words.name for words in assortment.categories)
    for place in range(customers.favorite_categories.shape[1]):
        truth[f"category_{place + 1}"] = _words(customers.favorite_categories[:, place], categories)
    for place in range(customers.favorite_colors.shape[1]):
        truth[f"color_{place + 1}"] = _words(customers.favorite_colors[:, place], COLORS)
    return pa.table({"customer_id": ids, **customers.shown}), pa.table(truth)


def search_table(
    config: StorefrontConfig, intents: Intents, searches: Shaped[np.ndarray, " searches"], first_search: int
) -> pa.Table:
    """The columns that all impressions of a search share, one row per search.

    Args:
        config: The shop.
        intents: The intents of queries.
        searches: Rows of `visits.SEARCH`.
        first_search: Number of earlier searches.

    Returns:
        The columns of `impressions` that do not depend on the product.
    """
    begin = np.datetime64(first_day(config).replace(tzinfo=None), "us")
    time = begin + (searches["second"] * 1e6).astype(np.int64) * np.timedelta64(1, "us")
    customer = make_ids("c", searches["customer"]).to_numpy(zero_copy_only=False)
    return pa.table(
        {
            "search_id": make_ids("s", first_search + np.arange(len(searches))),
            "timestamp": pa.array(time).cast(pa.timestamp("us", tz="UTC")),
            "customer_id": pa.array(customer, pa.string(), mask=searches["anonymous"]),
            "session_id": make_ids("v", searches["visit"]),
            "query": pa.array([intents.texts[form] for form in forms_of(searches).tolist()], pa.string()),
            "device": _words(searches["device"], DEVICES),
        }
    )


def _words(
    codes: Int[np.ndarray, " rows"], words: tuple[str, ...], missing: Bool[np.ndarray, " rows"] | None = None
) -> pa.Array:
    indices = pa.array(codes.astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string())).cast(pa.string())
