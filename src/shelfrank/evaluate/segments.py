"""Figures of rankers on parts of a split, such as the searches of one kind of query."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from shelfrank.config import EvaluateConfig
from shelfrank.core.progress import progress
from shelfrank.data.prepared import Split
from shelfrank.evaluate.differences import paired_difference
from shelfrank.evaluate.segmentations import Segments
from shelfrank.metrics import bootstrap_auc, bootstrap_mean, reciprocal_rank


def segment_figures(
    segmentations: Mapping[str, Segments],
    fused: Mapping[str, Float[np.ndarray, " rows"]],
    split: Split,
    config: EvaluateConfig,
    baseline: str | None = None,
) -> dict[str, Any]:
    """MRR at 1 and at the largest cutoff on each segment, and the paired differences to the baseline there.

    A segment's searches are resampled on their own, so its intervals are those of a split that holds only them.

    Args:
        segmentations: By name, the parts of the split.
        fused: By ranker, the score that orders each row's page.
        split: The split that was measured.
        config: Cutoffs and resamples.
        baseline: The ranker that the others are measured against; None measures no differences.

    Returns:
        By segmentation and segment: `searches`, how many it has; `with_positive`, by task, how many of them count;
        `rankers` and `differences`, by ranker, cutoff and task, the figure with its interval.
    """
    ranks = {name: _reciprocal_ranks(scores, split, config) for name, scores in fused.items()}
    result: dict[str, Any] = {}
    total = len(ranks) * sum(map(len, segmentations.values()))
    with progress("Measuring segments", total=total, unit="rankers") as advance:
        for name, segments in segmentations.items():
            result[name] = {}
            for segment, chosen in segments.items():
                result[name][segment] = _figures(chosen, ranks, split, config, baseline)
                advance(len(ranks))
    return result


def auc_of_rows(
    rows: Bool[np.ndarray, " rows"],
    tasks: Float[np.ndarray, "rows n_tasks"],
    split: Split,
    config: EvaluateConfig,
    scored_tasks: Sequence[str],
) -> dict[str, Any]:
    """AUC over some rows of a split, as if their pages held no others.

    Args:
        rows: Which rows count.
        tasks: The ranker's score of each task.
        split: The split that was measured.
        config: Resamples.
        scored_tasks: The tasks that the ranker predicts.

    Returns:
        `rows` and `positives` by task, how many there are; `auc` by task with its interval, None for a task that is not
        scored and where no row is chosen.
    """
    sizes = np.add.reduceat(rows, split.search_offsets[:-1], dtype=np.int64) if split.n_searches else np.zeros(0, int)
    offsets = np.concatenate([[0], np.cumsum(sizes[sizes > 0])]).astype(np.int64)
    found: dict[str, Any] = {"rows": int(offsets[-1]), "positives": {}, "auc": {}}
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[rows, index])
        found["positives"][task] = int(np.count_nonzero(labels == 1))
        found["auc"][task] = None
        if len(labels) and task in scored_tasks:
            scores = np.ascontiguousarray(tasks[rows, index])
            interval = bootstrap_auc(scores, labels, offsets, config.n_resamples_auc, config.seed, config.confidence)
            found["auc"][task] = interval.as_dict()
    return found


def _figures(
    chosen: Bool[np.ndarray, " searches"],
    ranks: Mapping[str, Mapping[tuple[int, str], Float64[np.ndarray, " searches"]]],
    split: Split,
    config: EvaluateConfig,
    baseline: str | None,
) -> dict[str, Any]:
    inside = {name: {key: values[chosen] for key, values in own.items()} for name, own in ranks.items()}
    # A search counts or does not by its labels alone, so any ranker gives the count.
    some = next(iter(inside.values()))
    found: dict[str, Any] = {
        "searches": int(np.count_nonzero(chosen)),
        "with_positive": {task: int(np.count_nonzero(~np.isnan(some[1, task]))) for task in split.tasks},
        "rankers": {},
        "differences": {},
    }
    for name, own in inside.items():
        found["rankers"][name] = _by_cutoff({key: _mean(values, config) for key, values in own.items()})
        if baseline is not None and name != baseline:
            paired = {key: paired_difference(values, inside[baseline][key], config) for key, values in own.items()}
            found["differences"][name] = _by_cutoff(paired)
    return found


def _reciprocal_ranks(
    fused: Float[np.ndarray, " rows"], split: Split, config: EvaluateConfig
) -> dict[tuple[int, str], Float64[np.ndarray, " searches"]]:
    """By cutoff and task the value of each search, NaN where it has no positive or a label is missing."""
    values = {}
    for k in sorted({1, max(config.ks)}):
        for index, task in enumerate(split.tasks):
            labels = np.ascontiguousarray(split.labels[:, index])
            values[k, task] = reciprocal_rank(fused, labels, split.search_offsets, split.tie_keys, k)
    return values


def _mean(values: Float64[np.ndarray, " searches"], config: EvaluateConfig) -> dict[str, Any]:
    return bootstrap_mean(values, config.n_resamples, config.seed, config.confidence).as_dict()


def _by_cutoff(figures: Mapping[tuple[int, str], dict[str, Any]]) -> dict[str, Any]:
    nested: dict[str, dict[str, Any]] = {}
    for (k, task), figure in figures.items():
        nested.setdefault(str(k), {})[task] = figure
    return {"mrr": nested}
