"""Metrics expected over all outcomes of a page whose true chances are known, as a simulated shop knows them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, UInt64

from shelfrank.core.errors import UserError
from shelfrank.metrics.order import ranking_order
from shelfrank.metrics.pages import require_cutoff, require_pages


class Expected(NamedTuple):
    """Per search, the two sides of an expected mean over the searches that count.

    Attributes:
        total: Expected value of the metric, 0 where the search does not count.
        weight: Chance that the search counts.
    """

    total: Float64[np.ndarray, " searches"]
    weight: Float64[np.ndarray, " searches"]


def expected_reciprocal_rank(
    scores: Float[np.ndarray, " rows"],
    chances: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> Expected:
    """Computes the reciprocal rank at K that is expected where each row is positive with its own known chance.

    `sum(total) / sum(weight)` is the limit of `mrr_at_k` over ever more draws of the labels, pooled over the draws: the
    same quantity without the noise of one draw. Rows are positive independently of one another; a search counts in a
    draw where at least one of its rows is positive. Equal scores are ordered by tie key.

    Args:
        scores: What the ranker gives each row.
        chances: Each row's chance of a positive label, from 0 to 1.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        tie_keys: A fixed hash of (search, product), distinct within a search.
        k: The first k products of a page count.

    Returns:
        Per search, the expected reciprocal rank and the chance of a positive.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, a chance is not between 0 and 1, or
            k is below 1.

    Example:
        The first product is positive with chance 0.5, the second with 0.5 where the first is not: 0.5 + 0.25 / 2.

        >>> keys = np.arange(2, dtype=np.uint64)
        >>> found = expected_reciprocal_rank(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([0, 2]), keys, k=10)
        >>> found.total, found.weight
        (array([0.625]), array([0.75]))
    """
    require_pages(search_offsets, scores=scores, chances=chances, tie_keys=tie_keys)
    require_cutoff(k)
    if len(chances) and not bool(((chances >= 0) & (chances <= 1)).all()):
        raise UserError("chances must be between 0 and 1, but some are not; check the columns of the truth tables")
    ordered = chances[ranking_order(scores, search_offsets, tie_keys)].astype(np.float64)
    starts, sizes = search_offsets[:-1], np.diff(search_offsets)
    total, weight = np.empty(len(starts)), np.empty(len(starts))
    # Pages of one size form a matrix.
    for size in map(int, np.unique(sizes)):
        pages = np.flatnonzero(sizes == size)
        chance = ordered[starts[pages, None] + np.arange(size)]
        none_up_to = np.cumprod(1 - chance, axis=1)
        none_before = np.concatenate([np.ones((len(pages), 1)), none_up_to[:, :-1]], axis=1)
        ranks = np.arange(1, size + 1)
        total[pages] = (chance * none_before * np.where(ranks <= k, 1 / ranks, 0.0)).sum(axis=1)
        weight[pages] = 1 - none_up_to[:, -1]
    return Expected(total, weight)
