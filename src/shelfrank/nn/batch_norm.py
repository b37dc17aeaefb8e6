"""Batch normalisation over a batch that several processes may share."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes

MOMENTUM = 0.1
"""Share of the newest batch in the running statistics."""


class BatchNorm(nn.BatchNorm1d):
    """Normalises by the statistics of the whole batch: the rows here, and those of the batch in other processes.

    A batch of a single row has no statistics: it is normalised by the running ones, which it leaves as they are.

    Args:
        d: Features.
        group: The processes that share a batch.
    """

    running_mean: Float[Tensor, " d"]  # pyright: ignore[reportIncompatibleVariableOverride]
    running_var: Float[Tensor, " d"]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, d: int, group: Processes = ALONE) -> None:
        super().__init__(d, momentum=MOMENTUM)
        self.group = group

    def forward(self, x: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:  # pyright: ignore
        """Normalises, scales and shifts each feature."""
        running = (self.running_mean, self.running_var)
        if self.training and self.group.n == 1 and len(x) == 1:
            return nn.functional.batch_norm(x, *running, self.weight, self.bias, eps=self.eps)
        if not self.training or self.group.n == 1:
            return super().forward(x)
        normalised, mean, var = normalise_together(x, self.weight, self.bias, self.eps, running, self.group)
        with torch.no_grad():
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(var, MOMENTUM)
            dict(self.named_buffers())["num_batches_tracked"] += 1
        return normalised


def normalise_together(
    x: Float[Tensor, "rows d"],
    weight: Float[Tensor, " d"],
    bias: Float[Tensor, " d"],
    epsilon: float,
    running: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
    group: Processes,
) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Normalises this process's rows by the statistics of all processes' rows, to which gradients flow too.

    Every process must call it, at the same place of its forward pass; one without rows as well.

    Args:
        x: This process's rows.
        weight: Scale of each feature.
        bias: Shift of each feature.
        epsilon: Added to the variance.
        running: Mean and variance by which the only row of a batch is normalised.
        group: The processes.

    Returns:
        The rows, and the mean and the unbiased variance of the whole batch; the running ones where it has one row.
    """
    # Numerics: statistics of numbers in half precision are taken in float32.
    precise = x.to(torch.promote_types(x.dtype, weight.dtype))
    normalised, mean, var = _NormaliseTogether.apply(precise, weight, bias, epsilon, running, group)
    return normalised.to(x.dtype), mean, var


class _NormaliseTogether(torch.autograd.Function):
    """One exchange between processes forward and one backward, as `torch.nn.SyncBatchNorm`, which needs GPUs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "rows d"],
        weight: Float[Tensor, " d"],
        bias: Float[Tensor, " d"],
        epsilon: float,
        running: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
        group: Processes,
    ) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
        n = x.new_tensor([len(x)])
        own_mean = x.sum(dim=0) / n.clamp(min=1)
        stacked = group.stack(torch.cat([n, own_mean, (x - own_mean).square().sum(dim=0)]))
        ns, means, squares = stacked.split([1, x.shape[1], x.shape[1]], dim=1)
        n = ns.sum()
        mean = (ns * means).sum(dim=0) / n
        # Numerics: squared deviations from each process's own mean, moved to the common one, do not cancel.
        squares = (squares + ns * (means - mean).square()).sum(dim=0)
        biased, var = squares / n, squares / (n - 1).clamp(min=1)
        if n == 1:
            mean, var = (statistic.clone() for statistic in running)
            biased = var
        inverse_std = (biased + epsilon).rsqrt()
        standard = (x - mean) * inverse_std
        ctx.save_for_backward(standard, weight, inverse_std, n)
        ctx.group = group
        ctx.mark_non_differentiable(mean, var)
        return standard * weight + bias, mean, var

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Float[Tensor, "rows d"], *_: Tensor | None
    ) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " d"], Float[Tensor, " d"], None, None, None]:
        standard, weight, inverse_std, n = ctx.saved_tensors
        own = torch.stack([grad.sum(dim=0), (grad * standard).sum(dim=0)])
        mean_grad, mean_slope = ctx.group.add_up(own.clone()) / n
        if n == 1:
            # The running statistics do not depend on the row.
            mean_grad, mean_slope = torch.zeros_like(own)
        # Weight and bias get this process's part: parts are added up as those of all parameters are.
        return weight * inverse_std * (grad - mean_grad - standard * mean_slope), own[1], own[0], None, None, None
