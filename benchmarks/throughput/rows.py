"""Rows with a known signal: what every contender trains on and is scored by."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

TASKS = ("click", "add_to_cart", "purchase")
RATES = (0.15, 0.05, 0.02)
"""Share of positives of each task."""

VOCABULARIES = tuple(int(size) for size in np.geomspace(10, 100_000, 20).round())
"""Levels of each categorical; a column holds 1 to this number, and 0 is kept for a level never seen."""

N_NUMERICAL = 30
ARRAYS = ("numerical", "categorical", "labels", "logits")

LOGIT_STD = 1.6
SHARED = 0.8
"""Share of a task's logit variance that all tasks have in common."""

BLOCKS = {"levels": 0.40, "numbers": 0.20, "levels_by_numbers": 0.25, "levels_by_levels": 0.15}
"""Share of the logit's variance that each kind of effect has."""

LEVELS_BY_NUMBERS = ((0, 0), (1, 5), (3, 12), (4, 1), (6, 21), (7, 16), (9, 2), (10, 25))
LEVELS_BY_LEVELS = ((0, 5), (2, 6), (1, 8), (4, 7))


@dataclass(frozen=True)
class Rows:
    """Rows in memory, encoded as a prepared log is.

    Attributes:
        numerical: Standardised numbers.
        categorical: Level numbers; 0 is the unknown level.
        labels: One 0/1 column per task.
        logits: The true logits that the labels were drawn from, which no contender sees.
    """

    numerical: Float[np.ndarray, "rows 30"]
    categorical: Int[np.ndarray, "rows 20"]
    labels: Int[np.ndarray, "rows 3"]
    logits: Float[np.ndarray, "rows 3"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, part: slice) -> "Rows":
        """The rows of a slice."""
        return Rows(*(getattr(self, name)[part] for name in ARRAYS))

    def save(self, folder: Path) -> None:
        """Writes each array as one file."""
        folder.mkdir(parents=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> "Rows":
        """Reads the arrays of `save`."""
        return cls(*(np.load(folder / f"{name}.npy") for name in ARRAYS))


def generate(n_rows: int, seed: int) -> Rows:
    """Draws rows whose labels depend on levels, numbers and their interactions.

    A task's logit is the shared signal plus a signal of its own; each signal sums main effects of all levels,
    straight and bent effects of the numbers, slopes of numbers that differ by level, and products of level factors.
    Level numbers tell nothing about popularity or effect, popularity falls with the rank as in real logs, and a third
    of the numbers depend on a level.

    Args:
        n_rows: Rows to draw.
        seed: Decides everything.

    Returns:
        The rows.
    """
    rng = np.random.default_rng(seed)
    categorical = np.stack([_draw_levels(rng, n_rows, size) for size in VOCABULARIES], axis=1)
    numerical = _draw_numbers(rng, categorical)
    shared = _signal(rng, numerical, categorical)
    logits = np.empty((n_rows, len(TASKS)), dtype=np.float32)
    for task, rate in enumerate(RATES):
        own = _signal(rng, numerical, categorical)
        logits[:, task] = LOGIT_STD * (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own)
        logits[:, task] += _intercept(logits[:, task], rate)
    labels = (rng.random(logits.shape) < _sigmoid(logits)).astype(np.int8)
    return Rows(numerical, categorical, labels, logits)


def auc(scores: Float[np.ndarray, " rows"], labels: Int[np.ndarray, " rows"]) -> float:
    """Area under the ROC curve: the chance that a positive is scored above a negative, ties counted half.

    Example:
        Scores 0.9, 0.4, 0.4 with labels 1, 1, 0: one pair won, one tied -> 0.75.
    """
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    won = ranks[labels == 1].sum() - n_positive * (n_positive + 1) / 2
    return float(won / (n_positive * n_negative))


def _draw_levels(rng: np.random.Generator, n_rows: int, n_levels: int) -> Int[np.ndarray, " rows"]:
    popularity = 1.0 / (np.arange(n_levels) + 2.0)
    cumulative = np.cumsum(popularity) / popularity.sum()
    ranks = np.minimum(np.searchsorted(cumulative, rng.random(n_rows)), n_levels - 1)
    return (rng.permutation(n_levels)[ranks] + 1).astype(np.int32)


def _draw_numbers(rng: np.random.Generator, categorical: Int[np.ndarray, "rows 20"]) -> Float[np.ndarray, "rows 30"]:
    n_rows = len(categorical)
    third = N_NUMERICAL // 3
    plain = rng.standard_normal((n_rows, third))
    by_level = 0.8 * rng.standard_normal((n_rows, third))
    for column in range(third):
        by_level[:, column] += 0.6 * _per_level(rng, categorical, column)
    skewed = np.log1p(rng.exponential(3.0, (n_rows, third)))
    numbers = np.concatenate([plain, by_level, skewed], axis=1)
    return ((numbers - numbers.mean(0)) / numbers.std(0)).astype(np.float32)


def _signal(
    rng: np.random.Generator, numerical: Float[np.ndarray, "rows 30"], categorical: Int[np.ndarray, "rows 20"]
) -> Float[np.ndarray, " rows"]:
    slopes = rng.standard_normal((2, N_NUMERICAL))
    blocks = {
        "levels": _sum(_per_level(rng, categorical, column) for column in range(len(VOCABULARIES))),
        "numbers": numerical @ slopes[0] + np.sin(2.0 * numerical) @ slopes[1],
        "levels_by_numbers": _sum(
            _per_level(rng, categorical, column) * numerical[:, number] for column, number in LEVELS_BY_NUMBERS
        ),
        "levels_by_levels": _sum(
            _per_level(rng, categorical, one) * _per_level(rng, categorical, other)
            for one, other in LEVELS_BY_LEVELS * 2
        ),
    }
    return _sum(np.sqrt(share) * _standardise(blocks[name]) for name, share in BLOCKS.items())


def _per_level(
    rng: np.random.Generator, categorical: Int[np.ndarray, "rows 20"], column: int
) -> Float[np.ndarray, " rows"]:
    return rng.standard_normal(VOCABULARIES[column] + 1)[categorical[:, column]]


def _sum(parts: Iterable[np.ndarray]) -> Float[np.ndarray, " rows"]:
    return np.sum(list(parts), axis=0)


def _standardise(values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    return (values - values.mean()) / values.std()


def _intercept(logits: Float[np.ndarray, " rows"], rate: float) -> float:
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).mean() < rate else (low, middle)
    return low


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values))
