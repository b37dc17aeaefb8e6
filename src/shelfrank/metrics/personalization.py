"""Personalization Degree: how far the customer's features change what stands on top of a page."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, UInt64

from shelfrank.metrics.order import ranking_order
from shelfrank.metrics.pages import at_searches, mean_over_searches, require_cutoff, require_pages


def personalization_degree(
    scores: Float[np.ndarray, " rows"],
    neutral_scores: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> Float64[np.ndarray, " offsets-1"]:
    """Computes, for each search, the share of its first k products that stay there for a neutral customer.

    A LOWER share means more personalization: 1 says that the customer changes nothing.

    Paper: Sec. 4.3, Eq. (16).
    Differs: pages of n <= k products are left out. Their first min(k, n) products are the whole page, so the
    share is 1 whatever the ranker does, and on the pages that remain the divisor min(k, n) is the paper's k.

    - Grouping: by search (one results page), never by query text or customer.
    - Cutoff: the sets of products at ranks 1 to k are compared; order within the first k does not matter.
    - Ties: equal scores are ordered by ascending tie key in both rankings, never by input order, so that a
      ranker that ignores the customer gets exactly 1.
    - Searches without positives: kept; no label is looked at.
    - Graded labels: none are looked at.

    Args:
        scores: The ranker's score of each row.
        neutral_scores: Its score of the same row with the customer's features neutralised.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        tie_keys: A fixed hash of (search, product), distinct within a search.
        k: How many products from the top count.

    Returns:
        One of 0, 1/k, ..., 1 per search, NaN where the page is left out.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, or scores tie and their
            tie keys do too.

    Example:
        The first page's first two of three are {a, b}, and {b, c} for the neutral customer; the second is too
        short.

        >>> scores, neutral = np.array([0.9, 0.8, 0.1, 0.7, 0.2]), np.array([0.1, 0.8, 0.9, 0.7, 0.2])
        >>> keys = np.arange(5, dtype=np.uint64)
        >>> personalization_degree(scores, neutral, np.array([0, 3, 5]), keys, k=2)
        array([0.5, nan])
    """
    require_pages(search_offsets, scores=scores, neutral_scores=neutral_scores, tie_keys=tie_keys)
    require_cutoff(k)
    stays = _in_top(scores, search_offsets, tie_keys, k) & _in_top(neutral_scores, search_offsets, tie_keys, k)
    n_staying = np.add.reduceat(stays, search_offsets[:-1], dtype=np.int64)
    return at_searches(n_staying / k, np.diff(search_offsets) > k)


def personalization_degree_at_k(
    scores: Float[np.ndarray, " rows"],
    neutral_scores: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> float:
    """Computes PD@K: the mean of `personalization_degree` over the searches that it does not leave out."""
    return mean_over_searches(personalization_degree(scores, neutral_scores, search_offsets, tie_keys, k))


def left_out_pages(search_offsets: Int[np.ndarray, " offsets"], k: int) -> dict[str, int]:
    """Counts the searches that `personalization_degree` leaves out, by reason.

    Args:
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        k: How many products from the top count.

    Returns:
        `page of k products or fewer`: the only reason.

    Raises:
        UserError: Where a page is empty or the cutoff is below 1.

    Example:
        >>> left_out_pages(np.array([0, 3, 5]), k=2)
        {'page of k products or fewer': 1}
    """
    require_pages(search_offsets)
    require_cutoff(k)
    return {"page of k products or fewer": int(np.count_nonzero(np.diff(search_offsets) <= k))}


def _in_top(
    scores: Float[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    tie_keys: UInt64[np.ndarray, " rows"],
    k: int,
) -> Bool[np.ndarray, " rows"]:
    order = ranking_order(scores, search_offsets, tie_keys)
    place = np.arange(len(order)) - np.repeat(search_offsets[:-1], np.diff(search_offsets))
    in_top = np.empty(len(order), dtype=np.bool_)
    in_top[order] = place < k
    return in_top
