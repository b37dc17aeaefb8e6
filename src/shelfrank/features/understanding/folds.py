"""Which searches the values of a search may be learned from, so that its own labels never help it."""

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

Scheme = Literal["others", "earlier"]
"""`others`: every fold but the search's own. `earlier`: the folds before it, which are blocks of time."""


def hashed_folds(keys: Sequence[str], n_folds: int = 5) -> Int32[np.ndarray, " searches"]:
    """A fold for each search by a hash of a key, such as its id, or its session's, whose searches resemble each other.

    Args:
        keys: Each search's key.
        n_folds: How many folds there are.

    Returns:
        The fold of each search; it depends on its own key alone.
    """
    folds = {key: zlib.crc32(key.encode("utf-8", "surrogatepass")) % n_folds for key in set(keys)}
    return np.array([folds[key] for key in keys], np.int32)


def time_blocks(timestamps: Int64[np.ndarray, " searches"], n_folds: int = 5) -> Int32[np.ndarray, " searches"]:
    """Blocks of time with about as many searches each, the earliest first; searches of one time are of one block.

    Args:
        timestamps: When each search was.
        n_folds: How many blocks there are.

    Returns:
        The block of each search.
    """
    before = np.searchsorted(np.sort(timestamps), timestamps)
    return (before * n_folds // max(len(timestamps), 1)).astype(np.int32)


def learned_from(scheme: Scheme, folds: frozenset[int], fold: int) -> frozenset[int]:
    """Those of some folds that the searches of one fold may learn from."""
    if scheme == "others":
        return folds - {fold}
    return frozenset(other for other in folds if other < fold)
