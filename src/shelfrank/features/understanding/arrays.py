"""Small tools on arrays that several parts of query understanding share."""

import numpy as np
from jaxtyping import Int, Int64


def find(
    keys: Int64[np.ndarray, " n"], values: np.ndarray, wanted: Int64[np.ndarray, " *m"], otherwise: float
) -> np.ndarray:
    """The values that belong to some keys.

    Args:
        keys: Distinct keys, ascending.
        values: The value of each.
        wanted: The keys to look for.
        otherwise: The value of a key that is not there.

    Returns:
        The values.
    """
    if not len(keys):
        return np.full(wanted.shape, otherwise, values.dtype)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], np.array(otherwise, values.dtype))


def contains(keys: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " *m"]) -> np.ndarray:
    """Whether each wanted key is among the keys, which ascend."""
    if not len(keys):
        return np.zeros(wanted.shape, dtype=bool)
    return keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted


def pack(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Two numbers in one key, ordered by the first; the second must not be negative."""
    return high.astype(np.int64) << 32 | low


def lower_bound(successes: Int64[np.ndarray, " *n"], trials: Int64[np.ndarray, " *n"], z: float = 1.0) -> np.ndarray:
    """Wilson's lower bound of a share: 4 of 4 is 0.8 at `z` 1, 40 of 40 is 0.98."""
    n = np.maximum(trials, 1)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(np.maximum(share * (1 - share), 0) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n)
