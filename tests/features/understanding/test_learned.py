import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import small_catalogue

from shelfrank.core.errors import UserError
from shelfrank.features.understanding import QueryUnderstanding, ShownRows
from shelfrank.features.understanding.blocks import time_blocks
from shelfrank.features.understanding.reading import QueryReadings
from shelfrank.features.understanding.storage import VERSION

QUERIES = ["sofa", "blue couch", "table", "round desk", "settee", "black shoes"]
MEANT = {
    "sofa": "sofa couch",
    "couch": "sofa couch",
    "settee": "sofa couch",
    "table": "table desk",
    "desk": "table desk",
}
TASKS = ("click", "purchase")
LATER_US = 2**60
"""After every search of a test."""


@dataclass(frozen=True)
class Shop:
    understanding: QueryUnderstanding
    readings: QueryReadings
    rows: ShownRows

    def learned(self, rows: ShownRows | None = None, delay_us: int = 0) -> QueryUnderstanding:
        """What the rows teach; the shop's own without any."""
        return self.understanding.with_log(self.readings, self.rows if rows is None else rows, delay_us)

    def values(self, understanding: QueryUnderstanding) -> np.ndarray:
        """The features of the shop's own rows."""
        rows = self.rows
        return understanding.compute(self.readings, rows.query_idx, rows.product_idx, rows.times_us)


def make_shop(n_searches: int, seed: int = 0, engine: float = 0.0) -> Shop:
    """A log in which customers click what they mean: sofas, couches and settees are one; tables and desks are, too."""
    rng = np.random.default_rng(seed)
    catalogue = small_catalogue()
    understanding = QueryUnderstanding.of_catalogue(catalogue, TASKS)
    columns: list[list[tuple[int, int, int, int]]] = []
    labels = []
    for search in range(n_searches):
        query = int(rng.integers(len(QUERIES)))
        meant = next((MEANT[word] for word in QUERIES[query].split() if word in MEANT), "sneaker boot sandal")
        fitting = [
            at for at, title in enumerate(catalogue.titles) if any(word in (title or "") for word in meant.split())
        ]
        page = rng.choice(len(catalogue), 12, replace=False)
        page[rng.random(12) < engine] = rng.choice(fitting)
        columns.append([(query, int(item), search, place + 1) for place, item in enumerate(page)])
        labels += [
            [rng.random() < (0.6 if item in fitting else 0.04) / (1 + place / 4)] * 2 for place, item in enumerate(page)
        ]
    table = np.array(columns, np.int32).reshape(-1, 4)
    # Two searches at a time.
    query, product, search, position = (table[:, at].copy() for at in range(4))
    rows = ShownRows(
        query_idx=query,
        product_idx=product,
        search_idx=search,
        times_us=(search // 2).astype(np.int64) * 1000,
        positions=position,
        labels=np.array(labels, np.int8).reshape(-1, 2),
        blocks=time_blocks((search // 2).astype(np.int64), 100),
    )
    return Shop(understanding, understanding.read(QUERIES), rows)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop(900, engine=0.2)


def test_words_that_mean_the_same_are_learned_from_clicks(shop: Shop) -> None:
    whole = shop.learned()
    synonyms = whole.stages[-1].learned.synonyms
    types = [" ".join(term) for term in whole.lexicon.terms]
    meant = {noun: {name for name, _ in synonyms.meant_by(noun, types)} for noun in ("sofa", "settee", "desk")}
    assert meant == {
        "sofa": {"sofa", "couch", "corner sofa"},
        "settee": {"sofa", "couch", "corner sofa"},
        "desk": {"desk", "coffee table", "dining table"},
    }
    assert synonyms.meant_by("unheard", types) == []


def test_relevance_falls_with_another_type_and_with_a_conflict(shop: Shop) -> None:
    whole = shop.learned()
    titles = small_catalogue().titles
    items = [next(at for at, title in enumerate(titles) if title and word in title) for word in ("couch", "sandal")]
    column = [feature.name for feature in whole.features].index("query_relevance_click")
    product, times = np.array(items, np.int32), np.full(2, LATER_US)
    values = whole.compute(whole.read(["settee"]), np.zeros(2, np.int32), product, times)[:, column]
    assert values[0] > 3 * values[1]


def other_labels(rows: ShownRows, changed: np.ndarray, seed: int) -> ShownRows:
    labels = rows.labels.copy()
    labels[changed] = np.random.default_rng(seed).integers(-1, 2, labels[changed].shape)
    return replace(rows, labels=labels)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1), engine=st.sampled_from([0.0, 0.4]), delay=st.integers(0, 9))
def test_no_label_reaches_its_own_time_or_an_earlier_one(seed: int, share: float, engine: float, delay: int) -> None:
    shop = make_shop(60, seed % 1000, engine)
    times, delay_us = shop.rows.times_us, delay * 1000
    since = int(np.quantile(times, share))
    changed = other_labels(shop.rows, times >= since, seed)
    before, after = (shop.values(shop.learned(rows, delay_us)) for rows in (shop.rows, changed))
    safe = times <= since + delay_us
    np.testing.assert_array_equal(before[safe], after[safe])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_no_later_search_reaches_an_earlier_one(seed: int, share: float) -> None:
    shop = make_shop(60, seed % 1000, 0.3)
    rows, since = shop.rows, int(np.quantile(shop.rows.times_us, share))
    later = rows.times_us >= since
    rng = np.random.default_rng(seed)
    # Other pages, asked for by other words; how many rows there are says where blocks of time end.
    changed = replace(
        other_labels(rows, later, seed),
        query_idx=np.where(later, rng.integers(0, len(QUERIES), len(later)), rows.query_idx).astype(np.int32),
        product_idx=np.where(later, rng.integers(0, 216, len(later)), rows.product_idx).astype(np.int32),
        positions=np.where(later, rng.integers(1, 30, len(later)), rows.positions).astype(np.int32),
    )
    before, after = (shop.values(shop.learned(some))[~later] for some in (rows, changed))
    np.testing.assert_array_equal(before, after)


def test_a_planted_label_helps_later_searches_alone(shop: Shop) -> None:
    # Every product of one search is bought, whatever it is; only searches after its block may see that.
    planted = shop.rows.search_idx == 7
    labels = shop.rows.labels.copy()
    labels[planted] = 1
    before, after = (shop.values(shop.learned(rows)) for rows in (shop.rows, replace(shop.rows, labels=labels)))
    safe = shop.rows.times_us <= shop.rows.times_us[planted].max()
    np.testing.assert_array_equal(before[safe], after[safe])
    assert not np.array_equal(before[~safe], after[~safe])


def test_before_anything_is_learned_all_is_of_mean_relevance() -> None:
    shop = make_shop(1)
    whole = shop.learned()
    assert (shop.values(whole)[:, -2:] == 1.0).all()
    rows = shop.rows
    later = whole.compute(shop.readings, rows.query_idx, rows.product_idx, np.full(len(rows.labels), LATER_US))
    assert not (later[:, -2:] == 1.0).all()


def test_a_block_without_rows_teaches_nothing() -> None:
    shop = make_shop(40)
    rows = replace(shop.rows, blocks=np.where(shop.rows.blocks > 0, 2, 0).astype(np.int32))
    whole, expected = (shop.learned(replace(rows, blocks=np.minimum(rows.blocks, most))) for most in (2, 1))
    known = [stage.known_us for stage in whole.stages]
    assert known == [stage.known_us for stage in expected.stages] == sorted(known)
    assert len(known) == 2
    np.testing.assert_array_equal(shop.values(whole), shop.values(expected))


def test_no_searches_and_missing_labels() -> None:
    shop = make_shop(0)
    assert shop.values(shop.learned()).shape == (0, len(shop.understanding.features))
    shop = make_shop(20)
    missing = replace(shop.rows, labels=np.full_like(shop.rows.labels, -1))
    assert np.isfinite(shop.values(shop.learned(missing))).all()


def test_a_product_that_the_catalogue_lacks_is_unknown(shop: Shop) -> None:
    whole = shop.learned()
    place = len(small_catalogue())
    one = whole.compute(
        whole.read(["blue couch by acme"]), np.zeros(1, np.int32), np.array([place], np.int32), np.array([LATER_US])
    )[0]
    found = dict(zip([feature.name for feature in whole.features], one.tolist(), strict=True))
    assert found["query_color_answer"] == found["query_type_answer"] == found["query_brand_answer"] == -0.5
    assert (found["query_n_matched"], found["query_n_conflicts"], found["query_n_unknown"]) == (0, 0, 3)


def test_the_order_of_rows_has_no_influence(shop: Shop) -> None:
    order = np.random.default_rng(1).permutation(len(shop.rows.labels))
    shuffled = ShownRows(*(getattr(shop.rows, name)[order] for name in shop.rows.__dataclass_fields__))
    values, again = (shop.values(shop.learned(rows)) for rows in (shop.rows, shuffled))
    np.testing.assert_allclose(values, again, rtol=1e-5)


def test_blocks_of_time() -> None:
    # Of 10 rows, then 10, 20, 40 and so on; what is of one time is of one block.
    blocks = time_blocks(np.arange(100), 10)
    assert np.bincount(blocks).tolist() == [10, 10, 20, 40, 20]
    assert time_blocks(np.arange(70), 10).tolist() == blocks[:70].tolist()
    assert time_blocks(np.array([7, 7, 7]), 1).tolist() == [0, 0, 0]
    assert time_blocks(np.array([30, 10, 20, 5]), 1).tolist() == [2, 1, 2, 0]
    assert time_blocks(np.empty(0, np.int64), 10).tolist() == []


def test_what_is_saved_is_loaded_and_has_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    whole = shop.learned()
    for name, own in (("whole", whole), ("catalogue", shop.understanding)):
        own.save(tmp_path / name)
        loaded = QueryUnderstanding.load(tmp_path / name)
        loaded.save(tmp_path / f"{name} again")
        for file in sorted((tmp_path / name).iterdir()):
            assert file.read_bytes() == (tmp_path / f"{name} again" / file.name).read_bytes()
        assert loaded.features == own.features
        queries = [*QUERIES, "sofaa", "unheard", ""]
        idx = [array.ravel().astype(np.int32) for array in np.meshgrid(np.arange(len(queries)), np.arange(216))]
        times = np.arange(len(idx[0]), dtype=np.int64) * 300
        again, values = (each.compute(each.read(queries), *idx, times) for each in (loaded, own))
        np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("damage", ["missing", "cut", "no json", "version"])
def test_a_damaged_folder_is_named(shop: Shop, tmp_path: Path, damage: str) -> None:
    shop.understanding.save(tmp_path)
    texts, numbers = tmp_path / "texts.json", tmp_path / "numbers.npz"
    if damage == "missing":
        numbers.unlink()
    elif damage == "cut":
        numbers.write_bytes(numbers.read_bytes()[:-100])
    elif damage == "no json":
        texts.write_text("{")
    else:
        texts.write_text(texts.read_text().replace(f'"version": {VERSION}', '"version": 99'))
    with pytest.raises(UserError, match="save it again"):
        QueryUnderstanding.load(tmp_path)


def test_the_features_are_named_once_and_are_numbers(shop: Shop) -> None:
    whole = shop.learned()
    names = [feature.name for feature in whole.features]
    assert len(set(names)) == len(names) == shop.values(whole).shape[1]
    assert names[:3] == ["query_brand_answer", "query_color_answer", "query_type_answer"]
    assert names[-2:] == ["query_relevance_click", "query_relevance_purchase"]


def test_attributes_may_be_called_like_other_answers() -> None:
    catalogue = small_catalogue()
    color, brand = catalogue.attributes["color"], catalogue.attributes["brand"]
    odd = replace(catalogue, attributes={"Type": color, "words": brand})
    own, plain = (
        QueryUnderstanding.of_catalogue(each) for each in (odd, replace(odd, attributes={"a": color, "b": brand}))
    )
    names = [feature.name for feature in own.features]
    assert names[:4] == [
        "query_Type_attribute_answer",
        "query_words_attribute_answer",
        "query_type_answer",
        "query_category_answer",
    ]
    assert len({name.lower() for name in names}) == len(names)
    query, product = np.zeros(2, np.int32), np.array([0, 100], np.int32)
    values = [
        each.compute(each.read(["beige sofa by acme"]), query, product, np.zeros(2, np.int64)) for each in (own, plain)
    ]
    np.testing.assert_array_equal(*values)


def test_a_service_imports_it_without_heavy_packages() -> None:
    heavy = ("torch", "duckdb", "ibis", "pandas", "scipy")
    code = f"import sys, shelfrank.features.understanding; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
