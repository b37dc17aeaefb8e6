"""Boosted trees as they score: the same code for a ranker offline and for a serving process.

A serving process loads this file, so it imports neither torch nor a database, and a boosting library only when its
trees are used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from shelfrank.core.errors import UserError

XGBOOST_MODEL = "model.ubj"
LIGHTGBM_MODEL = "model.txt"
TASK_TREES = "trees.json"
"""Scales of a model per task; beside it is each model's file."""


@runtime_checkable
class EncodedRows(Protocol):
    """Rows with the columns that a ranker sees: a split offline, a page online."""

    @property
    def numerical(self) -> np.ndarray:
        """Standardised numbers, [rows, n_num]."""
        ...

    @property
    def categorical(self) -> np.ndarray:
        """Codes, [rows, n_cat]."""
        ...


def feature_matrix(
    rows: EncodedRows, chosen: Int64[np.ndarray, " chosen"] | None = None
) -> Float32[np.ndarray, "chosen n_features"]:
    """Numbers, then codes, of the chosen rows in their order, or of all; float32 holds every code up to 2^24."""
    (n_rows, n_numerical), n_categorical = rows.numerical.shape, rows.categorical.shape[1]
    matrix = np.empty((n_rows if chosen is None else len(chosen), n_numerical + n_categorical), np.float32)
    taken = slice(None) if chosen is None else chosen
    matrix[:, :n_numerical] = rows.numerical[taken]
    matrix[:, n_numerical:] = rows.categorical[taken]
    return matrix


def for_every_task(scores: Float[np.ndarray, " rows"], n_tasks: int) -> Float32[np.ndarray, "rows n_tasks"]:
    """Repeats one score per row for each task of the log."""
    return np.repeat(scores.astype(np.float32)[:, None], n_tasks, axis=1)


@dataclass(frozen=True)
class XGBoostTrees:
    """Trees of XGBoost with a logistic objective.

    Attributes:
        booster: The trees, an `xgboost.Booster`.
        n_numerical: Columns that are numbers.
        n_categorical: Columns that are codes; they follow.
        threads: Threads that score; None is the library's choice.
    """

    booster: Any
    n_numerical: int
    n_categorical: int
    threads: int | None = None

    @classmethod
    def load(cls, folder: Path, n_numerical: int, n_categorical: int, threads: int | None = None) -> "XGBoostTrees":
        """Reads the model of a run or bundle."""
        import xgboost as xgb

        parameters = {} if threads is None else {"nthread": threads}
        return cls(xgb.Booster(parameters, model_file=folder / XGBOOST_MODEL), n_numerical, n_categorical, threads)

    def probabilities(self, features: Float32[np.ndarray, "rows n_features"]) -> Float32[np.ndarray, " rows"]:
        """Computes the probability of each row's label."""
        return self.booster.predict(self._matrix(features)).astype(np.float32)

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """Computes the logits."""
        return self.booster.predict(self._matrix(features), output_margin=True).astype(np.float64)

    def contributions(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> Float64[np.ndarray, "rows n_features_plus_1"]:
        """Computes the library's TreeSHAP; the last column is the baseline."""
        return self.booster.predict(self._matrix(features), pred_contribs=True).astype(np.float64)

    def _matrix(self, features: Float32[np.ndarray, "rows n_features"]) -> Any:
        import xgboost as xgb

        return xgb.DMatrix(
            features,
            # Models that were saved with the features' own names are scored by those.
            feature_names=self.booster.feature_names,
            feature_types=feature_types(self.n_numerical, self.n_categorical),
            enable_categorical=True,
            nthread=self.threads,
        )


def feature_types(n_numerical: int, n_categorical: int) -> list[str]:
    """Lists the kinds of the columns as XGBoost names them."""
    return ["q"] * n_numerical + ["c"] * n_categorical


@dataclass(frozen=True)
class LightGBMTrees:
    """Trees of LightGBM.

    Attributes:
        booster: The trees, a `lightgbm.Booster`.
        threads: Threads that score; None is the library's choice.
    """

    booster: Any
    threads: int | None = None

    @classmethod
    def load(cls, folder: Path, threads: int | None = None, file: str = LIGHTGBM_MODEL) -> "LightGBMTrees":
        """Reads a model of a run or bundle."""
        import lightgbm as lgb

        return cls(lgb.Booster(model_file=folder / file), threads)

    def save(self, folder: Path, file: str = LIGHTGBM_MODEL) -> None:
        """Writes LightGBM's own text format."""
        # The library reports a full disk as its own error.
        text = self.booster.model_to_string(num_iteration=self.booster.best_iteration)
        (folder / file).write_text(text, encoding="utf-8")

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """Computes the sum of each row's leaves."""
        return np.asarray(self.booster.predict(features, **self._threads()), dtype=np.float64)

    def contributions(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> Float64[np.ndarray, "rows n_features_plus_1"]:
        """Computes the library's TreeSHAP; the last column is the baseline."""
        return np.asarray(self.booster.predict(features, pred_contrib=True, **self._threads()), dtype=np.float64)

    def _threads(self) -> dict[str, Any]:
        return {} if self.threads is None else {"num_threads": self.threads}


@dataclass(frozen=True)
class Scale:
    """How a task's scores become its logits.

    Attributes:
        slope: Factor, positive; in runs of former versions it may be 0.
        intercept: Logit of a score of 0.
    """

    slope: float
    intercept: float


@dataclass(frozen=True)
class TaskTrees:
    """Trees of LightGBM, a model for each task.

    Attributes:
        models: The trees of each task that has a model.
        scales: How their scores become logits.
    """

    models: Mapping[str, LightGBMTrees]
    scales: Mapping[str, Scale]

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> "TaskTrees":
        """Reads the models of a run or bundle; a broken list of them is a `UserError`."""
        try:
            scales = {
                str(task): Scale(float(scale["slope"]), float(scale["intercept"]))
                for task, scale in json.loads((folder / TASK_TREES).read_text(encoding="utf-8")).items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder / TASK_TREES} must hold each task's scale, but it cannot be read: {error}; train again"
            ) from error
        return cls({task: LightGBMTrees.load(folder, threads, model_file(task)) for task in scales}, scales)

    def save(self, folder: Path) -> None:
        """Writes each task's model in the library's text format, and their scales."""
        for task, model in self.models.items():
            model.save(folder, model_file(task))
        scales = {task: vars(scale) for task, scale in self.scales.items()}
        (folder / TASK_TREES).write_text(json.dumps(scales, indent=1), encoding="utf-8")

    def logits(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, "rows n_models"]:
        """Computes each model's logits, in the order of the models."""
        return np.stack(
            [
                self.scales[task].slope * model.margins(features) + self.scales[task].intercept
                for task, model in self.models.items()
            ],
            axis=1,
        )

    def probabilities(
        self, features: Float32[np.ndarray, "rows n_features"], tasks: Sequence[str]
    ) -> Float32[np.ndarray, "rows n_tasks"]:
        """Computes each task's probability; 0 for a task without a model."""
        found = np.zeros((len(features), len(tasks)), np.float32)
        if len(features):
            places = [tasks.index(task) for task in self.models]
            found[:, places] = sigmoid(self.logits(features))
        return found

    def contributions(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> Float64[np.ndarray, "rows n_models n_features_plus_1"]:
        """Computes the library's TreeSHAP of each model's logits; the last column is the baseline."""
        found = [self.scales[task].slope * model.contributions(features) for task, model in self.models.items()]
        for each, task in zip(found, self.models, strict=True):
            each[:, -1] += self.scales[task].intercept
        return np.stack(found, axis=1)


def model_file(task: str) -> str:
    """The file of a task's model."""
    return f"model.{task}.txt"


def sigmoid(logits: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Computes the probability of each logit."""
    # Numerics: no exponential overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
