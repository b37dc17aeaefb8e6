"""How several processes share a training: each batch's rows, the sum of the gradients, a split's searches.

Every process has the same weights and takes the same steps. Of each batch it reads its share of the rows; losses are
divided by the label counts of the whole batch, so that the summed gradients equal those of one process alone.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from shelfrank.core.artifact import Draft, publish
from shelfrank.core.processes import Processes, processes
from shelfrank.data.prepared import Split
from shelfrank.nn.bottoms.base import ghost_rows


class BatchShare:
    """A process's rows of a batch: about as many as every other's.

    Args:
        group: The processes; a single one takes every row.
        split: The rows that batches are of.
        whole_searches: Whether a search's rows are adjacent in a batch and stay in one process, so that each of its
            texts is read in one.
        ghost_batch_size: Rows that are normalised together, if more than one; they stay in one process.
    """

    def __init__(self, group: Processes, split: Split, whole_searches: bool, ghost_batch_size: int) -> None:
        self.group, self.ghost_batch_size = group, ghost_batch_size
        self.offsets = np.asarray(split.search_offsets) if whole_searches else None

    def __call__(self, rows: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " taken"]:
        """The share of a batch's rows, in ascending order."""
        if self.group.n == 1:
            return np.sort(rows)
        ends = np.arange(len(rows) + 1)
        if self.ghost_batch_size > 1:
            # Ghost batches are of rows in ascending order.
            rows = np.sort(rows)
            ends = np.append(ends[: -1 : ghost_rows(len(rows), self.ghost_batch_size)], len(rows))
        elif self.offsets is not None:
            search = np.searchsorted(self.offsets, rows, side="right")
            ends = np.concatenate([[0], np.flatnonzero(np.diff(search)) + 1, [len(rows)]])
        cuts = ends[np.searchsorted(ends, equal_cuts(len(rows), self.group.n))]
        return np.sort(rows[cuts[self.group.rank] : cuts[self.group.rank + 1]])


def equal_cuts(n_rows: int, n: int) -> list[int]:
    """Where n runs of nearly as many rows begin, and the end of the last."""
    return [n_rows * index // n for index in range(n + 1)]


def own_searches(split: Split) -> tuple[Split, list[int]]:
    """This process's searches of a split, and where each process's rows begin in it; whole searches, in order."""
    group = processes()
    if group.n == 1:
        return split, [0, split.n_rows]
    offsets = np.asarray(split.search_offsets)
    searches = np.searchsorted(offsets, equal_cuts(split.n_rows, group.n))
    # Searches without rows at the end belong to the last process.
    searches[-1] = split.n_searches
    share = split.run_of_searches(int(searches[group.rank]), int(searches[group.rank + 1]))
    return share, offsets[searches].tolist()


def score_together(
    score: Callable[[Split], Float32[np.ndarray, "rows n_tasks"]], split: Split
) -> Float32[np.ndarray, "rows n_tasks"]:
    """Scores a split, every process its own searches.

    Args:
        score: Scores rows by themselves or by their search, as every ranker does.
        split: The rows.

    Returns:
        Every row's scores in the first process; in another those of its own searches.
    """
    share, cuts = own_searches(split)
    return processes().gather_rows(score(share), cuts)


def add_up_gradients(parameters: Iterable[nn.Parameter], loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Replaces every gradient by the sum of all processes', in one exchange; returns the sum of the losses.

    Differs: `DistributedDataParallel` averages, and exchanges while the backward pass still runs. Here the greatest
    gradient is the embedding table's, which comes last, so that there is little to overlap with.
    """
    group = processes()
    if group.n == 1:
        return loss
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    # A process whose rows do not reach a parameter has no gradient of it.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    summed = group.add_up(torch.cat([*(gradient.flatten() for gradient in gradients), loss.reshape(1)]))
    parts = summed[:-1].split([parameter.numel() for parameter in trained])
    for parameter, part in zip(trained, parts, strict=True):
        parameter.grad = part.view_as(parameter)
    return summed[-1]


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Seeds the dropout of a step that processes share: another one in each, and none depends on earlier steps.

    So a checkpoint needs no process's state but the first's, and any number of processes can resume from it.
    """
    group = processes()
    if group.n > 1:
        drawn = np.random.SeedSequence([seed, group.rank, epoch, step]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))


@contextlib.contextmanager
def publish_once(path: Path, kind: str, inputs: dict[str, Any]) -> Iterator[Draft | None]:
    """`publish` in the first process; in the others a block that has nothing to write."""
    if processes().leads:
        with publish(path, kind, inputs) as draft:
            yield draft
    else:
        yield None
