"""Blocks of time: each search uses what was learned from the blocks before its own, so that no label helps itself."""

import numpy as np
from jaxtyping import Int32, Int64


def time_blocks(times_us: Int64[np.ndarray, " rows"], first_rows: int) -> Int32[np.ndarray, " rows"]:
    """Blocks of time, the earliest first, each as long as all before it, so that later rows change no earlier block.

    Args:
        times_us: When each row's search was; rows of one time are of one block.
        first_rows: Rows of the first block.

    Returns:
        The block of each row; blocks that ties leave empty have no number.
    """
    n_before = np.searchsorted(np.sort(times_us), times_us)
    blocks = np.ceil(np.log2(np.maximum((n_before + 1) / first_rows, 1))).astype(np.int32)
    return np.unique(blocks, return_inverse=True)[1].astype(np.int32)
