"""The multi-task loss."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor


def task_losses(
    logits: Float[Tensor, "rows n_tasks"], labels: Int8[Tensor, "rows n_tasks"]
) -> Float[Tensor, " n_tasks"]:
    """Binary cross-entropy of each task, averaged over the rows that have its label.

    Args:
        logits: Before the sigmoid.
        labels: 1, 0, or -1 where the label is missing.

    Returns:
        A loss per task; exactly 0, without gradient, for a task that no row has a label of.
    """
    known = (labels >= 0).to(logits.dtype)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return (each * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)


def weighted_loss(losses: Float[Tensor, " n_tasks"], weights: Float[Tensor, " n_tasks"]) -> Float[Tensor, ""]:
    """Weighted sum of the tasks' losses (Paper: Sec. 3.1, Eq. (1)).

    Args:
        losses: One per task.
        weights: One per task.

    Returns:
        The loss that training minimises.

    Example:
        >>> weighted_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
        tensor(2.)
    """
    return (losses * weights).sum()
