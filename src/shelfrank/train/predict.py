"""Scores and losses of a split, and the device on which they are computed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.data.batch import Batch, SplitRows
from shelfrank.nn.matching import RowTexts
from shelfrank.nn.model import Outputs
from shelfrank.train.losses import all_losses, count_labels
from shelfrank.train.text_feed import Texts

SCORING_ROWS = 16_384


def evaluate_losses(model: nn.Module, rows: SplitRows, bf16: bool, texts: Texts | None = None) -> Tensor:
    """Each task's loss over a whole split, averaged over the rows that have its label; then the relevance label's.

    Args:
        model: The network.
        rows: The split's rows, or this process's share of them.
        bf16: Whether matrix products are computed in bfloat16.
        texts: The rows' texts, for a model that reads them.

    Returns:
        The losses over all processes' rows, the same in every process.
    """
    found = predict(model, rows, bf16, texts)
    # Numerics: a sum over a split in float32 would follow the order of rows, and with it the epoch that is kept.
    outputs = Outputs(found.logits.double(), None if found.relevance is None else found.relevance.double(), None)
    labels, relevance = (torch.from_numpy(array[:].copy()) for array in (rows.split.labels, rows.split.relevance))
    n_labels = processes().add_up(count_labels(labels, relevance))
    return processes().add_up(all_losses(outputs, labels, relevance, n_labels))


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
