import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import FEW_SCORES, Pages, few_pages, no_pages

from shelfrank.core.errors import UserError
from shelfrank.metrics.personalization import (
    left_out_pages,
    personalization_degree,
    personalization_degree_at_k,
)

CUTOFFS = st.integers(1, 7)


def degree(scores: list[float], neutral_scores: list[float], k: int) -> float:
    n = len(scores)
    keys = np.arange(n, dtype=np.uint64)
    return float(personalization_degree(np.array(scores), np.array(neutral_scores), np.array([0, n]), keys, k)[0])


@st.composite
def two_scorings(draw: st.DrawFn) -> tuple[Pages, np.ndarray]:
    pages = draw(few_pages())
    n = len(pages.scores)
    return pages, np.array(draw(st.lists(st.sampled_from(FEW_SCORES), min_size=n, max_size=n)), dtype=float)


def degrees_by_loop(pages: Pages, neutral_scores: np.ndarray, k: int) -> list[float]:
    degrees = []
    for rows in pages.pages:
        tops = []
        for scores in (pages.scores, neutral_scores):
            order = sorted(range(rows.start, rows.stop), key=lambda r: (-scores[r], int(pages.tie_keys[r])))
            tops.append(set(order[:k]))
        n = rows.stop - rows.start
        degrees.append(len(tops[0] & tops[1]) / min(k, n) if n > k else math.nan)
    return degrees


@pytest.mark.parametrize(
    ("neutral_scores", "k", "expected"),
    [
        pytest.param([4.0, 3.0, 2.0, 1.0], 2, 1.0, id="same ranking -> 1"),
        pytest.param([3.0, 4.0, 1.0, 2.0], 2, 1.0, id="same two in another order -> 1"),
        pytest.param([4.0, 1.0, 2.0, 3.0], 2, 0.5, id="one of two stays -> 1/2"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 2, 0.0, id="none stays -> 0"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 3, 2 / 3, id="two of three stay -> 2/3"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 4, math.nan, id="page as long as k -> left out"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 5, math.nan, id="page shorter than k -> left out"),
    ],
)
def test_hand_cases(neutral_scores: list[float], k: int, expected: float) -> None:
    assert degree([4.0, 3.0, 2.0, 1.0], neutral_scores, k) == pytest.approx(expected, abs=0, nan_ok=True)


@given(two_scorings(), CUTOFFS)
def test_equals_a_plain_loop(scorings: tuple[Pages, np.ndarray], k: int) -> None:
    pages, neutral_scores = scorings
    degrees = personalization_degree(pages.scores, neutral_scores, pages.search_offsets, pages.tie_keys, k)
    assert degrees == pytest.approx(degrees_by_loop(pages, neutral_scores, k), nan_ok=True)
    left_out = left_out_pages(pages.search_offsets, k)
    assert sum(left_out.values()) == np.isnan(degrees).sum()


@given(two_scorings(), CUTOFFS, st.integers(0, 99))
def test_input_order_within_a_page_changes_nothing(scorings: tuple[Pages, np.ndarray], k: int, seed: int) -> None:
    pages, neutral_scores = scorings
    shuffled = pages.shuffled_within_pages(seed)
    position = {int(key): row for row, key in enumerate(pages.tie_keys)}
    rows = [position[int(key)] for key in shuffled.tie_keys]
    before = personalization_degree(pages.scores, neutral_scores, pages.search_offsets, pages.tie_keys, k)
    after = personalization_degree(
        shuffled.scores, neutral_scores[np.array(rows, dtype=int)], pages.search_offsets, shuffled.tie_keys, k
    )
    np.testing.assert_array_equal(before, after)


@given(few_pages(), CUTOFFS)
def test_a_ranker_that_ignores_the_customer_gets_one_even_with_ties(pages: Pages, k: int) -> None:
    monotone = pages.scores**3 + 2 * pages.scores - 100
    degrees = personalization_degree(pages.scores, monotone, pages.search_offsets, pages.tie_keys, k)
    assert set(degrees[~np.isnan(degrees)]) <= {1.0}


def test_the_mean_leaves_short_pages_out() -> None:
    scores, neutral_scores = np.array([2.0, 1.0, 5.0]), np.array([1.0, 2.0, 5.0])
    offsets, keys = np.array([0, 2, 3]), np.arange(3, dtype=np.uint64)
    assert personalization_degree_at_k(scores, neutral_scores, offsets, keys, k=1) == 0.0
    assert math.isnan(personalization_degree_at_k(scores, neutral_scores, offsets, keys, k=2))


def test_no_search_gives_no_value_and_no_mean() -> None:
    scores, _, offsets, keys = no_pages().args()
    assert personalization_degree(scores, scores, offsets, keys, 10).shape == (0,)
    assert math.isnan(personalization_degree_at_k(scores, scores, offsets, keys, 10))


@pytest.mark.usefixtures("unchecked_shapes")
def test_refuses_a_neutral_scoring_of_other_rows() -> None:
    with pytest.raises(UserError, match="neutral_scores must be flat and hold the 2 rows"):
        degree([1.0, 2.0], [1.0], k=1)
    with pytest.raises(UserError, match="1 of 2 are not"):
        degree([1.0, 2.0], [1.0, math.nan], k=1)
    with pytest.raises(UserError, match="at least 1, not 0"):
        degree([1.0, 2.0], [1.0, 2.0], k=0)
