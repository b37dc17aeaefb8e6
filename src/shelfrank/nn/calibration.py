"""A scale and a shift per task that turn a trained network's logits into those of calibrated probabilities."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes

MIN_SCALE = 0.1
"""Above 0, so that calibration never changes the order by a task's probability."""
PULL = (0.1, 1e-3)
"""How strongly scale and shift are pulled to the identity: by about as much as a row or less."""
MAX_STEPS = 100
TOLERANCE = 1e-9


class Calibration(nn.Module):
    """Scales and shifts each task's logits (Platt scaling); the identity until it is fitted.

    A listwise loss learns differences within a search, and a logit without its position bias that of a row at the
    average position: neither is a log-odds of the rows as they are. The order by one task's probability stays; the
    fused order changes, since it adds up probabilities.

    Args:
        n_tasks: Tasks.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(n_tasks))
        self.register_buffer("shift", torch.zeros(n_tasks))

    def forward(self, logits: Float[Tensor, "rows n_tasks"]) -> Float[Tensor, "rows n_tasks"]:
        """Applies both."""
        return logits * self.scale + self.shift

    def reset(self) -> None:
        """Makes it the identity again."""
        self.scale.fill_(1.0)
        self.shift.zero_()

    def fit(
        self,
        logits: Float[Tensor, "rows n_tasks"],
        labels: Int8[Tensor, "rows n_tasks"],
        group: Processes = ALONE,
    ) -> None:
        """Minimises each task's binary cross-entropy over some rows by Newton's method.

        A weak pull towards the identity keeps both finite where a task has few labels.

        Args:
            logits: Of the rows before calibration, or of this process's share of them.
            labels: 1, 0, or -1 where the label is missing.
            group: The processes that share the rows; each finds the same.
        """
        for task in range(labels.shape[1]):
            known = labels[:, task] >= 0
            rows, positive = logits[known, task].double().cpu(), (labels[known, task] == 1).double().cpu()
            scale, shift = _fit_one(rows, positive, group)
            self.scale[task], self.shift[task] = scale, shift


def _fit_one(logits: Float[Tensor, " rows"], positive: Float[Tensor, " rows"], group: Processes) -> tuple[float, float]:
    identity, pull = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor(PULL, dtype=torch.float64)
    inputs = torch.stack([logits, torch.ones_like(logits)], dim=1)

    def loss(at: Tensor) -> Tensor:
        z = inputs @ at
        return (
            group.add_up((nn.functional.softplus(z) - positive * z).sum()) + (pull * (at - identity).square()).sum() / 2
        )

    at, value = identity, loss(identity)
    for _ in range(MAX_STEPS):
        probs = torch.sigmoid(inputs @ at)
        slope = group.add_up(inputs.T @ (probs - positive)) + pull * (at - identity)
        curvature = group.add_up(inputs.T @ (inputs * (probs * (1 - probs))[:, None])) + torch.diag(pull)
        step, fraction = torch.linalg.solve(curvature, slope), 1.0
        # Numerics: far from the minimum a whole step may overshoot.
        while (lower := loss(at - fraction * step)) > value and fraction > TOLERANCE:
            fraction /= 2
        if not value - lower > TOLERANCE * value:
            break
        at, value = at - fraction * step, lower
    scale, shift = at.tolist()
    return max(scale, MIN_SCALE), shift
