"""Candidates share words with the query, mean the same, or both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.serve.retrieval import RANK_CONSTANT, Retrieval

TITLES = ["Red Sofa", "Blue Sofa", "Green Chair", "Settee in Red", "Running Shoes", "Shoe Rack", "", "Café Table"]
DOCUMENTS = [f"{title} acme" for title in TITLES]
WORDS_ONLY = Retrieval(TITLES, DOCUMENTS, None)


def rows(query: str, n: int = 8) -> list[int]:
    return WORDS_ONLY.find(query, None, n).rows.tolist()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("red sofa", 0),
        ("SOFAS, red", 0),
        ("cafe", 7),
        ("tables", 7),
        ("chairs green", 2),
        ("runing", 4),
        ("setee", 3),
    ],
)
def test_words_are_found_however_they_are_bent_or_misspelt(query: str, first: int) -> None:
    assert rows(query)[0] == first


def test_short_words_are_taken_as_they_are() -> None:
    assert rows("rad") == []
    assert set(rows("red")) == {0, 3}


def test_a_title_counts_more_than_the_rest_of_a_document() -> None:
    found = Retrieval(["plain lamp", "bolt lamp"], ["plain lamp bolt", "bolt lamp plain"], None)
    assert found.find("bolt", None, 2).rows.tolist() == [1, 0]


@pytest.mark.parametrize("query", ["", " ", "\x00", "☃", "title:", 'AND OR NOT "', "-sofa^9~", "a" * 512, "(" * 99])
def test_no_query_is_an_error(query: str) -> None:
    assert len(rows(query)) <= 8


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_query(query: str) -> None:
    found = WORDS_ONLY.find(query, None, 3)
    assert len(set(found.rows.tolist())) == len(found.rows) <= 3


def test_neighbours_are_the_nearest_by_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype(np.float16)
    vectors /= np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    vectors[7] = np.nan
    found = Retrieval([f"word{i}" for i in range(40)], [""] * 40, vectors)
    query = vectors[3].astype(np.float32)
    cosines = np.array([-2.0 if i == 7 else float(vectors[i].astype(np.float32) @ query) for i in range(40)])
    expected = np.argsort(-cosines, kind="stable")[:10].tolist()
    assert found.find("nothing", query, 10).rows.tolist() == expected
    assert found.find("nothing", query, 100).rows.tolist()[-1] == 7


def test_both_ways_are_fused_by_reciprocal_rank() -> None:
    vectors = np.eye(3, dtype=np.float16)
    found = Retrieval(["lamp", "lamp lamp desk", "desk"], ["", "", ""], vectors)
    by_words = found.find("lamp", None, 3).rows.tolist()
    query = np.array([0.1, 0.2, 0.9], dtype=np.float32)
    by_meaning = found.find("nothing", query, 3).rows.tolist()
    assert (sorted(by_words), by_meaning) == ([0, 1], [2, 1, 0])
    worth = dict.fromkeys(range(3), 0.0)
    for order in (by_words, by_meaning):
        for place, row in enumerate(order, start=1):
            worth[row] += 1 / (RANK_CONSTANT + place)
    both = found.find("lamp", query, 3)
    assert both.rows.tolist() == sorted(worth, key=lambda row: (-worth[row], row))
    assert (both.by_words, both.by_meaning) == (2, 3)


def test_a_shop_without_products_has_nothing_to_find() -> None:
    empty = Retrieval([], [], np.empty((0, 4), np.float16))
    assert len(empty.find("sofa", np.ones(4, np.float32), 5).rows) == 0
