"""No head: plain hard sharing, or a single-task model."""

from jaxtyping import Float
from torch import Tensor

from shelfrank.nn.heads.base import Head


class NoHead(Head):
    """Every tower sees `x_final` itself (Paper: Sec. 3.6; Table 2, the rows without MMoE)."""

    def __init__(self, d_in: int, n_tasks: int) -> None:
        super().__init__()
        self.n_tasks, self.d_out = n_tasks, d_in

    def forward(self, x_final: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows n_tasks d_in"]:
        """Repeats the vector without copying it."""
        return x_final[:, None, :].expand(-1, self.n_tasks, -1)
