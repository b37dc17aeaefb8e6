"""Scores and losses of a split, and the device on which they are computed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.data.batch import Batch, SplitRows
from shelfrank.data.prepared import Split
from shelfrank.metrics.order import fuse
from shelfrank.metrics.ranking import reciprocal_rank
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.matching import RowTexts
from shelfrank.nn.model import MultiTaskRanker, Outputs
from shelfrank.train.losses import LossWeights, all_losses, count_labels
from shelfrank.train.text_feed import Texts

SCORING_ROWS = 16_384


SERVED_MRR_K = 10
"""Cutoff of `served_mrr`."""


def evaluate_losses(
    model: nn.Module, rows: SplitRows, bf16: bool, texts: Texts | None = None, weights: LossWeights | None = None
) -> Tensor:
    """Each task's loss over a whole split, averaged over the rows that have its label; then the relevance label's.

    Args:
        model: The network.
        rows: The split's rows, or this process's share of them.
        bf16: Whether matrix products are computed in bfloat16.
        texts: The rows' texts, for a model that reads them.
        weights: What a task's loss is made of; None has the pointwise loss alone.

    Returns:
        The losses over all processes' rows, the same in every process.
    """
    return losses_of_split(predict(model, rows, bf16, texts), rows.split, weights)


def losses_of_split(found: Outputs, split: Split, weights: LossWeights | None = None) -> Tensor:
    """The losses of `evaluate_losses` from the outputs for every row of a split, or of this process's share."""
    # Numerics: a sum over a split in float32 would follow the order of rows, and with it the epoch that is kept.
    outputs = Outputs(found.logits.double(), None if found.relevance is None else found.relevance.double(), None)
    labels, relevance = (torch.from_numpy(array[:].copy()) for array in (split.labels, split.relevance))
    search_sizes = None
    if weights is not None and weights.is_listwise:
        sizes = np.diff(split.search_offsets)
        search_sizes = torch.from_numpy(sizes[sizes > 0])
    n_labels = processes().add_up(count_labels(labels, relevance, search_sizes))
    return processes().add_up(all_losses(outputs, labels, relevance, n_labels, search_sizes, weights))


def served_mrr(
    logits: Float[Tensor, "rows n_tasks"], split: Split, score_weights: Sequence[float]
) -> Float64[np.ndarray, " n_tasks"]:
    """MRR@10 of each task under the order that is served, that of the fused probabilities.

    Args:
        logits: Before the sigmoid, for every row of the split, or of this process's share of its searches.
        split: The rows.
        score_weights: Weights that fuse the tasks' probabilities.

    Returns:
        A mean per task over all processes' searches with a positive label, the same in every process; NaN for a task
        without any.
    """
    fused = fuse(torch.sigmoid(logits).numpy(), score_weights)
    # A search without rows would be an empty page.
    offsets = np.unique(split.search_offsets)
    total = torch.zeros(2, logits.shape[1], dtype=torch.float64)
    for task in range(logits.shape[1]):
        labels = np.ascontiguousarray(split.labels[:, task])
        values = reciprocal_rank(fused, labels, offsets, np.asarray(split.tie_keys), SERVED_MRR_K)
        counted = values[~np.isnan(values)]
        total[:, task] = torch.tensor([counted.sum(), len(counted)])
    found, n = processes().add_up(total).numpy()
    return np.divide(found, n, out=np.full(len(n), np.nan), where=n > 0)


@torch.inference_mode()
def predict(model: nn.Module, rows: SplitRows, bf16: bool, texts: Texts | None = None) -> Outputs:
    """Outputs for every row of a split, in eval mode and on the processor; a row's do not depend on its neighbours.

    Each different text of the split is read once.
    """
    model.eval()
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=bf16):
        texts_of: Callable[[Batch], RowTexts | None] = (
            texts.of_split(rows.split, model.text.trained) if texts else lambda _: None  # pyright: ignore
        )
        parts = [model(batch.numerical, batch.categorical, texts_of(batch)) for batch in rows.in_order(SCORING_ROWS)]
    if not parts:
        empty = rows.gather(slice(0, 0))
        parts = [model(empty.numerical, empty.categorical, texts_of(empty))]
    relevance = None if parts[0].relevance is None else torch.cat([part.relevance for part in parts]).cpu()
    return Outputs(torch.cat([part.logits for part in parts]).cpu(), relevance, None)


@torch.inference_mode()
def gate_shares(
    model: MultiTaskRanker, rows: SplitRows, texts: Texts | None = None
) -> Float64[np.ndarray, "n_gates n_experts"] | None:
    """The mean weight of each expert in each gate over the rows of a split; None without a mixture of experts.

    Args:
        model: The network.
        rows: The rows; one or more.
        texts: The rows' texts, for a model that reads them.

    Returns:
        A row per task, and one more where relevance is learned; each sums to 1.
    """
    if not isinstance(model.head, MMoE):
        return None
    model.eval()
    texts_of: Callable[[Batch], RowTexts | None] = (
        texts.of_split(rows.split, model.text.trained) if texts and model.text else lambda _: None
    )
    total = torch.zeros(model.head.n_tasks, model.head.n_experts, dtype=torch.float64)
    for batch in rows.in_order(SCORING_ROWS):
        inputs = model.gather_inputs(batch.numerical, batch.categorical, texts_of(batch))
        total += model.head.gate_weights(model.bottom(inputs).x_final).double().sum(dim=0).cpu()
    return (total / rows.split.n_rows).numpy()


def pick_device(name: str) -> torch.device:
    """The device of this name, a GPU for each process of a machine; one that is not there is a `UserError`."""
    if name != "cuda":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError("train.device must be cpu on a machine where PyTorch finds no GPU, but it is cuda")
    if processes().n == 1:
        return torch.device(name)
    number = processes().local_rank
    if number >= torch.cuda.device_count():
        raise UserError(
            f"each process must have a GPU of its own, but process {number} of this machine finds "
            f"{torch.cuda.device_count()}; start fewer with --nproc-per-node"
        )
    torch.cuda.set_device(number)
    return torch.device(name, number)
