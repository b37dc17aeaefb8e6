"""Settings that make every ranker train in a moment, and splits made by hand."""

from collections.abc import Sequence

import numpy as np

from shelfrank.config import ExperimentConfig, NeuralConfig
from shelfrank.data.prepared import Column, Split
from shelfrank.experiment import resolve_experiment
from shelfrank.schema import TASKS, Side

TINY = (
    "train.threads=1",
    "train.precision=fp32",
    "train.epochs=2",
    "train.batch_size=256",
    "neural.d_embedding=3",
    "neural.dcn_v2.deep_layers=[8]",
    "neural.mlp.layers=[8]",
    "neural.mmoe.n_experts=4",
    "neural.mmoe.expert_layers=[8]",
    "neural.tower_layers=[4]",
    "xgboost.n_rounds=8",
    "lambdamart.n_rounds=8",
    "lambdamart.min_rows_per_leaf=5",
)


def tiny(ranker: str, *assignments: str, seed: int | None = None) -> ExperimentConfig:
    """The config of a ranker that trains in a moment; the assignments come on top."""
    return resolve_experiment(ranker, None, [*TINY, *assignments], seed)


def tiny_network(bottom: str, *assignments: str) -> NeuralConfig:
    """The same for a network alone."""
    return tiny("mmoe", f"neural.bottom={bottom}", *assignments).neural


def hand_split(
    labels: Sequence[Sequence[int]],
    numerical: np.ndarray | None = None,
    sizes: Sequence[int] | None = None,
    sides: Sequence[Side] = (),
    name: str = "train",
) -> Split:
    """A split of the given labels, with one categorical column of two codes.

    Args:
        labels: One row each, -1 where missing; as many tasks as values in a row.
        numerical: Its numbers; a column of zeros if not given.
        sizes: Rows of each search; one search of all rows if not given.
        sides: Whom each column of `numerical` describes; products if not given.
        name: Which split.
    """
    n_rows, n_tasks = len(labels), len(labels[0]) if len(labels) else len(TASKS)
    numbers = np.zeros((n_rows, 1), np.float32) if numerical is None else numerical.astype(np.float32)
    described = sides or [Side.PRODUCT] * numbers.shape[1]
    rows = np.arange(n_rows)
    return Split(
        name=name,
        tasks=TASKS[:n_tasks],
        numerical=numbers,
        categorical=(rows[:, None] % 2).astype(np.int32),
        labels=np.array(labels, dtype=np.int8).reshape(n_rows, n_tasks),
        query_idx=np.zeros(n_rows, np.int32),
        product_idx=rows.astype(np.int32),
        customer_idx=np.zeros(n_rows, np.int32),
        position=(rows + 1).astype(np.int32),
        tie_keys=rows.astype(np.uint64),
        search_offsets=np.cumsum([0, *([n_rows] if sizes is None else sizes)]).astype(np.int64),
        numerical_columns=tuple(Column(f"x{i}", side, 0, 0.0, 0.0) for i, side in enumerate(described)),
        categorical_columns=(Column("code", Side.PRODUCT, 2, 0.0, 0.0),),
    )


def random_split(n_rows: int, seed: int = 0, n_tasks: int = 3, missing: float = 0.0, name: str = "train") -> Split:
    """Rows whose labels follow their first number, in searches of up to five rows."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_rows, 4))
    chances = 1 / (1 + np.exp(1.0 - 2 * numbers[:, :1]))
    labels = (rng.random((n_rows, n_tasks)) < chances).astype(int)
    labels[rng.random((n_rows, n_tasks)) < missing] = -1
    sizes = [min(5, n_rows - start) for start in range(0, n_rows, 5)]
    return hand_split(labels.tolist(), numbers, sizes, name=name)
