"""Fixed hashes of 64-bit numbers, the same on every machine."""

import numpy as np
from jaxtyping import UInt64


def mixed_bits(bits: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Mixes the bits of numbers, so that each depends on every bit of its number: the finalizer of SplitMix64.

    Args:
        bits: The numbers.

    Returns:
        One number for each; different ones for different numbers.

    Example:
        The first output of SplitMix64 with seed 0.

        >>> hex(mixed_bits(np.array([0x9E3779B97F4A7C15], np.uint64))[0])
        '0xe220a8397b1dcdaf'
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))
