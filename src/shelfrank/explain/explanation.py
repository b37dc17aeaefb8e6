"""The explanation of one row."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from shelfrank.core.schema import Side


class Method(StrEnum):
    """How contributions are computed; figures of two methods are not comparable."""

    SHAP = "shap"
    """Shapley values: of trees, TreeSHAP from the mean, or orders of the customer's features from a neutral one."""
    INTEGRATED_GRADIENTS = "integrated_gradients"
    """Gradients along the straight path from the baseline to the row: of networks."""
    OCCLUSION = "occlusion"
    """The change of the score when one feature is set to its training mean: of a bundle, whose graph has no gradients.
    Contributions do not add up to the score."""

    BLEND = "blend"
    """Of a blend: its network's integrated gradients and its trees' SHAP values, each times the part's weight."""

    @property
    def label(self) -> str:
        """Its name in a sentence."""
        words = {Method.SHAP: "SHAP", Method.BLEND: "integrated gradients and SHAP, weighted"}
        return words.get(self) or self.value.replace("_", " ")


class Contribution(NamedTuple):
    """The contribution of one feature to one logit.

    Attributes:
        feature: The feature's name.
        side: The side that it describes.
        logits: How far it moved the logit from the baseline's; negative where it lowered it.
    """

    feature: str
    side: Side
    logits: float


@dataclass(frozen=True)
class Explanation:
    """Why one row has its logits.

    Attributes:
        method: How the contributions are computed.
        tasks: The tasks that the ranker predicts.
        features: Every feature that the ranker sees, numbers, then categories, then, for a network with text, the
            matching features as one.
        sides: The side of each feature.
        contributions: How far each feature moved each task's logit from the baseline's. The one score of
            trees on graded labels counts for every task.
        logits: The row's, before the sigmoid.
        baseline_logits: The baseline's.
        gates: Weight of each expert for each task; None where there is no mixture of experts.
        attention: Weight of each feature in the network's own selection, at least 0; None where it makes none.
        one_score: Whether the logits are one score that orders every task, and no logit of a probability.
    """

    method: Method
    tasks: tuple[str, ...]
    features: tuple[str, ...]
    sides: tuple[Side, ...]
    contributions: Float64[np.ndarray, "n_tasks n_features"]
    logits: Float64[np.ndarray, " n_tasks"]
    baseline_logits: Float64[np.ndarray, " n_tasks"]
    gates: Float64[np.ndarray, "n_tasks n_experts"] | None = None
    attention: Float64[np.ndarray, " n_features"] | None = None
    one_score: bool = False

    @property
    def gaps(self) -> Float64[np.ndarray, " n_tasks"]:
        """What the contributions leave of each logit's distance from the baseline's; 0 but for numerical error."""
        return self.logits - self.baseline_logits - self.contributions.sum(axis=1)

    def strongest(self, task: str) -> list[Contribution]:
        """The features that moved a task's logit, the strongest first, equally strong ones in the features' order."""
        logits = self.contributions[self.tasks.index(task)]
        order = np.argsort(-np.abs(logits), kind="stable")
        return [Contribution(self.features[i], self.sides[i], float(logits[i])) for i in order if logits[i] != 0]
