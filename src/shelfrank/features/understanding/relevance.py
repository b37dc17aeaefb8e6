"""The relevance of a product to a query: its click rate by how it answers the query, position taken out."""

import numpy as np
from jaxtyping import Float32, Float64, Int32

from shelfrank.features.understanding.reading import Comparison, Status

POSITIONS = np.array([*range(1, 21), 25, 30, 40, 60, 100])
"""First positions of the groups in which the examination of positions is estimated."""
SAME_LIMITS = np.array([0.03, 0.1, 0.3, 0.7, 0.95])
"""Limits of the groups of probabilities that noun and type are the same."""
N_RELATIONS = 13
MAX_CONFLICTS, MAX_UNKNOWNS = 3, 2
N_ANSWERS = (MAX_CONFLICTS + 1) * (MAX_UNKNOWNS + 1)
N_CELLS = N_RELATIONS * N_ANSWERS
ROUNDS = 10
PRIOR_CLICKS = 3.0
"""Expected clicks by which a cell is drawn to what its relation and its answers give apart."""
PRIOR_FACTOR = 2.0


def position_groups(positions: Int32[np.ndarray, " rows"]) -> Int32[np.ndarray, " rows"]:
    """The group of each position."""
    return (np.searchsorted(POSITIONS, np.maximum(positions, 1), side="right") - 1).astype(np.int32)


def answer_groups(comparison: Comparison) -> Int32[np.ndarray, " rows"]:
    """How many conflicts and unknowns there are beside the type, as one number."""
    conflicts = np.minimum(comparison.other_conflicts(), MAX_CONFLICTS)
    return conflicts * (MAX_UNKNOWNS + 1) + np.minimum(comparison.other_unknowns(), MAX_UNKNOWNS)


def relation_groups(
    comparison: Comparison,
    same: Float32[np.ndarray, " rows"],
    is_exact: np.ndarray,
    is_kind: np.ndarray,
    has_noun: np.ndarray,
) -> Int32[np.ndarray, " rows"]:
    """How a product's type stands to the query's, as one number below `N_RELATIONS`.

    Args:
        comparison: How the products answer.
        same: The probability that noun and type are the same.
        is_exact: Whether they are the same word.
        is_kind: Whether the type is a kind of the noun.
        has_noun: Whether the query has a noun and the product a type.

    Returns:
        0: nothing named; 1 and 2: category matches, conflicts; 3: the product's type is unknown; 4: same word; 5 and 6:
        a kind of the noun, probably another thing; 7 to 12: another word, by the probability that it means the same.
    """
    category = comparison.category_status
    group = np.zeros(len(same), np.int32)
    group[has_noun] = 7 + np.searchsorted(SAME_LIMITS, same[has_noun], side="right")
    kind = has_noun & is_kind
    group[kind] = np.where(same[kind] >= SAME_LIMITS[3], 5, 6)
    group[comparison.type_status == Status.UNKNOWN] = 3
    # Without a type, a category that is named stands for it.
    by_category = (comparison.type_status == Status.NOT_NAMED) & (category != Status.NOT_NAMED)
    group[by_category] = np.where(category[by_category] == Status.MATCH, 1, 2)
    group[has_noun & is_exact] = 4
    return group


class RelevanceEstimate:
    """The rate of a task's labels in each cell of type relation, conflicts and unknowns, in multiples of the mean.

    A label's rate is taken as examination by position, times a factor of the type relation, times one of the other
    answers, and times one of the cell itself that counts by how much was seen of it.

    Args:
        rates: Rate of each cell, one row for each task.
    """

    def __init__(self, rates: Float32[np.ndarray, "tasks cells"]) -> None:
        self.rates = rates

    def of(
        self, relations: Int32[np.ndarray, " rows"], answers: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows tasks"]:
        """The estimate of each task."""
        return self.rates[:, relations * N_ANSWERS + answers].T

    @classmethod
    def fit(
        cls,
        positives: Float64[np.ndarray, "tasks positions cells"],
        shown: Float64[np.ndarray, "tasks positions cells"],
    ) -> "RelevanceEstimate":
        """Estimates the rates from counts; without any they are all 1."""
        rates = [_rates(own, seen) for own, seen in zip(positives, shown, strict=True)]
        return cls(np.array(rates, np.float32).reshape(len(positives), N_CELLS))


def examination(
    positives: Float64[np.ndarray, "positions cells"], shown: Float64[np.ndarray, "positions cells"], groups: np.ndarray
) -> tuple[Float64[np.ndarray, " positions"], Float64[np.ndarray, "factors cells"]]:
    """Factors of positions and of groups of cells whose products are the rates.

    Args:
        positives: Labels by position and cell.
        shown: Rows by position and cell.
        groups: Memberships of the cells, one row for each factor.

    Returns:
        The factor of each position, in multiples of the mean rate, and for each row of `groups` the factors of the
        cells, one row each.
    """
    mean = (positives.sum() + 0.1) / (shown.sum() + 10.0)
    position = np.full(len(shown), mean)
    factors = np.ones((len(groups), shown.shape[1]))
    for _ in range(ROUNDS):
        cells = factors.prod(axis=0)
        expected = shown @ cells * mean
        position = mean * (positives.sum(axis=1) + PRIOR_FACTOR) / (expected + PRIOR_FACTOR)
        by_cell = position @ shown
        for at, group in enumerate(groups):
            rest = by_cell * np.delete(factors, at, axis=0).prod(axis=0)
            got, due = np.bincount(group, positives.sum(axis=0)), np.bincount(group, rest)
            factors[at] = ((got + PRIOR_FACTOR) / (due + PRIOR_FACTOR))[group]
    return position, factors


RELATION_OF_CELL, ANSWER_OF_CELL = np.divmod(np.arange(N_CELLS), N_ANSWERS)


def _rates(
    positives: Float64[np.ndarray, "positions cells"], shown: Float64[np.ndarray, "positions cells"]
) -> Float64[np.ndarray, " cells"]:
    position, factors = examination(positives, shown, np.stack([RELATION_OF_CELL, ANSWER_OF_CELL]))
    rates = factors.prod(axis=0)
    expected = position @ shown * rates
    rates = rates * (positives.sum(axis=0) + PRIOR_CLICKS) / (expected + PRIOR_CLICKS)
    mean = (shown.sum(axis=0) @ rates) / max(float(shown.sum()), 1.0)
    return rates / mean if mean > 0 else np.ones_like(rates)
