"""LightGBM's LambdaMART, a practitioner's usual choice instead of a network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split, search_of_rows, tie_order
from shelfrank.metrics.ranking import MAX_GRADE
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, kept_trees, training_matrix
from shelfrank.rankers.scaling import fit_sigmoid
from shelfrank.rankers.trees import (
    TASK_TREES,
    LightGBMTrees,
    Scale,
    TaskTrees,
    feature_matrix,
    for_every_task,
)
from shelfrank.train.checkpoint import Checkpoints

CUTOFF = 10
MORE_TREES = 1.5
"""Trees that learn beside the effect of positions, for each that is kept without it.

Logged NDCG cannot stop them, since it pays for the shown order that they are to forget. 1.5 was better than 1 on a
simulated shop's validation split (unbiased MRR@10, 24,000 training searches).
"""
MAX_ROWS = 10_000
"""Rows of a search, at most, that LightGBM ranks."""


@dataclass(frozen=True)
class Boosted:
    """One model and how it was boosted.

    Attributes:
        trees: The model.
        losses: 1 - NDCG on the validation split, after each tree that was grown without the effect of positions.
        kept: How many of them gave the least loss.
        n_checked: Validation searches that decided.
    """

    trees: LightGBMTrees
    losses: Sequence[float]
    kept: int
    n_checked: int


class LambdaMART(TreeRanker):
    """Trees on the gradient of NDCG: a model for each task, or one over graded labels.

    A task's model learns from the searches that have a positive of the task, and its scores become probabilities by a
    sigmoid that is fitted on the validation split, so that tasks fuse as a network's do. With `per_task` off each row
    has the grade of its deepest outcome, and one score orders every task.

    A model's loss is 1 - NDCG@10 as `shelfrank.metrics.ndcg` defines it: gains of 2^grade - 1, ties by tie key,
    searches without a positive left out. The learning curve of several models is the mean of theirs.
    """

    def __init__(self, problem: Problem) -> None:
        problem.require_features()
        self.problem, self.settings = problem, problem.config.lambdamart
        self.per_task = self.settings.per_task
        if not self.per_task and not any(
            grade and task in problem.tasks for task, grade in self.settings.grades.items()
        ):
            raise UserError(
                "lambdamart.grades must give a grade above 0 to a task that the log has labels of "
                f"({', '.join(problem.tasks)}), but it is {self.settings.grades}"
            )
        self.graded: LightGBMTrees | None = None
        self.of_tasks: TaskTrees | None = None

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
        curve, choices = (self._fit_tasks if self.per_task else self._fit_graded)(train, valid, hiding)
        if self.settings.position_bias:
            choices.append(
                f"{MORE_TREES:g} times as many trees were then grown beside the effect of each position, which scores "
                "leave out"
            )
        return Fitted(curve, [*choices, *hiding.notes()], None, time.monotonic() - started)

    def check(self, train: Split, valid: Split) -> None:
        """Refuses splits that `fit` with a model per task would refuse."""
        learned = self._learned(train, valid)
        if not learned:
            raise no_positive(valid if (train.labels == 1).any() else train)
        for rows in (train, valid):
            for task in learned:
                labels = rows.labels[:, self.problem.tasks.index(task)]
                used = (labels >= 0) & with_positive(labels == 1, rows)
                sizes = np.bincount(search_of_rows(rows)[used], minlength=rows.n_searches)
                require_small_pages(rows, int(sizes.max()))

    def _learned(self, train: Split, valid: Split) -> list[str]:
        """The tasks that are positive in both splits."""
        return [
            task
            for i, task in enumerate(self.problem.tasks)
            if all((s.labels[:, i] == 1).any() for s in (train, valid))
        ]

    def _fit_tasks(self, train: Split, valid: Split, hiding: Hiding) -> tuple[list[dict[str, Any]], list[str]]:
        learned = self._learned(train, valid)
        if not learned:
            raise no_positive(valid if (train.labels == 1).any() else train)
        choices = [
            f"{task} has no model, which takes a positive in the training and in the validation split"
            for task in self.problem.tasks
            if task not in learned
        ]
        models: dict[str, LightGBMTrees] = {}
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
        return mean_curve(found), choices

    def _fit_graded(self, train: Split, valid: Split, hiding: Hiding) -> tuple[list[dict[str, Any]], list[str]]:
        grades = self._grades(train)
        used = (grades >= 0) & with_positive(grades > 0, train)
        boosted = self._boost("graded", train, valid, grades, used, self._grades(valid), hiding)
        self.graded = boosted.trees
        n_unknown = int((grades < 0).sum())
        return mean_curve([boosted]), [
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
        parameters = self._parameters()
        learn = self._dataset(train, grades, used, parameters, hiding=hiding)
        check = self._dataset(valid, check_grades, counted(check_grades, valid), parameters, reference=learn)
        curves: dict[str, dict[str, list[float]]] = {}
        booster = self._train(
            name,
            parameters,
            learn,
            self.settings.n_rounds,
            valid_sets=[check],
            valid_names=["valid"],
            callbacks=[
                lgb.early_stopping(self.settings.early_stopping_rounds, verbose=False),
                lgb.record_evaluation(curves),
            ],
        )
        losses = [1.0 - float(value) for value in next(iter(curves["valid"].values()))]
        kept = booster.best_iteration or len(losses)
        if self.settings.position_bias:
            learn = self._dataset(train, grades, used, parameters, hiding=hiding, with_positions=True)
            booster = self._train(f"{name} without positions", parameters, learn, round(MORE_TREES * kept))
        sizes = check.get_group()
        assert sizes is not None, "every search has its size"
        return Boosted(LightGBMTrees(booster), losses, kept, len(sizes))

    def _train(
        self, name: str, parameters: dict[str, Any], learn: lgb.Dataset, n_rounds: int, **options: Any
    ) -> lgb.Booster:
        with progress(f"Boosting (LambdaMART, {name})", total=n_rounds, unit="trees") as advance:

            def tick(_env: lgb.callback.CallbackEnv) -> None:
                advance(1)

            options["callbacks"] = [*options.get("callbacks", ()), tick]
            return lgb.train(parameters, learn, num_boost_round=n_rounds, **options)

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [CUTOFF],
            # The library's own list ends at grade 30.
            "label_gain": [float(2**grade - 1) for grade in range(MAX_GRADE + 1)],
            "learning_rate": self.settings.learning_rate,
            "num_leaves": self.settings.n_leaves,
            "min_data_in_leaf": self.settings.min_rows_per_leaf,
            "feature_fraction": self.settings.feature_share,
            "bagging_fraction": self.settings.row_share,
            "bagging_freq": int(self.settings.row_share < 1),
            "lambda_l2": self.settings.l2,
            "max_bin": self.settings.n_bins,
            "max_cat_threshold": self.settings.max_split_codes,
            "seed": self.problem.config.seed,
            "deterministic": True,
            # A third faster where trees see a share of the features, and the same bits whatever the threads.
            "force_col_wise": True,
            "verbosity": -1,
            **({} if self.problem.config.train.threads is None else {"num_threads": self.problem.config.train.threads}),
        }

    def _kept(self, boosted: Boosted) -> list[str]:
        return kept_trees(boosted.kept, len(boosted.losses), "lambdamart", self.settings.n_rounds)

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
        """Writes LightGBM's own text format."""
        (self._of_tasks if self.per_task else self._graded).save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote, also in runs of former versions, which have one model."""
        self.per_task = (folder / TASK_TREES).is_file()
        if self.per_task:
            self.of_tasks = TaskTrees.load(folder)
        else:
            self.graded = LightGBMTrees.load(folder)

    @property
    def _graded(self) -> LightGBMTrees:
        assert self.graded is not None, "fit or load must come first"
        return self.graded

    @property
    def _of_tasks(self) -> TaskTrees:
        assert self.of_tasks is not None, "fit or load must come first"
        return self.of_tasks

    def _told_grades(self) -> str:
        of_log = (item for item in self.settings.grades.items() if item[0] in self.problem.tasks)
        return ", ".join(f"{task} {grade}" for task, grade in of_log)

    def _dataset(
        self,
        rows: Split,
        grades: Int[np.ndarray, " rows"],
        used: Bool[np.ndarray, " rows"],
        parameters: dict[str, Any],
        reference: lgb.Dataset | None = None,
        hiding: Hiding | None = None,
        with_positions: bool = False,
    ) -> lgb.Dataset:
        if not grades[used].any():
            raise no_positive(rows)
        order = tie_order(rows)
        order = order[used[order]]
        sizes = np.bincount(search_of_rows(rows)[order], minlength=rows.n_searches)
        require_small_pages(rows, int(sizes.max()))
        codes = range(self.problem.n_numerical, len(self.problem.columns))
        return lgb.Dataset(
            feature_matrix(rows, order) if hiding is None else training_matrix(rows, order, hiding),
            grades[order],
            position=rows.position[order] if with_positions else None,
            group=sizes[sizes > 0],
            reference=reference,
            params=parameters,
            feature_name=[f"f{i}" for i in range(len(self.problem.columns))],
            categorical_feature=list(codes),
        )

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


def require_small_pages(rows: Split, most: int) -> None:
    """Refuses a split with a search of more rows than the library ranks; `most` is the largest's."""
    if most > MAX_ROWS:
        raise UserError(
            f"LambdaMART ranks searches of at most {MAX_ROWS:,} products, but the {rows.name} split has one of "
            f"{most:,}; train another ranker, such as xgboost, or import pages of fewer products"
        )


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
