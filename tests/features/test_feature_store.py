"""Pages of what the log has not: cold, never an error; what a request gives replaces what the tables say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay import pages
from shop import open_store, write_random_scores

from random_log import one_thread, random_tables, write_log
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import PreparedData
from shelfrank.features import ids
from shelfrank.features.request import Page, PageRequest
from shelfrank.features.store import FeatureStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online")
    log = write_log(folder / "log", random_tables(seed=41, n_searches=40))
    scores = write_random_scores(folder / "scores", log)
    open_store(folder, log, one_thread(semantic_scores=str(scores), upstream_order=True))
    return folder


@pytest.fixture
def store(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder / "store")


def number(page: Page, name: str) -> np.ndarray:
    return page.numerical[:, [column.name for column in page.numerical_columns].index(name)]


def code(page: Page, name: str) -> list[int]:
    return page.categorical[:, [column.name for column in page.categorical_columns].index(name)].tolist()


def test_everything_unknown_is_cold(store: FeatureStore) -> None:
    asked = PageRequest("zzz", ["p1", "new", "p2"], "nobody", "nowhere", context={"device": "watch", "weather": "rain"})
    page = store.page(asked)
    assert page.unknown == {"products": 1, "customer": 1, "query": 1, "categories": 1}
    assert page.query_idx == -1
    assert page.product_idx.tolist() == [1, -1, 2]
    assert np.isfinite(page.numerical).all()
    assert code(page, "device") == [0, 0, 0]
    made = store.computed(asked)
    cold = [name for name in made if name.endswith(("_impressions", "_clicks", "_engaged", "_in_title", "_matched"))]
    assert len(cold) > 10
    assert all(made[name][1] == 0 for name in cold)
    assert made["product_impressions"][0] > 0
    assert made["query_length"].tolist() == [1, 1, 1]
    assert np.isnan(made["semantic_score"]).all()


def test_an_anonymous_visitor_is_no_unknown_customer(store: FeatureStore) -> None:
    page = store.page(PageRequest("red", ["p1"], ts_us=store.until_us))
    assert page.unknown == {"products": 0, "customer": 0, "query": 0, "categories": 0}


def test_no_candidates_are_an_empty_page(store: FeatureStore) -> None:
    page = store.page(PageRequest("red", []))
    assert page.numerical.shape == (0, len(store.numerical_columns))
    assert page.categorical.shape == (0, len(store.categorical_columns))
    assert len(page.tie_keys) == len(page.product_idx) == 0


def test_given_features_replace_the_tables(store: FeatureStore) -> None:
    asked = PageRequest("red", ["p1", "p2"], "c1", ts_us=store.until_us)
    plain = store.page(asked)
    given = store.page(replace(asked, customer={"loyalty": 3}, products=[{}, {"brand": "B", "price": 20.0}]))
    of_c3 = store.page(replace(asked, customer_id="c3"))
    np.testing.assert_array_equal(number(given, "loyalty"), number(of_c3, "loyalty"))
    assert not np.array_equal(number(plain, "loyalty"), number(given, "loyalty"))
    of_p1 = code(plain, "brand")[0]
    assert code(plain, "brand") == [of_p1, code(plain, "brand")[1]]
    assert code(given, "brand") == [of_p1, of_p1]
    assert number(given, "price")[1] != number(plain, "price")[1]
    assert number(given, "page_price_rank")[0] != pytest.approx(number(given, "page_price_rank")[1])
    # The brand's own history is the given brand's.
    for name in ("query_brand_share", "customer_brand_share"):
        assert number(given, name)[1] == number(given, name)[0]
    assert store.page(replace(asked, products=[{}, {"brand": "C"}])).unknown["categories"] == 1


def test_a_new_product_has_what_is_given_of_it(store: FeatureStore) -> None:
    made = store.computed(PageRequest("red", ["new", "p1"], "c1", products=[{"brand": "B", "price": 20.0}, {}]))
    assert made["query_brand_engaged"][0] == made["query_brand_engaged"][1] > 0
    assert made["page_price_to_least"].min() == 1.0
    assert made["product_impressions"][0] == 0


def test_a_new_query_is_scored_by_its_vector(store: FeatureStore, folder: Path) -> None:
    vector = np.load(folder / "store" / "queries" / "embeddings.npy")[0]
    asked = PageRequest("blue", ["p1", "p2", "p0"])
    known = store.computed(asked)["semantic_score"]
    np.testing.assert_array_equal(store.computed(asked, np.ones_like(vector))["semantic_score"], known)
    new = store.computed(replace(asked, query="azure"), vector.astype(np.float32))["semantic_score"]
    np.testing.assert_array_equal(new, known)
    assert np.isfinite(known[:2]).all()
    assert np.isnan(known[2])


@pytest.mark.parametrize("mode", ["zero", "mean"])
def test_a_neutral_page_is_a_neutral_split(mode: Any, store: FeatureStore, folder: Path) -> None:
    prepared = PreparedData.open(folder / "prepared")
    split, asked = prepared.split("test").neutral(mode), dict(pages(folder / "log"))
    rows = slice(0, int(split.search_offsets[1]))
    page = store.page(asked[prepared.searches("test")["search_id"][0].as_py()])
    neutral = page.neutral(mode)
    np.testing.assert_allclose(neutral.numerical, split.numerical[rows], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(neutral.categorical, split.categorical[rows])
    moved = {page.numerical_columns[i].side for i in np.flatnonzero((page.numerical != neutral.numerical).any(axis=0))}
    assert moved == {Side.CUSTOMER}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"positions": [1]}, "positions must be one per candidate, but there are 1 for 2 candidates"),
        ({"positions": [0, 1]}, "positions must begin at 1, but one is 0"),
        ({"products": [{}]}, "products must be one per candidate"),
        ({"products": [{"price": "cheap"}, {}]}, "the feature 'price' must be a number, but it is 'cheap'"),
        ({"products": [{}, {"price": -1}]}, "the feature 'price' must be 0 or more, since schema.yaml declares log1p"),
        ({"products": [{"price": "-0.5"}, {}]}, "'price' must be 0 or more, .* but it is '-0.5'"),
        (
            {"products": [{"price": 1e300}, {}]},
            r"'price' must be a number of a magnitude below 1e\+20, but it is 1e\+300",
        ),
        ({"products": [{"price": 10**19 * 10}, {}]}, "'price' must be a number of a magnitude below"),
        ({"customer": {"loyalty": -1e20}}, "'loyalty' must be a number of a magnitude below"),
        ({"customer": {"loyalty": float("inf")}}, "'loyalty' must be a number, but it is inf"),
        ({"customer": {"loyalty": []}}, "the feature 'loyalty' must be a number"),
    ],
)
def test_a_malformed_request_is_told(changes: dict[str, Any], told: str, store: FeatureStore) -> None:
    with pytest.raises(UserError, match=told):
        store.page(replace(PageRequest("red", ["p1", "p2"]), **changes))


def test_ids_are_found_however_many_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "REMEMBERED", 3)
    ids.save_ids(tmp_path / "ids", [f"id {n}" for n in range(10)])
    table = ids.Ids(tmp_path / "ids")
    assert table.find(["id 3", "no", "id 9", "id 3"])[0].tolist() == [3, -1, 9, 3]
    assert table.find(["id 0", "id 3", "id 1", "id 2"])[0].tolist() == [0, 3, 1, 2]
    assert (table.row(None), table.row("id 7"), len(table)) == (-1, 7, 10)
    ids.save_ids(tmp_path / "none", [])
    assert ids.Ids(tmp_path / "none").row("id 0") == -1


def test_an_anonymous_visitor_is_the_neutral_customer(folder: Path, store: FeatureStore) -> None:
    asked = PageRequest("red", ["p1", "p2", "p3"], "c1", "s1", ts_us=store.until_us, context={"device": "phone"})
    known, anonymous = store.page(asked), store.page(replace(asked, customer_id=None, session_id=None))
    neutral = known.neutral("anonymous")
    assert not np.array_equal(known.numerical, anonymous.numerical)
    np.testing.assert_array_equal(neutral.numerical, anonymous.numerical)
    np.testing.assert_array_equal(neutral.categorical, anonymous.categorical)
    # Offline columns say the same.
    prepared = PreparedData.open(folder / "prepared")
    assert prepared.numerical_columns == store.numerical_columns
    assert prepared.categorical_columns == store.categorical_columns
    rows = prepared.split("test").neutral("anonymous")
    of_customer = [i for i, column in enumerate(rows.numerical_columns) if column.side is Side.CUSTOMER]
    assert len(of_customer) > 10
    expected = np.broadcast_to(anonymous.numerical[0, of_customer], (rows.n_rows, len(of_customer)))
    np.testing.assert_array_equal(rows.numerical[:, of_customer], expected)


def test_given_numbers_are_clipped_to_what_training_saw_and_counted(store: FeatureStore, folder: Path) -> None:
    train = PreparedData.open(folder / "prepared").split("train")
    names = [column.name for column in store.numerical_columns]
    asked = PageRequest("red", ["p1", "p2", "p3"], "c1", ts_us=store.until_us)
    assert store.page(asked).clipped_features == {}
    page = store.page(replace(asked, customer={"loyalty": 1e9}, products=[{"price": 1e6}, {}, {"price": 0.01}]))
    for name in ("price", "loyalty", "page_price_to_mean", "page_price_to_least"):
        of_train, here = train.numerical[:, names.index(name)], number(page, name)
        assert of_train.min() <= here.min()
        assert here.max() <= of_train.max()
    assert page.clipped_features["price"] == 2
    assert page.clipped_features["loyalty"] == 3
    assert page.clipped_features["page_price_to_least"] >= 1
    assert set(page.clipped_features) <= {
        *("price", "loyalty", "page_price_to_mean", "page_price_to_least", "customer_price_distance")
    }
