"""Levels of prices within categories: plain counts, odd values, and what a store reads back."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.core.values import CategorySpelling
from shelfrank.features.levels import Levels, ProductLevels, level_column

CATEGORY = Feature(name="category", side=Side.PRODUCT, kind=Kind.CATEGORICAL)
PRICE = Feature(name="price", side=Side.PRODUCT, kind=Kind.NUMERICAL)

catalogues = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=30
)


def table(rows: list[tuple[str | None, float | None]]) -> pa.Table:
    categories, prices = zip(*rows, strict=True)
    return pa.table({"category": pa.array(categories, pa.string()), "price": pa.array(prices, pa.float64())})


@settings(max_examples=100, deadline=None)
@given(rows=catalogues)
def test_a_level_counts_the_cheaper_products_of_its_category(rows: list[tuple[str | None, int | None]]) -> None:
    products = table([(category, None if price is None else float(price)) for category, price in rows])
    made = Levels.of_catalogue(products, ("price",), (CATEGORY, PRICE)).of_products(products, (CATEGORY, PRICE))
    for (category, price), level in zip(rows, made[level_column("price")], strict=True):
        if price is None:
            assert np.isnan(level)
            continue
        own = [other for its, other in rows if its == category and other is not None]
        below = sum(other < price for other in own) + sum(other == price for other in own) / 2
        assert level == np.round(1000 * (below / len(own) - 0.5))


def test_without_a_declared_category_all_products_are_one() -> None:
    products = table([("a", 1.0), ("b", 2.0)])
    made = Levels.of_catalogue(products, ("price",), (PRICE,)).of_products(products, (PRICE,))
    assert made["price_level"].tolist() == [-250.0, 250.0]


def test_categories_are_spelled_as_the_log_spells_them() -> None:
    products = table([("1", 1.0), (" 1.0 ", 2.0)])
    made = Levels.of_catalogue(products, ("price",), (CATEGORY, PRICE)).of_products(products, (CATEGORY, PRICE))
    assert made["price_level"].tolist() == [-250.0, 250.0]


def test_a_store_reads_the_levels_back_and_those_of_given_features(tmp_path: Path) -> None:
    products = table([("a", 1.0), ("a", 3.0), ("b", 10.0), ("b", None), ("c", None)])
    features = (CATEGORY, PRICE)
    Levels.of_catalogue(products, ("price",), features).save(tmp_path / "levels", products, features)
    store = ProductLevels(tmp_path / "levels", ("price",), CategorySpelling(), {"price": float})
    own = store.of_page(np.arange(-1, 5), [{}] * 6)["price_level"]
    np.testing.assert_array_equal(own, [np.nan, -250, 250, 0, np.nan, np.nan])
    assert [store.of_event(product) for product in (0, 2, 3, -1)] == [{"price": -250}, {"price": 0}, {}, {}]

    given_ones = [{"price": 2.0}, {"category": "b"}, {"price": 2.0, "category": "new"}, {"price": 4.0, "category": "a"}]
    levels = store.of_page(np.array([0, 0, 0, -1]), given_ones)["price_level"]
    np.testing.assert_array_equal(levels, [0, -500, np.nan, 500])
