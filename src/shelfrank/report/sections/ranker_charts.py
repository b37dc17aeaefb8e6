"""Charts of the rankers: values beside what is possible, and paired differences beside zero."""

from collections.abc import Callable

from markupsafe import Markup

from shelfrank.report.blocks import Block, Figure, Figures, Missing, Tabs
from shelfrank.report.charts import Dot, Reference, interval_chart
from shelfrank.report.comparison import Comparison
from shelfrank.report.formats import number, task_title
from shelfrank.report.measured import Measure
from shelfrank.report.sections.ranker_rows import HOW_TO_READ_DIFFERENCES, difference_dot

Draw = Callable[[str, Comparison, Measure, str], Markup | None]
"""Draws the chart of an id, a comparison, a measure and a task; None where nothing is known."""


def value_charts(comparison: Comparison) -> Block:
    """Each ranker's value with its interval, by task, for every measure to choose from."""
    caption = "Filled blue: the highest value. Hollow: the baseline, whose value the thin line repeats."
    if comparison.bounds.best.mrr or comparison.bounds.non_personalized.mrr:
        caption += (
            " Best possible: each page ordered by the customer's true probabilities, which only a simulation "
            "knows. Best without personalization: by those of the average customer."
        )
    return _choice("values", "Values, with intervals", comparison, _values, caption) or Missing(
        "No values are part of this comparison."
    )


def difference_charts(comparison: Comparison) -> Block:
    """Each ranker's paired difference to the baseline with its interval, by task, for every measure."""
    legend = "Paired differences to the baseline"
    return _choice("differences", legend, comparison, _differences, HOW_TO_READ_DIFFERENCES) or Missing(
        "Paired differences to a baseline are not part of this comparison."
    )


def _choice(name: str, legend: str, comparison: Comparison, draw: Draw, caption: str) -> Tabs | None:
    items: list[tuple[str, list[Block]]] = []
    chosen = 0
    for number_of_measure, measure in enumerate(comparison.measures):
        figures = []
        for number_of_task, task in enumerate(comparison.tasks):
            chart = draw(f"{name}-{number_of_measure}-{number_of_task}", comparison, measure, task)
            if chart is not None:
                figures.append(Figure(task_title(task), chart))
        if figures:
            if measure == comparison.headline:
                chosen = len(items)
            items.append((measure.label, [Figures(figures, caption)]))
    return Tabs(name, legend, items, chosen) if items else None


def _values(chart_id: str, comparison: Comparison, measure: Measure, task: str) -> Markup | None:
    intervals = [(ranker, ranker.get(measure, task)) for ranker in comparison.rankers]
    values = [interval.value for _, interval in intervals if interval and interval.value is not None]
    if not values:
        return None
    dots = []
    for ranker, interval in intervals:
        value = interval.value if interval else None
        tone = "baseline" if ranker.name == comparison.baseline else "best" if value == max(values) else "plain"
        ends = (interval.low, interval.high) if interval else (None, None)
        dots.append(Dot(ranker.title, number(value), value, *ends, tone=tone))
    title = f"{measure.label}, {task_title(task)}"
    return interval_chart(chart_id, title, dots, _references(comparison, measure, task), measure.label)


def _references(comparison: Comparison, measure: Measure, task: str) -> list[Reference]:
    base = comparison.baseline_ranker
    interval = base.get(measure, task) if base else None
    references = [Reference("", interval.value, "baseline")] if interval and interval.value is not None else []
    for label, bound, tone in (
        ("best without personalization", comparison.bounds.non_personalized, "non-personalized"),
        ("best possible", comparison.bounds.best, "best"),
    ):
        value = bound.get(measure, task)
        if value is not None:
            references.append(Reference(f"{label}: {number(value)}", value, tone))
    return references


def _differences(chart_id: str, comparison: Comparison, measure: Measure, task: str) -> Markup | None:
    dots = [
        difference_dot(ranker.title, comparison.difference(ranker, measure, task))
        for ranker in comparison.rankers
        if ranker.name != comparison.baseline
    ]
    if not any(item.known for item in dots):
        return None
    title = f"Difference in {measure.label} to the baseline, {task_title(task)}"
    return interval_chart(chart_id, title, dots, [Reference("", 0.0, "zero")], f"difference in {measure.label}")
