"""Explains rows of a blend by the explanations of its parts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from shelfrank.data.prepared import Split
from shelfrank.explain.explanation import Explanation, Method
from shelfrank.explain.networks import explain_network
from shelfrank.explain.trees import explain_trees
from shelfrank.rankers.blend import Blend


def explain_blend(ranker: Blend, rows: Split, neutral: Split | None) -> list[Explanation]:
    """Explains each row by what its parts say, each contribution times the part's weight in the task's logit.

    Args:
        ranker: A fitted blend.
        rows: The rows.
        neutral: The same rows for a neutral customer, as baselines; None starts each part from its own mean.

    Returns:
        One explanation per row; the trees' own where they rank alone.
    """
    of_trees = explain_trees(ranker.trees, rows, neutral)
    if ranker.network is None:
        return of_trees
    pairs = zip(explain_network(ranker.network, rows, neutral), of_trees, strict=True)
    return [_blended(ranker, network, trees) for network, trees in pairs]


def _blended(ranker: Blend, network: Explanation, trees: Explanation) -> Explanation:
    tasks = ranker.scored_tasks
    blends = [ranker.blends[task] for task in tasks]
    weights = np.array([[blend.network, blend.trees] for blend in blends])
    intercepts = np.array([blend.intercept for blend in blends])

    def added(of_network: np.ndarray, of_trees: np.ndarray) -> np.ndarray:
        parts = np.stack([_of_tasks(of_network, network.tasks, tasks), _of_tasks(of_trees, trees.tasks, tasks)], axis=1)
        return (weights.reshape(*weights.shape, *[1] * (parts.ndim - 2)) * parts).sum(axis=1)

    # A network with text has one feature more, the last.
    n_more = len(network.features) - len(trees.features)
    return Explanation(
        method=Method.BLEND,
        tasks=tasks,
        features=network.features,
        sides=network.sides,
        contributions=added(network.contributions, np.pad(trees.contributions, ((0, 0), (0, n_more)))),
        logits=added(network.logits, trees.logits) + intercepts,
        baseline_logits=added(network.baseline_logits, trees.baseline_logits) + intercepts,
        gates=None if network.gates is None else _of_tasks(network.gates, network.tasks, tasks),
        attention=network.attention,
    )


def _of_tasks(
    values: Float64[np.ndarray, "..."], own: Sequence[str], tasks: Sequence[str]
) -> Float64[np.ndarray, "..."]:
    """A part's values for the tasks of the blend; 0 for those that it does not predict."""
    found = np.zeros((len(tasks), *values.shape[1:]))
    for index, task in enumerate(tasks):
        if task in own:
            found[index] = values[own.index(task)]
    return found
