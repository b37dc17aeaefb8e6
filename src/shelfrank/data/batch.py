"""Batches of rows, gathered from the columnar arrays without parsing anything."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from shelfrank.data.prepared import Split


@dataclass(frozen=True)
class Batch:
    """Some rows as tensors; refuses shapes that do not fit together."""

    numerical: Float[Tensor, "rows n_num"]
    categorical: Int[Tensor, "rows n_cat"]
    labels: Int8[Tensor, "rows n_tasks"]
    relevance: Int8[Tensor, " rows"]

    def __post_init__(self) -> None:
        rows = {len(self.numerical), len(self.categorical), len(self.labels), len(self.relevance)}
        assert len(rows) == 1, f"a batch's tensors must have the same number of rows, not {sorted(rows)}"


class ShuffledBatches:
    """One split in batches of nearly equal size, in an order that seed and epoch alone decide.

    Sizes differ by one row at most, so no batch is tiny and no row is dropped.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self.split, self.seed = split, seed
        self.n_steps = max(1, -(-split.n_rows // batch_size))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from a step on."""
        order = np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(self.split.n_rows)
        ends = np.linspace(0, self.split.n_rows, self.n_steps + 1).astype(np.int64)
        for step in range(first_step, self.n_steps):
            # Rows in ascending order make the gather walk memory forwards; within a batch the order means nothing.
            yield gather(self.split, np.sort(order[ends[step] : ends[step + 1]]))


def gather(split: Split, rows: Int[np.ndarray, " rows"] | slice) -> Batch:
    """The given rows of a split as a batch of their own memory."""
    return Batch(
        numerical=torch.from_numpy(np.array(split.numerical[rows])),
        categorical=torch.from_numpy(np.array(split.categorical[rows])),
        labels=torch.from_numpy(np.array(split.labels[rows])),
        relevance=torch.from_numpy(np.array(split.relevance[rows])),
    )


def in_order(split: Split, batch_size: int) -> Iterator[Batch]:
    """A split's rows in their own order, for scoring."""
    for start in range(0, split.n_rows, batch_size):
        yield gather(split, slice(start, start + batch_size))
