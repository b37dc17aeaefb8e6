"""Heads: one file each, named in `HEADS`."""

from collections.abc import Callable

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import Processes
from shelfrank.nn.heads.base import Head
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.heads.none import NoHead


def _mmoe(d_in: int, n_tasks: int, config: NeuralConfig, group: Processes) -> Head:
    sizes = config.mmoe
    shape = (d_in, sizes.n_experts, sizes.expert_layers, n_tasks, config.batch_norm, config.dropout)
    return MMoE(*shape, group, sizes.balance)


HEADS: dict[str, Callable[[int, int, NeuralConfig, Processes], Head]] = {
    "none": lambda d_in, n_tasks, *_: NoHead(d_in, n_tasks),
    "mmoe": _mmoe,
}
"""Every head by its name in the config."""
