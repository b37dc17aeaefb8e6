"""Figures of rankers on parts of a split, such as the searches of one kind of query."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64

from shelfrank.config import EvaluateConfig
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.differences import paired_difference
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.logs.search_log import has_table, table_files
from shelfrank.metrics import bootstrap_mean, reciprocal_rank
from shelfrank.progress import progress

TRUTH = "truth/searches"
QUERY_KIND = "query_kind"

Segments = Mapping[str, Bool[np.ndarray, " searches"]]
"""Named parts of a split: which of its searches belong to each. They may overlap, and need not cover the split."""


def segmentations(log: Path, prepared: PreparedData, split_name: str) -> dict[str, Segments]:
    """Every way of telling the searches of a split apart that the data allows.

    Args:
        log: The log's folder.
        prepared: The data whose split is measured.
        split_name: The split.

    Returns:
        By name the segments; `query_kind` where the log knows the kinds of queries.
    """
    return {QUERY_KIND: query_kinds(log, prepared, split_name)} if has_table(log, TRUTH) else {}


def query_kinds(log: Path, prepared: PreparedData, split_name: str) -> Segments:
    """The searches of each kind of query.

    Args:
        log: The folder of a log with `truth/searches`.
        prepared: The data whose split is measured.
        split_name: The split.

    Returns:
        By kind, which searches are of it; each search is of one kind.
    """
    truth = pq.read_table(table_files(log, TRUTH), columns=["search_id", QUERY_KIND])
    ids = prepared.searches(split_name)["search_id"]
    rows = pc.index_in(ids, value_set=truth["search_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    assert rows.null_count == 0, "the truth must cover every search of the log"
    kinds = truth[QUERY_KIND].take(rows).to_numpy()
    return {kind: kinds == kind for kind in sorted(set(kinds.tolist()))}


def segment_figures(
    segments: Segments, evaluations: Mapping[str, Evaluation], split: Split, config: EvaluateConfig, baseline: str
) -> dict[str, Any]:
    """MRR at 1 and at the largest cutoff on each segment, and the paired differences to the baseline there.

    A segment's searches are resampled on their own, so its intervals are those of a split that holds only them.

    Args:
        segments: The parts of the split.
        evaluations: The rankers.
        split: The split that was measured.
        config: Cutoffs and resamples.
        baseline: The ranker that the others are measured against.

    Returns:
        By segment: `searches`, how many it has; `with_positive`, by task, how many of them count; `rankers` and
        `differences`, by ranker, cutoff and task, the figure with its interval.
    """
    ranks = {name: _reciprocal_ranks(evaluation, split, config) for name, evaluation in evaluations.items()}
    result: dict[str, Any] = {}
    with progress("Measuring segments", total=len(segments) * len(ranks), unit="rankers") as advance:
        for segment, chosen in segments.items():
            inside = {name: {key: values[chosen] for key, values in own.items()} for name, own in ranks.items()}
            base = inside[baseline]
            found: dict[str, Any] = {
                "searches": int(np.count_nonzero(chosen)),
                "with_positive": {task: int(np.count_nonzero(~np.isnan(base[1, task]))) for task in split.tasks},
                "rankers": {},
                "differences": {},
            }
            for name, own in inside.items():
                found["rankers"][name] = _by_cutoff({key: _mean(values, config) for key, values in own.items()})
                if name != baseline:
                    paired = {key: paired_difference(values, base[key], config) for key, values in own.items()}
                    found["differences"][name] = _by_cutoff(paired)
                advance(1)
            result[segment] = found
    return result


def _reciprocal_ranks(
    evaluation: Evaluation, split: Split, config: EvaluateConfig
) -> dict[tuple[int, str], Float64[np.ndarray, " searches"]]:
    """By cutoff and task the value of each search, NaN where it has no positive or a label is missing."""
    fused = np.asarray(evaluation.array("fused"))
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
