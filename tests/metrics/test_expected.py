"""Expected figures against an enumeration of every outcome of small pages, and against the mean of many draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfrank.core.errors import UserError
from shelfrank.metrics import (
    Expected,
    bootstrap_expected,
    bootstrap_expected_difference,
    expected_reciprocal_rank,
    reciprocal_rank,
)

CHANCES = st.lists(
    st.lists(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=4), min_size=1, max_size=3
)


def pages(chances: list[list[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(page) for page in chances])])
    flat = np.array([chance for page in chances for chance in page])
    return flat, offsets, np.arange(len(flat), dtype=np.uint64)


def _ranks_of_copies(
    scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray, keys: np.ndarray, k: int
) -> np.ndarray:
    """The reciprocal ranks of the same pages under each row of labels, as copies by searches."""
    n = len(labels)
    starts = np.arange(n)[:, None] * len(scores) + offsets[:-1]
    every = np.append(starts.ravel(), n * len(scores))
    return reciprocal_rank(np.tile(scores, n), labels.ravel(), every, np.tile(keys, n), k).reshape(n, -1)


@given(chances=CHANCES, k=st.integers(1, 5), seed=st.integers(0, 5))
def test_it_is_the_mean_over_every_outcome(chances: list[list[float]], k: int, seed: int) -> None:
    flat, offsets, keys = pages(chances)
    # Few distinct scores, so that ties occur.
    scores = np.random.default_rng(seed).integers(0, 3, len(flat)).astype(np.float64)
    found = expected_reciprocal_rank(scores, flat, offsets, keys, k)
    # Every outcome of all rows, each as a copy of the pages; rows of the other searches are summed over.
    outcomes = np.array(list(itertools.product([0, 1], repeat=len(flat))), dtype=np.int8)
    ranks = _ranks_of_copies(scores, outcomes, offsets, keys, k)
    chance = np.where(outcomes == 1, flat, 1 - flat).prod(axis=1)[:, None]
    weight = np.where(np.isnan(ranks), 0, chance).sum(axis=0)
    total = (chance * np.nan_to_num(ranks)).sum(axis=0)
    np.testing.assert_allclose(found.total, total, atol=1e-12)
    np.testing.assert_allclose(found.weight, weight, atol=1e-12)


def test_draws_of_the_labels_come_to_it() -> None:
    rng = np.random.default_rng(0)
    flat, offsets, keys = pages([list(rng.uniform(0, 0.4, 8)) for _ in range(40)])
    scores = rng.normal(size=len(flat))
    found = bootstrap_expected(expected_reciprocal_rank(scores, flat, offsets, keys, 10))
    labels = (rng.random((2000, len(flat))) < flat).astype(np.int8)
    draws = _ranks_of_copies(scores, labels, offsets, keys, 10)
    pooled = draws[~np.isnan(draws)]
    assert found.value == pytest.approx(pooled.mean(), abs=5 * pooled.std() / np.sqrt(len(pooled)))
    assert found.low < found.value < found.high


def test_a_difference_is_paired() -> None:
    """Two rankers on pages of very different ease: the interval of their difference is far narrower than theirs."""
    rng = np.random.default_rng(1)
    flat, offsets, keys = pages([list(rng.uniform(0, rng.choice([0.05, 0.9]), 6)) for _ in range(200)])
    good = expected_reciprocal_rank(flat, flat, offsets, keys, 10)
    worse = expected_reciprocal_rank(flat + rng.normal(0, 0.02, len(flat)), flat, offsets, keys, 10)
    difference = bootstrap_expected_difference(good, worse)
    first, second = bootstrap_expected(good), bootstrap_expected(worse)
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.low > 0
    assert difference.high - difference.low < (first.high - first.low) / 2


def test_a_search_that_cannot_count_is_left_out() -> None:
    found = bootstrap_expected(Expected(np.array([0.2, 0.0]), np.array([0.4, 0.0])))
    assert found.value == 0.5
    assert found.n == 1
    nothing = bootstrap_expected(Expected(np.zeros(2), np.zeros(2)))
    assert np.isnan(nothing.value)
    assert nothing.n == 0
    both = Expected(np.zeros(2), np.zeros(2))
    assert np.isnan(bootstrap_expected_difference(both, both).value)


@pytest.mark.parametrize("chance", [-0.1, 1.1, np.nan])
def test_a_chance_outside_0_to_1_is_refused(chance: float) -> None:
    with pytest.raises(UserError, match="chances must be between 0 and 1"):
        expected_reciprocal_rank(np.zeros(1), np.array([chance]), np.array([0, 1]), np.zeros(1, dtype=np.uint64), 1)


def test_rankers_of_other_pages_have_no_difference() -> None:
    one, other = Expected(np.zeros(2), np.ones(2)), Expected(np.zeros(2), np.array([1.0, 0.5]))
    with pytest.raises(UserError, match="must order the same pages"):
        bootstrap_expected_difference(one, other)
