"""The order that scores give to each results page: for metrics, and as a page is shown."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, UInt64

from shelfrank.core.errors import UserError
from shelfrank.metrics.pages import require_pages, require_scores, require_tie_keys

MAX_BLOCK_ROWS = 1 << 20
"""Rows sorted at a time, which bounds the memory."""


def fuse(scores: Float[np.ndarray, "rows n_tasks"], weights: Sequence[float]) -> Float32[np.ndarray, " rows"]:
    """The score that orders a page: the weighted sum of the tasks' scores (Paper: Table 2, task weights)."""
    # Numerics: a matrix product may round equal rows differently by their place among the others.
    return (scores.astype(np.float64) * np.asarray(weights)).sum(axis=1).astype(np.float32)


def ranking_order(
    scores: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
) -> Int64[np.ndarray, " rows"]:
    """Computes the row order that sorts each page by descending score, equal scores by ascending tie key.

    Metrics order equal scores by a hash, so that a constant score earns nothing from the shown order; pages that
    people see keep that order instead, see `served_order`.

    Args:
        scores: The ranker's score of each row.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        tie_keys: A fixed hash of (search, product), distinct within a search.

    Returns:
        Row indices: `scores[order]` is sorted within each page, and the pages keep their places.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, or scores tie and their
            tie keys do too.

    Example:
        >>> keys = np.array([0, 0, 8, 3], dtype=np.uint64)
        >>> ranking_order(np.array([0.1, 0.9, 0.5, 0.5]), np.array([0, 2, 4]), keys)
        array([1, 0, 3, 2])
    """
    require_pages(search_offsets, scores=scores, tie_keys=tie_keys)
    require_scores(scores)
    require_tie_keys(tie_keys)
    starts, sizes = search_offsets[:-1], np.diff(search_offsets)
    order = np.empty(len(scores), dtype=np.int64)
    n_clashes = 0
    # Pages of one size form a matrix, sorted row by row: no padding, and far faster than one sort of all.
    for size in map(int, np.unique(sizes)):
        first_rows = starts[sizes == size]
        step = max(1, MAX_BLOCK_ROWS // size)
        for block in range(0, len(first_rows), step):
            rows = first_rows[block : block + step, None] + np.arange(size)
            by_key = np.argsort(tie_keys[rows], axis=1)
            keyed = np.take_along_axis(rows, by_key, axis=1)
            # Stable, so that equal scores stay in the order of their keys.
            by_score = np.argsort(-scores[keyed], axis=1, kind="stable")
            ordered = order[rows] = np.take_along_axis(keyed, by_score, axis=1)
            above, below = ordered[:, :-1], ordered[:, 1:]
            n_clashes += int(np.count_nonzero((scores[above] == scores[below]) & (tie_keys[above] == tie_keys[below])))
    require_distinct_keys(n_clashes)
    return order


def served_order(
    scores: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    positions: Int[np.ndarray, " rows"],
) -> Int64[np.ndarray, " rows"]:
    """Computes the row order that sorts each page by descending score, equal scores by the engine's position.

    Where a ranker scores products equally, the engine's order stands, in the service and wherever a page is listed.

    Args:
        scores: The ranker's score of each row.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        positions: Each row's place in the engine's order, from 1; rows of equal places keep their order.

    Returns:
        Row indices: `scores[order]` is sorted within each page, and the pages keep their places.

    Raises:
        UserError: Where shapes do not fit, a page is empty, or a score is not finite.

    Example:
        >>> served_order(np.array([0.1, 0.9, 0.5, 0.5]), np.array([0, 2, 4]), np.array([1, 2, 2, 1]))
        array([1, 0, 3, 2])
    """
    require_pages(search_offsets, scores=scores, positions=positions)
    require_scores(scores)
    pages = np.repeat(np.arange(len(search_offsets) - 1), np.diff(search_offsets))
    return np.lexsort((positions, -scores, pages))


def require_distinct_keys(n_clashes: int) -> None:
    """Refuses scores that tie where their tie keys do too, since only the input order could decide.

    Args:
        n_clashes: How many rows follow another one of their page with the same score and the same tie key.

    Raises:
        UserError: Where there is any.
    """
    if n_clashes:
        raise UserError(
            f"tie_keys must differ within a search wherever scores are equal, but {n_clashes:,} rows share "
            "both score and key with another; hash (search, product) and show each product once per search"
        )
