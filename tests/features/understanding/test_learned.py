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
from shelfrank.features.understanding import QueryUnderstanding, ShownRows, hashed_folds, time_blocks
from shelfrank.features.understanding.folds import Scheme, learned_from
from shelfrank.features.understanding.reading import QueryReadings

QUERIES = ["sofa", "blue couch", "table", "round desk", "settee", "black shoes"]
MEANT = {
    "sofa": "sofa couch",
    "couch": "sofa couch",
    "settee": "sofa couch",
    "table": "table desk",
    "desk": "table desk",
}
N_FOLDS = 3


@dataclass(frozen=True)
class Shop:
    understanding: QueryUnderstanding
    readings: QueryReadings
    rows: ShownRows


def make_shop(n_searches: int, seed: int = 0, engine: float = 0.0) -> Shop:
    """A log in which customers click what they mean: sofas, couches and settees are one; tables and desks are, too."""
    rng = np.random.default_rng(seed)
    catalogue = small_catalogue()
    understanding = QueryUnderstanding.of_catalogue(catalogue)
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
    folds = (np.arange(n_searches) % N_FOLDS).astype(np.int32)
    rows = ShownRows(
        *(table[:, at].copy() for at in range(4)),
        labels=np.array(labels, np.int8).reshape(-1, 2),
        folds=folds[table[:, 2]],
    )
    return Shop(understanding, understanding.read(QUERIES), rows)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop(900, engine=0.2)


TASKS = ("click", "purchase")


def test_words_that_mean_the_same_are_learned_from_clicks(shop: Shop) -> None:
    whole, _ = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    assert whole.learned is not None
    types = [" ".join(term) for term in whole.lexicon.terms]
    meant = {
        noun: {name for name, _ in whole.learned.synonyms.meant_by(noun, types)} for noun in ("sofa", "settee", "desk")
    }
    assert meant == {
        "sofa": {"sofa", "couch", "corner sofa"},
        "settee": {"sofa", "couch", "corner sofa"},
        "desk": {"desk", "coffee table", "dining table"},
    }
    assert whole.learned.synonyms.meant_by("unheard", types) == []


def test_relevance_falls_with_another_type_and_with_a_conflict(shop: Shop) -> None:
    whole, _ = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    titles = small_catalogue().titles
    items = [next(at for at, title in enumerate(titles) if title and word in title) for word in ("couch", "sandal")]
    column = [feature.name for feature in whole.features].index("query_relevance_click")
    values = whole.compute(whole.read(["settee"]), np.zeros(2, np.int32), np.array(items, np.int32))[:, column]
    assert values[0] > 3 * values[1]


def other_labels(rows: ShownRows, changed: np.ndarray, seed: int) -> ShownRows:
    labels = rows.labels.copy()
    labels[changed] = np.random.default_rng(seed).integers(-1, 2, labels[changed].shape)
    return replace(rows, labels=labels)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), fold=st.integers(0, N_FOLDS - 1), engine=st.sampled_from([0.0, 0.4]))
def test_labels_of_a_fold_never_help_its_own_rows(seed: int, fold: int, engine: float) -> None:
    shop = make_shop(60, seed % 1000, engine)
    own = shop.rows.folds == fold
    _, before = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    whole, after = shop.understanding.with_log(shop.readings, other_labels(shop.rows, own, seed), TASKS)
    np.testing.assert_array_equal(before[own], after[own])
    # The same labels do reach other rows, or nothing was tested.
    assert not np.array_equal(before[~own], after[~own])
    assert whole.learned is not None


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), block=st.integers(0, N_FOLDS - 1))
def test_labels_of_a_block_of_time_never_reach_it_or_earlier_ones(seed: int, block: int) -> None:
    shop = make_shop(60, seed % 1000)
    late = shop.rows.folds >= block
    _, before = shop.understanding.with_log(shop.readings, shop.rows, TASKS, "earlier")
    _, after = shop.understanding.with_log(shop.readings, other_labels(shop.rows, late, seed), TASKS, "earlier")
    safe = shop.rows.folds <= block
    np.testing.assert_array_equal(before[safe], after[safe])


def test_a_planted_label_helps_other_folds_alone(shop: Shop) -> None:
    # Every product of one search is bought, whatever it is; only rows of other folds may see that.
    planted = shop.rows.search_idx == 7
    labels = shop.rows.labels.copy()
    labels[planted] = 1
    _, before = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    _, after = shop.understanding.with_log(shop.readings, replace(shop.rows, labels=labels), TASKS)
    own = shop.rows.folds == shop.rows.folds[planted][0]
    np.testing.assert_array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


@pytest.mark.parametrize("scheme", ["others", "earlier"])
def test_a_search_alone_learns_nothing_for_itself(scheme: Scheme) -> None:
    shop = make_shop(1)
    _, values = shop.understanding.with_log(shop.readings, shop.rows, TASKS, scheme)
    assert (values[:, -2:] == 1.0).all()


def test_no_searches_and_missing_labels() -> None:
    shop = make_shop(0)
    whole, values = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    assert values.shape == (0, len(whole.features))
    shop = make_shop(20)
    missing = replace(shop.rows, labels=np.full_like(shop.rows.labels, -1))
    whole, values = shop.understanding.with_log(shop.readings, missing, TASKS)
    assert np.isfinite(values).all()
    assert np.isfinite(whole.compute(shop.readings, shop.rows.query_idx, shop.rows.product_idx)).all()


def test_the_order_of_rows_has_no_influence(shop: Shop) -> None:
    order = np.random.default_rng(1).permutation(len(shop.rows.folds))
    shuffled = ShownRows(*(getattr(shop.rows, name)[order] for name in shop.rows.__dataclass_fields__))
    _, values = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    _, again = shop.understanding.with_log(shop.readings, shuffled, TASKS)
    np.testing.assert_allclose(values[order], again, rtol=1e-5)


def test_folds_depend_on_their_key_alone() -> None:
    keys = [f"s{number}" for number in range(500)]
    folds = hashed_folds(keys, 5)
    assert hashed_folds(keys[::-1], 5).tolist() == folds.tolist()[::-1]
    assert np.bincount(folds, minlength=5).min() > 60
    assert time_blocks(np.array([30, 10, 20, 10, 40, 50]), 3).tolist() == [1, 0, 1, 0, 2, 2]
    assert learned_from("others", frozenset({0, 1, 2}), 1) == {0, 2}
    assert learned_from("earlier", frozenset({0, 1, 2}), 1) == {0}


def test_what_is_saved_is_loaded_and_has_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    whole, _ = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    for name, own in (("whole", whole), ("catalogue", shop.understanding)):
        own.save(tmp_path / name)
        loaded = QueryUnderstanding.load(tmp_path / name)
        loaded.save(tmp_path / f"{name} again")
        for file in sorted((tmp_path / name).iterdir()):
            assert file.read_bytes() == (tmp_path / f"{name} again" / file.name).read_bytes()
        assert loaded.features == own.features
        queries = [*QUERIES, "sofaa", "unheard", ""]
        idx = [array.ravel().astype(np.int32) for array in np.meshgrid(np.arange(len(queries)), np.arange(216))]
        np.testing.assert_array_equal(loaded.compute(loaded.read(queries), *idx), own.compute(own.read(queries), *idx))


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
        texts.write_text(texts.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(UserError, match="save it again"):
        QueryUnderstanding.load(tmp_path)


def test_the_features_are_named_once_and_are_numbers(shop: Shop) -> None:
    whole, values = shop.understanding.with_log(shop.readings, shop.rows, TASKS)
    names = [feature.name for feature in whole.features]
    assert len(set(names)) == len(names) == values.shape[1]
    assert names[:3] == ["query_brand_status", "query_color_status", "query_type_status"]
    assert names[-2:] == ["query_relevance_click", "query_relevance_purchase"]


def test_a_service_imports_it_without_heavy_packages() -> None:
    heavy = ("torch", "duckdb", "ibis", "pandas", "scipy")
    code = f"import sys, shelfrank.features.understanding; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
