"""Boosted trees as they score: the same code for a ranker offline and for a serving process.

A serving process loads this file, so it imports neither torch nor a database, and a boosting library only when its
trees are used.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

XGBOOST_MODEL = "model.ubj"
LIGHTGBM_MODEL = "model.txt"


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
    def load(cls, folder: Path, threads: int | None = None) -> "LightGBMTrees":
        """Reads the model of a run or bundle."""
        import lightgbm as lgb

        return cls(lgb.Booster(model_file=folder / LIGHTGBM_MODEL), threads)

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
