"""Batches: every row once an epoch, in an order that seed and epoch alone decide."""

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

from shelfrank.data.batch import Batch, ShuffledBatches, SplitRows
from tiny import hand_split, random_split

N_ROWS = 103


def numbered(n_rows: int = N_ROWS):
    return hand_split([[0, 1]] * n_rows, np.arange(n_rows, dtype=np.float32)[:, None])


def rows_of(batches: ShuffledBatches, epoch: int, first_step: int = 0) -> list[list[int]]:
    return [batch.numerical[:, 0].int().tolist() for batch in batches.epoch(epoch, first_step)]


@pytest.mark.parametrize(("batch_size", "n_steps"), [(10, 11), (103, 1), (1000, 1), (1, 103), (102, 2)])
def test_every_row_once_an_epoch_in_nearly_equal_batches(batch_size: int, n_steps: int) -> None:
    batches = ShuffledBatches(SplitRows(numbered()), batch_size, seed=0)
    rows = rows_of(batches, epoch=0)
    sizes = {len(batch) for batch in rows}
    assert sorted(row for batch in rows for row in batch) == list(range(N_ROWS))
    assert len(rows) == batches.n_steps == n_steps
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


def test_seed_and_epoch_decide_the_order() -> None:
    batches = ShuffledBatches(SplitRows(numbered()), 10, seed=0)
    assert rows_of(batches, 1) == rows_of(ShuffledBatches(SplitRows(numbered()), 10, seed=0), 1)
    assert rows_of(batches, 1) != rows_of(batches, 2)
    assert rows_of(batches, 1) != rows_of(ShuffledBatches(SplitRows(numbered()), 10, seed=1), 1)


@pytest.mark.parametrize("first_step", [0, 4, 11])
def test_an_epoch_can_begin_at_any_step(first_step: int) -> None:
    batches = ShuffledBatches(SplitRows(numbered()), 10, seed=0)
    assert rows_of(batches, 3, first_step) == rows_of(batches, 3)[first_step:]


def test_a_batch_holds_its_rows_of_every_array() -> None:
    split = random_split(20, relevance_classes=4)
    batch = SplitRows(split).gather(np.array([3, 16]))
    assert batch.numerical.tolist() == split.numerical[[3, 16]].tolist()
    assert batch.categorical.tolist() == split.categorical[[3, 16]].tolist()
    assert batch.labels.tolist() == split.labels[[3, 16]].tolist()
    assert batch.relevance.tolist() == split.relevance[[3, 16]].tolist() == [split.relevance[3], -1]


def test_arrays_that_lie_on_the_device_give_the_same_batches() -> None:
    split = random_split(20, relevance_classes=4)
    mapped, resident = SplitRows(split), SplitRows(split, resident=True)
    for rows in (np.array([3, 16]), slice(5, 9), slice(18, 40), slice(0, 0)):
        ours, theirs = vars(resident.gather(rows)), vars(mapped.gather(rows))
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("batch_size", "n_steps"), [(10, 11), (103, 1), (1, 21), (60, 2)])
def test_whole_searches_stay_together(batch_size: int, n_steps: int) -> None:
    split = random_split(N_ROWS)
    split.numerical[:, 0] = np.arange(N_ROWS)
    batches = ShuffledBatches(SplitRows(split), batch_size, seed=0, whole_searches=True)
    rows = rows_of(batches, epoch=0)
    assert sorted(row for batch in rows for row in batch) == list(range(N_ROWS))
    assert len(rows) == batches.n_steps == n_steps
    assert min(len(batch) for batch in rows) > 0
    assert max(len(batch) for batch in rows) <= N_ROWS / n_steps + 10
    of_batch = {row: number for number, batch in enumerate(rows) for row in batch}
    for start, end in zip(split.search_offsets[:-1], split.search_offsets[1:], strict=True):
        assert len({of_batch[row] for row in range(start, end)}) == 1
    assert rows_of(batches, 0) == rows
    assert rows_of(batches, 0, first_step=n_steps // 2) == rows[n_steps // 2 :]
    assert n_steps == 1 or rows_of(batches, 1) != rows


def test_a_batch_knows_the_searches_of_its_rows() -> None:
    split = hand_split([[0]] * 9, sizes=[2, 0, 3, 1, 3])
    for batch in (SplitRows(split).gather(np.array([3, 4, 5, 8])), SplitRows(split, resident=True).gather(slice(3, 7))):
        assert batch.search_idx.tolist() == [2, 2, 3, 4]
        assert batch.search_sizes().tolist() == [2, 1, 1]
    assert SplitRows(split).gather(slice(4, 4)).search_sizes().tolist() == []


def test_batches_of_whole_searches_keep_their_rows_adjacent() -> None:
    split = random_split(N_ROWS)
    for batch in ShuffledBatches(SplitRows(split), 30, seed=0, whole_searches=True, group_searches=1).epoch(0):
        searches, sizes = np.unique(batch.search_idx, return_counts=True)
        assert batch.search_sizes().tolist() == sizes.tolist() == np.diff(split.search_offsets)[searches].tolist()


def test_searches_that_are_drawn_alone_share_no_product_more_than_by_chance() -> None:
    split = hand_split([[0, 1]] * 200, np.arange(200, dtype=np.float32)[:, None], [5] * 40)
    kinds = np.tile(np.arange(10), 4)
    split.product_idx[:] = (5 * kinds[:, None] + np.arange(5)).ravel()
    batches = ShuffledBatches(SplitRows(split), 40, seed=0, whole_searches=True, group_searches=1)
    assert np.mean([len({kinds[row // 5] for row in batch}) for batch in rows_of(batches, 0)]) > 4.5


def test_searches_that_share_products_lie_together() -> None:
    # Forty pages of five rows, four of each kind; a kind's pages show the same five products.
    split = hand_split([[0, 1]] * 200, np.arange(200, dtype=np.float32)[:, None], [5] * 40)
    kinds = np.tile(np.arange(10), 4)
    split.product_idx[:] = (5 * kinds[:, None] + np.arange(5)).ravel()
    batches = ShuffledBatches(SplitRows(split), 40, seed=0, whole_searches=True)
    together = [{kinds[row // 5] for row in batch} for batch in rows_of(batches, 0)]
    alone = ShuffledBatches(SplitRows(split), 40, seed=0)
    assert np.mean([len(some) for some in together]) <= 3.5
    assert np.mean([len({kinds[row // 5] for row in batch}) for batch in rows_of(alone, 0)]) > 7
    # Another epoch brings other groups together.
    assert together != [{kinds[row // 5] for row in batch} for batch in rows_of(batches, 1)]


def test_a_batch_of_a_split_without_relevance_has_none() -> None:
    batches = list(SplitRows(random_split(7)).in_order(5))
    assert [batch.relevance.tolist() for batch in batches] == [[-1] * 5, [-1] * 2]


def test_a_batch_has_memory_of_its_own() -> None:
    split = random_split(20)
    before = split.numerical.copy()
    SplitRows(split).gather(slice(0, 5)).numerical.zero_()
    assert np.array_equal(split.numerical, before)


def test_in_order_keeps_the_order() -> None:
    batches = list(SplitRows(numbered()).in_order(40))
    assert [len(batch.labels) for batch in batches] == [40, 40, 23]
    assert torch.cat([batch.numerical[:, 0] for batch in batches]).tolist() == list(range(N_ROWS))
    assert list(SplitRows(random_split(0)).in_order(40)) == []


@pytest.mark.parametrize("rows", [(2, 3, 2, 2), (2, 2, 2, 3)], ids=["codes", "relevance"])
def test_tensors_of_different_lengths_are_no_batch(rows: tuple[int, int, int, int]) -> None:
    numbers, codes, labels, relevance = rows
    # A run that checks the signatures' shapes refuses them before our own check does.
    with pytest.raises((AssertionError, BeartypeCallHintViolation), match=r"same number of rows|rows"):
        Batch(
            torch.zeros(numbers, 1),
            torch.zeros(codes, 1, dtype=torch.int32),
            torch.zeros(labels, 1, dtype=torch.int8),
            torch.zeros(relevance, dtype=torch.int8),
            torch.zeros(2, dtype=torch.int32),
            np.zeros(2, np.int32),
            np.zeros(2, np.int32),
            np.zeros(2, np.int64),
        )
