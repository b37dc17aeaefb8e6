"""Checkpoints of fine-tuning: one safetensors file that is either the last complete one or absent."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from shelfrank.artifact import write_atomic
from shelfrank.errors import UserError

FILE = "checkpoint.safetensors"


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
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors["rng"] = torch.get_rng_state()
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"owner": owner, "standing": json.dumps(asdict(standing))}
    # Cloned, since safetensors refuses tensors that share memory.
    write_atomic(folder / FILE, save({name: tensor.detach().clone() for name, tensor in tensors.items()}, metadata))


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
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("owner") != owner:
                return None
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} must be a checkpoint, but it cannot be read: {error}; delete it to start afresh"
        ) from error
    model.load_state_dict(_part(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    return Standing(**json.loads(metadata["standing"]))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
