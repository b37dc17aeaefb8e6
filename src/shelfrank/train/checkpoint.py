"""Checkpoints: one safetensors file that is either the last complete one or absent, and the curve beside it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shelfrank.core.artifact import write_atomic
from shelfrank.core.errors import UserError
from shelfrank.core.training_state import FILE, part, read_state, restore, save_state

CURVE = "metrics.jsonl"
"""One record per finished epoch, to watch a training in progress; a finished run has a file of this name too."""


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch: Epoch under way, from 0.
        step: Steps of it that are done.
        best_loss: Least validation loss of the tasks so far, or 1 - MRR where that decides when to stop.
        best_epoch: Its epoch; -1 before the first.
        worse_epochs: Epochs since then.
        loss_sum: Sum of the training losses of this epoch's steps.
        finished: Whether training is over.
        curve: One record per finished epoch.
        seconds: Wall time spent so far.
    """

    epoch: int = 0
    step: int = 0
    best_loss: float = float("inf")
    best_epoch: int = -1
    worse_epochs: int = 0
    loss_sum: float = 0.0
    finished: bool = False
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoints:
    """A training's checkpoints, and whether it starts from one.

    Attributes:
        folder: Holds the last complete checkpoint.
        owner: Fingerprint of data and config.
        resume: Whether to start from it.
        ignore_foreign: Whether a checkpoint of other data or another config is passed over instead of refused.
    """

    folder: Path
    owner: str
    resume: bool
    ignore_foreign: bool = False

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]] | None:
        """Restores the checkpoint; None where there is none to start from. See `load_checkpoint`."""
        if not self.resume or (self.ignore_foreign and is_foreign(self.folder, self.owner)):
            return None
        return load_checkpoint(self.folder, self.owner, model, optimizer)


def save_checkpoint(
    folder: Path,
    owner: str,
    model: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Writes everything that training needs to continue as if it had never stopped, and the curve so far for people.

    Args:
        folder: Where the files go.
        owner: Fingerprint of data and config; only the same may resume.
        model: Its current weights and buffers.
        best: The best epoch's weights; empty before the first validation.
        optimizer: Its state.
        progress: Where training stands.
    """
    metadata = {"owner": owner, "progress": json.dumps(asdict(progress))}
    save_state(folder, model, optimizer, metadata, {f"best.{name}": tensor for name, tensor in best.items()})
    write_atomic(folder / CURVE, "".join(json.dumps(record) + "\n" for record in progress.curve).encode())


def is_foreign(folder: Path, owner: str) -> bool:
    """Whether the folder has a checkpoint that cannot be read or belongs to other data or another config."""
    file = folder / FILE
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get("owner") != owner
    except (SafetensorError, OSError):
        return file.is_file()


def load_checkpoint(
    folder: Path, owner: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restores the last complete checkpoint, if there is one.

    Args:
        folder: Where it may be.
        owner: Fingerprint of data and config.
        model: Receives the weights.
        optimizer: Receives its state.

    Returns:
        Where training stands and the best weights, or None where there is no checkpoint.

    Raises:
        UserError: Where the checkpoint belongs to other data or another config, or cannot be read.
    """
    found = read_state(folder)
    if found is None:
        return None
    metadata, tensors = found
    if metadata.get("owner") != owner:
        raise UserError(
            f"{folder / FILE} must belong to the same data and config to be resumed, but it belongs to others; "
            "train without resuming, or delete it, to start afresh"
        )
    restore(tensors, model, optimizer)
    return Progress(**json.loads(metadata["progress"])), part(tensors, "best.")
