"""Which searches belong to which segment, counted by hand and by plain loops."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.segmentations import (
    cold_rows,
    customers,
    product_coldness,
    query_frequencies,
    query_kinds,
    segmentations,
)
from shelfrank.prepare.pipeline import prepare
from small_log import small_tables, write_small_log
from tiny import hand_split

KINDS = ("plain", "plain", "synonym", "plain", "typo")


def kind_of(search_id: str) -> str:
    return KINDS[int(search_id.removeprefix("s")) % len(KINDS)]


def searches_of(queries: list[int], customer: int = 0) -> Split:
    """Searches of two rows each."""
    n = len(queries)
    split = hand_split([[0]] * (2 * n), sizes=[2] * n)
    rows = np.repeat(np.array(queries, dtype=np.int32), 2)
    return replace(split, query_idx=rows, customer_idx=np.full(2 * n, customer, np.int32))


def names(segments: dict[str, np.ndarray], n: int) -> list[list[str]]:
    return [[name for name, chosen in segments.items() if chosen[search]] for search in range(n)]


@pytest.mark.parametrize(
    ("trained", "measured", "expected"),
    [
        # 6 + 3 + 2 + 1 = 12 searches: the first alone is half, so there is no head; with the second it is 9 of 12.
        pytest.param({0: 6, 1: 3, 2: 2, 3: 1}, [0, 1, 2, 3, 9], "torso tail tail tail unseen", id="one frequent query"),
        # 4, 8 and 12 of 12.
        pytest.param({0: 4, 1: 3, 2: 1, 3: 4}, [0, 1, 2, 3], "torso tail tail torso", id="equals stay together"),
        # 3, 6, 7, 8 and 9 of 9: the thirds are reached exactly.
        pytest.param({4: 3, 1: 2, 2: 1, 3: 1, 0: 2}, [4, 1, 2, 3, 0], "head tail tail tail tail", id="an exact third"),
        pytest.param({7: 4, 8: 3, 2: 2, 1: 1, 0: 1, 5: 1}, [7, 8, 2, 0], "head torso tail tail", id="head torso tail"),
        pytest.param({0: 1, 1: 1, 2: 1}, [0, 2, 2], "tail tail tail", id="all alike"),
        pytest.param({0: 1}, [3, 0], "unseen tail", id="one training search"),
    ],
)
def test_queries_are_told_apart_by_their_share_of_the_training_searches(
    trained: dict[int, int], measured: list[int], expected: str
) -> None:
    train = searches_of([query for query, n in trained.items() for _ in range(n)])
    found = query_frequencies(searches_of(measured), train)
    assert list(found) == ["head", "torso", "tail", "unseen"]
    assert names(dict(found), len(measured)) == [[name] for name in expected.split()]


def test_a_split_without_searches_has_empty_segments() -> None:
    empty, train = searches_of([]), searches_of([0, 1])
    for found in (query_frequencies(empty, train), customers(empty, train), product_coldness(empty, train)):
        assert {len(chosen) for chosen in found.values()} == {0}
    assert query_frequencies(train, empty)["unseen"].all()


def test_customers_are_known_new_or_anonymous() -> None:
    train = hand_split([[0]] * 3, sizes=[1, 1, 1])
    train = replace(train, customer_idx=np.array([5, -1, 2], np.int32))
    split = hand_split([[0]] * 5, sizes=[1, 1, 2, 1])
    split = replace(split, customer_idx=np.array([2, -1, 7, 7, 5], np.int32))
    assert names(dict(customers(split, train)), 4) == [["known"], ["anonymous"], ["new"], ["known"]]


def test_a_search_is_cold_where_training_has_shown_nothing_that_was_chosen() -> None:
    train = replace(hand_split([[0, 0]] * 2), product_idx=np.array([0, 1], np.int32))
    pages = {
        "chose a shown one": ([[1, 0], [0, 0]], [0, 9]),
        "chose a new one": ([[0, 0], [0, 1]], [0, 9]),
        "chose both": ([[1, 0], [1, 0]], [1, 8]),
        "chose none, new ones shown": ([[0, 0], [-1, 0]], [8, 9]),
    }
    labels = [row for rows, _ in pages.values() for row in rows]
    products = [product for _, shown in pages.values() for product in shown]
    split = replace(hand_split(labels, sizes=[2] * 4), product_idx=np.array(products, np.int32))
    assert names(dict(product_coldness(split, train)), 4) == [["warm"], ["cold"], ["warm"], []]
    assert cold_rows(split, train).tolist() == [product > 1 for product in products]


def test_segments_of_a_prepared_log_are_those_of_plain_loops(small_prepared: Path) -> None:
    prepared = PreparedData.open(small_prepared)
    split, train = prepared.split("test"), prepared.split("train")
    found = segmentations(small_prepared.parent / "log", prepared, "test")
    assert list(found) == ["query_frequency", "customer", "product_coldness"]
    known = {int(train.customer_idx[start]) for start in train.search_offsets[:-1]} - {-1}
    times = Counter(int(train.query_idx[start]) for start in train.search_offsets[:-1])
    for search, start in enumerate(split.search_offsets[:-1].tolist()):
        who, query = int(split.customer_idx[start]), int(split.query_idx[start])
        expected = "anonymous" if who < 0 else "known" if who in known else "new"
        assert found["customer"][expected][search]
        reached = 3 * sum(n for n in times.values() if n >= times[query]) / train.n_searches
        part = "unseen" if not times[query] else "head" if reached <= 1 else "torso" if reached <= 2 else "tail"
        assert found["query_frequency"][part][search]


@pytest.fixture(scope="module")
def with_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose kinds of queries lie in no order, prepared."""
    folder = tmp_path_factory.mktemp("kinds")
    tables = small_tables(120)
    ids = sorted({row["search_id"] for row in tables["impressions"]})
    shuffled = np.random.default_rng(0).permutation(ids).tolist()
    tables["truth/searches"] = [{"search_id": name, "query_kind": kind_of(name)} for name in shuffled]
    prepare(write_small_log(folder / "log", tables), folder / "prepared", PrepareConfig())
    return folder


@pytest.mark.parametrize("name", ["train", "test"])
def test_every_search_is_of_the_kind_that_the_log_tells(with_kinds: Path, name: str) -> None:
    prepared = PreparedData.open(with_kinds / "prepared")
    kinds = query_kinds(with_kinds / "log", prepared, name)
    told = [kind_of(search) for search in prepared.searches(name)["search_id"].to_pylist()]
    assert {kind: chosen.tolist() for kind, chosen in kinds.items()} == {
        kind: [own == kind for own in told] for kind in sorted(set(told))
    }
    assert "query_kind" in segmentations(with_kinds / "log", prepared, name)


def test_a_search_that_the_truth_lacks_is_noticed(with_kinds: Path, tmp_path: Path) -> None:
    tables = small_tables(120)
    tables["truth/searches"] = [{"search_id": "s00000", "query_kind": "plain"}]
    log = write_small_log(tmp_path / "log", tables)
    with pytest.raises(AssertionError, match="must cover every search"):
        query_kinds(log, PreparedData.open(with_kinds / "prepared"), "test")
