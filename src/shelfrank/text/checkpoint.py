"""Checkpoints of fine-tuning: one safetensors file that is either the last complete one or absent."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from shelfrank.core.training_state import read_state, restore, save_state


@dataclass
class Standing:
    """Where fine-tuning stands.

    Attributes:
        step: Steps done, over all epochs.
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
    folder: Path, owner: str, model: nn.Module, optimizer: torch.optim.Optimizer, standing: Standing
) -> None:
    """Writes everything that fine-tuning needs to go on as if it had never stopped.

    Args:
        folder: Where the file goes.
        owner: Fingerprint of start, pairs and config.
        model: Its current weights.
        optimizer: Its state.
        standing: Where fine-tuning stands.
    """
    metadata = {"owner": owner, "standing": json.dumps(asdict(standing))}
    save_state(folder, model, optimizer, metadata)


def load_checkpoint(folder: Path, owner: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Standing | None:
    """Restores the last complete checkpoint of the same start, pairs and config, if there is one.

    Args:
        folder: Where it may be.
        owner: Fingerprint of start, pairs and config; a checkpoint of another is passed over.
        model: Receives the weights.
        optimizer: Receives its state.

    Returns:
        Where fine-tuning stands, or None where it starts afresh.

    Raises:
        UserError: Where the checkpoint cannot be read.
    """
    found = read_state(folder)
    if found is None or found[0].get("owner") != owner:
        return None
    metadata, tensors = found
    restore(tensors, model, optimizer)
    return Standing(**json.loads(metadata["standing"]))
