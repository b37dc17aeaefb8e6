"""The paper's networks as rankers."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file, save

from shelfrank.config import NeuralConfig, TaskWeights, TrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.processes import ALONE, Processes, processes
from shelfrank.data.batch import SplitRows
from shelfrank.data.prepared import Split
from shelfrank.nn.ensemble import Ensemble, Network, members_of
from shelfrank.nn.matching import TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers.base import Fitted, Problem, Ranker
from shelfrank.rankers.texts import ProblemTexts
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.losses import LossWeights
from shelfrank.train.predict import gate_shares, pick_device, predict
from shelfrank.train.trainer import Trainer

WEIGHTS = "weights.safetensors"
TEXT_MODEL = "text_model.json"
MEMBER_STRIDE = 1_000_003
"""Between the seeds of an ensemble's networks: runs of nearby seeds share none. PyTorch reads the lowest 32 bits."""
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


class NeuralRanker(Ranker):
    """A network with its shared bottom, trained on the weighted sum of the tasks' losses, or on one task's.

    Where the prepared data has relevance labels, they are a further task (Paper: Sec. 3.5, Table 5): it shapes the
    shared layers and is left out of the scores.
    """

    learns_together = True
    gives_probabilities = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.problem, self.config = problem, problem.config.neural
        if self.config.text.matching == "none":
            problem.require_features()
        single = pick_task(self.config.single_task, problem.tasks)
        self.learned_tasks = problem.tasks if single is None else (single,)
        # A single task is alone: the relevance label is a further one.
        self.n_classes = problem.relevance_classes if single is None else 0
        self.texts = None if self.config.text.matching == "none" else ProblemTexts(problem)
        trained = None if self.texts is None else TrainedLayers(self.texts.encoder.trained, self.texts.encoder.d)
        parts = (problem.n_numerical, problem.category_sizes, len(self.learned_tasks), self.config, self.n_classes)
        column = bias_column(problem)
        with torch.device("meta"):
            require_memory(build_network(*parts, trained, column=column))
        self.model = build_network(*parts, trained, processes(), column, problem.config.seed)

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The tasks whose loss has weight."""
        return tuple(task for task, weight in self._weights().items() if weight > 0)

    def fit(
        self,
        train: Split,
        valid: Split,
        checkpoints: Checkpoints | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> Fitted:
        """Trains with early stopping and keeps the best epoch's weights; `on_epoch` sees every epoch's record."""
        config, n_classes = self.problem.config, self.n_classes
        never_positive = self._never_positive(train)
        feed = None if self.texts is None else self.texts.feed(pick_device(config.train.device), train)
        trainer = Trainer(
            self.model,
            self._of_learned_tasks(train),
            self._of_learned_tasks(valid),
            config.train,
            LossWeights(
                self._weights().shares,
                config.relevance_weight if n_classes else 0.0,
                config.train.pointwise_weight,
                config.train.listwise_weight,
            ),
            config.seed,
            checkpoints=checkpoints,
            texts=feed,
            text_learning_rate=self.config.text.learning_rate,
            ghost_batch_size=members_of(self.model)[0].bottom.ghost_batch_size,
            score_weights=self._score_weights().shares,
            position_rate_factor=self.config.position_bias.learning_rate_factor,
        )
        trained = trainer.run(on_epoch)
        gates = self._gates(valid)
        relevance = f"relevance of {n_classes} classes learned with weight {config.relevance_weight:g}"
        return Fitted(
            curve=trained.curve,
            choices=[
                *([f"learns {self.learned_tasks[0]} alone"] if self.config.single_task else []),
                *(f"{task} is 1 in no training row, so that only its absence is learned" for task in never_positive),
                *trained.protocol.reasons,
                *_training_notes(config.train),
                *([f"{n} networks score as one, by their mean logit"] if (n := self.config.n_networks) > 1 else []),
                *self._bias_notes(),
                *([] if gates is None else [_gates_note(gates)]),
                *trained.hidden,
                *([f"{processes().n} processes shared every batch"] if processes().n > 1 else []),
                *([relevance] if n_classes else []),
                *([] if self.texts is None else self.texts.notes()),
                f"weights of epoch {trained.best_epoch} of {len(trained.curve)}",
            ],
            parameters=self.model.parameter_counts(),
            frozen_parameters=0 if self.texts is None else self.texts.encoder.n_frozen,
            seconds=trained.seconds,
            gates=gates,
        )

    def _gates(self, valid: Split) -> dict[str, list[float]] | None:
        """By task, the share of each expert; None for an ensemble, each of whose networks has experts of its own."""
        members, device = members_of(self.model), next(self.model.parameters()).device
        if len(members) > 1 or not valid.n_rows:
            return None
        feed = None if self.texts is None else self.texts.feed(device)
        shares = gate_shares(members[0], SplitRows(valid, device, resident=False), feed)
        if shares is None:
            return None
        names = [*self.learned_tasks, *(["relevance"] if self.n_classes else [])]
        return dict(zip(names, shares.tolist(), strict=True))

    def _bias_notes(self) -> list[str]:
        """The position biases that were learned, for people."""
        biases = [member.position_bias for member in members_of(self.model) if member.position_bias is not None]
        if not biases:
            return []
        bias, by = biases[0], self.config.position_bias.by
        shown = [place for place in (1, 2, 5, 10, 20) if place <= bias.n_positions]
        mean = torch.stack([each.centred() for each in biases]).mean(dim=0)
        table = mean.detach().cpu().view(bias.n_codes, bias.n_positions, -1)
        weight = bias.share.cpu().view(bias.n_codes, bias.n_positions, 1)
        means = (table * weight).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-12)
        of_first = ", ".join(f"{means[place - 1, 0]:+.2f} at {place}" for place in shown)
        missing = f"; the log has no category {by} to tell them apart by" if by and bias.column is None else ""
        return [
            f"position biases of {bias.n_positions} positions{f' by {by}' if bias.column is not None else ''} are "
            f"learned and left out of the scores ({self.learned_tasks[0]}: {of_first}){missing}"
        ]

    def _never_positive(self, train: Split) -> list[str]:
        """The learned tasks without a positive label in training; a `UserError` where that is all of them."""
        learned = self._of_learned_tasks(train)
        never = [task for task, has in zip(learned.tasks, (learned.labels == 1).any(axis=0), strict=True) if not has]
        if len(never) == len(learned.tasks):
            raise UserError(
                f"the {train.name} split must have at least one positive label, but {', '.join(never)} "
                f"{'is' if len(never) == 1 else 'are'} 1 in none of its rows; import more"
            )
        return never

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """Each task's probability, computed in float32 whatever training used; a single task's for every task."""
        device = pick_device(self.problem.config.train.device if torch.cuda.is_available() else "cpu")
        self.model.to(device)
        feed = None if self.texts is None else self.texts.feed(device)
        logits = predict(self.model, SplitRows(rows, device, resident=False), bf16=False, texts=feed).logits
        return torch.sigmoid(logits).expand(-1, len(self.problem.tasks)).numpy()

    def save(self, folder: Path) -> None:
        """Writes the weights as safetensors; of a text encoder the trained layers, and which encoder it was."""
        # The library reports a full disk as its own error.
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(weights))
        if self.texts is not None:
            encoder = self.texts.encoder
            about = {"model": encoder.name, "fingerprint": encoder.fingerprint}
            (folder / TEXT_MODEL).write_text(json.dumps(about), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restores the weights; weights of another shape or text encoder are a `UserError`."""
        if self.texts is not None:
            about = json.loads((folder / TEXT_MODEL).read_text(encoding="utf-8"))
            if about["fingerprint"] != self.texts.encoder.fingerprint:
                raise UserError(
                    f"the text model {about['model']!r} must be the one that {folder} was trained with, but its files "
                    "have changed; restore them or train again"
                )
        try:
            self.model.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise UserError(
                f"{folder / WEIGHTS} must fit the run's config and data, but it does not: {error}"
            ) from error

    def _weights(self) -> TaskWeights:
        whole = len(self.learned_tasks) == len(self.problem.tasks)
        return self.problem.task_weights if whole else TaskWeights(self.learned_tasks)

    def _score_weights(self) -> TaskWeights:
        whole = len(self.learned_tasks) == len(self.problem.tasks)
        return self.problem.config.fusion_weights(self.problem.tasks) if whole else TaskWeights(self.learned_tasks)

    def _of_learned_tasks(self, rows: Split) -> Split:
        if self.learned_tasks == rows.tasks:
            return rows
        chosen = [rows.tasks.index(task) for task in self.learned_tasks]
        labels = np.ascontiguousarray(rows.labels[:, chosen])
        offsets = None if rows.offsets is None else np.ascontiguousarray(rows.offsets[:, chosen])
        return replace(rows, tasks=self.learned_tasks, labels=labels, offsets=offsets)


def _training_notes(config: TrainConfig) -> list[str]:
    """What differs from Adam on the pointwise loss that stops by it, for people."""
    return [
        *(
            [
                f"a task's loss is {config.pointwise_weight:g} times the cross-entropy of rows and "
                f"{config.listwise_weight:g} times the softmax cross-entropy of searches"
            ]
            if config.listwise_weight
            else []
        ),
        *([f"AdamW with weight decay {config.weight_decay:g}"] if config.weight_decay else []),
        *(["rate lowered along a cosine"] if config.schedule == "cosine" else []),
        *(["stops by MRR@10 of the served order"] if config.stop_by == "mrr" else []),
    ]


def _gates_note(gates: Mapping[str, Sequence[float]]) -> str:
    """How much each gate uses each expert, for people."""
    shares = "; ".join(f"{task} {', '.join(f'{100 * each:.0f}' for each in of)}" for task, of in gates.items())
    return f"mean weight of each expert in the gates over the validation rows, in percent: {shares}"


def bias_column(problem: Problem) -> int | None:
    """Index of the categorical column by which position biases differ; None where there is none of that name."""
    by, categories = problem.config.neural.position_bias.by, problem.columns[problem.n_numerical :]
    return categories.index(by) if by in categories else None


def build_network(
    n_numerical: int,
    category_sizes: Sequence[int],
    n_tasks: int,
    config: NeuralConfig,
    n_relevance_classes: int = 0,
    trained_layers: TrainedLayers | None = None,
    group: Processes = ALONE,
    column: int | None = None,
    seed: int = 0,
) -> Network:
    """Builds the network of a config, or the ensemble of as many as it wants, each from a seed of its own.

    Args:
        n_numerical: As `MultiTaskRanker` takes it, and so all but the last.
        category_sizes: Codes of each categorical column.
        n_tasks: Tasks with a logit each.
        config: Widths, and how many networks.
        n_relevance_classes: Classes of the relevance label.
        trained_layers: The text encoder's trained layers.
        group: The processes that share a batch.
        column: Index of the categorical column by whose codes position biases differ.
        seed: Seed of the weights of the first network; each of the others has a seed far from it.

    Returns:
        The network.
    """
    n = config.n_networks
    of_member = config if n == 1 else config.model_copy(update={"calibrate": False})
    members = []
    for index in range(n):
        torch.manual_seed(seed + index * MEMBER_STRIDE)
        parts = (n_numerical, category_sizes, n_tasks, of_member, n_relevance_classes, trained_layers)
        members.append(MultiTaskRanker(*parts, group, column))
    return members[0] if n == 1 else Ensemble(members, config.calibrate)


def require_memory(model: Network) -> None:
    """Refuses a network whose weights, gradients and Adam's two moments cannot fit into the memory there is."""
    n_parameters = sum(model.parameter_counts().values())
    needed, there = 16 * n_parameters, memory_bytes()
    if needed > there:
        raise UserError(
            f"the network must fit into memory, but its {n_parameters:,} parameters take {needed / 1e9:,.0f} GB in "
            f"training and there are {there / 1e9:,.0f} GB; set smaller widths, fewer layers or fewer experts "
            "under neural"
        )


def memory_bytes() -> int:
    """The machine's memory, or its container's limit if lower."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Without a limit the file says "max"; on other systems there is none.
    with contextlib.suppress(OSError, ValueError):
        there = min(there, int(MEMORY_LIMIT.read_text(encoding="ascii")))
    return there


def pick_task(single_task: str | None, tasks: tuple[str, ...]) -> str | None:
    """The one task to learn, or None for all; one that the log lacks is a `UserError`.

    Unstated: the paper's single-task rows learn add-to-cart; a log without that label learns its first.
    """
    if single_task is None or single_task in tasks:
        return single_task
    if single_task == "auto":
        return "add_to_cart" if "add_to_cart" in tasks else tasks[0]
    raise UserError(
        f"single_task must be a task that the log has labels of ({', '.join(tasks)}) or auto, not {single_task}"
    )
