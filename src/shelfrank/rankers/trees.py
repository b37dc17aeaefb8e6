"""Boosted trees as they score: the same code for a ranker offline and for a serving process.

A serving process loads this file, so it imports neither torch nor a database, and a boosting library only when its
trees are used.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from shelfrank.core.errors import UserError

MODEL = "model"
"""Name of the only model of a run, without its suffix."""
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


class LibraryTrees(ABC):
    """One model of a boosting library.

    Attributes:
        suffix: Suffix of its file, which is in the library's own format.
    """

    suffix: ClassVar[str]

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, threads: int | None = None, name: str = MODEL) -> "LibraryTrees":
        """Reads a model of a run or bundle."""

    @abstractmethod
    def save(self, folder: Path, name: str = MODEL) -> None:
        """Writes the library's own format."""

    @abstractmethod
    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """Computes the sum of each row's leaves."""

    @abstractmethod
    def contributions(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> Float64[np.ndarray, "rows n_features_plus_1"]:
        """Computes the library's TreeSHAP; the last column is the baseline."""


@dataclass(frozen=True)
class XGBoostTrees(LibraryTrees):
    """Trees of XGBoost.

    Attributes:
        booster: The trees, an `xgboost.Booster`.
        threads: Threads that score; None is the library's choice.
    """

    suffix: ClassVar[str] = "ubj"

    booster: Any
    threads: int | None = None

    @classmethod
    def load(cls, folder: Path, threads: int | None = None, name: str = MODEL) -> "XGBoostTrees":
        """Reads a model of a run or bundle."""
        import xgboost as xgb

        parameters = {} if threads is None else {"nthread": threads}
        return cls(xgb.Booster(parameters, model_file=folder / f"{name}.{cls.suffix}"), threads)

    def save(self, folder: Path, name: str = MODEL) -> None:
        """Writes XGBoost's own binary JSON."""
        # The library reports a full disk as its own error, with a stack trace.
        (folder / f"{name}.{self.suffix}").write_bytes(self.booster.save_raw("ubj"))

    def probabilities(self, features: Float32[np.ndarray, "rows n_features"]) -> Float32[np.ndarray, " rows"]:
        """Computes the probability of each row's label, for trees with a logistic objective."""
        return self.booster.predict(self._matrix(features)).astype(np.float32)

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """Computes the sum of each row's leaves, the logits of a logistic objective."""
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
            feature_types=self.booster.feature_types,
            enable_categorical=True,
            nthread=self.threads,
        )


@dataclass(frozen=True)
class LightGBMTrees(LibraryTrees):
    """Trees of LightGBM.

    Attributes:
        booster: The trees, a `lightgbm.Booster`.
        threads: Threads that score; None is the library's choice.
    """

    suffix: ClassVar[str] = "txt"

    booster: Any
    threads: int | None = None

    @classmethod
    def load(cls, folder: Path, threads: int | None = None, name: str = MODEL) -> "LightGBMTrees":
        """Reads a model of a run or bundle."""
        import lightgbm as lgb

        return cls(lgb.Booster(model_file=folder / f"{name}.{cls.suffix}"), threads)

    def save(self, folder: Path, name: str = MODEL) -> None:
        """Writes LightGBM's own text format."""
        # The library reports a full disk as its own error.
        text = self.booster.model_to_string(num_iteration=self.booster.best_iteration)
        (folder / f"{name}.{self.suffix}").write_text(text, encoding="utf-8")

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
class CatBoostTrees(LibraryTrees):
    """Trees of CatBoost.

    Attributes:
        model: The trees, a `catboost.CatBoost`.
        threads: Threads that score; None is the library's choice.
    """

    suffix: ClassVar[str] = "cbm"

    model: Any
    threads: int | None = None

    @classmethod
    def load(cls, folder: Path, threads: int | None = None, name: str = MODEL) -> "CatBoostTrees":
        """Reads a model of a run or bundle; a `UserError` where CatBoost is not installed."""
        model = catboost_library().CatBoost()
        model.load_model(str(folder / f"{name}.{cls.suffix}"))
        return cls(model, threads)

    def save(self, folder: Path, name: str = MODEL) -> None:
        """Writes CatBoost's own binary format."""
        # Its JSON rounds the sums of leaves.
        self.model.save_model(str(folder / f"{name}.{self.suffix}"))

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, " rows"]:
        """Computes the sum of each row's leaves."""
        if not len(features):
            return np.empty(0)
        return np.asarray(self.model.predict(self._pool(features), **self._threads()), np.float64)

    def contributions(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> Float64[np.ndarray, "rows n_features_plus_1"]:
        """Computes the library's TreeSHAP; the last column is the baseline."""
        values = self.model.get_feature_importance(self._pool(features), type="ShapValues", **self._threads())
        return np.asarray(values, np.float64)

    def _pool(self, features: Float32[np.ndarray, "rows n_features"]) -> Any:
        return catboost_pool(features, features.shape[1] - len(self.model.get_cat_feature_indices()))

    def _threads(self) -> dict[str, Any]:
        return {} if self.threads is None else {"thread_count": self.threads}


def catboost_library() -> Any:
    """Imports CatBoost; a `UserError` where it is not installed."""
    try:
        import catboost
    except ImportError as error:
        raise UserError(
            "CatBoost must be installed for the ranker catboost, but it is not; "
            "install it with: pip install 'shelfrank[catboost]'"
        ) from error
    return catboost


def catboost_pool(features: Float32[np.ndarray, "rows n_features"], n_numerical: int, **labels: Any) -> Any:
    """Makes CatBoost's rows of a matrix whose first columns are numbers and whose others are codes.

    Args:
        features: The matrix.
        n_numerical: Columns that are numbers.
        **labels: What else the library's `Pool` takes.

    Returns:
        A `catboost.Pool`.
    """
    library = catboost_library()
    numbers, codes = features[:, :n_numerical], features[:, n_numerical:]
    known, place = np.unique(codes.astype(np.int64), return_inverse=True)
    # The library takes no matrix of numbers as categories.
    names = np.array([b"%d" % code for code in known.tolist()], object)
    data = library.FeaturesData(
        np.ascontiguousarray(numbers) if numbers.size else None,
        names[place.reshape(codes.shape)] if codes.size else None,
    )
    return library.Pool(data, **labels)


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
    """Trees that learn to rank, a model for each task.

    Attributes:
        models: The trees of each task that has a model.
        scales: How their scores become logits.
    """

    models: Mapping[str, LibraryTrees]
    scales: Mapping[str, Scale]

    @classmethod
    def load(cls, folder: Path, library: type[LibraryTrees], threads: int | None = None) -> "TaskTrees":
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
        return cls({task: library.load(folder, threads, f"{MODEL}.{task}") for task in scales}, scales)

    def save(self, folder: Path) -> None:
        """Writes each task's model in the library's own format, and their scales."""
        for task, model in self.models.items():
            model.save(folder, f"{MODEL}.{task}")
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


def sigmoid(logits: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Computes the probability of each logit."""
    # Numerics: no exponential overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
