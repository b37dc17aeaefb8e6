import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score

from shelfrank.metrics.agreement import RankedPairs, confusions, quadratic_kappa

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40)
"""Group, score in fifths, grade."""


def columns(pairs: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    group, score, grade = (np.array(values) for values in zip(*pairs, strict=True))
    return np.unique(group, return_inverse=True)[1], score / 5, grade


def reference(score: np.ndarray, grade: np.ndarray) -> tuple[float, float]:
    if len(set(grade.tolist())) < 2:
        return math.nan, math.nan
    if len(set(score.tolist())) < 2:
        return 0.0, 0.0
    return spearmanr(score, grade).statistic, kendalltau(score, grade).statistic


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int, int]]) -> None:
    group, score, grade = columns(pairs)
    label = (score * 5).astype(int) % 4
    counts = confusions(label, grade, group, int(group.max()) + 1, 4)
    assert counts.sum() == len(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cohen_kappa_score(label, grade, weights="quadratic", labels=[0, 1, 2, 3])
    np.testing.assert_allclose(quadratic_kappa(counts.sum(axis=0, keepdims=True)), [expected], atol=1e-12)
    by_group = quadratic_kappa(counts)
    for number in range(len(counts)):
        np.testing.assert_array_equal(by_group[number], quadratic_kappa(counts[number : number + 1])[0])


def test_kappa_of_what_chance_does_as_well() -> None:
    tables = [
        np.zeros((3, 3), dtype=int),
        np.diag([3, 0, 0]),
        np.diag([3, 0, 1]),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
    ]
    np.testing.assert_array_equal(quadratic_kappa(np.stack(tables)), [np.nan, np.nan, 1.0, -1.0])


@given(PAIRS, st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_correlations_are_scipys(pairs: list[tuple[int, int, int]], drawn: list[int]) -> None:
    group, score, grade = columns(pairs)
    pooled = RankedPairs.of(score, grade, group, 4, by_group=False)
    np.testing.assert_allclose(np.ravel(pooled.correlations()), reference(score, grade), atol=1e-12)
    within = RankedPairs.of(score, grade, group, 4, by_group=True).correlations()
    expected = [reference(score[group == each], grade[group == each]) for each in range(int(group.max()) + 1)]
    np.testing.assert_allclose(np.transpose(within), expected, atol=1e-12)
    weights = np.array(drawn)[: int(group.max()) + 1]
    again = np.repeat(np.arange(len(group)), weights[group])
    np.testing.assert_allclose(
        np.ravel(pooled.correlations(weights)), reference(score[again], grade[again]), atol=1e-12
    )


def test_many_scores_in_few_levels_tell_nearly_the_same() -> None:
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 4, 20_000)
    score = grade + rng.normal(0, 2, len(grade))
    group = np.zeros(len(grade), dtype=int)
    exact = RankedPairs.of(score, grade, group, 4, by_group=False)
    coarse = RankedPairs.of(score, grade, group, 4, by_group=False, max_levels=1000)
    assert coarse.n_levels == 1000 < exact.n_levels
    np.testing.assert_allclose(coarse.correlations(), exact.correlations(), atol=1e-3)
    assert exact.correlations()[0][0] > 0.3


def test_scores_that_are_the_same_share_a_level() -> None:
    score, grade = np.array([0.0] * 90 + [1.0] * 10), np.array([0] * 95 + [3] * 5)
    ranked = RankedPairs.of(score, grade, np.zeros(100, dtype=int), 4, by_group=False, max_levels=10)
    assert ranked.n_levels == 2
    np.testing.assert_allclose(np.ravel(ranked.correlations()), reference(score, grade), atol=1e-12)


@pytest.mark.parametrize("by_group", [True, False])
def test_no_pairs(by_group: bool) -> None:
    nothing = np.empty(0, dtype=int)
    rho, tau = RankedPairs.of(np.empty(0), nothing, nothing, 4, by_group=by_group).correlations()
    assert len(rho) == len(tau) == 0
