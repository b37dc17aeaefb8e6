"""Boosted trees that learn to rank, whatever their library: tasks, used rows, scales and learning curves."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

from shelfrank.config.rankers import RankingTreesConfig
from shelfrank.core.errors import UserError
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split, search_of_rows, tie_order
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, kept_trees, training_matrix
from shelfrank.rankers.scaling import fit_sigmoid
from shelfrank.rankers.trees import TASK_TREES, LibraryTrees, Scale, TaskTrees, feature_matrix, for_every_task
from shelfrank.train.checkpoint import Checkpoints

CUTOFF = 10


@dataclass(frozen=True)
class GradedRows:
    """Rows of whole searches, as the libraries learn to rank from them.

    Attributes:
        split: The split that they are of.
        chosen: Their places in it, search by search, each search's in the order of their tie keys.
        features: Numbers, then codes.
        grades: Each row's grade, 0 for none.
        search_sizes: Rows of each search.
    """

    split: Split
    chosen: Int64[np.ndarray, " rows"]
    features: Float32[np.ndarray, "rows n_features"]
    grades: Int[np.ndarray, " rows"]
    search_sizes: Int[np.ndarray, " searches"]


@dataclass(frozen=True)
class Boosted:
    """One model and how it was boosted.

    Attributes:
        trees: The model.
        losses: 1 - NDCG on the validation split, after each tree that was grown to the least loss.
        kept: How many of them gave the least loss.
        n_checked: Validation searches that decided.
        notes: What else was done, for people.
    """

    trees: LibraryTrees
    losses: Sequence[float]
    kept: int
    n_checked: int
    notes: tuple[str, ...] = ()


class RankingTrees(TreeRanker):
    """Trees on the gradient of NDCG: a model for each task, or one over graded labels.

    A task's model learns from the searches that have a positive of the task, and its scores become probabilities by a
    sigmoid that is fitted on the validation split, so that tasks fuse as a network's do. With `per_task` off each row
    has the grade of its deepest outcome, and one score orders every task.

    A model's loss is 1 - NDCG@10 as `shelfrank.metrics.ndcg` defines it: gains of 2^grade - 1, searches without a
    positive left out. The learning curve of several models is the mean of theirs.

    Args:
        problem: What to learn.

    Attributes:
        label: Its name in messages.
        section: The part of the config that has its settings.
        library: The models of its boosting library.
        max_rows: Rows of a search, at most, that the library ranks; None where it has no limit.
    """

    label: ClassVar[str]
    section: ClassVar[str]
    library: ClassVar[type[LibraryTrees]]
    max_rows: ClassVar[int | None] = None

    def __init__(self, problem: Problem) -> None:
        problem.require_features()
        self.problem = problem
        self.per_task = self.settings.per_task
        if not self.per_task and not any(
            grade and task in problem.tasks for task, grade in self.settings.grades.items()
        ):
            raise UserError(
                f"{self.section}.grades must give a grade above 0 to a task that the log has labels of "
                f"({', '.join(problem.tasks)}), but it is {self.settings.grades}"
            )
        self.graded: LibraryTrees | None = None
        self.of_tasks: TaskTrees | None = None

    @property
    @abstractmethod
    def settings(self) -> RankingTreesConfig:
        """Its part of the config."""

    @abstractmethod
    def boost(self, name: str, learn: GradedRows, check: GradedRows) -> Boosted:
        """Boosts one model until its NDCG on other rows stops rising.

        Args:
            name: The model's name in the progress bar.
            learn: The rows to learn from, some of whose values are hidden.
            check: The validation rows.

        Returns:
            The model with the trees that gave the highest NDCG.
        """

    @property
    def gives_probabilities(self) -> bool:
        """Whether each task has a model of its own."""
        return self.per_task

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The tasks that have a model; every task where one score orders all."""
        if not self.per_task or self.of_tasks is None:
            return self.problem.tasks
        return tuple(self.of_tasks.models)

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Boosts each model until its validation NDCG stops rising.

        A search of more rows than the library ranks is refused, and so are splits without a positive label.
        """
        started = time.monotonic()
        hiding = Hiding(train, self.problem.config.train.hide_share, self.problem.config.seed)
        found, choices = (self._fit_tasks if self.per_task else self._fit_graded)(train, valid, hiding)
        # Each model has the same ones.
        notes = dict.fromkeys(note for boosted in found for note in boosted.notes)
        seconds = time.monotonic() - started
        return Fitted(mean_curve(found), [*choices, *notes, *hiding.notes()], None, seconds)

    def check(self, train: Split, valid: Split) -> None:
        """Refuses splits that `fit` with a model per task would refuse."""
        learned = self._learned(train, valid)
        for rows in (train, valid):
            for task in learned:
                labels = rows.labels[:, self.problem.tasks.index(task)]
                used = (labels >= 0) & with_positive(labels == 1, rows)
                self._require_small_pages(rows, np.bincount(search_of_rows(rows)[used], minlength=rows.n_searches))

    def _learned(self, train: Split, valid: Split) -> list[str]:
        """The tasks that are positive in both splits; a `UserError` where none is."""
        found = [
            task
            for i, task in enumerate(self.problem.tasks)
            if all((s.labels[:, i] == 1).any() for s in (train, valid))
        ]
        if not found:
            raise no_positive(valid if (train.labels == 1).any() else train)
        return found

    def _fit_tasks(self, train: Split, valid: Split, hiding: Hiding) -> tuple[list[Boosted], list[str]]:
        learned = self._learned(train, valid)
        choices = [
            f"{task} has no model, which takes a positive in the training and in the validation split"
            for task in self.problem.tasks
            if task not in learned
        ]
        models: dict[str, LibraryTrees] = {}
        scales: dict[str, Scale] = {}
        found: list[Boosted] = []
        for task in learned:
            labels, check = (rows.labels[:, self.problem.tasks.index(task)] for rows in (train, valid))
            used = (labels >= 0) & with_positive(labels == 1, train)
            boosted = self._boost(task, train, valid, labels.astype(np.int32), used, check.astype(np.int32), hiding)
            found.append(boosted)
            models[task] = boosted.trees
            order = tie_order(valid)
            known = order[check[order] >= 0]
            scales[task] = Scale(*fit_sigmoid(boosted.trees.margins(feature_matrix(valid, known)), check[known] == 1))
            choices += [f"{task}: {words}" for words in self._kept(boosted)]
            choices += [f"{task}: stopped by {boosted.n_checked:,} of {valid.n_searches:,} validation searches"]
        choices.append(
            f"validation loss is 1 - NDCG@{CUTOFF}, the mean of the tasks', each over the searches that have a "
            "positive and no missing label"
        )
        self.of_tasks = TaskTrees(models, scales)
        return found, choices

    def _fit_graded(self, train: Split, valid: Split, hiding: Hiding) -> tuple[list[Boosted], list[str]]:
        grades = self._grades(train)
        used = (grades >= 0) & with_positive(grades > 0, train)
        boosted = self._boost("graded", train, valid, grades, used, self._grades(valid), hiding)
        self.graded = boosted.trees
        n_unknown = int((grades < 0).sum())
        return [boosted], [
            *self._kept(boosted),
            f"validation loss is 1 - NDCG@{CUTOFF}, grades {self._told_grades()}, over the {boosted.n_checked:,} of "
            f"{valid.n_searches:,} searches that have a positive and no missing label",
            *([f"{n_unknown:,} training rows without any label left out"] if n_unknown else []),
        ]

    def _boost(
        self,
        name: str,
        train: Split,
        valid: Split,
        grades: Int[np.ndarray, " train_rows"],
        used: Bool[np.ndarray, " train_rows"],
        check_grades: Int[np.ndarray, " valid_rows"],
        hiding: Hiding,
    ) -> Boosted:
        learn = self._graded_rows(train, grades, used, hiding)
        return self.boost(name, learn, self._graded_rows(valid, check_grades, counted(check_grades, valid)))

    def _graded_rows(
        self,
        rows: Split,
        grades: Int[np.ndarray, " rows"],
        used: Bool[np.ndarray, " rows"],
        hiding: Hiding | None = None,
    ) -> GradedRows:
        if not grades[used].any():
            raise no_positive(rows)
        chosen = tie_order(rows)
        chosen = chosen[used[chosen]]
        sizes = np.bincount(search_of_rows(rows)[chosen], minlength=rows.n_searches)
        self._require_small_pages(rows, sizes)
        features = feature_matrix(rows, chosen) if hiding is None else training_matrix(rows, chosen, hiding)
        return GradedRows(rows, chosen, features, grades[chosen], sizes[sizes > 0])

    def _kept(self, boosted: Boosted) -> list[str]:
        return kept_trees(boosted.kept, len(boosted.losses), self.section, self.settings.n_rounds)

    def _require_small_pages(self, rows: Split, sizes: Int[np.ndarray, " searches"]) -> None:
        """Refuses a split with a search of more rows than the library ranks."""
        if self.max_rows is not None and sizes.max() > self.max_rows:
            raise UserError(
                f"{self.label} ranks searches of at most {self.max_rows:,} products, but the {rows.name} split has one "
                f"of {sizes.max():,}; train another ranker, such as xgboost, or import pages of fewer products"
            )

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """Each task's probability; of graded labels the one score, for every task."""
        if not rows.n_rows:
            return np.empty((0, len(self.problem.tasks)), np.float32)
        features = feature_matrix(rows)
        if self.per_task:
            return self._of_tasks.probabilities(features, self.problem.tasks)
        return for_every_task(self._graded.margins(features), len(self.problem.tasks))

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, "rows n_models"]:
        """The logits of each task's model, or the one score."""
        return self._of_tasks.logits(features) if self.per_task else self._graded.margins(features)[:, None]

    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_models n_features"], Float64[np.ndarray, "rows n_models"]]:
        """The library's TreeSHAP."""
        values = (
            self._of_tasks.contributions(features) if self.per_task else self._graded.contributions(features)[:, None]
        )
        return values[:, :, :-1], values[:, :, -1]

    def save(self, folder: Path) -> None:
        """Writes the library's own format."""
        (self._of_tasks if self.per_task else self._graded).save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote, also in runs of former versions, which have one model."""
        self.per_task = (folder / TASK_TREES).is_file()
        if self.per_task:
            self.of_tasks = TaskTrees.load(folder, self.library)
        else:
            self.graded = self.library.load(folder)

    @property
    def _graded(self) -> LibraryTrees:
        assert self.graded is not None, "fit or load must come first"
        return self.graded

    @property
    def _of_tasks(self) -> TaskTrees:
        assert self.of_tasks is not None, "fit or load must come first"
        return self.of_tasks

    def _told_grades(self) -> str:
        of_log = (item for item in self.settings.grades.items() if item[0] in self.problem.tasks)
        return ", ".join(f"{task} {grade}" for task, grade in of_log)

    def _grades(self, rows: Split) -> Int[np.ndarray, " rows"]:
        """Each row's grade; -1 where it has no label of any graded task."""
        grades = np.full(rows.n_rows, -1, dtype=np.int32)
        for index, task in enumerate(self.problem.tasks):
            grade = self.settings.grades.get(task, 0)  # pyright: ignore[reportArgumentType, reportCallIssue]
            if grade:
                labels = rows.labels[:, index]
                grades = np.maximum(grades, np.where(labels == 1, grade, np.minimum(labels, 0)))
        return grades


def no_positive(rows: Split) -> UserError:
    """The error for a split without any positive label."""
    return UserError(f"the {rows.name} split must have at least one positive label, but it has none; import more")


def with_positive(positive: Bool[np.ndarray, " rows"], rows: Split) -> Bool[np.ndarray, " rows"]:
    """The rows of the searches that have a positive; others teach nothing about an order."""
    search = search_of_rows(rows)
    return (np.bincount(search, positive, rows.n_searches) > 0)[search]


def mean_curve(models: Sequence[Boosted]) -> list[dict[str, Any]]:
    """The mean loss of some models after each tree; one that has stopped counts with the trees that it keeps."""
    n = max(len(model.losses) for model in models)
    losses = np.array([[model.losses[min(i, model.kept - 1)] for i in range(n)] for model in models]).mean(axis=0)
    kept = max(model.kept for model in models)
    return [
        {"epoch": i + 1, "train_loss": None, "valid_loss": float(loss), "best": i + 1 == kept}
        for i, loss in enumerate(losses)
    ]


def counted(grades: Int[np.ndarray, " rows"], rows: Split) -> Bool[np.ndarray, " rows"]:
    """The rows of the searches that NDCG does not leave out: with a positive, and without a missing grade."""
    search = search_of_rows(rows)
    n_positive = np.bincount(search, grades > 0, rows.n_searches)
    n_missing = np.bincount(search, grades < 0, rows.n_searches)
    return ((n_positive > 0) & (n_missing == 0))[search]
