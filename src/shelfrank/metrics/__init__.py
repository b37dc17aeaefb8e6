"""Ranking and classification metrics: pure NumPy functions on flat arrays of rows grouped by search.

A task's metrics need `scores`, `labels` (-1 = missing), `search_offsets`, `tie_keys` and the cutoff `k`.
Per-search functions give NaN where a search is left out; `left_out_searches` and `left_out_pages` say how
many and why.
"""

from collections.abc import Callable, Mapping

import numpy as np

from shelfrank.metrics.auc import auc_roc
from shelfrank.metrics.bootstrap import (
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_difference,
    bootstrap_expected,
    bootstrap_expected_difference,
    bootstrap_mean,
    bootstrap_mean_auc,
)
from shelfrank.metrics.expected import Expected, expected_reciprocal_rank
from shelfrank.metrics.interval import Difference, Interval
from shelfrank.metrics.order import ranking_order, served_order
from shelfrank.metrics.pages import mean_over_searches
from shelfrank.metrics.personalization import (
    left_out_pages,
    personalization_degree,
    personalization_degree_at_k,
)
from shelfrank.metrics.ranking import left_out_searches, mrr_at_k, ndcg, ndcg_at_k, reciprocal_rank

METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]] = {
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
}
"""The metrics that give one value per search from (scores, labels, search_offsets, tie_keys, k).

AUC, which pools all rows, and Personalization Degree, which compares two rankings, take other arguments.
"""

__all__ = [
    "METRICS",
    "Difference",
    "Expected",
    "Interval",
    "auc_roc",
    "bootstrap_auc",
    "bootstrap_auc_difference",
    "bootstrap_difference",
    "bootstrap_expected",
    "bootstrap_expected_difference",
    "bootstrap_mean",
    "bootstrap_mean_auc",
    "expected_reciprocal_rank",
    "left_out_pages",
    "left_out_searches",
    "mean_over_searches",
    "mrr_at_k",
    "ndcg",
    "ndcg_at_k",
    "personalization_degree",
    "personalization_degree_at_k",
    "ranking_order",
    "reciprocal_rank",
    "served_order",
]
