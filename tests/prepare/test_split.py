from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

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


FORWARD: dict[str, Any] = {"by": "forward", "train": 0.5, "valid": 0.1, "folds": 4}


def folds_of(seconds: list[int], **settings: Any) -> list[list[int]]:
    folds = range(1, settings["folds"] + 1)
    return [by_time(seconds, **settings, fold=fold) for fold in folds]


def test_forward_folds_of_twenty_searches() -> None:
    # Half and a tenth before the first window; the other eight searches are four windows of two.
    assert folds_of(list(range(20)), **FORWARD) == [
        [0] * 10 + [1] * 2 + [2] * 2 + [-1] * 6,
        [0] * 12 + [1] * 2 + [2] * 2 + [-1] * 4,
        [0] * 14 + [1] * 2 + [2] * 2 + [-1] * 2,
        [0] * 16 + [1] * 2 + [2] * 2,
    ]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=40, max_size=300),
    st.floats(0.2, 0.6),
    st.floats(0.05, 0.2),
    st.integers(2, 6),
)
def test_every_search_after_the_first_boundary_is_tested_in_one_fold_that_learned_from_earlier_ones(
    seconds: list[int], train: float, valid: float, folds: int
) -> None:
    seconds = sorted(seconds)
    try:
        found = np.array(folds_of(seconds, by="forward", train=train, valid=valid, folds=folds))
    except UserError as error:
        # Only where a window or a validation split is narrower than the searches of one moment.
        assert "must get at least one search" in str(error)  # noqa: PT017
        return
    tested = (found == 2).sum(axis=0)
    first = int(np.argmax(tested))
    assert tested.tolist() == [0] * first + [1] * (len(seconds) - first)
    assert first == np.flatnonzero(found[0] == 2)[0]
    for splits in found:
        times = [np.array(seconds)[splits == split] for split in range(3)]
        assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 6}, "folds and fold must go with by: forward, but by is time"),
        ({"by": "search_id", "fold": 1}, "folds and fold must go with by: forward, but by is search_id"),
        ({"by": "forward", "folds": 3, "fold": 4}, "fold must be one of the 3 folds, but it is 4"),
        ({"by": "forward", "folds": 1}, "greater than or equal to 2"),
        ({"by": "forward", "fold": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_of_folds_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig(**given)


def test_folds_are_not_assigned_all_at_once() -> None:
    with pytest.raises(UserError, match=r"must be given one training split, .* set split.fold, such as 1"):
        by_time(list(range(20)), **FORWARD)


def test_an_empty_split_of_a_fold_is_told_with_its_number() -> None:
    with pytest.raises(UserError, match=r"every split of fold 3 must get at least one search, but .* test 0"):
        by_time([*range(16), 16, 16, 16, 16], **FORWARD, fold=3)


def test_keys_of_folds_are_no_part_of_other_splits() -> None:
    # Models and scores that were made before there were folds belong to the same splits as before.
    assert SplitConfig().plain() == {"by": "time", "train": 0.8, "valid": 0.1}
    assert SplitConfig(**FORWARD, fold=2).plain() == {**FORWARD, "fold": 2}
