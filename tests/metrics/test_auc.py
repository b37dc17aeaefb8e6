import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import Pages, few_pages, simulated
from sklearn.metrics import roc_auc_score

from shelfrank.core.errors import UserError
from shelfrank.metrics.auc import auc_roc, sort_by_score


def auc_by_pairs(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    right = pairs = 0.0
    for score, label, weight in zip(scores, labels, weights, strict=True):
        for other_score, other_label, other_weight in zip(scores, labels, weights, strict=True):
            if label == 1 and other_label == 0:
                pairs += weight * other_weight
                right += weight * other_weight * ((score > other_score) + 0.5 * (score == other_score))
    return right / pairs if pairs else float("nan")


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        pytest.param([0.9, 0.1], [1, 0], 1.0, id="positive above negative -> 1"),
        pytest.param([0.1, 0.9], [1, 0], 0.0, id="positive below negative -> 0"),
        pytest.param([0.5, 0.5, 0.5], [1, 0, 0], 0.5, id="all tied -> 1/2"),
        pytest.param([-1.0, -3.0, -2.0], [1, 1, 0], 0.5, id="negative scores, one pair of two right -> 1/2"),
        pytest.param([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], 0.875, id="three right, one tied of four -> 7/8"),
        pytest.param([-0.0, 0.0], [1, 0], 0.5, id="minus zero ties with zero -> 1/2"),
        pytest.param([0.9, 0.1, 0.0], [1, 0, -1], 1.0, id="missing label left out -> 1"),
        pytest.param([0.9, 0.1], [1, 1], float("nan"), id="no negative -> NaN"),
        pytest.param([0.9, 0.1], [0, -1], float("nan"), id="no positive -> NaN"),
        pytest.param([], [], float("nan"), id="no row -> NaN"),
    ],
)
def test_hand_cases(scores: list[float], labels: list[int], expected: float) -> None:
    auc = auc_roc(np.array(scores, dtype=np.float32), np.array(labels, dtype=np.int8))
    assert auc == pytest.approx(expected, abs=0, nan_ok=True)


@given(few_pages(), st.integers(0, 99))
def test_counts_every_pair_once(pages: Pages, seed: int) -> None:
    weights = np.random.default_rng(seed).choice([0, 1, 2, 5], len(pages.labels))
    expected = auc_by_pairs(pages.scores, pages.labels, weights)
    for given_weights in (weights, weights / 4):
        assert auc_roc(pages.scores, pages.labels, given_weights) == pytest.approx(expected, nan_ok=True)
    unweighted = auc_by_pairs(pages.scores, pages.labels, np.ones(len(weights)))
    assert auc_roc(pages.scores, pages.labels) == pytest.approx(unweighted, nan_ok=True)


@given(few_pages())
def test_a_strictly_monotone_transform_changes_nothing(pages: Pages) -> None:
    before = auc_roc(pages.scores, pages.labels)
    after = auc_roc(pages.scores**3 + 2 * pages.scores - 100, pages.labels)
    assert after == pytest.approx(before, abs=0, nan_ok=True)


@given(few_pages(), st.integers(0, 99))
def test_input_order_changes_nothing(pages: Pages, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(pages.scores))
    before = auc_roc(pages.scores, pages.labels)
    assert auc_roc(pages.scores[order], pages.labels[order]) == pytest.approx(before, abs=0, nan_ok=True)


@given(few_pages())
def test_turning_the_scores_around_turns_the_auc_around(pages: Pages) -> None:
    before = auc_roc(pages.scores, pages.labels)
    assert auc_roc(-pages.scores, pages.labels) == pytest.approx(1 - before, nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [1, 6])
def test_agrees_with_scikit_learn(dtype: type, decimals: int) -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(5000) < 0.1).astype(np.int8)
    scores = np.round(rng.normal(size=5000) + labels, decimals).astype(dtype)
    weights = rng.random(5000)
    assert auc_roc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    weighted = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc_roc(scores, labels, weights) == pytest.approx(weighted, rel=1e-12)


def test_weights_by_search_equal_rows_repeated_by_search() -> None:
    pages = simulated(n_searches=40, seed=5)
    search_of_row = np.repeat(np.arange(40), np.diff(pages.search_offsets))
    times_drawn = np.random.default_rng(6).integers(0, 4, 40)
    drawn = np.repeat(np.arange(len(pages.scores)), times_drawn[search_of_row])
    sorted_rows = sort_by_score(pages.scores, pages.labels, search_of_row)
    for dtype in (np.uint8, np.int64, np.float64):
        auc = sorted_rows.auc(times_drawn.astype(dtype))
        assert auc == pytest.approx(auc_roc(pages.scores[drawn], pages.labels[drawn]), abs=1e-15)


def test_small_weights_do_not_overflow_their_type() -> None:
    labels = np.array([1, 0] * 1000, dtype=np.int8)
    scores = np.tile(np.array([1.0, 0.0]), 1000)
    assert auc_roc(scores, labels, np.full(2000, 255, dtype=np.uint8)) == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "message"),
    [
        pytest.param([0.1, np.nan, np.inf], [0, 1, 1], None, "2 of 3 are not", id="not finite"),
        pytest.param([0.1, 0.2], [0, 2], None, "between 0 and 1, or be -1 .* first is 2", id="graded label"),
        pytest.param([0.1, 0.2], [0, -2], None, "first is -2", id="unknown label"),
        pytest.param([0.1, 0.2], [0], None, "equally long", id="lengths differ"),
        pytest.param([0.1, 0.2], [0, 1], [1.0], "each of the 2 rows", id="too few weights"),
        pytest.param([0.1, 0.2], [0, 1], [1.0, -1.0], "from -1.0 to 1.0", id="negative weight"),
        pytest.param([0.1, 0.2], [0, 1], [1.0, np.nan], "finite number", id="weight is NaN"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_refuses(scores: list[float], labels: list[int], weights: list[float] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        auc_roc(np.array(scores), np.array(labels, dtype=np.int8), None if weights is None else np.array(weights))
