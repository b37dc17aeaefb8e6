"""LightGBM's LambdaMART: what a practitioner would pick instead of a network."""

import time
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from jaxtyping import Float32, Float64, Int

from shelfrank.data.prepared import Split
from shelfrank.errors import UserError
from shelfrank.progress import progress
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, feature_matrix
from shelfrank.train.loop import Checkpoints

MODEL = "model.txt"
CUTOFF = 10


class LambdaMART(TreeRanker):
    """Trees on the gradient of NDCG over graded labels: each row's grade is that of its deepest outcome."""

    gives_probabilities = False  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.problem, self.settings = problem, problem.config.lambdamart
        self.booster: lgb.Booster | None = None

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """Every task: one order serves all."""
        return self.problem.tasks

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Boosts until the validation NDCG stops rising."""
        started = time.monotonic()
        parameters: dict[str, Any] = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [CUTOFF],
            "learning_rate": self.settings.learning_rate,
            "num_leaves": self.settings.n_leaves,
            "min_data_in_leaf": self.settings.min_rows_per_leaf,
            "seed": self.problem.config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            **({} if self.problem.config.train.threads is None else {"num_threads": self.problem.config.train.threads}),
        }
        learn = self._dataset(train, parameters)
        check = self._dataset(valid, parameters, reference=learn)
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
            {"epoch": i + 1, "train_loss": None, "valid_loss": 1.0 - value, "best": i + 1 == best}
            for i, value in enumerate(values)
        ]
        choices = [f"{best} of {len(values)} trees kept", f"validation loss is 1 - NDCG@{CUTOFF}"]
        return Fitted(curve, choices, None, time.monotonic() - started)

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """The one score, for every task."""
        assert self.booster is not None, "fit or load must come first"
        if not rows.n_rows:
            return np.empty((0, len(self.problem.tasks)), np.float32)
        scores = self.margins(feature_matrix(rows)).astype(np.float32)
        return np.repeat(scores[:, None], len(self.problem.tasks), axis=1)

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """The scores."""
        assert self.booster is not None, "fit or load must come first"
        return np.asarray(self.booster.predict(features), dtype=np.float64)

    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_features"], Float64[np.ndarray, " rows"]]:
        """TreeSHAP, as the library has it."""
        assert self.booster is not None, "fit or load must come first"
        values = np.asarray(self.booster.predict(features, pred_contrib=True), dtype=np.float64)
        return values[:, :-1], values[:, -1]

    def save(self, folder: Path) -> None:
        """Writes LightGBM's own text format."""
        assert self.booster is not None, "fit or load must come first"
        # The library's own writing tells a full disk as its own error.
        text = self.booster.model_to_string(num_iteration=self.booster.best_iteration)
        (folder / MODEL).write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.booster = lgb.Booster(model_file=folder / MODEL)

    def _dataset(self, rows: Split, parameters: dict[str, Any], reference: lgb.Dataset | None = None) -> lgb.Dataset:
        grades = self._grades(rows)
        if not grades.any():
            raise UserError(
                f"the {rows.name} split must have at least one positive label, but it has none; import more"
            )
        codes = range(self.problem.n_numerical, len(self.problem.columns))
        return lgb.Dataset(
            feature_matrix(rows),
            grades,
            group=np.diff(rows.search_offsets),
            reference=reference,
            params=parameters,
            feature_name=[f"f{i}" for i in range(len(self.problem.columns))],
            categorical_feature=list(codes),
        )

    def _grades(self, rows: Split) -> Int[np.ndarray, " rows"]:
        grades = np.zeros(rows.n_rows, dtype=np.int32)
        for index, task in enumerate(self.problem.tasks):
            grade = self.settings.grades.get(task, 0)  # pyright: ignore[reportArgumentType, reportCallIssue]
            grades = np.maximum(grades, np.where(rows.labels[:, index] == 1, grade, 0))
        return grades
