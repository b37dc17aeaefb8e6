"""The page of a search, read strictly."""

from typing import Any

import pytest

from html_checks import StrictPage, drawings
from shelfrank.report.tuning_page import render_tuning
from shelfrank.tune.simplex import efficient, simplex

TASKS = ("click", "add_to_cart", "purchase")


def interval(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 100}


def weights_result(n_tasks: int = 3, search: str = "weights", relevance: float | None = None) -> dict[str, Any]:
    tasks = TASKS[:n_tasks]
    points = []
    for point in simplex(n_tasks, 4, None if relevance is None else [relevance]):
        mrr = {task: interval(0.3 + 0.1 * w) for task, w in zip(tasks, point.weights, strict=True)}
        points.append(
            {
                "id": point.id,
                "weights": dict(zip(tasks, point.weights, strict=True)),
                "relevance_weight": relevance,
                "objective": 0.3,
                "mrr": {"1": mrr, "10": mrr},
            }
        )
    front = efficient([[entry["mrr"]["10"][task]["value"] for task in tasks] for entry in points])
    for i, entry in enumerate(points):
        entry["front"] = i in front
    for entry in points[1:3]:
        entry["whole" if search == "weights" else "fused"] = {
            "objective": interval(0.31),
            "difference": interval(0.0),
            "mrr": entry["mrr"],
        }
    stages = [{"stage": stage, "trials": 2, "rows": 100, "seconds": 1.0} for stage in ("shared", "look1", "whole")]
    return {
        "search": search,
        "method": "cheap",
        "common": "look1",
        "ranker": "mmoe",
        "label": "MMoE <b>",
        "data": "shop & co",
        "tasks": list(tasks),
        "objective": {"k": 10, "weights": dict.fromkeys(tasks, 1 / n_tasks)},
        "confidence": 0.95,
        "ks": [1, 10],
        "valid": {"searches": 100, "rows": 1000},
        "points": points,
        "chosen": points[1]["id"],
        "set": ["task_weights={click: 0.75}"],
        "cost": {"rows": 300, "seconds": 3.0, "trainings": 0 if search == "fusion" else 5, "full_rows": 900}
        | {"stages": stages},
    }


def sizes_result() -> dict[str, Any]:
    told = {"rows": 100, "seconds": 1.0, "parameters": 1200, "error": None}
    mrr = {"10": {task: interval(0.4) for task in TASKS}}
    done = {"objective": interval(0.4), "difference": interval(0.0), "mrr": mrr}
    trials = [
        {"id": "000", "params": {}, "state": "done", **told, **done},
        {"id": "001", "params": {"dropout": 0.25, "d_embedding": 8}, "state": "pruned", **told, "parameters": None},
        {"id": "002", "params": {"dropout": 0.1, "d_embedding": 8}, "state": "failed", **told, "error": "it <broke>"},
    ]
    base = weights_result()
    kept = {name: base[name] for name in ("label", "data", "tasks", "objective", "confidence", "ks", "valid")}
    cost = {"rows": 300, "seconds": 3.0, "trainings": 3, "pruned": 1}
    return {**kept, "search": "sizes", "trials": trials, "chosen": "000", "set": [], "cost": cost}


@pytest.mark.parametrize(
    ("result", "n_charts"),
    [
        pytest.param(weights_result(), 4 + 3, id="three tasks: a triangle each and the objective's, three pairs"),
        pytest.param(weights_result(2), 3 + 1, id="two tasks: a line each"),
        pytest.param(weights_result(search="fusion"), 4 + 3, id="fusion"),
        pytest.param(weights_result(relevance=0.1), 4 + 3, id="with a relevance weight"),
        pytest.param(sizes_result(), 0, id="sizes"),
    ],
)
def test_the_page_is_well_formed_and_its_charts_are_told_in_words(result: dict[str, Any], n_charts: int) -> None:
    html = render_tuning(result)
    page = StrictPage(html)
    assert "<b>" not in html.replace("&lt;b&gt;", "")
    charts = drawings(html)
    assert len(charts) == n_charts
    for chart in charts:
        title, description = chart[0], chart[1]
        assert title.text
        assert description.text
        assert chart.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert len({chart[0].get("id") for chart in charts}) == n_charts
    assert "The test split was not opened." in page.text
    assert not page.all("script")


def test_the_triangle_marks_the_chosen_point_and_the_highest() -> None:
    [chart, *_] = drawings(render_tuning(weights_result()))
    circles = [each for each in chart.iter() if each.tag == "circle"]
    looks = [each.get("class") for each in circles]
    # Fifteen points, six steps of the legend; a mark on the chart and one in the legend each.
    assert looks.count("node") == 15 + 6
    assert looks.count("mark-chosen") == looks.count("mark-best") == 2
    best = circles[looks.index("mark-best")]
    top = min((each for each in circles if each.get("class") == "node"), key=lambda each: float(each.get("cy") or 0))
    assert (best.get("cx"), best.get("cy")) == (top.get("cx"), top.get("cy"))
    assert chart[1].text == (
        "lowest 0.300, highest 0.400; highest: click 1, add to cart 0, purchase 0: 0.400; "
        "chosen: click 0.75, add to cart 0.25, purchase 0: 0.375"
    )


def test_settings_and_trade_offs_can_be_copied_from_the_page() -> None:
    text = StrictPage(render_tuning(weights_result())).text
    assert "--set 'task_weights={click: 0.75}'" in text
    assert "33.3 % of the rows of a full training per weighting" in text
    assert "1 of 1 other is inconclusive against the chosen one" in text
