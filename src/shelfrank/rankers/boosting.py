"""What both boosting libraries need: one matrix with native categories, and the sums that their trees make."""

from abc import abstractmethod

import numpy as np
from jaxtyping import Float32, Float64

from shelfrank.data.prepared import Split
from shelfrank.rankers.base import Ranker


class TreeRanker(Ranker):
    """Boosted trees, whose leaves add up to one margin per row."""

    @abstractmethod
    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """The sum of each row's leaves, before any sigmoid."""

    @abstractmethod
    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_features"], Float64[np.ndarray, " rows"]]:
        """What each feature adds to each row's margin, and the margin that is left: the mean over training rows."""


def feature_matrix(rows: Split) -> Float32[np.ndarray, "rows n_features"]:
    """Numbers, then codes; float32 holds every code exactly up to 2^24."""
    return np.concatenate([rows.numerical[:], rows.categorical[:].astype(np.float32)], axis=1)
