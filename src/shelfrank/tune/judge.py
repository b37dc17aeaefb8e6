"""Quality of a weighting: MRR by task on the validation split, and one objective of them, with paired intervals."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64

from shelfrank.config import TaskWeights
from shelfrank.config.tune import TuneConfig
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import Split
from shelfrank.metrics import bootstrap_mean, reciprocal_rank
from shelfrank.metrics.bootstrap import MAX_BLOCK_DRAWS
from shelfrank.metrics.interval import difference_interval, mean_interval


@dataclass(frozen=True)
class Judge:
    """Measures orders of one split's searches.

    It keeps the ranks of an order: for each search and task the place of the first positive product, from 1,
    or 0 where MRR leaves the search out. MRR at any cutoff follows from them.

    Attributes:
        split: The searches.
        config: The objective and the bootstrap.
    """

    split: Split
    config: TuneConfig

    @functools.cached_property
    def ks(self) -> tuple[int, ...]:
        """The cutoffs of the figures."""
        return tuple(sorted({1, 10, self.config.objective.k}))

    @functools.cached_property
    def weights(self) -> tuple[float, ...]:
        """The objective's weight of each task."""
        labels = self.split.labels[:]
        starts = self.split.search_offsets[:-1]
        known = [
            bool(((np.minimum.reduceat(column, starts) >= 0) & (np.maximum.reduceat(column, starts) > 0)).any())
            if len(column)
            else False
            for column in np.ascontiguousarray(labels.T)
        ]
        tasks = self.split.tasks
        measured = [task for task, is_known in zip(tasks, known, strict=True) if is_known]
        given = self.config.objective.weights
        unknown = sorted(set(given or ()) - set(measured)) if given else []
        if unknown or not measured:
            raise UserError(
                "the objective's tasks must be positive in some search of the validation split, but "
                f"{', '.join(unknown) or 'none'} {'are not' if unknown else 'is'}; "
                f"choose among {', '.join(measured) or 'none, and prepare a larger split'}"
            )
        chosen = TaskWeights(measured, given)
        return tuple(chosen.get(task, 0.0) for task in tasks)

    def ranks(self, fused: Float32[np.ndarray, " rows"]) -> Int32[np.ndarray, "searches n_tasks"]:
        """Place of the first positive product by search and task, 0 where there is none or a label is missing."""
        split, found = self.split, np.zeros((self.split.n_searches, len(self.split.tasks)), np.int32)
        for index in range(found.shape[1]):
            labels = np.ascontiguousarray(split.labels[:, index])
            values = reciprocal_rank(fused, labels, split.search_offsets, split.tie_keys, max(1, split.n_rows))
            found[:, index] = np.where(np.isnan(values), 0, np.rint(1 / np.where(values > 0, values, 1)))
        return found

    def objective(self, ranks: Int32[np.ndarray, "searches n_tasks"]) -> float:
        """The weighted mean of the tasks' MRR."""
        values = reciprocal(ranks, self.config.objective.k)
        used = ranks > 0
        means = values.sum(axis=0) / np.maximum(used.sum(axis=0), 1)
        return float(means @ np.array(self.weights))

    def figures(self, ranks: Int32[np.ndarray, "searches n_tasks"]) -> dict[str, Any]:
        """The objective, and MRR by cutoff and task with intervals."""
        config, found = self.config, {}
        for k in self.ks:
            values = np.where(ranks > 0, reciprocal(ranks, k), np.nan)
            found[str(k)] = {
                task: bootstrap_mean(values[:, i], config.n_resamples, config.seed, config.confidence).as_dict()
                for i, task in enumerate(self.split.tasks)
            }
        return {"objective": self.objective(ranks), "mrr": found}

    def compare(
        self, orders: Sequence[Int32[np.ndarray, "searches n_tasks"]], chosen: int
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Each order's objective with its interval, and the chosen one's paired difference to it.

        Args:
            orders: Ranks of each.
            chosen: Index of the one that the others are set against.

        Returns:
            The objective and the difference, chosen minus order, all on the same resamples. Their `n` is
            the number of searches that are positive for the objective's rarest task.
        """
        confidence = self.config.confidence
        values = [self.objective(ranks) for ranks in orders]
        replicates = self._resampled(orders)
        parts = [self._parts(ranks) for ranks in orders]
        # The rarest task of the objective limits the evidence.
        n_by_task = (orders[chosen] > 0).sum(axis=0)
        n = int(n_by_task[np.array(self.weights) > 0].min())
        return [
            (
                mean_interval(value, parts[i], replicates[:, i], confidence, n).as_dict(),
                difference_interval(
                    values[chosen] - value,
                    parts[chosen] - parts[i],
                    replicates[:, chosen] - replicates[:, i],
                    confidence,
                    n,
                ).as_dict(),
            )
            for i, value in enumerate(values)
        ]

    def _parts(self, ranks: Int32[np.ndarray, "searches n_tasks"]) -> Float64[np.ndarray, " used"]:
        """Each search's contribution to the objective, which is the mean of them."""
        weights = np.array(self.weights)
        used = (ranks > 0) & (weights > 0)
        shares = weights / np.maximum(used.sum(axis=0), 1)
        counted = used.any(axis=1)
        return counted.sum() * (reciprocal(ranks, self.config.objective.k) @ shares)[counted]

    def _resampled(
        self, orders: Sequence[Int32[np.ndarray, "searches n_tasks"]]
    ) -> Float64[np.ndarray, "resamples orders"]:
        # Searches that no task uses change nothing, and most are of that kind for the rarer tasks.
        used = np.flatnonzero((orders[0] > 0).any(axis=1))
        n, n_resamples = len(used), self.config.n_resamples
        if n < 2:
            return np.empty((0, len(orders)))
        rng = np.random.default_rng(self.config.seed)
        weights = np.array(self.weights)
        values = [reciprocal(ranks[used], self.config.objective.k) for ranks in orders]
        mask = (orders[0][used] > 0).astype(np.float64)
        found = np.empty((n_resamples, len(orders)))
        step = max(1, MAX_BLOCK_DRAWS // n)
        for start in range(0, n_resamples, step):
            size = min(step, n_resamples - start)
            counts = _draws(rng, size, n)
            n_drawn = counts @ mask
            # A resample without any positive of a task has no figure of it.
            known = np.where(n_drawn > 0, n_drawn, np.where(weights > 0, np.nan, 1.0))
            for i, each in enumerate(values):
                found[start : start + size, i] = (counts @ each / known) @ weights
        return found


def reciprocal(ranks: Int32[np.ndarray, "searches n_tasks"], k: int) -> Float64[np.ndarray, "searches n_tasks"]:
    """Reciprocal ranks up to a cutoff, 0 beyond it and where a search is left out."""
    return np.where((ranks > 0) & (ranks <= k), 1 / np.maximum(ranks, 1), 0.0)


def mean_figures(found: Sequence[dict[str, Any]], k: int, tasks: Sequence[str]) -> list[tuple[float, ...]]:
    """Each entry's MRR at a cutoff by task, without the tasks that have none; for the Pareto front."""
    known = [task for task in tasks if all(entry["mrr"][str(k)][task]["value"] is not None for entry in found)]
    rows = [tuple(float(entry["mrr"][str(k)][task]["value"]) for task in known) for entry in found]
    return [tuple(value if math.isfinite(value) else 0.0 for value in row) for row in rows]


def _draws(rng: np.random.Generator, size: int, n: int) -> Float[np.ndarray, "size n"]:
    drawn: Int64[np.ndarray, "size n"] = rng.integers(0, n, size=(size, n))
    counts = np.zeros((size, n))
    for row, searches in enumerate(drawn):
        counts[row] = np.bincount(searches, minlength=n)
    return counts
