"""The paper's networks as rankers."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file, save

from shelfrank.data.prepared import Split
from shelfrank.errors import UserError
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers.base import Fitted, Problem, Ranker
from shelfrank.train.loop import Checkpoints, fit, predict_logits

WEIGHTS = "weights.safetensors"


class NeuralRanker(Ranker):
    """MMoE with its shared bottom, trained on the weighted sum of the tasks' losses.

    Where the prepared data has relevance labels, they are a further task (Paper: Sec. 3.5, Table 5): it shapes what the
    tasks share and is left out of the scores.
    """

    gives_probabilities = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        torch.manual_seed(problem.config.seed)
        self.model = MultiTaskRanker(
            problem.n_numerical,
            problem.category_sizes,
            len(problem.tasks),
            problem.config.neural,
            problem.relevance_classes,
        )

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The tasks whose loss has weight."""
        return tuple(
            task for task, weight in zip(self.problem.tasks, self.problem.task_weights, strict=True) if weight > 0
        )

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Trains with early stopping and keeps the best epoch's weights."""
        config, n_classes = self.problem.config, self.problem.relevance_classes
        trained = fit(
            self.model,
            train,
            valid,
            config.train,
            self.problem.task_weights,
            config.seed,
            checkpoints,
            relevance_weight=config.relevance_weight if n_classes else 0.0,
        )
        relevance = f"relevance of {n_classes} classes learned with weight {config.relevance_weight:g}"
        return Fitted(
            curve=trained.curve,
            choices=[
                *trained.protocol.reasons,
                *([relevance] if n_classes else []),
                f"weights of epoch {trained.best_epoch} of {len(trained.curve)}",
            ],
            parameters=self.model.parameter_counts(),
            seconds=trained.seconds,
        )

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """Each task's probability, computed in float32 whatever training used."""
        return torch.sigmoid(predict_logits(self.model, rows, bf16=False)).numpy()

    def save(self, folder: Path) -> None:
        """Writes the weights as safetensors."""
        # The library's own writing tells a full disk as its own error.
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(weights))

    def load(self, folder: Path) -> None:
        """Restores the weights; ones of another shape are a `UserError`."""
        try:
            self.model.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise UserError(
                f"{folder / WEIGHTS} must fit the run's config and data, but it does not: {error}"
            ) from error
