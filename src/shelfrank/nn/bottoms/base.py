"""What a shared bottom is."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.nn.inputs import Inputs


class Shared(NamedTuple):
    """What a bottom makes of the inputs.

    Attributes:
        x_final: The vector that experts, gates and towers see.
        penalty: Added to the loss in training; None where the bottom asks for nothing but small losses.
    """

    x_final: Float[Tensor, "rows d_out"]
    penalty: Float[Tensor, ""] | None = None


class Bottom(nn.Module, ABC):
    """Turns the inputs into `x_final`.

    Attributes:
        d_out: Width of `x_final`.
    """

    d_out: int

    @abstractmethod
    def forward(self, inputs: Inputs) -> Shared:
        """Computes `x_final`."""
