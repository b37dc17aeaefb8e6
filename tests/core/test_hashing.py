"""Mixed bits are SplitMix64's."""

import numpy as np

from shelfrank.core.hashing import mixed_bits


def test_states_of_splitmix64_give_its_outputs() -> None:
    # The first three outputs of the reference implementation with seed 1234567.
    step, seed = np.uint64(0x9E3779B97F4A7C15), np.uint64(1234567)
    states = np.arange(1, 4, dtype=np.uint64) * step + seed
    assert mixed_bits(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
