"""A training's state as one safetensors file that is either the last complete one or absent."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from shelfrank.core.artifact import write_atomic
from shelfrank.core.errors import UserError

FILE = "checkpoint.safetensors"


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    metadata: Mapping[str, str],
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes weights, the optimizer's state and the state of the random numbers.

    Args:
        folder: Where the file goes.
        model: Its weights and buffers.
        optimizer: Its state.
        metadata: Other facts that resuming needs.
        more: Further tensors by name.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()} | dict(more or {})
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors["rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng_cuda"] = torch.cuda.get_rng_state()
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned, since safetensors refuses tensors that share memory.
    cloned = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    write_atomic(folder / FILE, save(cloned, dict(metadata)))


def read_state(folder: Path) -> tuple[dict[str, str], dict[str, Tensor]] | None:
    """Reads a file that `save_state` wrote.

    Args:
        folder: Where it may be.

    Returns:
        Its metadata and its tensors, or None where there is no file.

    Raises:
        UserError: Where the file cannot be read.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return opened.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} must be a checkpoint, but it cannot be read: {error}; delete it to start afresh"
        ) from error


def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts the tensors of `read_state` back where `save_state` took them."""
    model.load_state_dict(part(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    if "rng_cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng_cuda"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
