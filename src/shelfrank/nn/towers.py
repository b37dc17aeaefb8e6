"""One tower per task, and one for the relevance label."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.layers import Dense, ParallelDense, ParallelLinear


class Towers(nn.Module):
    """A small dense network per task, from the task's mixture to its logit (Paper: Sec. 3.3, Eq. (15))."""

    def __init__(
        self,
        n_tasks: int,
        d_in: int,
        layers: Sequence[int],
        batch_norm: bool,
        dropout: float,
        group: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.hidden = ParallelDense(n_tasks, d_in, layers, batch_norm, dropout, shared_input=False, group=group)
        self.out = ParallelLinear(n_tasks, self.hidden.d_out, 1)

    def forward(self, mixtures: Float[Tensor, "rows n_tasks d_in"]) -> Float[Tensor, "rows n_tasks"]:
        """Computes the logits."""
        return self.out(self.hidden(mixtures.flatten(1)))


class RelevanceTower(nn.Module):
    """A small dense network from the relevance task's mixture to a logit per class (Paper: Sec. 3.5).

    Unstated: its shape; its hidden layers are those of the other towers.
    """

    def __init__(
        self,
        n_classes: int,
        d_in: int,
        layers: Sequence[int],
        batch_norm: bool,
        dropout: float,
        group: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.hidden = Dense(d_in, layers, batch_norm, dropout, group)
        self.out = nn.Linear(self.hidden.d_out, n_classes)

    def forward(self, mixture: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows n_classes"]:
        """Computes the logits before the softmax."""
        return self.out(self.hidden(mixture))
