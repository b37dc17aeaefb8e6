"""Figures of the rows over their seeds, and paired differences of two rows on the same searches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from shelfrank.config import EvaluateConfig
from shelfrank.data.prepared import Split
from shelfrank.evaluate.evaluation import Evaluation, sample_searches
from shelfrank.metrics import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_mean_auc,
    personalization_degree,
    reciprocal_rank,
)
from shelfrank.paper.reproduce.runs import Training

Metric = Literal["mrr", "pd"]
K = 1
"""The paper's cutoff of MRR."""


@dataclass(frozen=True)
class RowPair:
    """A difference that a claim speaks of: one row's figure minus another's.

    Attributes:
        more: Name of the row that should have the higher figure; None for the constant 1, the PD of a ranker without
            personalization.
        less: Name of the row that is to have less.
        metric: MRR@1, or PD@10.
        task: The task; None for PD.
    """

    more: str | None
    less: str
    metric: Metric = "mrr"
    task: str | None = None

    @property
    def key(self) -> str:
        """Its name in `summary.json`."""
        return "/".join([self.metric, *([self.task] if self.task else []), self.more or "1", self.less])


class RowTrainings:
    """The finished trainings of one row.

    Args:
        trainings: One per seed.
        split: The split that was measured.
        config: How.
    """

    def __init__(self, trainings: Sequence[Training], split: Split, config: EvaluateConfig) -> None:
        self.evaluations = [Evaluation.open(training.evaluation) for training in trainings]
        self.seeds = [training.seed for training in trainings]
        self.split, self.config = split, config

    @cached_property
    def reciprocal_ranks(self) -> Mapping[str, Float64[np.ndarray, "seeds searches"]]:
        """By task the reciprocal rank at 1 of each seed and search, NaN where a search does not count."""
        split = self.split
        orders = [np.asarray(evaluation.array("fused")) for evaluation in self.evaluations]
        values = {}
        for index, task in enumerate(split.tasks):
            labels = np.ascontiguousarray(split.labels[:, index])
            each = [reciprocal_rank(order, labels, split.search_offsets, split.tie_keys, K) for order in orders]
            values[task] = np.stack(each).astype(np.float64)
        return values

    @cached_property
    def personalization(self) -> Float64[np.ndarray, "seeds searches"] | None:
        """The PD of each seed and search of the random subset; None for a ranker that reads no features."""
        if self.evaluations[0].report["pd"] is None:
            return None
        rows = self.split.searches(sample_searches(self.split.n_searches, self.config))
        each = [
            personalization_degree(
                np.asarray(evaluation.array("pd_fused")),
                np.asarray(evaluation.array("pd_neutral")),
                rows.search_offsets,
                rows.tie_keys,
                self.config.pd_k,
            )
            for evaluation in self.evaluations
        ]
        return np.stack(each).astype(np.float64)

    def per_search(self, metric: Metric, task: str | None) -> Float64[np.ndarray, "seeds searches"] | None:
        """The values that a figure is the mean of; None where the row has none."""
        if metric == "pd":
            return self.personalization
        return self.reciprocal_ranks.get(task or "")

    def figures(self) -> dict[str, Any]:
        """AUC and MRR@1 by task and PD@10, each over the seeds: mean, interval over searches, value of each seed.

        A figure that no search counts for, such as MRR of a task without a positive, has None for each of them.
        """
        config, tasks = self.config, self.split.tasks
        auc: dict[str, Any] = {}
        for index, task in enumerate(tasks):
            if all(evaluation.report["auc"][task] for evaluation in self.evaluations):
                labels = np.ascontiguousarray(self.split.labels[:, index])
                scores = [np.ascontiguousarray(each.array("tasks")[:, index]) for each in self.evaluations]
                interval = bootstrap_mean_auc(
                    scores, labels, self.split.search_offsets, config.n_resamples_auc, config.seed, config.confidence
                )
                values = [evaluation.report["auc"][task]["value"] for evaluation in self.evaluations]
                auc[task] = {**interval.as_dict(), "seeds": values}
        mrr = {task: self._mean(self.reciprocal_ranks[task]) for task in tasks}
        degree = self.personalization
        first = self.evaluations[0].report
        return {
            "auc": auc,
            "mrr": mrr,
            "pd": None if degree is None else self._mean(degree),
            "weights": first["task_weights"],
            "parameters": first["params"] and {name: first["params"][name] for name in ("trainable", "total")},
            "n_seeds": len(self.evaluations),
        }

    def _mean(self, values: Float64[np.ndarray, "seeds searches"]) -> dict[str, Any]:
        config = self.config
        interval = bootstrap_mean(values.mean(axis=0), config.n_resamples, config.seed, config.confidence)
        return {**interval.as_dict(), "seeds": [_plain_mean(each) for each in values]}


def difference(
    pair: RowPair, rows: Mapping[str, RowTrainings], config: EvaluateConfig, n_resamples: int
) -> dict[str, Any] | None:
    """The paired difference of two rows, averaged over the seeds, on the same searches.

    Args:
        pair: The two rows and the metric.
        rows: The measured rows by name.
        config: Seed and confidence.
        n_resamples: Bootstrap resamples.

    Returns:
        The difference with its interval over searches and `p`; `base`, the figure of `less`, and the difference in
        percent of it; every seed's difference. A figure that no search counts for is None, and so is the whole where a
        row is missing.
    """
    if pair.less not in rows or (pair.more is not None and pair.more not in rows):
        return None
    less = rows[pair.less].per_search(pair.metric, pair.task)
    if less is None:
        return None
    ones = np.where(np.isnan(less), np.nan, 1.0)
    more = ones if pair.more is None else rows[pair.more].per_search(pair.metric, pair.task)
    if more is None:
        return None
    found = bootstrap_difference(more.mean(axis=0), less.mean(axis=0), n_resamples, config.seed, config.confidence)
    plain: dict[str, Any] = dict(found.as_dict())
    plain["p"] = plain.pop("p_value")
    base = _plain_mean(less)
    percent = None
    if base and plain["low"] is not None:
        percent = {name: 100 * plain[name] / base for name in ("value", "low", "high")}
    # A row whose seeds are all alike stands beside each of the other's.
    n_seeds = max(len(more), len(less))
    ends = [(_plain_mean(more[seed % len(more)]), _plain_mean(less[seed % len(less)])) for seed in range(n_seeds)]
    each = [None if own is None or its is None else own - its for own, its in ends]
    return {**plain, "base": base, "percent": percent, "seeds": each}


def _plain_mean(values: np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None, which JSON can hold, where all are."""
    used = values[~np.isnan(values)]
    return float(used.mean()) if len(used) else None
