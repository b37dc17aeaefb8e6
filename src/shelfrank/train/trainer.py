"""The trainer: Adam, weighted multi-task loss, early stopping on the tasks, exact resume (Paper: Sec. 4.2).

Beyond the paper, each a setting that is off by default: a listwise loss with batches of whole searches, weight decay, a
falling learning rate, and early stopping by the order that is served.

Every process of a shared training runs the same steps; `shelfrank.train.distributed` shares out their rows.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from shelfrank.config import TrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.core.progress import progress
from shelfrank.data.batch import GROUP_SEARCHES, Batch, ShuffledBatches, SplitRows
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split
from shelfrank.nn.calibration import Calibration
from shelfrank.nn.matching import TrainedLayers
from shelfrank.nn.position_bias import PositionBias
from shelfrank.train.checkpoint import Checkpoints, Progress, save_checkpoint
from shelfrank.train.distributed import BatchShare, add_up_gradients, own_searches, seed_step
from shelfrank.train.losses import LossWeights, all_losses, count_labels, weighted_loss
from shelfrank.train.predict import SCORING_ROWS, losses_of_split, pick_device, predict, served_mrr
from shelfrank.train.protocol import Protocol, pick_protocol
from shelfrank.train.text_feed import FinishedTexts, TextFeed, Texts

SHOW_EVERY_S = 0.5
"""Seconds between two readings of the loss for the progress bar."""


@dataclass(frozen=True)
class Trained:
    """The result of a training beside the model's weights.

    Attributes:
        curve: One record per epoch: losses, seconds, whether it was the best.
        best_epoch: The epoch, from 1, whose weights the model has.
        protocol: The settings that were used.
        seconds: Wall time of the steps and validations.
        hidden: Values of the training rows that were hidden, for people.
    """

    curve: list[dict[str, Any]]
    best_epoch: int
    protocol: Protocol
    seconds: float
    hidden: list[str]


class Trainer:
    """Trains a model until it gets no better on the validation split, and leaves the best epoch's weights in it.

    Paper: Sec. 4.2.

    Args:
        model: Maps a batch to `Outputs` as `MultiTaskRanker` or `Ensemble` does; its weights are already drawn.
        train: Rows to learn from.
        valid: Rows that decide when to stop, by the weighted loss over the tasks, without the relevance label, or by
            the order that is served.
        config: Settings of the training.
        weights: Weights of the losses.
        seed: Decides the order of rows, the dropout and which values are hidden.
        checkpoints: None trains without any.
        texts: The rows' texts, for a model that reads them; where it trains layers of their encoder, a batch holds
            whole searches, as it does for a listwise loss.
        text_learning_rate: Adam's rate for the text encoder's layers; None uses the rate of the others.
        ghost_batch_size: Rows that the model normalises together; see `Bottom`.
        score_weights: Weights of the tasks in the order that is served; None takes those of the loss.
        position_rate_factor: The rate of the model's position biases, in those of its other weights.

    Raises:
        UserError: Where the device is missing, a network with text or one of several processes is to be compiled, or
            processes would share searches that must be whole.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        valid: Split,
        config: TrainConfig,
        weights: LossWeights,
        seed: int,
        *,
        checkpoints: Checkpoints | None = None,
        texts: TextFeed | None = None,
        text_learning_rate: float | None = None,
        ghost_batch_size: int = 1,
        score_weights: Sequence[float] | None = None,
        position_rate_factor: float = 1.0,
    ) -> None:
        self.group = processes()
        _require_compilable(config, texts is not None, self.group.n)
        _require_whole_searches(weights, ghost_batch_size, self.group.n)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        device = pick_device(config.device)
        self.model, self.config, self.seed, self.checkpoints = model.to(device), config, seed, checkpoints
        self.protocol = self.group.from_lead(pick_protocol(config, train.n_rows, train.n_searches))
        bias_rate = position_rate_factor * self.protocol.learning_rate
        groups = _parameter_groups(model, text_learning_rate, bias_rate)
        self.optimizer = _optimizer(groups, self.protocol.learning_rate, config)
        self.learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.loss_weights, self.score_weights = weights, score_weights or weights.tasks
        self.weights, self.n_tasks = weights.tensor().to(device), len(weights.tasks)
        self.texts, reads_texts = self._feed(texts, train, valid)
        whole_searches = reads_texts or weights.is_listwise or config.batch_searches is not None
        share = BatchShare(self.group, train, whole_searches, ghost_batch_size)
        self.hiding = Hiding(train, config.hide_share, seed)
        self.batches = ShuffledBatches(
            SplitRows(train, device),
            self.protocol.batch_size,
            seed,
            whole_searches,
            share,
            self.hiding,
            GROUP_SEARCHES if reads_texts else 1,
        )
        self.valid_rows = SplitRows(own_searches(valid)[0], device)
        members = list(getattr(model, "members", [model]))
        self.members = [torch.compile(member, dynamic=True) if config.compile else member for member in members]
        self.position_biases: list[PositionBias | None] = [getattr(each, "position_bias", None) for each in members]
        self.calibration: Calibration | None = getattr(model, "calibration", None)
        for bias in self.position_biases:
            if bias is not None:
                position = torch.from_numpy(np.array(train.position)).to(device)
                codes = None
                if bias.column is not None:
                    codes = torch.from_numpy(np.array(train.categorical[:, bias.column])).to(device)
                bias.count(position, codes)
        offsets = train.offsets if config.sampling_offset else None
        self.sampling_offsets = None if offsets is None else torch.from_numpy(offsets).to(device)
        self.state, self.best = Progress(), dict[str, Tensor]()
        self.started = 0.0

    def run(self, on_epoch: Callable[[dict[str, Any]], None] | None = None) -> Trained:
        """Trains, from the last checkpoint where there is one to resume from.

        Args:
            on_epoch: Called with each epoch's record after its checkpoint; an error that it raises ends the training.

        Returns:
            The learning curve and the settings that were used.

        Raises:
            UserError: Where a loss stops being finite, or the checkpoint to resume from is not this run's.
        """
        self.resume()
        while not self.state.finished:
            train_loss = self.train_epoch()
            self.stop_early(train_loss, *self.validate())
            self.save()
            if on_epoch:
                on_epoch(self.state.curve[-1])
        self.model.load_state_dict(self.best)
        best_epoch = self.state.best_epoch + 1
        curve = [{**record, "best": record["epoch"] == best_epoch} for record in self.state.curve]
        return Trained(curve, best_epoch, self.protocol, self.state.seconds, self.hiding.notes())

    def resume(self) -> None:
        """Seeds the draws, and restores the last complete checkpoint if one is wanted and there."""
        torch.manual_seed(self.seed)
        restored = self.checkpoints and self.checkpoints.load(self.model, self.optimizer)
        if restored:
            self.state, self.best = restored
        if self.checkpoints and self.checkpoints.resume:
            self.group.agree(f"{self.state.epoch} {self.state.step}", "checkpoint to resume from")
        self.started = time.monotonic() - self.state.seconds

    def train_epoch(self) -> float:
        """Takes the epoch's remaining steps, with checkpoints in between; the mean loss of all of its steps."""
        state = self.state
        self.model.train()
        n_rows = self.batches.rows.split.n_rows
        rows_a_step = n_rows / self.batches.n_steps
        # Summed on the device: reading every loss would make the processor wait for each step.
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=self.weights.device)
        with progress(f"Training {state.epoch + 1}/{self.config.epochs}", total=n_rows, unit="rows") as advance:
            advance(state.step * rows_a_step)
            saved = shown = time.monotonic()
            for batch in self.batches.epoch(state.epoch, first_step=state.step):
                seed_step(self.seed, state.epoch, state.step)
                loss_sum += self.step(batch)
                state.step += 1
                now = time.monotonic()
                if now - shown >= SHOW_EVERY_S:
                    advance(rows_a_step, note=f"loss {float(loss_sum) / state.step:.4f}")
                    shown = now
                else:
                    advance(rows_a_step)
                if now - saved >= self.config.checkpoint_every_s and state.step < self.batches.n_steps:
                    state.loss_sum = float(loss_sum)
                    self.save()
                    saved = time.monotonic()
        state.loss_sum = float(loss_sum)
        return state.loss_sum / state.step

    def step(self, batch: Batch) -> Float[Tensor, ""]:
        """One step of Adam on a batch that all processes share; the whole batch's loss, without the penalty."""
        self._set_learning_rates()
        with torch.autocast(self.weights.device.type, torch.bfloat16, enabled=self.protocol.bf16):
            texts = self.texts.of_batch(batch) if self.texts else None
            found = [member(batch.numerical, batch.categorical, texts) for member in self.members]
        sizes = batch.search_sizes() if self.loss_weights.is_listwise else None
        n_labels = self.group.add_up(count_labels(batch.labels, batch.relevance, sizes))
        objectives, losses = [], []
        for outputs, bias in zip(found, self.position_biases, strict=True):
            logits = outputs.logits if bias is None else outputs.logits + bias(batch.position, batch.categorical)
            if self.sampling_offsets is not None:
                logits = logits + self.sampling_offsets[torch.from_numpy(batch.product_idx).to(logits.device).long()]
            shown = outputs._replace(logits=logits)
            of_all = all_losses(shown, batch.labels, batch.relevance, n_labels, sizes, self.loss_weights)
            losses.append(weighted_loss(of_all, self.weights))
            objectives.append(losses[-1] if outputs.penalty is None else losses[-1] + outputs.penalty)
        # Members share no weight, so that the gradient of their sum is each one's own.
        torch.stack(objectives).sum().backward()
        loss = torch.stack(losses).mean()
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        summed = add_up_gradients(parameters, loss.detach())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return summed

    def _set_learning_rates(self) -> None:
        """Sets the rates of the step to come, which the numbers of epoch and step alone decide."""
        if self.config.schedule == "constant":
            return
        done = self.state.epoch * self.batches.n_steps + self.state.step
        factor = (1 + math.cos(math.pi * done / (self.config.epochs * self.batches.n_steps))) / 2
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = factor * rate

    def validate(self) -> tuple[Float[Tensor, " n_losses"], Float64[np.ndarray, " n_tasks"] | None]:
        """The losses over the validation split, and the served order's MRR by task where it decides when to stop."""
        split, calibration = self.valid_rows.split, self.calibration
        if calibration is not None:
            calibration.reset()
        found = predict(self.model, self.valid_rows, self.protocol.bf16, self.texts)
        served = logits = found.logits
        if calibration is not None:
            calibration.fit(logits, torch.from_numpy(np.array(split.labels)), self.group)
            with torch.no_grad():
                served = calibration(logits.to(self.weights.device)).cpu()
        losses = losses_of_split(
            found._replace(logits=logits + self._biases_of(self.valid_rows)), split, self.loss_weights
        )
        return losses, None if self.config.stop_by == "loss" else served_mrr(served, split, self.score_weights)

    @torch.no_grad()
    def _biases_of(self, rows: SplitRows) -> Float[Tensor, "rows n_tasks"] | float:
        """The mean of the members' position biases of every row; 0 where there are none."""
        biases = [bias for bias in self.position_biases if bias is not None]
        if not biases:
            return 0.0
        parts = [
            torch.stack([bias(batch.position, batch.categorical) for bias in biases]).mean(dim=0).cpu()
            for batch in rows.in_order(SCORING_ROWS)
        ]
        return torch.cat(parts)

    def stop_early(
        self,
        train_loss: float,
        valid_losses: Float[Tensor, " n_losses"],
        valid_mrr: Float64[np.ndarray, " n_tasks"] | None = None,
    ) -> None:
        """Records an epoch, keeps its weights where they are the best so far, and stops where patience has run out."""
        state, config, weights = self.state, self.config, self.weights.cpu()
        of_tasks = valid_losses[: self.n_tasks]
        valid_loss = float(weighted_loss(valid_losses, weights))
        # Relevance is never scored by, and a text network learns it for epochs after the tasks are overfitted.
        task_loss = float(weighted_loss(of_tasks, weights[: self.n_tasks]))
        if not torch.isfinite(torch.tensor([train_loss, valid_loss])).all():
            raise UserError(
                f"the loss must stay finite, but it became {train_loss:g} (train) and {valid_loss:g} (validation) "
                f"in epoch {state.epoch + 1}; lower train.learning_rate"
            )
        loss = task_loss if valid_mrr is None else 1 - weighted_mean(valid_mrr, self.score_weights)
        if loss < state.best_loss:
            state.best_loss, state.best_epoch, state.worse_epochs = loss, state.epoch, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            state.worse_epochs += 1
        learns_relevance = len(weights) > self.n_tasks
        state.curve.append(
            {
                "epoch": state.epoch + 1,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_task_loss": task_loss,
                "valid_losses": of_tasks.tolist(),
                **({"valid_relevance_loss": valid_losses[-1].item()} if learns_relevance else {}),
                **({} if valid_mrr is None else {"valid_mrr": [None if np.isnan(x) else float(x) for x in valid_mrr]}),
                "seconds": round(time.monotonic() - self.started, 2),
            }
        )
        state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
        state.finished = state.epoch >= config.epochs or state.worse_epochs >= config.patience

    def save(self) -> None:
        """Writes a checkpoint, if any are wanted and this is the first process."""
        self.state.seconds = time.monotonic() - self.started
        if self.checkpoints and self.group.leads:
            folder, owner = self.checkpoints.folder, self.checkpoints.owner
            save_checkpoint(folder, owner, self.model, self.best, self.optimizer, self.state)

    def _feed(self, texts: TextFeed | None, train: Split, valid: Split) -> tuple[Texts | None, bool]:
        """The texts of batches, and whether batches hold whole searches: only texts read at each step gain by that."""
        if texts is None:
            return None, False
        layers: TrainedLayers = self.model.text.trained  # pyright: ignore
        return (texts, True) if len(layers.layers) else (FinishedTexts(texts, layers, train, valid), False)


def weighted_mean(values: Float64[np.ndarray, " n_tasks"], weights: Sequence[float]) -> float:
    """The mean of the values that are not NaN by their weights; 0 where none has any."""
    each = np.where(np.isnan(values), 0.0, np.asarray(weights, np.float64))
    return float((each * np.nan_to_num(values)).sum() / each.sum()) if each.sum() else 0.0


def _optimizer(groups: list[dict[str, Any]], learning_rate: float, config: TrainConfig) -> torch.optim.Adam:
    if not config.weight_decay:
        return torch.optim.Adam(groups, lr=learning_rate, fused=True)
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=config.weight_decay, fused=True)


def _require_whole_searches(weights: LossWeights, ghost_batch_size: int, n_processes: int) -> None:
    if weights.is_listwise and ghost_batch_size > 1 and n_processes > 1:
        raise UserError(
            "train.listwise_weight must be 0 where processes share the training of a TabNet, whose ghost batches cut "
            f"searches, but it is {weights.listwise:g} in {n_processes} processes"
        )


def _require_compilable(config: TrainConfig, reads_text: bool, n_processes: int) -> None:
    if config.compile and reads_text:
        raise UserError(
            "train.compile must be false for a network with text, whose buckets would be compiled again and again, but "
            "it is true"
        )
    if config.compile and n_processes > 1:
        raise UserError(
            f"train.compile must be false where processes share a training, but it is true in {n_processes}"
        )


def _parameter_groups(
    model: nn.Module, text_learning_rate: float | None, bias_learning_rate: float
) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    of_bias = [parameter for name, parameter in named if "position_bias." in name]
    named = [(name, parameter) for name, parameter in named if "position_bias." not in name]
    # Each bias is learned from its own rows alone, and decay would leave a part of it to the other weights.
    biases = [{"params": of_bias, "lr": bias_learning_rate, "weight_decay": 0.0}] if of_bias else []
    if text_learning_rate is None:
        return [{"params": [parameter for _, parameter in named]}, *biases]
    of_text = [parameter for name, parameter in named if name.startswith("text.trained.")]
    others = [parameter for name, parameter in named if not name.startswith("text.trained.")]
    return [{"params": others}, {"params": of_text, "lr": text_learning_rate}, *biases]
