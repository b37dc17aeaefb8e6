"""LightGBM's LambdaMART, a practitioner's usual choice instead of a network."""

import time
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
from shelfrank.rankers.trees import LIGHTGBM_MODEL, LightGBMTrees, feature_matrix, for_every_task
from shelfrank.train.checkpoint import Checkpoints

CUTOFF = 10
MAX_ROWS = 10_000
"""Rows of a search, at most, that LightGBM ranks."""


class LambdaMART(TreeRanker):
    """Trees on the gradient of NDCG over graded labels: each row has the grade of its deepest outcome.

    Its learning curve is 1 - NDCG@10 as `shelfrank.metrics.ndcg` defines it: gains of 2^grade - 1, ties by tie key,
    searches without a positive left out.
    """

    gives_probabilities = False  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        problem.require_features()
        self.problem, self.settings = problem, problem.config.lambdamart
        if not any(grade and task in problem.tasks for task, grade in self.settings.grades.items()):
            raise UserError(
                "lambdamart.grades must give a grade above 0 to a task that the log has labels of "
                f"({', '.join(problem.tasks)}), but it is {self.settings.grades}"
            )
        self.booster: lgb.Booster | None = None

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """Every task: one score orders all."""
        return self.problem.tasks

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Boosts until the validation NDCG stops rising; a search of more rows than the library ranks is refused."""
        started = time.monotonic()
        parameters: dict[str, Any] = {
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
            "seed": self.problem.config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            **({} if self.problem.config.train.threads is None else {"num_threads": self.problem.config.train.threads}),
        }
        hiding = Hiding(train, self.problem.config.train.hide_share, self.problem.config.seed)
        learn_grades, check_grades = self._grades(train), self._grades(valid)
        learn = self._dataset(train, learn_grades, learn_grades >= 0, parameters, hiding=hiding)
        check = self._dataset(valid, check_grades, counted(check_grades, valid), parameters, reference=learn)
        curves: dict[str, dict[str, list[float]]] = {}
        with progress("Boosting (LambdaMART)", total=self.settings.n_rounds, unit="trees") as advance:

            def tick(_env: lgb.callback.CallbackEnv) -> None:
                advance(1)

            self.booster = lgb.train(
                parameters,
                learn,
                num_boost_round=self.settings.n_rounds,
                valid_sets=[check],
                valid_names=["valid"],
                callbacks=[
                    lgb.early_stopping(self.settings.early_stopping_rounds, verbose=False),
                    lgb.record_evaluation(curves),
                    tick,
                ],
            )
        values = next(iter(curves["valid"].values()))
        best = self.booster.best_iteration or len(values)
        curve = [
            {"epoch": i + 1, "train_loss": None, "valid_loss": 1.0 - float(value), "best": i + 1 == best}
            for i, value in enumerate(values)
        ]
        sizes = check.get_group()
        assert sizes is not None, "every search has its size"
        n_unknown = int((learn_grades < 0).sum())
        choices = [
            *kept_trees(best, len(values), "lambdamart", self.settings.n_rounds),
            f"validation loss is 1 - NDCG@{CUTOFF}, grades {self._told_grades()}, over the {len(sizes):,} of "
            f"{valid.n_searches:,} searches that have a positive and no missing label",
            *([f"{n_unknown:,} training rows without any label left out"] if n_unknown else []),
            *hiding.notes(),
        ]
        return Fitted(curve, choices, None, time.monotonic() - started)

    @property
    def trees(self) -> LightGBMTrees:
        """The trees that were learned."""
        assert self.booster is not None, "fit or load must come first"
        return LightGBMTrees(self.booster)

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """The one score, for every task."""
        if not rows.n_rows:
            return np.empty((0, len(self.problem.tasks)), np.float32)
        return for_every_task(self.margins(feature_matrix(rows)), len(self.problem.tasks))

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """The scores."""
        return self.trees.margins(features)

    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_features"], Float64[np.ndarray, " rows"]]:
        """The library's TreeSHAP."""
        values = self.trees.contributions(features)
        return values[:, :-1], values[:, -1]

    def save(self, folder: Path) -> None:
        """Writes LightGBM's own text format."""
        assert self.booster is not None, "fit or load must come first"
        # The library reports a full disk as its own error.
        text = self.booster.model_to_string(num_iteration=self.booster.best_iteration)
        (folder / LIGHTGBM_MODEL).write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.booster = LightGBMTrees.load(folder).booster

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
    ) -> lgb.Dataset:
        if not grades[used].any():
            raise UserError(
                f"the {rows.name} split must have at least one positive label, but it has none; import more"
            )
        order = tie_order(rows)
        order = order[used[order]]
        sizes = np.bincount(search_of_rows(rows)[order], minlength=rows.n_searches)
        if sizes.max() > MAX_ROWS:
            raise UserError(
                f"LambdaMART ranks searches of at most {MAX_ROWS:,} products, but the {rows.name} split has one of "
                f"{sizes.max():,}; train another ranker, such as xgboost, or import pages of fewer products"
            )
        codes = range(self.problem.n_numerical, len(self.problem.columns))
        return lgb.Dataset(
            feature_matrix(rows, order) if hiding is None else training_matrix(rows, order, hiding),
            grades[order],
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


def counted(grades: Int[np.ndarray, " rows"], rows: Split) -> Bool[np.ndarray, " rows"]:
    """The rows of the searches that NDCG does not leave out: with a positive, and without a missing grade."""
    search = search_of_rows(rows)
    n_positive = np.bincount(search, grades > 0, rows.n_searches)
    n_missing = np.bincount(search, grades < 0, rows.n_searches)
    return ((n_positive > 0) & (n_missing == 0))[search]
