from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shelfrank.config import SplitConfig
from shelfrank.core.errors import UserError
from shelfrank.prepare.split import assign_splits


def by_time(seconds: list[int], **shares: Any) -> list[int]:
    ts_us = np.array(seconds, dtype=np.int64) * 1_000_000
    return assign_splits(ts_us, [f"s{i}" for i in range(len(seconds))], SplitConfig(**shares)).tolist()


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ({}, [8, 1, 1]),
        ({"train": 0.7, "valid": 0.1}, [7, 1, 2]),
        ({"train": 0.6, "valid": 0.3}, [6, 3, 1]),
        ({"train": 0.5, "valid": 0.25}, [5, 2, 3]),
    ],
)
def test_shares_of_ten_searches(shares: dict[str, float], counts: list[int]) -> None:
    assert np.bincount(by_time(list(range(10)), **shares)).tolist() == counts


def test_searches_of_one_moment_stay_together() -> None:
    # The 80 % boundary falls into the searches at second 7: all of them are validation.
    assert by_time([0, 1, 2, 3, 4, 5, 7, 7, 7, 9]) == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=20, max_size=200))
def test_a_later_split_starts_strictly_later(seconds: list[int]) -> None:
    seconds = sorted(seconds)
    most_at_once = max(seconds.count(second) for second in seconds)
    # Only searches of one moment, or too few of them, can leave a split empty.
    assume(most_at_once <= 0.1 * len(seconds) - 1)
    splits = by_time(seconds)
    for earlier, later in ((0, 1), (1, 2)):
        ends = [s for s, split in zip(seconds, splits, strict=True) if split == earlier]
        starts = [s for s, split in zip(seconds, splits, strict=True) if split == later]
        assert max(ends) < min(starts)


def test_by_search_id_is_stable_and_keeps_the_shares() -> None:
    ids = [f"search-{i}" for i in range(5000)]
    config = SplitConfig(by="search_id", train=0.7, valid=0.2)
    few = assign_splits(np.zeros(1000, dtype=np.int64), ids[:1000], config)
    many = assign_splits(np.arange(5000), ids, config)
    np.testing.assert_array_equal(many[:1000], few)
    np.testing.assert_allclose(np.bincount(many) / 5000, [0.7, 0.2, 0.1], atol=0.02)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_searches(n: int) -> None:
    with pytest.raises(UserError, match=f"at least 3 searches to be split, but it has {n}; import more"):
        by_time(list(range(n)))


def test_an_empty_split_is_told_with_all_counts() -> None:
    with pytest.raises(UserError, match="the searches are train 0, valid 0, test 4; import a longer log"):
        by_time([5, 5, 5, 5])
