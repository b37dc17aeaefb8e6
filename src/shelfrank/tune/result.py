"""The result of a search, as plain data for `trials.json` and the page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig
from shelfrank.data.prepared import Split
from shelfrank.tune.judge import Judge, mean_figures
from shelfrank.tune.simplex import Point, efficient
from shelfrank.tune.sizes import SizeSearch, Tried
from shelfrank.tune.trees import TreeSearch
from shelfrank.tune.weights import WHOLE, Judged, WeightSearch

Result = tuple[dict[str, Any], ExperimentConfig, dict[str, np.ndarray]]
"""The figures, the chosen config, and the ranks of every order by its trial's name."""


def weight_result(search: WeightSearch, found: Sequence[Judged]) -> Result:
    """The figures of a search over loss weights.

    Args:
        search: The search.
        found: Every point.

    Returns:
        Figures, config and ranks.
    """
    trainer, judge = search.trainer, search.trainer.judge
    points = point_figures(judge, [each.point for each in found], [each.common for each in found])
    finalists = [i for i, each in enumerate(found) if each.stage == WHOLE]
    whole = [found[i].ranks for i in finalists]
    chosen = best_of(judge, whole)
    for place, (i, compared) in enumerate(zip(finalists, judge.compare(whole, chosen), strict=True)):
        points[i]["whole"] = {**judge.figures(whole[place]), "objective": compared[0], "difference": compared[1]}
    for entry, each in zip(points, found, strict=True):
        entry |= {"stage": each.stage, "rows": each.rows, "seconds": round(each.seconds, 2)}
        if each.screened is not None:
            entry["fused_objective"] = judge.objective(each.screened)
    spent = [record for record in search.spent if record["stage"] != "screen"]
    rows, whole_rows = sum(record["rows"] for record in spent), [e["rows"] for e in spent if e["stage"] == WHOLE]
    point = found[finalists[chosen]].point
    settings = [f"task_weights={assignment(search.task_weights(point))}"]
    settings += [] if point.relevance is None else [f"relevance_weight={point.relevance:g}"]
    result = {
        "search": "weights",
        "method": trainer.settings.method,
        "common": search.common,
        **about(judge),
        "points": points,
        "chosen": point.id,
        "set": settings,
        "cost": {
            "rows": rows,
            "seconds": round(sum(record["seconds"] for record in spent), 1),
            "trainings": len(spent),
            # The grid's cost is estimated from the whole trainings.
            "full_rows": round(len(points) * float(np.mean(whole_rows))),
            "stages": stage_costs(search.spent),
        },
    }
    return result, search.config_of(point), {each.point.id: each.ranks for each in found}


def size_result(search: SizeSearch | TreeSearch, found: Sequence[Tried]) -> Result:
    """The figures of a search over sizes.

    Args:
        search: The search.
        found: Every trial.

    Returns:
        Figures, config and ranks.
    """
    judge = search.trainer.judge
    ended = [each for each in found if each.ranks is not None]
    orders = [each.ranks for each in ended if each.ranks is not None]
    chosen = best_of(judge, orders)
    compared = {
        each.id: (judge.figures(ranks), *pair)
        for each, ranks, pair in zip(ended, orders, judge.compare(orders, chosen), strict=True)
    }
    trials = []
    for each in found:
        entry: dict[str, Any] = {"id": each.id, "params": dict(each.params), "state": each.state}
        entry |= {name: each.facts.get(name) for name in ("rows", "seconds", "parameters", "error")}
        if each.id in compared:
            figures, objective, difference = compared[each.id]
            entry |= {**figures, "objective": objective, "difference": difference}
        trials.append(entry)
    best = ended[chosen]
    result = {
        "search": "sizes",
        **about(judge),
        "trials": trials,
        "chosen": best.id,
        "set": assignments(best.settings),
        "cost": {
            "rows": sum(int(each.facts.get("rows", 0)) for each in found),
            "seconds": round(sum(float(each.facts["seconds"]) for each in found), 1),
            "trainings": len(found),
            "pruned": sum(each.state == "pruned" for each in found),
        },
    }
    return result, search.config_of(best.params), {each.id: each.ranks for each in ended if each.ranks is not None}


def point_figures(judge: Judge, points: Sequence[Point], orders: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Every point's weights and figures, and whether it is on the Pareto front.

    Args:
        judge: Measures.
        points: The points.
        orders: The ranks of each, all from the same stage.

    Returns:
        An entry per point.
    """
    tasks = judge.split.tasks
    figures = [judge.figures(ranks) for ranks in orders]
    front = set(efficient(mean_figures(figures, judge.config.objective.k, tasks)))
    return [
        {
            "id": point.id,
            "weights": dict(zip(tasks, point.weights, strict=True)),
            "relevance_weight": point.relevance,
            **each,
            "front": i in front,
        }
        for i, (point, each) in enumerate(zip(points, figures, strict=True))
    ]


def about(judge: Judge) -> dict[str, Any]:
    """Data and settings behind the figures."""
    split: Split = judge.split
    return {
        "tasks": list(split.tasks),
        "objective": {
            "k": judge.config.objective.k,
            "weights": dict(zip(split.tasks, judge.weights, strict=True)),
        },
        "confidence": judge.config.confidence,
        "ks": list(judge.ks),
        "valid": {"searches": split.n_searches, "rows": split.n_rows},
    }


def best_of(judge: Judge, orders: Sequence[np.ndarray]) -> int:
    """Index of the order of the highest objective; of equal ones the first."""
    return int(np.argmax([judge.objective(ranks) for ranks in orders]))


def stage_costs(spent: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Trials, rows and seconds of each stage."""
    found: dict[str, dict[str, Any]] = {}
    for record in spent:
        stage = found.setdefault(record["stage"], {"stage": record["stage"], "trials": 0, "rows": 0, "seconds": 0.0})
        stage["trials"] += 1
        stage["rows"] += record["rows"]
        stage["seconds"] = round(stage["seconds"] + record["seconds"], 2)
    return list(found.values())


def assignments(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as the command line's `--set` takes them.

    Args:
        settings: The settings.
        prefix: Path of where they stand.

    Returns:
        One assignment per key.

    Example:
        >>> assignments({"neural": {"mlp": {"layers": [64, 32]}, "dropout": 0.1}})
        ['neural.mlp.layers=[64, 32]', 'neural.dropout=0.1']
    """
    found = []
    for name, value in settings.items():
        path = f"{prefix}{name}"
        found += assignments(value, f"{path}.") if isinstance(value, Mapping) else [f"{path}={json.dumps(value)}"]
    return found


def assignment(weights: Mapping[str, float]) -> str:
    """Weights by task as YAML on one line.

    Args:
        weights: The weights.

    Returns:
        The line.

    Example:
        >>> assignment({"click": 0.4, "purchase": 0.6})
        '{click: 0.4, purchase: 0.6}'
    """
    return "{" + ", ".join(f"{task}: {weight:g}" for task, weight in weights.items()) + "}"
