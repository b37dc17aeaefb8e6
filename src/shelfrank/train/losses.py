"""The multi-task loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8, Int64
from torch import Tensor

from shelfrank.nn.model import Outputs


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses that training minimises (Paper: Sec. 3.1, Eq. (1)).

    Attributes:
        tasks: Weight of each task's loss.
        relevance: Weight of the relevance label's loss beside them; 0 where the model does not learn it.
        pointwise: Weight of `task_losses` in each task's loss.
        listwise: Weight of `listwise_losses` in it.
    """

    tasks: Sequence[float]
    relevance: float = 0.0
    pointwise: float = 1.0
    listwise: float = 0.0

    @property
    def is_listwise(self) -> bool:
        """Whether a loss needs whole searches."""
        return self.listwise > 0

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


def listwise_losses(
    logits: Float[Tensor, "rows n_tasks"],
    labels: Int8[Tensor, "rows n_tasks"],
    search_sizes: Int64[Tensor, " searches"],
    n_labelled: Float[Tensor, " n_tasks"] | None = None,
) -> Float[Tensor, " n_tasks"]:
    """Softmax cross-entropy over the products of each search, averaged over the searches that have the task's label.

    A search's loss is minus the mean of its positive rows' log-softmax, and 0 where it has none. Rows without the label
    are left out of their search's softmax. Averaged over the searches with a positive alone, a rare task would get as
    much weight as a frequent one, and its few positives would be learned by heart.

    Differs: the paper's losses see each row alone. This one is ListNet's (Cao et al. 2007) with binary labels, and
    stands beside the pointwise loss, which keeps the logits calibrated (arXiv 2211.01494).

    Args:
        logits: Before the sigmoid; a search's rows are adjacent.
        labels: 1, 0, or -1 where the label is missing.
        search_sizes: Rows of each search, 1 or more, in the order of the rows.
        n_labelled: `count_labelled_searches`, where these searches are part of more: the parts' losses then add up to
            the whole's.

    Returns:
        A loss per task; exactly 0, without gradient, for a task without a positive label.

    Example:
        Two products with the logits ln 3 and 0, of which the first is positive: -ln(3 / 4).

        >>> logits, labels = torch.tensor([[1.0986], [0.0]]), torch.tensor([[1], [0]], dtype=torch.int8)
        >>> listwise_losses(logits, labels, torch.tensor([2]))
        tensor([0.2877])
    """
    # Numerics: so far below every other logit that its share of the softmax is exactly 0, and still finite.
    known = logits.masked_fill(labels < 0, -1e30)
    highest = _by_search(known.detach(), search_sizes, "max")
    total = _by_search(torch.exp(known - highest.repeat_interleave(search_sizes, dim=0)), search_sizes, "sum")
    positive = (labels == 1).to(logits.dtype)
    n = _by_search(positive, search_sizes, "sum")
    of_positive = _by_search(positive * logits, search_sizes, "sum") / n.clamp(min=1)
    each = torch.where(n > 0, highest + torch.log(total) - of_positive, 0.0)
    n_searches = count_labelled_searches(labels, search_sizes) if n_labelled is None else n_labelled
    return each.sum(dim=0) / n_searches.clamp(min=1)


def _by_search(
    values: Float[Tensor, "rows n_tasks"], search_sizes: Int64[Tensor, " searches"], reduce: str
) -> Float[Tensor, "searches n_tasks"]:
    # Numerics: unlike a scattered sum, it has the same bits on every run, on a GPU too.
    return torch.segment_reduce(values, reduce, lengths=search_sizes, axis=0)


def count_labelled_searches(
    labels: Int8[Tensor, "rows n_tasks"], search_sizes: Int64[Tensor, " searches"]
) -> Float[Tensor, " n_tasks"]:
    """Searches that have each task's label in any row."""
    return (_by_search((labels >= 0).float(), search_sizes, "sum") > 0).sum(dim=0).float()


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


def count_labels(
    labels: Int8[Tensor, "rows n_tasks"],
    relevance: Int8[Tensor, " rows"],
    search_sizes: Int64[Tensor, " searches"] | None = None,
) -> Float[Tensor, " n_labels"]:
    """Rows that have each task's label, those that have a relevance label, and the searches that have each task's."""
    rows = (torch.cat([labels, relevance[:, None]], dim=1) >= 0).sum(dim=0).float()
    return rows if search_sizes is None else torch.cat([rows, count_labelled_searches(labels, search_sizes)])


def all_losses(
    outputs: Outputs,
    labels: Int8[Tensor, "rows n_tasks"],
    relevance: Int8[Tensor, " rows"],
    n_labels: Float[Tensor, " n_labels"] | None = None,
    search_sizes: Int64[Tensor, " searches"] | None = None,
    weights: LossWeights | None = None,
) -> Float[Tensor, " n_losses"]:
    """Each task's loss, with the relevance label's behind them where there are logits of its classes.

    Args:
        outputs: The network's logits of the rows.
        labels: As `task_losses` takes them.
        relevance: As `relevance_loss` takes it.
        n_labels: `count_labels` of the whole batch, where these rows are part of one.
        search_sizes: As `listwise_losses` takes them; None has the pointwise loss alone.
        weights: What a task's loss is made of, where there are `search_sizes`.

    Returns:
        A loss per task, and one more where relevance is learned.
    """
    n_tasks = labels.shape[1]
    of_tasks, of_relevance = (None, None) if n_labels is None else (n_labels[:n_tasks], n_labels[n_tasks])
    losses = task_losses(outputs.logits, labels, of_tasks)
    if search_sizes is not None and weights is not None:
        of_searches = None if n_labels is None else n_labels[n_tasks + 1 :]
        listwise = listwise_losses(outputs.logits, labels, search_sizes, of_searches)
        losses = weights.pointwise * losses + weights.listwise * listwise
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
