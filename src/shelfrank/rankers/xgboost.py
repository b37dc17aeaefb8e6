"""XGBoost on one task: the paper's single-task baseline."""

import time
from pathlib import Path

import numpy as np
import xgboost as xgb
from jaxtyping import Float32, Float64
from xgboost.callback import TrainingCallback

from shelfrank.data.prepared import Split
from shelfrank.errors import UserError
from shelfrank.progress import progress
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, feature_matrix
from shelfrank.schema import TASKS
from shelfrank.train.loop import Checkpoints

MODEL = "model.ubj"


class XGBoost(TreeRanker):
    """Gradient-boosted trees on one binary label (Paper: Sec. 3.6, Table 2).

    The paper's row learns add-to-cart; a log without that label learns click, or what `xgboost.task` says.
    """

    gives_probabilities = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.problem, self.settings = problem, problem.config.xgboost
        chosen = self.settings.task or next(
            (task for task in ("add_to_cart", "click", "purchase") if task in problem.tasks), TASKS[0]
        )
        if chosen not in problem.tasks:
            raise UserError(
                f"xgboost.task must be a task that the log has labels of ({', '.join(problem.tasks)}), not {chosen}"
            )
        self.task = chosen
        self.booster: xgb.Booster | None = None

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Boosts until the validation loss stops falling."""
        started = time.monotonic()
        parameters = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "learning_rate": self.settings.learning_rate,
            "max_depth": self.settings.max_depth,
            "seed": self.problem.config.seed,
            **({} if self.problem.config.train.threads is None else {"nthread": self.problem.config.train.threads}),
        }
        curves: dict[str, dict[str, list[float]]] = {}
        learn = self._labelled(train)
        check = self._labelled(valid, like=learn)
        with progress("Boosting (XGBoost)", total=self.settings.n_rounds, unit="trees") as advance:
            self.booster = xgb.train(
                parameters,
                learn,
                num_boost_round=self.settings.n_rounds,
                evals=[(learn, "train"), (check, "valid")],
                early_stopping_rounds=self.settings.early_stopping_rounds,
                evals_result=curves,
                callbacks=[_Advance(advance)],
                verbose_eval=False,
            )
        best = int(self.booster.best_iteration)
        self.booster = self.booster[: best + 1]
        curve = [
            {"epoch": i + 1, "train_loss": a, "valid_loss": b, "best": i == best}
            for i, (a, b) in enumerate(zip(curves["train"]["logloss"], curves["valid"]["logloss"], strict=True))
        ]
        chosen = f"task {self.task}" + ("" if self.settings.task else ": add_to_cart where the log has it, else click")
        return Fitted(curve, [chosen, f"{best + 1} of {len(curve)} trees kept"], None, time.monotonic() - started)

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """The one task's probability, for every task."""
        assert self.booster is not None, "fit or load must come first"
        if not rows.n_rows:
            return np.empty((0, len(self.problem.tasks)), np.float32)
        probs = self.booster.predict(self._matrix(feature_matrix(rows)))
        return np.repeat(probs.astype(np.float32)[:, None], len(self.problem.tasks), axis=1)

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """The logits."""
        assert self.booster is not None, "fit or load must come first"
        return self.booster.predict(self._matrix(features), output_margin=True).astype(np.float64)

    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_features"], Float64[np.ndarray, " rows"]]:
        """TreeSHAP, as the library has it."""
        assert self.booster is not None, "fit or load must come first"
        values = self.booster.predict(self._matrix(features), pred_contribs=True).astype(np.float64)
        return values[:, :-1], values[:, -1]

    def save(self, folder: Path) -> None:
        """Writes XGBoost's own binary JSON."""
        assert self.booster is not None, "fit or load must come first"
        # The library's own writing tells a full disk as its own error, with a stack trace.
        (folder / MODEL).write_bytes(self.booster.save_raw("ubj"))

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.booster = xgb.Booster(model_file=folder / MODEL)

    def _labelled(self, rows: Split, like: xgb.DMatrix | None = None) -> xgb.DMatrix:
        labels = rows.labels[:, self.problem.tasks.index(self.task)]
        known = labels >= 0
        if not (labels == 1).any():
            raise UserError(
                f"the {rows.name} split must have at least one {self.task}, but it has none; "
                "choose another xgboost.task or a longer log"
            )
        return xgb.QuantileDMatrix(
            feature_matrix(rows)[known],
            labels[known].astype(np.float32),
            ref=like,
            # The library refuses names with brackets, such as `price [EUR]`.
            feature_names=[f"f{i}" for i in range(len(self.problem.columns))],
            feature_types=self._types(),
            enable_categorical=True,
        )

    def _matrix(self, features: Float32[np.ndarray, "rows n_features"]) -> xgb.DMatrix:
        assert self.booster is not None
        return xgb.DMatrix(
            features,
            # Models that were saved with the features' own names are scored by those.
            feature_names=self.booster.feature_names,
            feature_types=self._types(),
            enable_categorical=True,
        )

    def _types(self) -> list[str]:
        return ["q"] * self.problem.n_numerical + ["c"] * len(self.problem.category_sizes)


class _Advance(TrainingCallback):
    def __init__(self, advance: object) -> None:
        self.advance = advance

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: object) -> bool:
        """Moves the bar by one tree."""
        self.advance(1)  # pyright: ignore[reportCallIssue]
        return False
