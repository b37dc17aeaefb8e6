"""Integrated gradients: what each input contributes to a network's logits, along a straight path from a baseline.

Their own paper is arXiv 1703.01365.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from shelfrank.nn.inputs import Inputs
from shelfrank.nn.model import MultiTaskRanker

TOLERANCE = 0.01
"""Logits that a row's contributions may leave unexplained."""
TEXT_MATCH = "text match"
"""Name of all matching features together."""
PARTS = ("numerical", "embedded", "matching")
FIRST_SEGMENTS = 16
MAX_HALVINGS = 6
POINTS_AT_ONCE = 256
"""Points of paths that the network reads at a time; bounds the memory."""


class Points(NamedTuple):
    """Points on the paths of some rows.

    Attributes:
        row: Whose path.
        at: How far along it, from 0 to 1.
        logits: The network's there.
        rates: How fast each feature moves each logit there, per whole path.
    """

    row: Int64[Tensor, " points"]
    at: Float64[Tensor, " points"]
    logits: Float64[Tensor, "points n_tasks"]
    rates: Float64[Tensor, "points n_tasks n_features"]

    def pick(self, chosen: Bool[Tensor, " points"]) -> "Points":
        """Some of the points."""
        return Points(*(part[chosen] for part in self))

    def join(self, others: "Points") -> "Points":
        """These points, then the others."""
        return Points(*(torch.cat(parts) for parts in zip(self, others, strict=True)))


def integrated_gradients(
    model: MultiTaskRanker, start: Inputs, end: Inputs
) -> Float64[Tensor, "rows n_tasks n_features"]:
    """Shares each row's change of logits from `start` to `end` out among its features.

    Numerics: a path is cut into segments, and a segment is halved until what it leaves unexplained is its part of
    `TOLERANCE`, or `MAX_HALVINGS` times.

    Args:
        model: The network, in eval mode.
        start: One baseline per row.
        end: The rows.

    Returns:
        The contributions of numbers, then categories, each summed over its embedding, then, where there is text, the
        sum of the matching features.
    """
    n_rows, device = len(end.numerical), end.numerical.device
    row = torch.arange(n_rows, device=device).repeat_interleave(FIRST_SEGMENTS + 1)
    at = torch.linspace(0, 1, FIRST_SEGMENTS + 1, dtype=torch.float64, device=device).repeat(n_rows)
    points = follow(model, start, end, row, at)
    left, right = points.pick(at < 1), points.pick(at > 0)
    total = points.rates.new_zeros(n_rows, *points.rates.shape[1:])
    for halvings in range(MAX_HALVINGS + 1):
        shares, gaps = integrate(left, right)
        finished = (gaps <= TOLERANCE * (right.at - left.at)) | (halvings == MAX_HALVINGS)
        total.index_add_(0, left.row[finished], shares[finished])
        left, right = left.pick(~finished), right.pick(~finished)
        if not len(left.row):
            break
        middle = follow(model, start, end, left.row, (left.at + right.at) / 2)
        left, right = left.join(middle), middle.join(right)
    return total


def integrate(
    left: Points, right: Points
) -> tuple[Float64[Tensor, "segments n_tasks n_features"], Float64[Tensor, " segments"]]:
    """Shares each segment's change of logits out among the features.

    Numerics: between kinks a ReLU network is smooth, and at a kink every rate jumps. If the rates are `l` before a
    kink and `r` after it, their mean over the segment is `(l + r) / 2 + t (r - l)` with a t from -1/2 to 1/2 that says
    where the kink lies. The change of logits is known, and so is t: the shares of a segment with one kink are exact.
    With t left at 0, the trapezoidal rule, MMoE on DCN-V2 took 40 times as many points to the same gap.

    Args:
        left: Where each segment begins.
        right: Where it ends.

    Returns:
        The shares, and the most that they leave unexplained of any task's change.
    """
    width = (right.at - left.at)[:, None, None]
    shares, jumps = width * (left.rates + right.rates) / 2, width * (right.rates - left.rates)
    gaps, jump = right.logits - left.logits - shares.sum(dim=2), jumps.sum(dim=2)
    t = torch.where(jump == 0, 0.0, gaps / jump).clamp(-0.5, 0.5)
    return shares + t[:, :, None] * jumps, (gaps - t * jump).abs().amax(dim=1)


def follow(
    model: MultiTaskRanker, start: Inputs, end: Inputs, row: Int64[Tensor, " points"], at: Float64[Tensor, " points"]
) -> Points:
    """Reads logits and rates at points of the rows' paths.

    Args:
        model: The network, in eval mode.
        start: Where the rows' paths begin.
        end: Where they end.
        row: Whose path each point is on.
        at: How far along it.

    Returns:
        The points.
    """
    logits, rates = [], []
    for rows, places in zip(row.split(POINTS_AT_ONCE), at.float().split(POINTS_AT_ONCE), strict=True):
        ways = [getattr(end, part)[rows] - getattr(start, part)[rows] for part in PARTS]
        leaves = [
            (getattr(start, part)[rows] + places.view(-1, *[1] * (way.ndim - 1)) * way).requires_grad_()
            for part, way in zip(PARTS, ways, strict=True)
        ]
        found = model.of_inputs(Inputs(*leaves)).logits
        logits.append(found.detach().double())
        of_tasks = [
            torch.autograd.grad(found[:, task].sum(), leaves, retain_graph=True, materialize_grads=True)
            for task in range(found.shape[1])
        ]
        rates.append(torch.stack([by_feature(slopes, ways) for slopes in of_tasks], dim=1).double())
    return Points(row, at, torch.cat(logits), torch.cat(rates))


def by_feature(slopes: Sequence[Tensor], ways: Sequence[Tensor]) -> Float[Tensor, "points n_features"]:
    """Sums slope times way over each embedding's width, and over all matching features where there are any."""
    numerical, embedded, matching = (slope * way for slope, way in zip(slopes, ways, strict=True))
    text = matching.sum(dim=1, keepdim=True)[:, : matching.shape[1]]
    return torch.cat([numerical, embedded.sum(dim=2), text], dim=1)
