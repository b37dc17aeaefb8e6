"""The processes that `torchrun` started to do one step together; without it, a single one.

Each joins the group once (`joined`); from then on `processes()` is their group. Without a group every
method is a no-op, so that code for many processes is also the code for one.
"""

import contextlib
import importlib
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from shelfrank.core import progress
from shelfrank.core.errors import UserError

Value = TypeVar("Value")

WAIT = timedelta(days=7)
"""How long a process waits for another: the first may encode a catalogue's texts alone for hours. One that dies is
noticed at once, by its connections."""


@dataclass(frozen=True)
class Processes:
    """The processes that do one step together.

    Attributes:
        rank: This process, from 0.
        n: How many there are.
        local_rank: This process among those of its machine, from 0.
    """

    rank: int = 0
    n: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes folders and prints."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor by the sum of every process's; the sum has the same bits everywhere."""
        if self.n > 1:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    def total(self, n: int) -> int:
        """The sum of every process's number."""
        return n if self.n == 1 else int(self.add_up(torch.tensor(n)))

    def stack(self, tensor: Tensor) -> Tensor:
        """Every process's tensor in the order of the ranks, of which there is now one more axis in front."""
        # Numerics: a sum with zeros is exact, and every backend has it.
        stacked = tensor.new_zeros(self.n, *tensor.shape)
        stacked[self.rank] = tensor
        return self.add_up(stacked)

    def from_lead(self, value: Value) -> Value:
        """The first process's value."""
        values = [value]
        if self.n > 1:
            with _together():
                dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def wait(self) -> None:
        """Waits until every process has reached this call."""
        self.add_up(torch.zeros(()))

    @contextlib.contextmanager
    def lead_first(self) -> Iterator[None]:
        """The first process runs the block alone, then the others run it."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def agree(self, value: str, what: str) -> None:
        """Raises a `UserError` in every process where one has another value than the first.

        Args:
            value: What must be the same.
            what: Its name, for people.
        """
        differs = self.add_up(torch.tensor(float(value != self.from_lead(value))))
        if differs:
            raise UserError(
                f"all processes must have the same {what}, but {int(differs)} of {self.n} have another than the "
                "first; start them with one command line on folders that all of them see"
            )

    def gather_rows(self, part: np.ndarray, cuts: list[int]) -> np.ndarray:
        """Gathers each process's part of some rows.

        Args:
            part: This process's rows.
            cuts: Where each process's rows begin among all, and the end of the last's.

        Returns:
            All rows in the first process; in another its own.
        """
        if self.n == 1:
            return part
        part = np.ascontiguousarray(part)
        if not self.leads:
            if len(part):
                with _together():
                    dist.send(torch.from_numpy(part), dst=0)
            return part
        rows = torch.empty((cuts[-1], *part.shape[1:]), dtype=torch.from_numpy(part).dtype)
        rows[: cuts[1]] = torch.from_numpy(part)
        for rank in range(1, self.n):
            if cuts[rank + 1] > cuts[rank]:
                with _together():
                    dist.recv(rows[cuts[rank] : cuts[rank + 1]], src=rank)
        return rows.numpy()


ALONE = Processes()
_current = ALONE


def processes() -> Processes:
    """The group that this process is in."""
    return _current


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Joins the group that `torchrun` describes in the environment, for the length of the block.

    Gloo carries tensors in memory, NCCL tensors on a GPU. All but the first process show no progress. Where several
    end with an error, which is the rule when one does, only the first to say so says it.

    Yields:
        The group; a single process where there is no such environment.
    """
    global _current
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # An optimizer imports it at its first step. Imported while there is a group it keeps that group alive, and a thread
    # in it that gives up its last tensor while the interpreter ends aborts the process.
    importlib.import_module("torch._dynamo")
    store, rank, n = next(rendezvous("env://"))
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=WAIT)
    _current = Processes(rank, n, int(os.environ.get("LOCAL_RANK", "0")))
    if rank:
        progress.silence()
    try:
        yield _current
        # The first may still end with an error.
        _current.wait()
    except Exception as error:
        _let_go_of_the_group(error)
        if _is_told(store) and isinstance(error, UserError | OSError):
            raise SystemExit(2) from error
        raise
    finally:
        _current = ALONE
        dist.destroy_process_group()


def _let_go_of_the_group(error: BaseException | None) -> None:
    """Frees references of the frames that an error has left: they would keep the group alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _is_told(store: Any) -> bool:
    """Whether another process has already printed why all of them end; records that this one prints it now."""
    with contextlib.suppress(RuntimeError):  # the store may have ended with the process that held it
        return store.add(f"told-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) > 1
    return False


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(
            f"all processes must live until the end, but another one has ended ({reason}); start all of them again, "
            "a training so that it resumes"
        ) from error
