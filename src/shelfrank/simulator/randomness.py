"""Named random streams, so that no part of the shop changes another's draws."""

import hashlib

import numpy as np
from jaxtyping import Float, Integer, Real, UInt64


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """An independent generator for each seed, name and index.

    Args:
        seed: The shop's seed.
        name: The quantity, for example `customers.income`.
        index: The chunk.

    Returns:
        The generator; streams of different names are independent.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(key, index)))


def hashed_bits(seed: int, *keys: int | Integer[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """64 random bits for each combination of keys: a repeatable draw without memory.

    Args:
        seed: The shop's seed.
        *keys: Integers that broadcast against each other; their order matters.

    Returns:
        The bits, in the broadcast shape.
    """
    bits = np.asarray(seed, dtype=np.uint64)
    # The mixer of splitmix64 (Steele, Lea and Flood 2014), which overflows by design.
    with np.errstate(over="ignore"):
        for key in keys:
            bits = (bits ^ np.asarray(key).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits = bits ^ (bits >> np.uint64(31))
    return np.asarray(bits, dtype=np.uint64)


def hashed_uniform(seed: int, *keys: int | Integer[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """A repeatable draw from [0, 1) for each combination of keys."""
    high = hashed_bits(seed, *keys) >> np.uint64(40)
    return np.asarray(high.astype(np.float32) * np.float32(2.0**-24))


def hashed_normal(seed: int, *keys: int | Integer[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """A repeatable, nearly normal draw for each combination of keys: the scaled sum of four uniform numbers."""
    bits = hashed_bits(seed, *keys)
    total = np.zeros(bits.shape, dtype=np.float32)
    for shift in (0, 16, 32, 48):
        total += ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32)
    # Each part is uniform on 0..65535: mean 32767.5, variance 65536^2 / 12.
    return np.asarray((total - np.float32(4 * 32767.5)) / np.float32(65536 / np.sqrt(3.0)))


def pick(draws: Float[np.ndarray, "..."], weights: Real[np.ndarray, " options"]) -> Integer[np.ndarray, "..."]:
    """Selects an option for each uniform draw, with probabilities in proportion to the weights."""
    edges = np.cumsum(weights)
    edges = edges / edges[-1]
    return np.minimum(np.searchsorted(edges, draws, side="right"), len(edges) - 1).astype(np.int32)


def pick_rows(
    draws: Float[np.ndarray, " rows"], weights: Real[np.ndarray, "rows options"]
) -> Integer[np.ndarray, " rows"]:
    """Selects an option for each row's uniform draw, with weights of its own."""
    edges = np.cumsum(weights, axis=1)
    chosen = np.sum(edges <= (draws * edges[:, -1])[:, None], axis=1)
    return np.minimum(chosen, weights.shape[1] - 1).astype(np.int32)
