"""How a blend scores, from its parts' scores: the same code for a ranker offline and for a serving process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64

from shelfrank.core.errors import UserError
from shelfrank.rankers.trees import sigmoid

BLEND = "blend.json"
MIN_PROB = 1e-9
"""Bounds a network's probability away from 0 and 1, where it has no logit."""


@dataclass(frozen=True)
class TaskBlend:
    """How a task's logit comes from those of the parts.

    Attributes:
        network: Factor of the network's logit.
        trees: Factor of the trees' logit.
        intercept: What is added.
        share_of_trees: Share of the trees in how far the products of a search are apart, from 0 to 1.
    """

    network: float
    trees: float
    intercept: float
    share_of_trees: float

    @property
    def shares(self) -> dict[str, float]:
        """Each part's share."""
        return {"network": 1.0 - self.share_of_trees, "trees": self.share_of_trees}


TREES_ALONE = TaskBlend(0.0, 1.0, 0.0, 1.0)
NETWORK_ALONE = TaskBlend(1.0, 0.0, 0.0, 0.0)


def network_logits(probs: Float[np.ndarray, "rows n_tasks"]) -> Float64[np.ndarray, "rows n_tasks"]:
    """Computes the logits of a network's probabilities."""
    inside = np.clip(probs.astype(np.float64), MIN_PROB, 1 - MIN_PROB)
    return np.log(inside) - np.log1p(-inside)


def blend_scores(
    blends: Mapping[str, TaskBlend],
    tasks: Sequence[str],
    network: Float[np.ndarray, "rows n_tasks"] | None,
    trees: Mapping[str, Float64[np.ndarray, " rows"]],
    n_rows: int,
) -> Float32[np.ndarray, "rows n_tasks"]:
    """Computes each task's probability.

    Args:
        blends: How each task is blended.
        tasks: The log's tasks.
        network: The network's probabilities; None without a network.
        trees: The trees' logits by task.
        n_rows: The rows.

    Returns:
        The probabilities; 0 for a task that no part predicts.
    """
    found = np.zeros((n_rows, len(tasks)), np.float32)
    of_network = None if network is None else network_logits(network)
    for index, task in enumerate(tasks):
        if task not in blends:
            continue
        blend = blends[task]
        logits = np.full(n_rows, blend.intercept)
        if blend.network and of_network is not None:
            logits += blend.network * of_network[:, index]
        if blend.trees:
            logits += blend.trees * trees[task]
        found[:, index] = sigmoid(logits)
    return found


def save_blends(folder: Path, blends: Mapping[str, TaskBlend]) -> None:
    """Writes how each task is blended."""
    (folder / BLEND).write_text(json.dumps({task: vars(blend) for task, blend in blends.items()}, indent=1), "utf-8")


def load_blends(folder: Path) -> dict[str, TaskBlend]:
    """Reads what `save_blends` wrote; a broken file is a `UserError`."""
    try:
        data = json.loads((folder / BLEND).read_text(encoding="utf-8"))
        return {str(task): TaskBlend(**{name: float(x) for name, x in each.items()}) for task, each in data.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / BLEND} must hold each task's weights, but it cannot be read: {error}; train again"
        ) from error
