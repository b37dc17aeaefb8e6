"""The training loop: Adam, weighted multi-task loss, early stopping on its tasks, exact resume (Paper: Sec. 4.2).

The loop is the same in every process of a training; `shelfrank.train.distributed` says what each of them has.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shelfrank.config import TrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.core.progress import progress
from shelfrank.data.batch import Batch, Rows, ShuffledBatches
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split
from shelfrank.nn.matching import RowTexts, TrainedLayers
from shelfrank.nn.model import Outputs
from shelfrank.train.checkpoint import Progress, is_foreign, load_checkpoint, save_checkpoint
from shelfrank.train.distributed import BatchShare, add_up_gradients, own_searches, seed_step
from shelfrank.train.losses import all_losses, count_labels, weighted_loss
from shelfrank.train.protocol import Protocol, pick_protocol
from shelfrank.train.text_feed import FinishedTexts, TextFeed, Texts

SCORING_ROWS = 16_384
TELL_EVERY_S = 0.5
"""Seconds between two readings of the loss for the progress bar."""


@dataclass(frozen=True)
class Trained:
    """What training left behind beside the model's weights.

    Attributes:
        curve: One record per epoch: losses, seconds, whether it was the best.
        best_epoch: The epoch, from 1, whose weights the model has.
        protocol: The settings that were used.
        seconds: Wall time of the steps and validations.
        hidden: What of the training rows was hidden, for people.
    """

    curve: list[dict[str, Any]]
    best_epoch: int
    protocol: Protocol
    seconds: float
    hidden: list[str]


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints go and whether to start from one.

    Attributes:
        folder: Holds the last complete checkpoint.
        owner: Fingerprint of data and config.
        resume: Whether to go on from it.
        ignore_foreign: Whether a checkpoint of other data or another config is passed over instead of refused.
    """

    folder: Path
    owner: str
    resume: bool
    ignore_foreign: bool = False


def fit(
    model: nn.Module,
    train: Split,
    valid: Split,
    config: TrainConfig,
    task_weights: Sequence[float],
    seed: int,
    checkpoints: Checkpoints | None = None,
    title: str = "Training",
    relevance_weight: float = 0.0,
    texts: TextFeed | None = None,
    text_learning_rate: float | None = None,
    ghost_batch_size: int = 1,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Trained:
    """Trains a model and leaves the best epoch's weights in it.

    Args:
        model: Maps a batch to `Outputs` as `MultiTaskRanker` does; its weights are already drawn.
        train: Rows to learn from.
        valid: Rows whose weighted loss over the tasks, without the relevance label, decides when to stop.
        config: The loop's settings.
        task_weights: Weight of each task's loss.
        seed: Decides the order of rows, the dropout and what is hidden.
        checkpoints: None trains without any.
        title: What the progress bar says.
        relevance_weight: Weight of the relevance label's loss beside the tasks'; 0 where the model does not learn it.
        texts: The rows' texts, for a model that reads them; where it trains layers of their encoder, batches are made
            of whole searches.
        text_learning_rate: Adam's rate for the text encoder's layers; None takes that of the rest.
        ghost_batch_size: Rows that the model normalises together, as its bottom says.
        on_epoch: Called with each epoch's record after its checkpoint; what it raises ends the training.

    Returns:
        The learning curve and what was picked.

    Raises:
        UserError: Where a loss stops being finite, the device is not there, a network with text or one of several
            processes is to be compiled, or the checkpoint to resume from is not this run's.
    """
    group = processes()
    if config.compile and texts is not None:
        raise UserError(
            "train.compile must be false for a network with text, whose buckets would be compiled again and again, but "
            "it is true"
        )
    if config.compile and group.n > 1:
        raise UserError(f"train.compile must be false where processes share a training, but it is true in {group.n}")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    model.to(device)
    protocol = group.from_lead(pick_protocol(config, train.n_rows))
    optimizer = torch.optim.Adam(_groups(model, text_learning_rate), lr=protocol.learning_rate, fused=True)
    losses = [*task_weights, *([relevance_weight] if relevance_weight > 0 else [])]
    weights = torch.tensor(losses, dtype=torch.float32, device=device)
    # Only texts that are read anew at each step gain by coming together.
    feed: Texts | None = texts
    whole_searches = texts is not None
    if texts is not None:
        trained: TrainedLayers = model.text.trained  # pyright: ignore
        if not len(trained.layers):
            feed, whole_searches = FinishedTexts(texts, trained, train, valid), False
    share = BatchShare(group, train, whole_searches, ghost_batch_size)
    hiding = Hiding(train, config.hide_share, seed)
    batches = ShuffledBatches(Rows(train, device), protocol.batch_size, seed, whole_searches, share, hiding)
    valid_rows = Rows(own_searches(valid)[0], device)
    state, best = Progress(), {}
    torch.manual_seed(seed)
    if (
        checkpoints
        and checkpoints.resume
        and not (checkpoints.ignore_foreign and is_foreign(checkpoints.folder, checkpoints.owner))
    ):
        state, best = load_checkpoint(checkpoints.folder, checkpoints.owner, model, optimizer) or (
            state,
            best,
        )
        group.agree(f"{state.epoch} {state.step}", "checkpoint to resume from")
    rows_a_step = train.n_rows / batches.n_steps
    clock = _Clock(state.seconds)
    run = torch.compile(model, dynamic=True) if config.compile else model

    def keep() -> None:
        state.seconds = clock.seconds()
        if checkpoints and group.leads:
            save_checkpoint(checkpoints.folder, checkpoints.owner, model, best, optimizer, state)

    while not state.finished:
        model.train()
        n_done = state.step
        # Summed on the device: reading every loss would make the processor wait for each step.
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=device)
        name = f"{title} {state.epoch + 1}/{config.epochs}"
        with progress(name, total=train.n_rows, unit="rows") as advance:
            advance(n_done * rows_a_step)
            saved = told = time.monotonic()
            for batch in batches.epoch(state.epoch, first_step=n_done):
                seed_step(seed, state.epoch, state.step)
                loss_sum += _step(run, batch, feed, weights, optimizer, protocol.bf16)
                state.step += 1
                now = time.monotonic()
                if now - told >= TELL_EVERY_S:
                    advance(rows_a_step, note=f"loss {float(loss_sum) / state.step:.4f}")
                    told = now
                else:
                    advance(rows_a_step)
                if now - saved >= config.checkpoint_every_s and state.step < batches.n_steps:
                    state.loss_sum = float(loss_sum)
                    keep()
                    saved = time.monotonic()
        state.loss_sum = float(loss_sum)
        valid_losses = evaluate_losses(model, valid_rows, protocol.bf16, feed)
        valid_loss = float(weighted_loss(valid_losses, weights.cpu()))
        # Relevance is never scored by, and a text network learns it for epochs after the tasks are overfitted.
        n_tasks = len(task_weights)
        task_loss = float(weighted_loss(valid_losses[:n_tasks], weights[:n_tasks].cpu()))
        train_loss = state.loss_sum / state.step
        if not (torch.isfinite(torch.tensor([train_loss, valid_loss])).all()):
            raise UserError(
                f"the loss must stay finite, but it became {train_loss:g} (train) and {valid_loss:g} (validation) "
                f"in epoch {state.epoch + 1}; lower train.learning_rate"
            )
        if task_loss < state.best_loss:
            state.best_loss, state.best_epoch, state.worse_epochs = task_loss, state.epoch, 0
            best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            state.worse_epochs += 1
        state.curve.append(
            {
                "epoch": state.epoch + 1,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_task_loss": task_loss,
                "valid_losses": valid_losses[:n_tasks].tolist(),
                **({"valid_relevance_loss": valid_losses[-1].item()} if relevance_weight > 0 else {}),
                "seconds": round(clock.seconds(), 2),
            }
        )
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        state.finished = state.epoch >= config.epochs or state.worse_epochs >= config.patience
        keep()
        if on_epoch:
            on_epoch(state.curve[-1])
    model.load_state_dict(best)
    curve = [{**record, "best": record["epoch"] == state.best_epoch + 1} for record in state.curve]
    return Trained(curve, state.best_epoch + 1, protocol, state.seconds, hiding.told())


def evaluate_losses(model: nn.Module, rows: Rows, bf16: bool, texts: Texts | None = None) -> Tensor:
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
def predict(model: nn.Module, rows: Rows, bf16: bool, texts: Texts | None = None) -> Outputs:
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


def _step(
    model: Callable[..., Outputs],
    batch: Batch,
    texts: Texts | None,
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    bf16: bool,
) -> Tensor:
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=bf16):
        outputs = model(batch.numerical, batch.categorical, texts.of_batch(batch) if texts else None)
    n_labels = processes().add_up(count_labels(batch.labels, batch.relevance))
    loss = weighted_loss(all_losses(outputs, batch.labels, batch.relevance, n_labels), weights)
    (loss if outputs.penalty is None else loss + outputs.penalty).backward()
    summed = add_up_gradients((p for group in optimizer.param_groups for p in group["params"]), loss.detach())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return summed


def _groups(model: nn.Module, text_learning_rate: float | None) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if text_learning_rate is None:
        return [{"params": [parameter for _, parameter in named]}]
    of_text = [parameter for name, parameter in named if name.startswith("text.trained.")]
    others = [parameter for name, parameter in named if not name.startswith("text.trained.")]
    return [{"params": others}, {"params": of_text, "lr": text_learning_rate}]


class _Clock:
    def __init__(self, spent: float) -> None:
        self.started = time.monotonic() - spent

    def seconds(self) -> float:
        """Wall time of this training, earlier pieces included."""
        return time.monotonic() - self.started
