"""Rankers that learn nothing: the baselines that any model must beat."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from shelfrank.data.prepared import Split
from shelfrank.rankers.base import Fitted, Problem, Ranker
from shelfrank.train.checkpoint import Checkpoints


class Fixed(Ranker):
    """A ranker that needs no fitting and has no state."""

    learned = False
    uses_features = False
    gives_probabilities = False  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.tasks = problem.tasks

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """Every task: all have the same score."""
        return self.tasks

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Learns nothing."""
        return Fitted()

    def save(self, folder: Path) -> None:
        """Writes nothing."""

    def load(self, folder: Path) -> None:
        """Reads nothing."""


class ShownOrder(Fixed):
    """The order that the shop showed."""

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """The negative position: products at the top score highest."""
        return np.repeat(-rows.position.astype(np.float32)[:, None], len(self.tasks), axis=1)


class Popularity(Fixed):
    """The product's smoothed rate of each task's outcome so far, regardless of query and customer."""

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Learns nothing; data without the products' rates is a `UserError` here rather than at scoring."""
        for task in self.tasks:
            train.column(f"product_{task}_rate")
        return Fitted()

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """Rates known before the search."""
        return np.stack([rows.column(f"product_{task}_rate") for task in self.tasks], axis=1).astype(np.float32)
