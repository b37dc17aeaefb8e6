"""Explains rows of boosted trees: TreeSHAP, and Shapley values between two customers.

TreeSHAP is of arXiv 1802.03888; both libraries have it built in.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from shelfrank.core.schema import Side
from shelfrank.data.prepared import Split
from shelfrank.explain.explanation import Explanation, Method
from shelfrank.rankers.boosting import TreeRanker
from shelfrank.rankers.trees import feature_matrix

N_ORDERS = 16
"""Random orders of the customer's features; each is walked through from both ends."""


def explain_trees(ranker: TreeRanker, rows: Split, neutral: Split | None) -> list[Explanation]:
    """Explains each row by the Shapley values of its features.

    Args:
        ranker: Fitted trees.
        rows: The rows.
        neutral: The same rows for a neutral customer, as baselines; None takes the trees' mean over the rows that they
            learned from.

    Returns:
        One explanation per row.
    """
    columns = (*rows.numerical_columns, *rows.categorical_columns)
    features = feature_matrix(rows)
    margins = ranker.margins(features)
    if neutral is None:
        contributions, baselines = ranker.shap_values(features)
    else:
        of_customer = np.flatnonzero([column.side is Side.CUSTOMER for column in columns])
        start = feature_matrix(neutral)
        contributions, baselines = shapley_between(ranker, start, features, of_customer), ranker.margins(start)
    # One model may serve every task that the trees predict.
    of_task = np.broadcast_to(np.arange(margins.shape[1]), len(ranker.scored_tasks))
    return [
        Explanation(
            method=Method.SHAP,
            tasks=ranker.scored_tasks,
            features=tuple(column.name for column in columns),
            sides=tuple(column.side for column in columns),
            contributions=contributions[row, of_task],
            logits=margins[row, of_task],
            baseline_logits=baselines[row, of_task],
            one_score=not ranker.gives_probabilities,
        )
        for row in range(rows.n_rows)
    ]


def shapley_between(
    ranker: TreeRanker,
    start: Float32[np.ndarray, "rows n_features"],
    end: Float32[np.ndarray, "rows n_features"],
    columns: Int64[np.ndarray, " columns"],
) -> Float64[np.ndarray, "rows n_models n_features"]:
    """Estimates the Shapley values of the features in which each row differs from its baseline.

    A feature's value is the mean, over orders of the features, of what the margin gains when the feature changes after
    those before it. The orders are a fixed sample, so the values are estimates; their sum is exact.

    Args:
        ranker: Fitted trees.
        start: The baselines.
        end: The rows.
        columns: The features that may differ.

    Returns:
        The values; 0 for every other feature.
    """
    rng = np.random.default_rng(0)
    orders = [rng.permutation(columns) for _ in range(N_ORDERS)]
    found = np.zeros((len(end), ranker.margins(end[:1]).shape[1], end.shape[1]))
    for order in (*orders, *(order[::-1] for order in orders)):
        steps = np.repeat(start[None], len(order) + 1, axis=0)
        for place, column in enumerate(order.tolist(), start=1):
            steps[place:, :, column] = end[:, column]
        margins = ranker.margins(steps.reshape(-1, end.shape[1])).reshape(*steps.shape[:2], -1)
        found[:, :, order] += np.moveaxis(np.diff(margins, axis=0), 0, -1) / (2 * N_ORDERS)
    return found
