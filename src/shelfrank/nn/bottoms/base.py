"""The interface of shared bottoms."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.inputs import EMBEDDING_STD, Inputs, InputShape


class BottomOutput(NamedTuple):
    """The output of a bottom.

    Attributes:
        x_final: The vector that experts, gates and towers see.
        penalty: Added to the loss in training; None where the bottom has none. Of a batch that
            several processes share, each has its part, and the parts add up.
    """

    x_final: Float[Tensor, "rows d_out"]
    penalty: Float[Tensor, ""] | None = None


def ghost_rows(n_rows: int, ghost_batch_size: int) -> int:
    """Rows of each ghost batch of a batch but the last, which has the rest; all are of nearly equal size."""
    return math.ceil(n_rows / max(math.ceil(n_rows / ghost_batch_size), 1))


class Bottom(nn.Module, ABC):
    """Turns the inputs into `x_final`.

    Args:
        shape: Number and width of a row's inputs.
        config: Sizes of the network's parts.
        group: The processes that share a batch.

    Attributes:
        d_out: Width of `x_final`.
        ghost_batch_size: Rows of a batch, at most, that are normalised together, apart from the others; 1 where each
            row is by itself or the whole batch is.
        embedding_std: Standard deviation of the initial embeddings that it receives.
    """

    d_out: int
    ghost_batch_size: int = 1
    embedding_std: float = EMBEDDING_STD

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, inputs: Inputs) -> BottomOutput:
        """Computes `x_final`."""
