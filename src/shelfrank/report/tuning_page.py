"""The page of a search for settings: the choice, the alternatives, and the cost."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shelfrank import __version__
from shelfrank.core.artifact import write_atomic
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import (
    Block,
    Card,
    Cards,
    Cell,
    Code,
    Definitions,
    Figure,
    Figures,
    Heading,
    Missing,
    Row,
    Section,
    Table,
    Text,
)
from shelfrank.report.charts import Node, Spot, Sweep, scatter_chart, simplex_chart, sweep_chart
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import (
    between,
    compact,
    count,
    duration,
    listed,
    number,
    percent,
    plural,
    signed,
    task_name,
    task_title,
)
from shelfrank.report.page import render_page

MAX_ROWS = 16
COMMON: Mapping[str, str] = {
    "whole": "Every weighting was trained in full.",
    "screen": "The scores of one training, fused with every weighting; its loss weights are unchanged.",
}
PART = (
    "Every weighting, continued from one training at equal weights for part of a training, with its own loss weights."
)
FUSED = "The scores of the run, fused with every weighting; nothing is retrained."
STAGES: Mapping[str, str] = {
    "shared": "Shared training at equal weights",
    "screen": "Screening: the scores of that training, fused with every weighting",
    "whole": "Full trainings from scratch",
}


def write_tuning(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page of a search.

    Args:
        result: What `trials.json` holds.
        path: The HTML file.
    """
    write_atomic(path, render_tuning(result).encode())


def render_tuning(result: Mapping[str, Any]) -> str:
    """The page of a search for weights, fusion weights or sizes.

    Args:
        result: What `trials.json` holds.

    Returns:
        The HTML.
    """
    sections = _size_sections(result) if result["search"] == "sizes" else _weight_sections(result)
    valid, objective = result["valid"], result["objective"]
    measure = f"MRR@{objective['k']} of {_weighted(objective['weights'])}"
    return render_page(
        f"Tuning {result['label']}",
        "search for settings",
        [*sections, Section("provenance", "Provenance", _provenance(result))],
        conclusion=_conclusion(result),
        data_line=(
            f"{result['data']}: {count(valid['searches'])} validation searches, {count(valid['rows'])} rows; "
            f"objective: {measure}. The test split was not opened."
        ),
        version=__version__,
    )


def _weight_sections(result: Mapping[str, Any]) -> list[Section]:
    final = "fused" if result["search"] == "fusion" else "whole"
    finalists = [point | {"final": point[final]} for point in result["points"] if final in point]
    sections = [
        Section("result", "Result", [_cards(result), Code("\n".join(f"--set '{each}'" for each in result["set"]))]),
        Section("weights", "Weights", _simplex(result), _common(result)),
        Section(
            "trade-off", "Trade-off", _front(result), "Pareto front: weightings that no other one beats on every task."
        ),
    ]
    if finalists:
        blocks: list[Block] = [_finalists(finalists, result)]
        title = "Best weightings" if result["search"] == "fusion" else "Full trainings"
        told = FUSED if result["search"] == "fusion" else "Each weighting trained in full, as `train` does."
        sections.append(Section("finalists", title, blocks, told))
    return [*sections, Section("cost", "Cost", _cost(result))]


def _size_sections(result: Mapping[str, Any]) -> list[Section]:
    trials = sorted(
        result["trials"],
        key=lambda trial: (-(trial["objective"]["value"] if "objective" in trial else -1), trial["id"]),
    )
    names = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    rows = [
        Row(
            f"Trial {trial['id']}" + (" (as given)" if not trial["params"] else ""),
            [
                *(_objective_cells(trial, trial["id"] == result["chosen"])),
                Cell(compact(trial["parameters"])),
                Cell("" if trial["rows"] is None else compact(trial["rows"])),
                *(Cell(_value(trial["params"].get(name))) for name in names),
            ],
            note=trial["error"] or {"pruned": "ended early", "done": "", "failed": "failed"}[trial["state"]],
        )
        for trial in trials
    ]
    columns = ["Objective", "Chosen − this", "Parameters", "Rows seen", *(task_title(name) for name in names)]
    cost = result["cost"]
    return [
        Section("result", "Result", [_cards(result), Code("\n".join(f"--set '{each}'" for each in result["set"]))]),
        Section("trials", "Trials", [Table("All trials, best first", "Trial", columns, rows)]),
        Section(
            "cost",
            "Cost",
            [
                Text(
                    f"{plural(cost['trainings'], 'training', 'trainings')}, {cost['pruned']} of them ended early: "
                    f"{compact(cost['rows'])} training rows in {duration(cost['seconds'])}."
                )
            ],
        ),
    ]


def _cards(result: Mapping[str, Any]) -> Cards:
    entry = _chosen(result)
    k = str(result["objective"]["k"])
    cards = []
    for task in result["tasks"]:
        figure = Estimate.model_validate(entry["mrr"][k][task])
        told = "" if "weights" not in entry else f"weight {entry['weights'][task]:g}"
        others = [f"MRR@{other} {number(entry['mrr'][other][task]['value'])}" for other in entry["mrr"] if other != k]
        sentence = f"Interval {between(figure)}." + (f" {listed(others)}." if others else "")
        cards.append(Card(f"MRR@{k} of {task_name(task)}", number(figure.value), told, "", [sentence], ""))
    return Cards(cards)


def _simplex(result: Mapping[str, Any]) -> list[Block]:
    tasks, k = result["tasks"], str(result["objective"]["k"])
    chosen = _point(result)
    points = [point for point in result["points"] if point["relevance_weight"] == chosen["relevance_weight"]]
    named = [(f"MRR@{k} of {task_name(task)}", task) for task in tasks] + [("Objective", None)]
    figures = []
    for index, (title, task) in enumerate(named):
        values = [point["objective"] if task is None else point["mrr"][k][task]["value"] for point in points]
        if len(tasks) == 3:
            nodes = [
                Node(
                    tuple(point["weights"][each] for each in tasks),
                    value,
                    f"{_weighted(point['weights'])}: {number(value)}",
                    point is chosen,
                )
                for point, value in zip(points, values, strict=True)
            ]
            top, left, right = (task_title(each) for each in tasks)
            chart = simplex_chart(f"simplex-{index}", title, nodes, (top, left, right))
        elif len(tasks) == 2:
            along = sorted(
                (point["weights"][tasks[0]], Estimate(value=value) if task is None else _interval(point, k, task))
                for point, value in zip(points, values, strict=True)
            )
            chart = sweep_chart(
                f"simplex-{index}", title, [Sweep(title, "up", along)], f"weight of {task_name(tasks[0])}"
            )
        else:
            return [Missing("The weights can be drawn for two or three tasks only.")]
        figures.append(Figure(title, chart))
    beside = "" if chosen["relevance_weight"] is None else f" Relevance weight {chosen['relevance_weight']:g}."
    return [Figures(figures, "At a corner one task has all the weight." + beside)]


def _front(result: Mapping[str, Any]) -> list[Block]:
    tasks, k = result["tasks"], str(result["objective"]["k"])
    known = [task for task in tasks if all(point["mrr"][k][task]["value"] is not None for point in result["points"])]
    figures = []
    for one, other in itertools.combinations(known, 2):
        spots = [
            Spot(
                point["mrr"][k][one]["value"],
                point["mrr"][k][other]["value"],
                f"{_weighted(point['weights'])}: {number(point['mrr'][k][one]['value'])} and "
                f"{number(point['mrr'][k][other]['value'])}",
                point["front"],
                point["id"] == result["chosen"],
            )
            for point in result["points"]
        ]
        title = f"{task_title(one)} against {task_name(other)}"
        axes = (f"MRR@{k} of {task_name(one)}", f"MRR@{k} of {task_name(other)}")
        figures.append(Figure(title, scatter_chart(f"front-{one}-{other}", title, spots, axes)))
    front = sorted((p for p in result["points"] if p["front"]), key=lambda p: -p["objective"])
    best = {task: max(point["mrr"][k][task]["value"] for point in front) for task in known}
    rows = [
        Row(
            _weighted(point["weights"]),
            [
                *(
                    Cell(
                        number(point["mrr"][k][task]["value"]),
                        [(between(_interval(point, k, task)), "")],
                        best=point["mrr"][k][task]["value"] == best[task],
                    )
                    for task in known
                ),
                Cell(number(point["objective"])),
            ],
            note=_beside(point, result),
        )
        for point in front[:MAX_ROWS]
    ]
    more = "" if len(front) <= MAX_ROWS else f" {MAX_ROWS} of {len(front)} are shown; trials.json has all."
    columns = [*(task_title(task) for task in known), "Objective"]
    table = Table(
        f"Pareto front by objective: MRR@{k} with intervals",
        "Weights",
        columns,
        rows,
        legend=_common(result) + more,
    )
    chart: list[Block] = (
        [Figures(figures, "Filled: on the Pareto front of all tasks. Ringed: chosen.")] if figures else []
    )
    return [*chart, table]


def _finalists(finalists: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Table:
    k = str(result["objective"]["k"])
    order = sorted(finalists, key=lambda point: -point["final"]["objective"]["value"])
    rows = [
        Row(
            _weighted(point["weights"]),
            [
                *_objective_cells(point["final"], point["id"] == result["chosen"]),
                *(Cell(number(point["final"]["mrr"][k][task]["value"])) for task in result["tasks"]),
            ],
            note=_beside(point, result),
        )
        for point in order[:MAX_ROWS]
    ]
    columns = ["Objective", "Chosen − this", *(f"MRR@{k} of {task_name(task)}" for task in result["tasks"])]
    others = [point for point in order if point["id"] != result["chosen"]]
    even = sum(Estimate.model_validate(point["final"]["difference"]).sign != 1 for point in others)
    more = f" The best {MAX_ROWS} of {len(order)}." if len(order) > MAX_ROWS else ""
    legend = (
        f"{even} of {plural(len(others), 'other is', 'others are')} inconclusive against the chosen one (the paired "
        f"interval includes 0, or fewer than {MIN_SEARCHES} searches count).{more}"
    )
    return Table("Weightings by objective, with paired differences", "Weights", columns, rows, legend=legend)


def _cost(result: Mapping[str, Any]) -> list[Block]:
    cost = result["cost"]
    if not cost["trainings"]:
        return [Text(f"No training; {duration(cost['seconds'])}.")]
    words = (
        f"{plural(cost['trainings'], 'training', 'trainings')}: {compact(cost['rows'])} training rows in "
        f"{duration(cost['seconds'])}"
    )
    if cost.get("full_rows"):
        words += f", {percent(cost['rows'] / cost['full_rows'])} of the rows of a full training per weighting"
    rows = [
        Row(
            STAGES.get(stage["stage"], f"Continued for part of a training ({stage['stage']})"),
            [Cell(count(stage["trials"])), Cell(compact(stage["rows"])), Cell(duration(stage["seconds"]))],
        )
        for stage in cost["stages"]
    ]
    return [Text(words + "."), Table("Stages", "Stage", ["Trials", "Rows", "Time"], rows)]


def _conclusion(result: Mapping[str, Any]) -> str:
    chosen = _chosen(result)
    value = chosen["objective"]["value"] if isinstance(chosen["objective"], Mapping) else chosen["objective"]
    if result["search"] == "sizes":
        return (
            f"Trial {result['chosen']} of {len(result['trials'])} is best: objective {number(value)}.{_rivals(result)}"
        )
    what = "loss" if result["search"] == "weights" else "fusion"
    return (
        f"The best {what} weights of {len(result['points'])} are {_weighted(chosen['weights'])}: "
        f"objective {number(value)}.{_rivals(result)}"
    )


def _rivals(result: Mapping[str, Any]) -> str:
    """How many of the others are inconclusive against the chosen one."""
    entries = result["trials"] if result["search"] == "sizes" else result["points"]
    compared = [
        Estimate.model_validate(found["difference"])
        for entry in entries
        if entry["id"] != result["chosen"]
        and (found := entry.get("whole", entry.get("fused", entry))).get("difference") is not None
    ]
    if not compared:
        return ""
    if any(difference.too_few for difference in compared):
        return f" Inconclusive against every other: fewer than {MIN_SEARCHES} searches count for one of its tasks."
    even = sum(difference.sign != 1 for difference in compared)
    return f" Inconclusive against {even} of the {len(compared)} others that were compared."


def _provenance(result: Mapping[str, Any]) -> list[Block]:
    objective = result["objective"]
    facts = [
        ("Objective", f"Mean over tasks of MRR@{objective['k']}, weighted {_weighted(objective['weights'])}"),
        ("Confidence", f"{100 * result['confidence']:g} %; bootstrap over validation searches, differences paired"),
        ("Chosen on", "The validation split, which early stopping uses too, so the figures are slightly optimistic."),
    ]
    return [Definitions(facts), Heading("Settings"), Code("\n".join(result["set"]))]


def _chosen(result: Mapping[str, Any]) -> Mapping[str, Any]:
    if result["search"] == "sizes":
        return next(trial for trial in result["trials"] if trial["id"] == result["chosen"])
    point = _point(result)
    return {**point, **point.get("whole", point.get("fused", {}))}


def _point(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(point for point in result["points"] if point["id"] == result["chosen"])


def _objective_cells(entry: Mapping[str, Any], is_chosen: bool) -> list[Cell]:
    if "objective" not in entry:
        return [Cell("–"), Cell("–")]
    objective, difference = (Estimate.model_validate(entry[name]) for name in ("objective", "difference"))
    own = Cell(number(objective.value, 4), [(between(objective), "")], best=is_chosen)
    return [own, Cell("chosen") if is_chosen else Cell(signed(difference.value, 4), [(between(difference), "")])]


def _common(result: Mapping[str, Any]) -> str:
    return FUSED if result["search"] == "fusion" else COMMON.get(result["common"], PART)


def _beside(point: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    notes = [] if point["relevance_weight"] is None else [f"relevance {point['relevance_weight']:g}"]
    return ", ".join([*notes, *(["chosen"] if point["id"] == result["chosen"] else [])])


def _interval(point: Mapping[str, Any], k: str, task: str) -> Estimate:
    return Estimate.model_validate(point["mrr"][k][task])


def _weighted(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{task_name(task)} {round(weight, 3):g}" for task, weight in weights.items())


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
