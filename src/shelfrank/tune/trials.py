"""Trainings of a search: whole ones as `train` does them, and short ones that start from other weights."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from shelfrank.config import ExperimentConfig, TuneConfig, merge
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.metrics.order import fuse
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.base import Ranker
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import problem
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.protocol import pick_protocol
from shelfrank.tune.judge import Judge

RANKS = "ranks.npy"
SCORES = "scores.npy"
WEIGHTS_FOLDER = "model"


@dataclass(frozen=True)
class TrialTrainer:
    """Trains networks or trees on prepared data, judged on the validation split; the test split is never opened.

    Attributes:
        prepared: The data.
        config: The resolved experiment that every trial starts from.
        settings: The search's.
    """

    prepared: PreparedData
    config: ExperimentConfig
    settings: TuneConfig

    @functools.cached_property
    def train_rows(self) -> Split:
        """The rows to learn from."""
        return self._split("train")

    @functools.cached_property
    def judge(self) -> Judge:
        """Measures orders of the validation split."""
        return Judge(self._split("valid"), self.settings)

    def whole(
        self,
        config: ExperimentConfig,
        folder: Path,
        owner: str,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        keep_weights: bool = False,
    ) -> dict[str, Any]:
        """Trains as `train` would, from the last checkpoint where a killed trial left one.

        Args:
            config: The resolved experiment.
            folder: Where ranks go, and weights and scores where they are kept.
            owner: Fingerprint of everything that decides the result.
            on_epoch: Called with every epoch's record; an error that it raises ends the trial.
            keep_weights: Whether others start from it.

        Returns:
            The objective, the rows that were trained on, the parameters, and the tasks' validation loss by epoch.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = folder.with_name(f".{folder.name}.checkpoint")
        ranker = NeuralRanker(problem(self.prepared, config))
        kept = Checkpoints(checkpoint, owner, resume=True, ignore_foreign=True)
        fitted = ranker.fit(self.train_rows, self.judge.split, kept, on_epoch)
        rows = len(fitted.curve) * self.train_rows.n_rows
        parameters = sum((fitted.parameters or {}).values())
        losses = [record["valid_task_loss"] for record in fitted.curve]
        facts = self._leave(ranker, ranker.problem.task_weights.shares, folder, keep_weights)
        facts |= {"rows": rows, "parameters": parameters, "valid_task_losses": losses}
        shutil.rmtree(checkpoint, ignore_errors=True)
        return facts

    def trees(self, ranker_name: str, config: ExperimentConfig, folder: Path) -> dict[str, Any]:
        """Boosts trees as `train` would; a killed trial is boosted anew, to the same bits.

        Args:
            ranker_name: Their name in `RANKERS`.
            config: The resolved experiment.
            folder: Where ranks go.

        Returns:
            The objective and the rows that were trained on.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        ranker = ranker_spec(ranker_name).build(problem(self.prepared, config))
        ranker.fit(self.train_rows, self.judge.split)
        weights = config.fusion_weights(self.prepared.tasks).shares
        return self._leave(ranker, weights, folder, keep_weights=False) | {"rows": self.train_rows.n_rows}

    def short(self, config: ExperimentConfig, folder: Path, start: Path, share: float, look: int) -> dict[str, Any]:
        """Trains from given weights for a part of a training.

        Args:
            config: The resolved experiment.
            folder: Where ranks and weights go.
            start: Folder of the trial to start from.
            share: Part of a whole training's rows.
            look: Decides which rows; all trials of a look see the same ones.

        Returns:
            The objective and the rows that were trained on.
        """
        chosen, epochs = self._chosen(share, look)
        rows = self.train_rows.searches(chosen)
        # A part would get smaller batches by itself, and with them other steps than the whole.
        protocol = pick_protocol(config.train, self.train_rows.n_rows, self.train_rows.n_searches)
        loop = {"batch_size": protocol.batch_size, "learning_rate": protocol.learning_rate, "epochs": epochs}
        seed = self.config.seed + 1000 * (look + 1)
        short = config.model_copy(update={"train": config.train.model_copy(update=loop), "seed": seed})
        ranker = NeuralRanker(problem(self.prepared, short))
        ranker.load(start / WEIGHTS_FOLDER)
        # One epoch leaves none to choose from, and a pass over the validation split costs as much as the look itself.
        valid = self.judge.split if epochs > 1 else self.judge.split.searches(np.array([0]))
        fitted = ranker.fit(rows, valid)
        weights = ranker.problem.task_weights.shares
        return self._leave(ranker, weights, folder, keep_weights=True) | {"rows": len(fitted.curve) * rows.n_rows}

    def rows_of(self, share: float, look: int) -> int:
        """Rows that a short training sees."""
        chosen, epochs = self._chosen(share, look)
        return int(np.diff(self.train_rows.search_offsets)[chosen].sum()) * epochs

    def _chosen(self, share: float, look: int) -> tuple[Int64[np.ndarray, " chosen"], int]:
        """Searches of a look, and how often they are passed over."""
        passes = share * self.config.train.epochs
        epochs = max(1, int(np.ceil(passes - 1e-9)))
        n = max(1, round(passes / epochs * self.train_rows.n_searches))
        random = np.random.default_rng([self.settings.seed, look])
        return np.sort(random.permutation(self.train_rows.n_searches)[:n]), epochs

    def _split(self, name: str) -> Split:
        return self.prepared.split(name).select(self.config.exclude_sides, self.config.exclude_features)

    def _leave(self, ranker: Ranker, weights: tuple[float, ...], folder: Path, keep_weights: bool) -> dict[str, Any]:
        scores = ranker.score(self.judge.split)
        ranks = self.judge.ranks(fuse(scores, weights))

        def write(draft: Path) -> None:
            np.save(draft / RANKS, ranks)
            if keep_weights:
                np.save(draft / SCORES, scores)
                (draft / WEIGHTS_FOLDER).mkdir()
                ranker.save(draft / WEIGHTS_FOLDER)

        leave(folder, write)
        return {"objective": self.judge.objective(ranks)}


def leave(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a trial's folder under another name and renames it into place."""
    draft = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def read_ranks(folder: Path) -> np.ndarray:
    """The ranks that a trial left."""
    return np.load(folder / RANKS)


def overlaid(config: ExperimentConfig, top: Mapping[str, Any]) -> ExperimentConfig:
    """The config with some of its keys replaced, validated anew."""
    return ExperimentConfig.model_validate(merge(json.loads(config.model_dump_json()), top))
