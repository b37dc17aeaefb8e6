"""What both boosting libraries need: one matrix with native categories."""

import numpy as np
from jaxtyping import Float32

from shelfrank.data.prepared import Split


def feature_matrix(rows: Split) -> Float32[np.ndarray, "rows n_features"]:
    """Numbers, then codes; float32 holds every code exactly up to 2^24."""
    return np.concatenate([rows.numerical[:], rows.categorical[:].astype(np.float32)], axis=1)
