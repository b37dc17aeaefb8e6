"""XGBoost and LightGBM: binary trees for the click at their default settings, levels as numbers or as categories."""

import lightgbm
import numpy as np
import xgboost
from jaxtyping import Float
from xgboost.callback import TrainingCallback

from .clock import RaceClock
from .contender import Parameters, Setting
from .rows import N_NUMERICAL, VOCABULARIES, Rows

TREES_PER_EPOCH = 100
"""Both libraries' default number of trees."""


class LightGBMTrees:
    """LightGBM's default binary trees."""

    booster: lightgbm.Booster

    def __init__(self, native: bool) -> None:
        self.native = native
        self.notes: tuple[str, ...] = (_note(native),)

    def build(self, rows: Rows, setting: Setting) -> int:
        """Bins the columns."""
        self.n_trees = setting.epochs * TREES_PER_EPOCH
        self.params = {"objective": "binary", "seed": setting.seed, "verbose": -1}
        columns = list(range(N_NUMERICAL, N_NUMERICAL + len(VOCABULARIES))) if self.native else []
        self.data = lightgbm.Dataset(
            _matrix(rows), rows.labels[:, 0], categorical_feature=columns, params={"verbose": -1}
        ).construct()
        return TREES_PER_EPOCH

    def parameters(self) -> Parameters:
        """Trees have none."""
        return Parameters(0, 0)

    def train(self, clock: RaceClock) -> None:
        """Grows trees until the clock ends the race."""

        def after_tree(env: lightgbm.callback.CallbackEnv) -> None:
            assert isinstance(env.model, lightgbm.Booster)
            self.booster = env.model
            clock.after_step()

        lightgbm.train(self.params, self.data, self.n_trees, callbacks=[after_tree])

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        return np.asarray(self.booster.predict(_matrix(rows)))


class XGBoostTrees:
    """XGBoost's default binary trees."""

    booster: xgboost.Booster

    def __init__(self, native: bool) -> None:
        self.native = native
        self.notes: tuple[str, ...] = (_note(native),)

    def build(self, rows: Rows, setting: Setting) -> int:
        """Bins the columns."""
        self.n_trees = setting.epochs * TREES_PER_EPOCH
        self.params = {"objective": "binary:logistic", "seed": setting.seed}
        self.types = ["q"] * N_NUMERICAL + ["c" if self.native else "q"] * len(VOCABULARIES)
        self.data = xgboost.QuantileDMatrix(
            _matrix(rows), rows.labels[:, 0], feature_types=self.types, enable_categorical=self.native
        )
        return TREES_PER_EPOCH

    def parameters(self) -> Parameters:
        """Trees have none."""
        return Parameters(0, 0)

    def train(self, clock: RaceClock) -> None:
        """Grows trees until the clock ends the race."""
        xgboost.train(self.params, self.data, self.n_trees, callbacks=[_AfterTree(self, clock)])

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        data = xgboost.DMatrix(_matrix(rows), feature_types=self.types, enable_categorical=self.native)
        return self.booster.predict(data)


class _AfterTree(TrainingCallback):
    def __init__(self, trees: XGBoostTrees, clock: RaceClock) -> None:
        super().__init__()
        self.trees = trees
        self.clock = clock

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: object) -> bool:
        """Tells the clock of one more tree."""
        self.trees.booster = model
        self.clock.after_step()
        return False


def _note(native: bool) -> str:
    how = "as categories" if native else "as plain numbers"
    return f"levels {how}; the click alone: three tasks cost three times as much"


def _matrix(rows: Rows) -> Float[np.ndarray, "rows 50"]:
    return np.concatenate([rows.numerical, rows.categorical], axis=1, dtype=np.float32)
