"""How high a ranking puts the products that a task is about: MRR@K and NDCG@K, search by search."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt64

from shelfrank.metrics.order import ranking_order, require_distinct_keys
from shelfrank.metrics.pages import (
    at_searches,
    mean_over_searches,
    require_cutoff,
    require_labels,
    require_pages,
    require_scores,
    require_tie_keys,
)

MAX_GRADE = 31
"""Highest graded label: beyond it the gain 2^grade - 1 lets one product drown all others."""


def reciprocal_rank(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> Float64[np.ndarray, " offsets-1"]:
    """Computes, for each search, 1 / rank of its first positive product, or 0 where that is beyond rank k.

    Paper: Sec. 4.3. Unstated: everything below; the paper only names MRR@K.

    - Grouping: by search (one results page), never by query text or customer.
    - Cutoff: a first positive at rank k still counts, one at rank k + 1 gives 0.
    - Ties: equal scores are ordered by ascending tie key, never by input order.
    - Searches without positives: left out (NaN), and so are searches with a missing label in any row.
    - Graded labels: refused; say first which grades count as positive.

    Args:
        scores: The ranker's score of each row; higher comes first.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        tie_keys: A fixed hash of (search, product), distinct within a search.
        k: How many products from the top count.

    Returns:
        One value per search: 0, or one of 1, 1/2, ..., 1/k, or NaN where the search is left out.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, a label is unknown, or
            scores tie and their tie keys do too.

    Example:
        The first page orders its products b, a, c and a is positive; the second has no positive.

        >>> scores, labels = np.array([0.5, 0.9, 0.1, 0.3]), np.array([1, 0, 0, 0], dtype=np.int8)
        >>> offsets, keys = np.array([0, 3, 4]), np.arange(4, dtype=np.uint64)
        >>> reciprocal_rank(scores, labels, offsets, keys, k=2)
        array([0.5, nan])
        >>> reciprocal_rank(scores, labels, offsets, keys, k=1)
        array([ 0., nan])
    """
    require_pages(search_offsets, scores=scores, labels=labels, tie_keys=tie_keys)
    require_scores(scores)
    require_tie_keys(tie_keys)
    require_labels(labels, highest=1)
    require_cutoff(k)
    starts, sizes = search_offsets[:-1], np.diff(search_offsets)
    positive = labels == 1
    # The best positive is found and the rows that beat it are counted, so no page need be sorted.
    best_score = np.maximum.reduceat(np.where(positive, scores, -np.inf), starts)
    tied = scores == np.repeat(best_score, sizes)
    last_key = np.iinfo(np.uint64).max
    best_key = np.minimum.reduceat(np.where(positive & tied, tie_keys, last_key), starts)
    best_key_of_row = np.repeat(best_key, sizes)
    n_tied_best = np.count_nonzero(tied & (tie_keys == best_key_of_row))
    require_distinct_keys(int(n_tied_best - np.count_nonzero(best_score > -np.inf)))
    beats = (scores > np.repeat(best_score, sizes)) | (tied & (tie_keys < best_key_of_row))
    rank = 1 + np.add.reduceat(beats, starts, dtype=np.int64)
    return at_searches(np.where(rank <= k, 1 / rank, 0.0), _usable(labels, search_offsets))


def ndcg(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> Float64[np.ndarray, " offsets-1"]:
    """Computes, for each search, the discounted gain of its first k products over that of the best order.

    Rank r is discounted by 1 / log2(r + 1). The paper reports no NDCG; it is here because it sees every
    positive of a page, where the reciprocal rank sees the first.

    - Grouping: by search (one results page), never by query text or customer.
    - Cutoff: ranks 1 to k count, in the ranking and in the best order alike.
    - Ties: equal scores are ordered by ascending tie key, never by input order.
    - Searches without positives: left out (NaN), and so are searches with a missing label in any row.
    - Graded labels: a row's gain is 2^label - 1, which is the label itself where labels are 0 and 1.

    Args:
        scores: The ranker's score of each row; higher comes first.
        labels: Binary labels or grades, not gains; -1 for a missing label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        tie_keys: A fixed hash of (search, product), distinct within a search.
        k: How many products from the top count.

    Returns:
        One value between 0 and 1 per search, NaN where the search is left out.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, a label is below -1 or
            above `MAX_GRADE`, or scores tie and their tie keys do too.

    Example:
        Grades 0, 2 lie at ranks 1, 2; their gains are 0 and 3. DCG = 3 / log2(3), the best is 3 / log2(2).

        >>> keys = np.arange(2, dtype=np.uint64)
        >>> ndcg(np.array([0.2, 0.1]), np.array([0, 2], dtype=np.int8), np.array([0, 2]), keys, k=2).round(4)
        array([0.6309])
    """
    require_pages(search_offsets, scores=scores, labels=labels, tie_keys=tie_keys)
    require_labels(labels, highest=MAX_GRADE)
    require_cutoff(k)
    order = ranking_order(scores, search_offsets, tie_keys)
    n_searches = len(search_offsets) - 1
    search_of_row = np.repeat(np.arange(n_searches), np.diff(search_offsets))
    # Rows without gain add nothing to any sum, and most rows have none.
    places = np.flatnonzero(labels[order] > 0)
    search, grade = search_of_row[places], labels[order[places]]
    best = np.lexsort((-grade.astype(np.int64), search))
    dcg = _discounted_sum(places - search_offsets[search], grade, search, k, n_searches)
    first = np.searchsorted(search, np.arange(n_searches))
    ideal = _discounted_sum(np.arange(len(places)) - first[search], grade[best], search, k, n_searches)
    used = _usable(labels, search_offsets)
    return np.divide(dcg, ideal, out=np.full(n_searches, np.nan), where=used)


def mrr_at_k(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> float:
    """Computes MRR@K: the mean of `reciprocal_rank` over the searches that it does not leave out."""
    return mean_over_searches(reciprocal_rank(scores, labels, search_offsets, tie_keys, k))


def ndcg_at_k(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> float:
    """Computes NDCG@K: the mean of `ndcg` over the searches that it does not leave out."""
    return mean_over_searches(ndcg(scores, labels, search_offsets, tie_keys, k))


def left_out_searches(labels: Int[np.ndarray, " rows"], search_offsets: Int[np.ndarray, " offsets"]) -> dict[str, int]:
    """Counts the searches that `reciprocal_rank` and `ndcg` leave out, by reason.

    Args:
        labels: The task's labels, -1 where missing.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.

    Returns:
        `label missing`: searches with a missing label in any row; `no positive`: the others without a
        positive.

    Raises:
        UserError: Where shapes do not fit, a page is empty, or a label is unknown.

    Example:
        >>> left_out_searches(np.array([0, 0, 1, -1, 1], dtype=np.int8), np.array([0, 2, 4, 5]))
        {'label missing': 1, 'no positive': 1}
    """
    require_pages(search_offsets, labels=labels)
    require_labels(labels, highest=MAX_GRADE)
    missing = np.minimum.reduceat(labels, search_offsets[:-1]) < 0
    n_missing, n_used = int(missing.sum()), int(_usable(labels, search_offsets).sum())
    return {"label missing": n_missing, "no positive": len(missing) - n_missing - n_used}


def _usable(
    labels: Int[np.ndarray, " rows"], search_offsets: Int[np.ndarray, " offsets"]
) -> Bool[np.ndarray, " offsets-1"]:
    starts = search_offsets[:-1]
    return (np.minimum.reduceat(labels, starts) >= 0) & (np.maximum.reduceat(labels, starts) > 0)


def _discounted_sum(
    place: Int[np.ndarray, " gaining"],
    grade: Int[np.ndarray, " gaining"],
    search: Int[np.ndarray, " gaining"],
    k: int,
    n_searches: int,
) -> Float64[np.ndarray, " searches"]:
    # Numerics: NumPy would take the power of an 8-bit grade in half precision.
    gain = np.exp2(grade.astype(np.float64)) - 1
    terms = np.where(place < k, gain / np.log2(place + 2), 0.0)
    # Numerics: bincount adds one term after the other, so that a best order gives exactly 1; without any term
    # it returns whole numbers.
    return np.bincount(search, weights=terms, minlength=n_searches).astype(np.float64)
