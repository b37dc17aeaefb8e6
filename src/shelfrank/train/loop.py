"""The training loop: Adam, weighted multi-task loss, early stopping on it, exact resume (Paper: Sec. 4.2)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shelfrank.config import TrainConfig
from shelfrank.data.batch import Batch, ShuffledBatches, in_order
from shelfrank.data.prepared import Split
from shelfrank.errors import UserError
from shelfrank.progress import progress
from shelfrank.train.checkpoint import Progress, is_foreign, load_checkpoint, save_checkpoint
from shelfrank.train.losses import all_losses, weighted_loss
from shelfrank.train.protocol import Protocol, pick_protocol

SCORING_ROWS = 16_384


@dataclass(frozen=True)
class Trained:
    """What training left behind beside the model's weights.

    Attributes:
        curve: One record per epoch: losses, seconds, whether it was the best.
        best_epoch: The epoch, from 1, whose weights the model has.
        protocol: The settings that were used.
        seconds: Wall time of the steps and validations.
    """

    curve: list[dict[str, Any]]
    best_epoch: int
    protocol: Protocol
    seconds: float


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
) -> Trained:
    """Trains a model and leaves the best epoch's weights in it.

    Args:
        model: Maps numbers and codes to logits; its weights are already drawn. Where relevance is learned, it takes
            `with_relevance` as `MultiTaskRanker` does.
        train: Rows to learn from.
        valid: Rows whose weighted loss decides when to stop.
        config: The loop's settings.
        task_weights: Weight of each task's loss.
        seed: Decides the order of rows and the dropout.
        checkpoints: None trains without any.
        title: What the progress bar says.
        relevance_weight: Weight of the relevance label's loss beside the tasks'; 0 does not learn it.

    Returns:
        The learning curve and what was picked.

    Raises:
        UserError: Where a loss stops being finite, or the checkpoint to resume from is not this run's.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    protocol = pick_protocol(config, train.n_rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=protocol.learning_rate, fused=True)
    with_relevance = relevance_weight > 0
    weights = torch.tensor([*task_weights, *([relevance_weight] if with_relevance else [])], dtype=torch.float32)
    batches = ShuffledBatches(train, protocol.batch_size, seed)
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
    clock = _Clock(state.seconds)

    def keep() -> None:
        state.seconds = clock.seconds()
        if checkpoints:
            save_checkpoint(checkpoints.folder, checkpoints.owner, model, best, optimizer, state)

    while not state.finished:
        model.train()
        n_done = state.step
        name = f"{title} {state.epoch + 1}/{config.epochs}"
        with progress(name, total=train.n_rows, unit="rows") as advance:
            advance(round(n_done / batches.n_steps * train.n_rows))
            saved = time.monotonic()
            for batch in batches.epoch(state.epoch, first_step=n_done):
                state.loss_sum += _step(model, batch, weights, optimizer, protocol.bf16, with_relevance)
                state.step += 1
                advance(len(batch.labels), note=f"loss {state.loss_sum / state.step:.4f}")
                if time.monotonic() - saved >= config.checkpoint_every_s and state.step < batches.n_steps:
                    keep()
                    saved = time.monotonic()
        valid_losses = evaluate_losses(model, valid, protocol.bf16, with_relevance)
        valid_loss = float(weighted_loss(valid_losses, weights))
        train_loss = state.loss_sum / state.step
        if not (torch.isfinite(torch.tensor([train_loss, valid_loss])).all()):
            raise UserError(
                f"the loss must stay finite, but it became {train_loss:g} (train) and {valid_loss:g} (validation) "
                f"in epoch {state.epoch + 1}; lower train.learning_rate"
            )
        if valid_loss < state.best_loss:
            state.best_loss, state.best_epoch, state.worse_epochs = valid_loss, state.epoch, 0
            best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            state.worse_epochs += 1
        state.curve.append(
            {
                "epoch": state.epoch + 1,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_losses": valid_losses[: len(task_weights)].tolist(),
                **({"valid_relevance_loss": valid_losses[-1].item()} if with_relevance else {}),
                "seconds": round(clock.seconds(), 2),
            }
        )
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        state.finished = state.epoch >= config.epochs or state.worse_epochs >= config.patience
        keep()
    model.load_state_dict(best)
    curve = [{**record, "best": record["epoch"] == state.best_epoch + 1} for record in state.curve]
    return Trained(curve, state.best_epoch + 1, protocol, state.seconds)


def evaluate_losses(model: nn.Module, split: Split, bf16: bool, with_relevance: bool = False) -> Tensor:
    """Each task's loss over a whole split, averaged over the rows that have its label; then the relevance label's."""
    model.eval()
    logits = predict_logits(model, split, bf16, with_relevance)
    labels, relevance = torch.from_numpy(split.labels[:].copy()), torch.from_numpy(split.relevance[:].copy())
    return all_losses(logits, labels, relevance)


@torch.inference_mode()
def predict_logits(model: nn.Module, split: Split, bf16: bool, with_relevance: bool = False) -> Tensor:
    """Logits of every row of a split, in eval mode; a row's logits do not depend on its neighbours."""
    model.eval()
    outputs = [_logits(model, batch, bf16, with_relevance) for batch in in_order(split, SCORING_ROWS)]
    n_logits = split.labels.shape[1] + with_relevance * split.relevance_classes
    return torch.cat(outputs) if outputs else torch.empty((0, n_logits))


def _step(
    model: nn.Module,
    batch: Batch,
    weights: Tensor,
    optimizer: torch.optim.Optimizer,
    bf16: bool,
    with_relevance: bool,
) -> float:
    logits = _logits(model, batch, bf16, with_relevance)
    loss = weighted_loss(all_losses(logits, batch.labels, batch.relevance), weights)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _logits(model: nn.Module, batch: Batch, bf16: bool, with_relevance: bool) -> Tensor:
    # A model that never learns relevance need not know the word.
    extra = {"with_relevance": True} if with_relevance else {}
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return model(batch.numerical, batch.categorical, **extra)


class _Clock:
    def __init__(self, spent: float) -> None:
        self.started = time.monotonic() - spent

    def seconds(self) -> float:
        """Wall time of this training, earlier pieces included."""
        return time.monotonic() - self.started
