import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import Pages, few_pages, no_pages, page, simulated
from sklearn.metrics import ndcg_score

from shelfrank.core.errors import UserError
from shelfrank.metrics import METRICS
from shelfrank.metrics.pages import mean_over_searches
from shelfrank.metrics.ranking import (
    MAX_GRADE,
    left_out_searches,
    mrr_at_k,
    ndcg,
    ndcg_at_k,
    reciprocal_rank,
)

NAN = float("nan")
CUTOFFS = st.integers(1, 8)
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def labels_in_order(pages: Pages) -> list[list[int]]:
    ordered = []
    for rows in pages.pages:
        of_page = sorted(range(rows.start, rows.stop), key=lambda row: (-pages.scores[row], int(pages.tie_keys[row])))
        ordered.append([int(pages.labels[row]) for row in of_page])
    return ordered


def reciprocal_rank_by_loop(labels: list[int], k: int) -> float:
    if min(labels) < 0 or max(labels) == 0:
        return NAN
    for rank, label in enumerate(labels[:k], start=1):
        if label:
            return 1 / rank
    return 0.0


def dcg_by_loop(labels: list[int], k: int) -> float:
    return sum((2**label - 1) / math.log2(rank + 1) for rank, label in enumerate(labels[:k], start=1))


def ndcg_by_loop(labels: list[int], k: int) -> float:
    if min(labels) < 0 or max(labels) == 0:
        return NAN
    return dcg_by_loop(labels, k) / dcg_by_loop(sorted(labels, reverse=True), k)


@pytest.mark.parametrize(
    ("pages", "k", "expected"),
    [
        pytest.param(page([0.9, 0.5, 0.1], [1, 0, 0]), 10, 1.0, id="first_rank -> 1"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 1, 0]), 10, 0.5, id="second_rank -> 1/2"),
        pytest.param(page([0.1, 0.5, 0.9], [1, 0, 0]), 10, 1 / 3, id="third_rank -> 1/3"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 1, 1]), 10, 0.5, id="only the first positive counts -> 1/2"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 1, 0]), 2, 0.5, id="rank k still counts -> 1/2"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 0, 1]), 2, 0.0, id="beyond k -> 0"),
        pytest.param(page([0.5, 0.5], [1, 0], keys=[1, 2]), 1, 1.0, id="tie, lower key first -> 1"),
        pytest.param(page([0.5, 0.5], [1, 0], keys=[2, 1]), 2, 0.5, id="tie, higher key second -> 1/2"),
        pytest.param(page([-0.0, 0.0], [1, 0], keys=[2, 1]), 2, 0.5, id="minus zero ties with zero -> 1/2"),
        pytest.param(page([-2.0, -1.0], [1, 0]), 5, 0.5, id="negative scores -> 1/2"),
        pytest.param(page([0.9, 0.5], [0, 0]), 5, NAN, id="no positive -> left out"),
        pytest.param(page([0.9, 0.5], [1, -1]), 5, NAN, id="one label missing -> left out"),
        pytest.param(page([0.9], [1]), 5, 1.0, id="page of one product -> 1"),
    ],
)
def test_reciprocal_rank_hand_cases(pages: Pages, k: int, expected: float) -> None:
    assert reciprocal_rank(*pages.args(), k) == pytest.approx([expected], abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("pages", "k", "expected"),
    [
        pytest.param(page([0.9, 0.5, 0.1], [1, 0, 0]), 3, 1.0, id="best order -> 1"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 0, 1]), 3, 0.5, id="only positive at rank 3 -> 1/log2(4)"),
        pytest.param(page([0.9, 0.5, 0.1], [0, 0, 1]), 2, 0.0, id="only positive beyond k -> 0"),
        pytest.param(
            page([0.9, 0.5, 0.1], [0, 2, 1]),
            3,
            (3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3)),
            id="grades 0, 2, 1: gains 0, 3, 1",
        ),
        pytest.param(page([0.9, 0.1], [4, 5]), 1, 15 / 31, id="best order is cut at k too -> 15/31"),
        pytest.param(page([0.9, 0.1], [13, 14]), 1, 8191 / 16383, id="high grades keep their precision"),
        pytest.param(page([0.9, 0.1], [0, 0]), 2, NAN, id="no positive -> left out"),
        pytest.param(page([0.9, 0.1], [3, -1]), 2, NAN, id="one label missing -> left out"),
    ],
)
def test_ndcg_hand_cases(pages: Pages, k: int, expected: float) -> None:
    assert ndcg(*pages.args(), k) == pytest.approx([expected], rel=1e-14, nan_ok=True)


@given(few_pages(), CUTOFFS)
def test_reciprocal_rank_equals_a_plain_loop(pages: Pages, k: int) -> None:
    expected = [reciprocal_rank_by_loop(labels, k) for labels in labels_in_order(pages)]
    assert reciprocal_rank(*pages.args(), k) == pytest.approx(expected, abs=0, nan_ok=True)


@given(few_pages(highest=4), CUTOFFS)
def test_ndcg_equals_a_plain_loop(pages: Pages, k: int) -> None:
    expected = [ndcg_by_loop(labels, k) for labels in labels_in_order(pages)]
    assert ndcg(*pages.args(), k) == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_both_equal_a_plain_loop_on_many_pages() -> None:
    pages = simulated(n_searches=500, seed=2)
    ordered = labels_in_order(pages)
    expected_ranks = [reciprocal_rank_by_loop(labels, 3) for labels in ordered]
    assert reciprocal_rank(*pages.args(), 3) == pytest.approx(expected_ranks, abs=0, nan_ok=True)
    assert mrr_at_k(*pages.args(), 3) == pytest.approx(np.nanmean(expected_ranks))
    expected_ndcg = [ndcg_by_loop(labels, 3) for labels in ordered]
    assert ndcg(*pages.args(), 3) == pytest.approx(expected_ndcg, rel=1e-12, nan_ok=True)
    assert ndcg_at_k(*pages.args(), 3) == pytest.approx(np.nanmean(expected_ndcg))


def test_ndcg_agrees_with_scikit_learn_given_gains() -> None:
    rng = np.random.default_rng(4)
    grades, scores = rng.integers(0, 5, size=(200, 12)), rng.normal(size=(200, 12))
    grades[:, 0] = 1
    keys = np.arange(2400, dtype=np.uint64)
    ours = ndcg_at_k(scores.ravel(), grades.ravel().astype(np.int8), np.arange(0, 2401, 12), keys, k=5)
    assert ours == pytest.approx(ndcg_score(2.0**grades - 1, scores, k=5), rel=1e-12)


@every_metric
@given(pages=few_pages(), k=CUTOFFS)
def test_a_strictly_monotone_transform_changes_nothing(metric, pages: Pages, k: int) -> None:
    scores, *rest = pages.args()
    after = metric(scores**3 + 2 * scores - 100, *rest, k)
    np.testing.assert_array_equal(after, metric(scores, *rest, k))


@every_metric
@given(pages=few_pages(), k=CUTOFFS, seed=st.integers(0, 99))
def test_input_order_within_a_page_changes_nothing(metric, pages: Pages, k: int, seed: int) -> None:
    shuffled = pages.shuffled_within_pages(seed)
    np.testing.assert_array_equal(metric(*shuffled.args(), k), metric(*pages.args(), k))


@every_metric
@given(pages=few_pages(lowest=0, min_searches=1))
def test_sorting_by_label_is_best_and_gives_exactly_one(metric, pages: Pages) -> None:
    scores, labels, *rest = pages.args()
    best = metric(labels.astype(np.float64), labels, *rest, 5)
    assert set(best[~np.isnan(best)]) <= {1.0}
    given_order = metric(scores, labels, *rest, 5)
    np.testing.assert_array_equal(np.isnan(given_order), np.isnan(best))
    assert np.all((given_order[~np.isnan(best)] >= 0) & (given_order[~np.isnan(best)] <= 1))


@every_metric
@given(pages=few_pages(min_searches=1), k=CUTOFFS)
def test_a_page_alone_gets_the_value_it_gets_among_others(metric, pages: Pages, k: int) -> None:
    scores, labels, _, keys = pages.args()
    together = metric(*pages.args(), k)
    for search, rows in enumerate(pages.pages):
        offsets = np.array([0, rows.stop - rows.start])
        alone = metric(scores[rows], labels[rows], offsets, keys[rows], k)
        np.testing.assert_array_equal(alone, together[search : search + 1])


@every_metric
def test_no_search_gives_no_value_and_no_mean(metric) -> None:
    values = metric(*no_pages().args(), 10)
    assert values.shape == (0,)
    assert math.isnan(mean_over_searches(values))


@every_metric
def test_single_and_double_precision_scores_agree(metric) -> None:
    pages = simulated(n_searches=60, seed=8)
    single = metric(pages.scores.astype(np.float32), *pages.args()[1:], 4)
    np.testing.assert_array_equal(single, metric(*pages.args(), 4))


@given(few_pages(highest=3))
def test_left_out_searches_are_all_counted(pages: Pages) -> None:
    counts = left_out_searches(pages.labels, pages.search_offsets)
    assert sum(counts.values()) == np.isnan(ndcg(*pages.args(), 5)).sum()
    assert counts["label missing"] == sum((pages.labels[rows] < 0).any() for rows in pages.pages)


@every_metric
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([0.1, np.nan, -np.inf])}, "2 of 3 are not, the first in row 1"),
        ({"labels": np.array([0, -2, 1], dtype=np.int8)}, "1 of 3 do not, the first is -2"),
        ({"labels": np.array([0, MAX_GRADE + 1, 1], dtype=np.int8)}, "first is 32"),
        ({"labels": np.array([0, 1], dtype=np.int8)}, "labels must be flat and hold the 3 rows"),
        ({"tie_keys": np.array([0, 1], dtype=np.uint64)}, "tie_keys must be flat and hold the 3 rows"),
        ({"tie_keys": np.array([0, 1, 2])}, "tie_keys must be unsigned 64-bit"),
        (
            {"tie_keys": np.array([5, 5, 5], dtype=np.uint64), "scores": np.zeros(3)},
            "share both score and key",
        ),
        ({"search_offsets": np.array([0, 2, 2, 3])}, "at least one row"),
        ({"k": 0}, "at least 1, not 0"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_refuses(metric, change: dict, message: str) -> None:
    sound = {
        "scores": np.array([0.3, 0.2, 0.1]),
        "labels": np.array([0, 1, 0], dtype=np.int8),
        "search_offsets": np.array([0, 3]),
        "tie_keys": np.arange(3, dtype=np.uint64),
        "k": 2,
    }
    metric(**sound)
    with pytest.raises(UserError, match=message):
        metric(**(sound | change))


def test_reciprocal_rank_refuses_grades() -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        reciprocal_rank(*page([0.1, 0.2], [0, 2]).args(), 1)
