"""Figures as rows of a table: one per figure, or one per search."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shelfrank.config import EvaluateConfig
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.metrics import METRICS, personalization_degree


def figure_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per figure of a ranker's report.

    Args:
        report: An evaluation's `report.json`, or a ranker of a `comparison.json`.

    Returns:
        Rows of `metric`, `k` (None for AUC), `task` (None for Personalization Degree), `value`, its interval from `low`
        to `high`, and `n`, the searches that it rests on.
    """
    rows = [
        _row(metric, int(k), task, interval)
        for metric in METRICS
        for k, by_task in report[metric].items()
        for task, interval in by_task.items()
    ]
    rows += [_row("auc", None, task, interval) for task, interval in report["auc"].items() if interval]
    rows += [_row("pd", int(k), None, interval) for k, interval in (report["pd"] or {}).items()]
    return rows


def comparison_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per ranker and figure, with the paired difference to the baseline.

    Args:
        comparison: A `comparison.json`.

    Returns:
        The rows of `figure_rows` after a `ranker`, with `difference`, its interval from `difference_low` to
        `difference_high`, and `p`; None where nothing is compared, as for the baseline itself.
    """
    rows = []
    for ranker in comparison["rankers"]:
        by_metric = comparison["differences"].get(ranker["name"], {})
        for row in figure_rows(ranker):
            by_task = by_metric.get(row["metric"]) or {}
            found = (by_task if row["k"] is None else by_task.get(str(row["k"]), {})).get(row["task"]) or {}
            difference = {
                "difference": found.get("value"),
                "difference_low": found.get("low"),
                "difference_high": found.get("high"),
                "p": found.get("p"),
            }
            rows.append({"ranker": ranker["name"], **row, **difference})
    return rows


def per_search_columns(evaluation: Evaluation) -> dict[str, Any]:
    """Every per-search metric of each search that was evaluated; their means are the figures of `figure_rows`.

    Args:
        evaluation: A finished evaluation.

    Returns:
        By name, one value per search: `search_id`, `timestamp`, `customer_id`, `query`, `n_products`, and metrics such
        as `mrr@10_click`, NaN where a search is left out, for example for want of a click.

    Raises:
        UserError: Where the data that was evaluated has changed or cannot be read.
    """
    inputs, prepared = evaluation.manifest.inputs, evaluation.prepared()
    config = EvaluateConfig.model_validate(inputs["config"])
    split = prepared.split(inputs["split"])
    searches = prepared.searches(inputs["split"])
    columns: dict[str, Any] = {name: searches[name] for name in ("search_id", "timestamp", "customer_id")}
    columns["query"] = prepared.queries()["query"].take(np.asarray(split.query_idx)[split.search_offsets[:-1]])
    columns["n_products"] = np.diff(split.search_offsets)
    fused = np.asarray(evaluation.array("fused"))
    for metric, values in METRICS.items():
        for k in config.ks:
            for index, task in enumerate(split.tasks):
                labels = np.ascontiguousarray(split.labels[:, index])
                columns[f"{metric}@{k}_{task}"] = values(fused, labels, split.search_offsets, split.tie_keys, k)
    if evaluation.report["pd"]:
        chosen = np.asarray(evaluation.array("pd_searches"))
        own, neutral = (np.asarray(evaluation.array(name)) for name in ("pd_fused", "pd_neutral"))
        subset = split.searches(chosen)
        degrees = np.full(split.n_searches, np.nan)
        degrees[chosen] = personalization_degree(own, neutral, subset.search_offsets, subset.tie_keys, config.pd_k)
        columns[f"pd@{config.pd_k}"] = degrees
    return columns


def _row(metric: str, k: int | None, task: str | None, interval: Mapping[str, Any]) -> dict[str, Any]:
    return {"metric": metric, "k": k, "task": task, **{name: interval[name] for name in ("value", "low", "high", "n")}}
