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

        A weak pull towards the identity keeps both finite where a task has few labels. A task whose labels are all
        equal keeps its probabilities: rows without a positive say nothing about how likely one is.

        Args:
            logits: Of the rows before calibration, or of this process's share of them.
            labels: 1, 0, or -1 where the label is missing.
            group: The processes that share the rows; each finds the same.
        """
        for task in range(labels.shape[1]):
            known = labels[:, task] >= 0
            rows, positive = logits[known, task].double().cpu(), (labels[known, task] == 1).double().cpu()
            n_positive, n_rows = group.add_up(torch.stack([positive.sum(), torch.ones_like(positive).sum()])).tolist()
            scale, shift = (1.0, 0.0) if n_positive in (0, n_rows) else fit_platt(rows, positive, group=group)
            self.scale[task], self.shift[task] = scale, shift


def fit_platt(
    logits: Float[Tensor, " rows"],
    targets: Float[Tensor, " rows"],
    towards: tuple[float, float] = (1.0, 0.0),
    pull: tuple[float, float] = PULL,
    group: Processes = ALONE,
) -> tuple[float, float]:
    """Fits the scale and the shift that turn logits into those of their targets (Platt's scaling).

    Both minimise the cross-entropy of all rows. A scale below the least allowed is set to it, and the shift then fitted
    alone, so that the mean probability stays that of the targets.

    Args:
        logits: Of the rows, or of this process's share of them, in float64.
        targets: Wanted probabilities.
        towards: Scale and shift where the fit starts, and to which it is pulled.
        pull: How strongly.
        group: The processes that share the rows; each finds the same.

    Returns:
        The scale, at least `MIN_SCALE`, and the shift.
    """
    ones = torch.ones_like(logits)
    start, weights = torch.tensor(towards, dtype=torch.float64), torch.tensor(pull, dtype=torch.float64)
    inputs = torch.stack([logits, ones], dim=1)
    scale, shift = _newton(inputs, torch.zeros_like(logits), targets, start, weights, group).tolist()
    if scale < MIN_SCALE:
        (shift,) = _newton(ones[:, None], MIN_SCALE * logits, targets, start[1:], weights[1:], group).tolist()
    return max(scale, MIN_SCALE), shift


def _newton(
    inputs: Float[Tensor, "rows n"],
    offset: Float[Tensor, " rows"],
    targets: Float[Tensor, " rows"],
    start: Float[Tensor, " n"],
    pull: Float[Tensor, " n"],
    group: Processes,
) -> Float[Tensor, " n"]:
    """Minimises the cross-entropy of a weighted sum of inputs beside an offset, pulled to its start."""

    def loss(at: Tensor) -> Tensor:
        z = inputs @ at + offset
        return group.add_up((nn.functional.softplus(z) - targets * z).sum()) + (pull * (at - start).square()).sum() / 2

    at, value = start, loss(start)
    for _ in range(MAX_STEPS):
        probs = torch.sigmoid(inputs @ at + offset)
        slope = group.add_up(inputs.T @ (probs - targets)) + pull * (at - start)
        curvature = group.add_up(inputs.T @ (inputs * (probs * (1 - probs))[:, None])) + torch.diag(pull)
        step, fraction = torch.linalg.solve(curvature, slope), 1.0
        # Numerics: far from the minimum a whole step may overshoot.
        while (lower := loss(at - fraction * step)) > value and fraction > TOLERANCE:
            fraction /= 2
        if not value - lower > TOLERANCE * value:
            break
        at, value = at - fraction * step, lower
    return at
