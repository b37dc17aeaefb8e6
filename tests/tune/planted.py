"""Prepared data whose best weighting is known."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.core.artifact import publish
from shelfrank.data.prepared import ARRAYS, KIND, Split, save_columns
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.neural import NeuralRanker
from tiny import hand_split

BEST = (0.6, 0.4, 0.0)
PAGE = 10


def planted_split(n_searches: int, seed: int, name: str) -> Split:
    """Clicks follow the first number, carts the second; purchases, which only validation knows, follow both.

    Where purchases are the objective, the score that orders them is about the clicks' chance with weight 0.6 plus the
    carts' with 0.4, and the purchases' own tower, which saw no label, only adds noise.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_searches * PAGE, 2))
    chances = 1 / (1 + np.exp(-1.5 * numbers))
    labels = np.full((len(numbers), 3), -1)
    labels[:, :2] = rng.random(chances.shape) < chances
    if name == "valid":
        wanted = (chances @ np.array(BEST[:2])).reshape(n_searches, PAGE).argmax(axis=1)
        labels[:, 2] = 0
        labels[np.arange(n_searches) * PAGE + wanted, 2] = 1
    return hand_split(labels.tolist(), numbers, [PAGE] * n_searches, name=name)


def planted_prepared(out: Path, n_train: int = 300, n_valid: int = 300, has_test: bool = False) -> Path:
    """The same as a folder of prepared data; its test split's arrays are no arrays: whoever opens them fails."""
    with publish(out, KIND, {"planted": True}) as draft:
        splits = [planted_split(n_train, 0, "train"), planted_split(n_valid, 1, "valid")]
        splits += [planted_split(5, 2, "test")] if has_test else []
        for split in splits:
            (draft.path / split.name).mkdir()
            for array in ARRAYS:
                np.save(draft.path / split.name / f"{array}.npy", getattr(split, array))
            ids = [f"{split.name}{i}" for i in range(split.n_searches)]
            pq.write_table(pa.table({"search_id": ids}), draft.path / split.name / "searches.parquet")
        if not has_test:
            (draft.path / "test").mkdir()
            for array in ARRAYS:
                (draft.path / "test" / f"{array}.npy").write_bytes(b"poison")
        columns = splits[0]
        save_columns(draft.path, columns.tasks, columns.numerical_columns, columns.categorical_columns)
        draft.info.update(log_name="planted", log=str(out))
    return out


class KnownRanker(NeuralRanker):
    """Stands in for a network: scores by the true chances, the worse the farther its loss weights are from the best.

    Attributes:
        fits: Names of the trainings so far: weights and rows.
    """

    fits: ClassVar[list[tuple[tuple[float, ...], int]]] = []
    before_fit: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def fit(self, train: Split, valid: Split, checkpoints: object = None, on_epoch: object = None) -> Fitted:
        type(self).before_fit()
        self.fits.append((self.problem.task_weights.shares, train.n_rows))
        return Fitted(curve=[{"valid_task_loss": 0.0}] * self.problem.config.train.epochs, parameters={"all": 1})

    def score(self, rows: Split) -> np.ndarray:
        noise = np.random.default_rng(0).normal(size=(rows.n_rows, 2))
        chances = 1 / (1 + np.exp(-1.5 * rows.numerical))
        weights = self.problem.task_weights.shares
        away = 0.0 if len(set(weights)) == 1 else np.abs(np.subtract(weights, BEST))
        scores = np.column_stack([chances, noise[:, 0]]) + np.sum(away) * 0.3 * noise[:, 1:]
        return scores.astype(np.float32)

    def save(self, folder: Path) -> None:
        (folder / "weights").write_text("known")

    def load(self, folder: Path) -> None:
        assert (folder / "weights").read_text() == "known"
