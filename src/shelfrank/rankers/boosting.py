"""Shared by both boosting libraries: the interface of tree rankers, matrices with hidden values, notes."""

from abc import abstractmethod

import numpy as np
from jaxtyping import Float32, Float64, Int64

from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split
from shelfrank.rankers.base import Ranker
from shelfrank.rankers.trees import feature_matrix

FEW_TREES = 3
"""Below this number of trees the run notes that the model hardly distinguishes products."""


class TreeRanker(Ranker):
    """Boosted trees, whose leaves add up to one margin per row and model.

    There is a model for each of the scored tasks, in their order, or one for all of them.
    """

    @abstractmethod
    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, "rows n_models"]:
        """Each row's score by each model before any sigmoid: the sum of its leaves, or a scale of it."""

    @abstractmethod
    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_models n_features"], Float64[np.ndarray, "rows n_models"]]:
        """Each feature's contribution to each row's margins, and the base margins: the mean over training rows."""


def training_matrix(
    rows: Split, chosen: Int64[np.ndarray, " chosen"], hiding: Hiding
) -> Float32[np.ndarray, "chosen n_features"]:
    """The matrix that trees learn from: some values are hidden, so that unknown has branches of its own."""
    matrix = feature_matrix(rows, chosen)
    n_numerical = len(rows.numerical_columns)
    hiding.hide(matrix[:, :n_numerical], matrix[:, n_numerical:], chosen)
    return matrix


def kept_trees(kept: int, grown: int, settings: str, n_rounds: int) -> list[str]:
    """How many trees a model keeps, for people, with a note where boosting stopped too early or at its limit.

    Args:
        kept: Trees of the model.
        grown: Trees that were grown until boosting stopped.
        settings: The part of the config that has the settings.
        n_rounds: Trees that were allowed.

    Returns:
        One line, or two.
    """
    words = [f"{kept} of {grown} trees kept"]
    if kept == n_rounds:
        words.append(
            f"note: the validation loss still fell at the last of the {n_rounds} trees that {settings}.n_rounds "
            "allows; raise it"
        )
    elif kept < FEW_TREES:
        words.append(
            f"note: the validation loss was lowest with only {kept} {'tree' if kept == 1 else 'trees'}, so that the "
            f"model hardly distinguishes products; lower {settings}.learning_rate, raise "
            f"{settings}.early_stopping_rounds, or take a longer log"
        )
    return words
