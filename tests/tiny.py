"""Settings that make every ranker train in a moment, and splits made by hand."""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shelfrank.config import EvaluateConfig, ExperimentConfig, NeuralConfig
from shelfrank.core.artifact import MANIFEST, publish, read_manifest
from shelfrank.core.schema import TASKS, Side
from shelfrank.data.prepared import KIND, SPLITS, Column, Split
from shelfrank.rankers.run import resolve_experiment
from tiny_encoder import save_tiny_bert

TINY = (
    "train.threads=1",
    "train.precision=fp32",
    "train.epochs=2",
    "train.batch_size=256",
    "neural.d_embedding=3",
    "neural.dcn_v2.deep_layers=[8]",
    "neural.ft_transformer.n_heads=3",
    "neural.mlp.layers=[8]",
    "neural.tabnet.d_decision=8",
    "neural.tabnet.d_attention=4",
    "neural.tabnet.ghost_batch_size=16",
    "neural.mmoe.n_experts=4",
    "neural.mmoe.expert_layers=[8]",
    "neural.tower_layers=[4]",
    "xgboost.n_rounds=8",
    "lambdamart.n_rounds=8",
    "xgboost_ranking.n_rounds=8",
    "catboost.n_rounds=8",
    "lambdamart.min_rows_per_leaf=5",
    "blend.min_searches=1",
)

TINY_EVALUATION = EvaluateConfig(ks=(1, 5), pd_k=5, n_resamples=40, n_resamples_auc=10)


def tiny(ranker: str, *assignments: str, seed: int | None = None) -> ExperimentConfig:
    """The config of a ranker that trains in a moment; the assignments come on top."""
    own = [f"neural.text.model={tiny_bert()}"] if "text" in ranker else []
    # All four units of its only tower die: every row would have one score.
    own += ["neural.tower_layers=[8]"] if ranker == "ftt_single" else []
    return resolve_experiment(ranker, None, [*TINY, *own, *assignments], seed)


@functools.cache
def tiny_bert() -> Path:
    """A folder with an encoder of random weights, one for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-bert-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save_tiny_bert(folder / "tiny")


def tiny_network(bottom: str, *assignments: str) -> NeuralConfig:
    """The same for a network alone."""
    return tiny("mmoe", f"neural.bottom={bottom}", *assignments).neural


def hand_split(
    labels: Sequence[Sequence[int]],
    numerical: np.ndarray | None = None,
    sizes: Sequence[int] | None = None,
    sides: Sequence[Side] = (),
    name: str = "train",
    relevance: Sequence[int] = (-1,),
    relevance_classes: int = 0,
) -> Split:
    """A split of the given labels, with one categorical column of two codes.

    Args:
        labels: One row each, -1 where missing; as many tasks as values in a row.
        numerical: Its numbers; a column of zeros if not given.
        sizes: Rows of each search; one search of all rows if not given.
        sides: Whom each column of `numerical` describes; products if not given.
        name: Which split.
        relevance: Its relevance classes, -1 where missing, or one for every row; all missing if not given.
        relevance_classes: How many there are.
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
        relevance=np.array(relevance, dtype=np.int8),
        relevance_classes=relevance_classes,
    )


def random_split(
    n_rows: int,
    seed: int = 0,
    n_tasks: int = 3,
    missing: float = 0.0,
    name: str = "train",
    relevance_classes: int = 0,
) -> Split:
    """Rows whose labels follow their first number, in searches of up to five rows.

    Where there are relevance classes, they follow the second number, and every fourth row has none.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_rows, 4))
    chances = 1 / (1 + np.exp(1.0 - 2 * numbers[:, :1]))
    labels = (rng.random((n_rows, n_tasks)) < chances).astype(int)
    labels[rng.random((n_rows, n_tasks)) < missing] = -1
    sizes = [min(5, n_rows - start) for start in range(0, n_rows, 5)]
    relevance: list[int] = [-1]
    if relevance_classes:
        classes = np.floor(relevance_classes / (1 + np.exp(-2 * numbers[:, 1]))).astype(int)
        relevance = np.where(np.arange(n_rows) % 4 == 0, -1, classes).tolist()
    return hand_split(labels.tolist(), numbers, sizes, (), name, relevance, relevance_classes)


def add_relevance(prepared: Path, out: Path, n_classes: int = 4) -> Path:
    """Writes a copy of prepared data whose rows have a relevance class by their product; every fifth has none."""
    manifest = read_manifest(prepared, KIND)
    with publish(out, KIND, {**manifest.inputs, "relevance": n_classes}) as draft:
        shutil.copytree(prepared, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        columns = draft.path / "columns.json"
        told = {**json.loads(columns.read_text(encoding="utf-8")), "relevance_classes": n_classes}
        columns.write_text(json.dumps(told), encoding="utf-8")
        for name in SPLITS:
            product = np.load(draft.path / name / "product_idx.npy")
            relevance = np.where(product % 5 == 0, -1, product % n_classes).astype(np.int8)
            np.save(draft.path / name / "relevance.npy", relevance)
        draft.info.update(manifest.info)
    return out
