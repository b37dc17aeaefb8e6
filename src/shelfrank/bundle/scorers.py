"""Scorers of the serving process: ONNX Runtime, or the trees of the rankers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64

from shelfrank.bundle.spec import Precision, Spec, graph_file
from shelfrank.core.errors import UserError
from shelfrank.rankers.blending import blend_scores, load_blends
from shelfrank.rankers.trees import (
    TASK_TREES,
    CatBoostTrees,
    LibraryTrees,
    LightGBMTrees,
    TaskTrees,
    XGBoostTrees,
    feature_matrix,
    for_every_task,
)


@dataclass(frozen=True)
class Rows:
    """The rows of one page, with the columns that the ranker sees.

    Attributes:
        numerical: Standardised numbers.
        categorical: Codes.
        position: The caller's order, 1 first.
        rates: The tasks' rates, for a ranker by popularity; else of width 0.
        query: The query's vector; None if the ranker reads no text.
        products: The products' vectors; None if the ranker reads no text.
    """

    numerical: Float32[np.ndarray, "rows n_num"]
    categorical: Int32[np.ndarray, "rows n_cat"]
    position: Int[np.ndarray, " rows"]
    rates: Float32[np.ndarray, "rows n_rates"]
    query: Float32[np.ndarray, "1 d"] | None = None
    products: Float32[np.ndarray, "rows d"] | None = None

    def __len__(self) -> int:
        return len(self.numerical)

    def distinct(self) -> tuple[Int64[np.ndarray, " distinct"], Int64[np.ndarray, " rows"]]:
        """Deduplicates rows, ignoring positions and rates: the first of each kind, and the kind of each row."""
        kinds: dict[tuple[bytes, ...], int] = {}
        of_row = np.array([kinds.setdefault(key, len(kinds)) for key in self._keys()], np.int64)
        return np.unique(of_row, return_index=True)[1], of_row

    def _keys(self) -> Iterator[tuple[bytes, ...]]:
        parts = [self.numerical, self.categorical, *([] if self.products is None else [self.products])]
        cut = []
        for part in parts:
            content, width = part.tobytes(), part.itemsize * part.shape[1]
            cut.append([content[start : start + width] for start in range(0, width * len(self), width or 1)])
        return zip(*(each or [b""] * len(self) for each in cut), strict=True)

    def only(self, some: slice | Int64[np.ndarray, " some"]) -> "Rows":
        """Selects some of the rows."""
        products = None if self.products is None else self.products[some]
        parts = [np.ascontiguousarray(part[some]) for part in (self.numerical, self.categorical)]
        return Rows(parts[0], parts[1], self.position[some], self.rates[some], self.query, products)


class Scorer(ABC):
    """Scores rows as the run's ranker does."""

    @abstractmethod
    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """One score per row and task of the log."""

    @abstractmethod
    def gates(self, rows: Rows) -> Float32[np.ndarray, "rows n_learned n_experts"] | None:
        """The weight of each expert for each learned task; None for a ranker without experts."""


class WithoutExperts(Scorer):
    """A scorer without experts."""

    def gates(self, rows: Rows) -> None:
        """Returns None."""


class OnnxScorer(Scorer):
    """A network."""

    def __init__(self, folder: Path, spec: Spec, precision: Precision) -> None:
        self.n_tasks = len(spec.tasks)
        self.session = open_graph(folder / graph_file("ranker", precision))
        # A network without categories, say, has a graph without that input.
        self.inputs = {each.name for each in self.session.get_inputs()}
        self.has_gates = "gates" in {each.name for each in self.session.get_outputs()}

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """Probabilities; a single task's for every task.

        Numerics: how a library rounds a row may depend on its place among the others, so equal rows are computed once:
        products with equal inputs tie to the last bit.
        """
        first, of_row = rows.distinct()
        (probs,) = self.session.run(["probs"], self._given(rows if len(first) == len(rows) else rows.only(first)))
        return np.broadcast_to(probs[of_row], (len(rows), self.n_tasks))

    def gates(self, rows: Rows) -> Float32[np.ndarray, "rows n_learned n_experts"] | None:
        """The gates of an MMoE."""
        if not self.has_gates:
            return None
        (gates,) = self.session.run(["gates"], self._given(rows))
        return gates

    def _given(self, rows: Rows) -> dict[str, np.ndarray | None]:
        given = {
            "numerical": rows.numerical,
            "categorical": rows.categorical,
            "query": rows.query,
            "products": rows.products,
        }
        return {name: given[name] for name in self.inputs}


class RankingTreesScorer(WithoutExperts):
    """Trees of a boosting library that learned to rank, on one core."""

    def __init__(self, library: type[LibraryTrees], folder: Path, spec: Spec, precision: Precision) -> None:
        self.tasks = spec.tasks
        per_task = (folder / TASK_TREES).is_file()
        self.trees = TaskTrees.load(folder, library, threads=1) if per_task else library.load(folder, threads=1)

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """Returns each task's probability; of graded labels the one score, for every task."""
        features = feature_matrix(rows)
        if isinstance(self.trees, TaskTrees):
            return self.trees.probabilities(features, self.tasks)
        return for_every_task(self.trees.margins(features), len(self.tasks))


class XGBoostScorer(WithoutExperts):
    """XGBoost's trees on one task, on one core."""

    def __init__(self, folder: Path, spec: Spec, precision: Precision) -> None:
        self.n_tasks = len(spec.tasks)
        self.trees = XGBoostTrees.load(folder, threads=1)

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """Returns the one task's probability for every task."""
        return for_every_task(self.trees.probabilities(feature_matrix(rows)), self.n_tasks)


class BlendScorer(Scorer):
    """Trees and a network, or the trees alone."""

    def __init__(self, folder: Path, spec: Spec, precision: Precision) -> None:
        self.tasks, self.blends = spec.tasks, load_blends(folder)
        self.trees = TaskTrees.load(folder, LightGBMTrees, threads=1)
        has_network = (folder / graph_file("ranker", precision)).is_file()
        if not has_network and any(blend.network for blend in self.blends.values()):
            raise UserError(f"{folder} must have the graph of its network, but it has none; export the run again")
        self.network = OnnxScorer(folder, spec, precision) if has_network else None

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """Each task's probability."""
        trees = self.trees.logits(feature_matrix(rows)).T if len(rows) else np.empty((len(self.trees.models), 0))
        network = None if self.network is None else self.network.score(rows)
        return blend_scores(
            self.blends, self.tasks, network, dict(zip(self.trees.models, trees, strict=True)), len(rows)
        )

    def gates(self, rows: Rows) -> Float32[np.ndarray, "rows n_learned n_experts"] | None:
        """The gates of the network's MMoE."""
        return None if self.network is None else self.network.gates(rows)


class PositionScorer(WithoutExperts):
    """The caller's own order."""

    def __init__(self, folder: Path, spec: Spec, precision: Precision) -> None:
        self.n_tasks = len(spec.tasks)

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """The higher the position, the higher the score."""
        return np.broadcast_to(-rows.position.astype(np.float32)[:, None], (len(rows), self.n_tasks))


class RateScorer(WithoutExperts):
    """The products' rates so far."""

    def __init__(self, folder: Path, spec: Spec, precision: Precision) -> None:
        pass

    def score(self, rows: Rows) -> Float[np.ndarray, "rows n_tasks"]:
        """The rates."""
        return rows.rates


SCORERS: dict[str, Callable[[Path, Spec, Precision], Scorer]] = {
    "onnx": OnnxScorer,
    "lambdamart": partial(RankingTreesScorer, LightGBMTrees),
    "xgboost_ranking": partial(RankingTreesScorer, XGBoostTrees),
    "catboost": partial(RankingTreesScorer, CatBoostTrees),
    "xgboost": XGBoostScorer,
    "blend": BlendScorer,
    "position": PositionScorer,
    "rates": RateScorer,
}
"""Every way to score by its name in `bundle.json`."""


def open_graph(file: Path) -> Any:
    """Opens a graph for one core: the service has a process per core, and more threads would stall each other."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise UserError("serving needs onnxruntime; install it with: pip install 'shelfrank[serve]'") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # The library has a class of its own for each kind of invalid file.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file} must be a graph that ONNX Runtime can open, but it fails: {reason}; export the run again"
        ) from error


def only_requested_outputs() -> Any:
    """Makes options that run only the nodes that the requested outputs need."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options
