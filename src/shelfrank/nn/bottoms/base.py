"""What a shared bottom is."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.nn.inputs import Inputs


class Bottom(nn.Module, ABC):
    """Turns the inputs into `x_final`, the vector that experts and gates see.

    Attributes:
        d_out: Width of `x_final`.
    """

    d_out: int

    @abstractmethod
    def forward(self, inputs: Inputs) -> Float[Tensor, "rows d_out"]:
        """Computes `x_final`."""
