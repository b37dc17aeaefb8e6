"""Multi-gate mixture of experts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.heads.base import Head
from shelfrank.nn.layers import ParallelDense


class MMoE(Head):
    """Experts shared by all tasks, mixed by one softmax gate per task (Paper: Sec. 3.3, Eq. (13)-(14)).

    Args:
        d_in: Width of `x_final`.
        n_experts: Experts.
        expert_layers: Widths of an expert's layers.
        n_tasks: Tasks, each with a gate; the relevance label is one of them where it is learned.
        batch_norm: Whether the experts normalise after each linear layer.
        dropout: Share of an expert's hidden units dropped in training.
        group: The processes that share a batch.
        balance: Weight of `balance_penalty`.

    Attributes:
        d_out: Width of each task's mixture.
    """

    def __init__(
        self,
        d_in: int,
        n_experts: int,
        expert_layers: Sequence[int],
        n_tasks: int,
        batch_norm: bool,
        dropout: float,
        group: Processes = ALONE,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_experts, self.n_tasks, self.group, self.balance = n_experts, n_tasks, group, balance
        self.experts = ParallelDense(n_experts, d_in, expert_layers, batch_norm, dropout, True, group)
        # Paper: Eq. (13) has no bias; the gates of all tasks are one matrix.
        self.gates = nn.Linear(d_in, n_tasks * n_experts, bias=False)
        self.d_out = self.experts.d_out

    def forward(self, x_final: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows n_tasks d_out"]:
        """Mixes the experts' outputs for each task."""
        experts = self.experts(x_final).view(-1, self.n_experts, self.d_out)
        return torch.bmm(self.gate_weights(x_final).to(experts.dtype), experts)

    def gate_weights(self, x_final: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows n_tasks n_experts"]:
        """How much each task listens to each expert; sums to 1 over the experts."""
        return self.gates(x_final).view(-1, self.n_tasks, self.n_experts).float().softmax(dim=2)

    def balance_penalty(self, x_final: Float[Tensor, "rows d_in"]) -> Float[Tensor, ""]:
        """Penalises gates whose mean over the batch differs between experts, each task's alike.

        Its gradient is that of `balance` times the mean over the tasks of n_experts times the sum of the squared mean
        weights, which is least, 1, where each expert has the same share. Of a batch that several processes share, each
        has its part, and the gradients of the parts add up.

        Differs: the paper's gates are free. Rows may still differ: only their mean is held (arXiv 1701.06538).
        """
        own = self.gate_weights(x_final).sum(dim=0) / self.group.total(len(x_final))
        mean = self.group.add_up(own.detach().clone())
        return self.balance * 2 * self.n_experts * (mean * own).sum(dim=1).mean()
