"""The interface of heads."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Gives each task's tower its own view of `x_final`.

    Attributes:
        d_out: Width of a task's view.
    """

    d_out: int

    @abstractmethod
    def forward(self, x_final: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows n_tasks d_out"]:
        """Computes the views."""
