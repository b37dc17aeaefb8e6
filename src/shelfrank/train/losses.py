"""The multi-task loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from shelfrank.nn.model import Outputs


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses that training minimises (Paper: Sec. 3.1, Eq. (1)).

    Attributes:
        tasks: Weight of each task's loss.
        relevance: Weight of the relevance label's loss beside them; 0 where the model does not learn it.
    """

    tasks: Sequence[float]
    relevance: float = 0.0

    def tensor(self) -> Float[Tensor, " n_losses"]:
        """One weight per loss of `all_losses`."""
        return torch.tensor([*self.tasks, *([self.relevance] if self.relevance > 0 else [])], dtype=torch.float32)


def task_losses(
    logits: Float[Tensor, "rows n_tasks"],
    labels: Int8[Tensor, "rows n_tasks"],
    n_labels: Float[Tensor, " n_tasks"] | None = None,
) -> Float[Tensor, " n_tasks"]:
    """Binary cross-entropy of each task, averaged over the rows that have its label (Paper: Sec. 3.1).

    Args:
        logits: Before the sigmoid.
        labels: 1, 0, or -1 where the label is missing.
        n_labels: Rows that have each task's label, where these rows are part of more: the parts' losses then add up to
            the whole's.

    Returns:
        A loss per task; exactly 0, without gradient, for a task that no row has a label of.
    """
    known = (labels >= 0).to(logits.dtype)
    n_known = known.sum(dim=0) if n_labels is None else n_labels
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    return (each * known).sum(dim=0) / n_known.clamp(min=1)


def relevance_loss(
    logits: Float[Tensor, "rows n_classes"],
    relevance: Int8[Tensor, " rows"],
    n_labels: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Categorical cross-entropy of the relevance label (Paper: Sec. 3.5), averaged over the rows that have one.

    Args:
        logits: Before the softmax.
        relevance: A class, or -1 where the label is missing.
        n_labels: As `task_losses` takes them.

    Returns:
        The loss; exactly 0, without gradient, where no row has a label.
    """
    # Numerics: the mean of no row would be NaN.
    summed = torch.nn.functional.cross_entropy(logits, relevance.long(), ignore_index=-1, reduction="sum")
    return summed / ((relevance >= 0).sum() if n_labels is None else n_labels).clamp(min=1)


def count_labels(labels: Int8[Tensor, "rows n_tasks"], relevance: Int8[Tensor, " rows"]) -> Float[Tensor, " n_labels"]:
    """Rows that have each task's label, and those that have a relevance label."""
    return (torch.cat([labels, relevance[:, None]], dim=1) >= 0).sum(dim=0).float()


def all_losses(
    outputs: Outputs,
    labels: Int8[Tensor, "rows n_tasks"],
    relevance: Int8[Tensor, " rows"],
    n_labels: Float[Tensor, " n_labels"] | None = None,
) -> Float[Tensor, " n_losses"]:
    """Each task's loss, with the relevance label's behind them where there are logits of its classes.

    Args:
        outputs: The network's logits of the rows.
        labels: As `task_losses` takes them.
        relevance: As `relevance_loss` takes it.
        n_labels: `count_labels` of the whole batch, where these rows are part of one.

    Returns:
        A loss per task, and one more where relevance is learned.
    """
    of_tasks, of_relevance = (None, None) if n_labels is None else (n_labels[:-1], n_labels[-1])
    losses = task_losses(outputs.logits, labels, of_tasks)
    if outputs.relevance is None:
        return losses
    return torch.cat([losses, relevance_loss(outputs.relevance, relevance, of_relevance)[None]])


def weighted_loss(losses: Float[Tensor, " n_losses"], weights: Float[Tensor, " n_losses"]) -> Float[Tensor, ""]:
    """Weighted sum of the losses (Paper: Sec. 3.1, Eq. (1)).

    Args:
        losses: One per task, and the relevance label's where it is learned.
        weights: One per loss.

    Returns:
        The loss that training minimises.

    Example:
        >>> weighted_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
        tensor(2.)
    """
    return (losses * weights).sum()
