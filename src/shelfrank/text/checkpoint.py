"""Checkpoints of fine-tuning: one safetensors file, written atomically."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from shelfrank.core.training_state import read_state, restore, save_state


@dataclass
class FineTuningProgress:
    """Progress of fine-tuning.

    Attributes:
        step: Finished steps, over all epochs.
        loss_sum: Sum of this epoch's losses.
        losses: Mean loss of each finished epoch.
        masked: False negatives masked so far.
        seconds: Wall time spent so far.
    """

    step: int = 0
    loss_sum: float = 0.0
    losses: list[float] = field(default_factory=list)
    masked: int = 0
    seconds: float = 0.0


def save_checkpoint(
    folder: Path, owner: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: FineTuningProgress
) -> None:
    """Writes everything that fine-tuning needs to resume exactly.

    Args:
        folder: Folder of the file.
        owner: Fingerprint of initial model, pairs and config.
        model: Its current weights.
        optimizer: Its state.
        state: Progress of fine-tuning.
    """
    metadata = {"owner": owner, "standing": json.dumps(asdict(state))}
    save_state(folder, model, optimizer, metadata)


def load_checkpoint(
    folder: Path, owner: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> FineTuningProgress | None:
    """Restores the last complete checkpoint of the same initial model, pairs and config, if there is one.

    Args:
        folder: Folder of the file.
        owner: Fingerprint of initial model, pairs and config; a checkpoint of another owner is ignored.
        model: Receives the weights.
        optimizer: Receives its state.

    Returns:
        The progress, or None to start from scratch.

    Raises:
        UserError: Where the checkpoint cannot be read.
    """
    found = read_state(folder)
    if found is None or found[0].get("owner") != owner:
        return None
    metadata, tensors = found
    restore(tensors, model, optimizer)
    return FineTuningProgress(**json.loads(metadata["standing"]))
