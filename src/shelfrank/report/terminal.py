"""The comparison as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.comparison import Comparison, Ranker, read_comparison
from shelfrank.report.formats import brief, number, task_title
from shelfrank.report.measured import Interval, Measure

MARKS = {1: (" ▲", "bold blue"), -1: (" ▼", "bold dark_orange3")}
NO_MARK = ("  ", "")
MAX_SKEW = 0.1
"""Sides of an interval that differ by no more than this share of its width are written as one."""


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Rankers by task: MRR at the smallest and the headline cutoff, AUC, and PD, with intervals.

    A triangle after a figure says that its paired difference to the baseline is shown, see `shown_sign`.

    Args:
        comparison: The comparison, as parsed from JSON.

    Returns:
        A table that fits 100 columns.

    Raises:
        UserError: Where a part of the comparison has the wrong type.
    """
    known = read_comparison(comparison)
    measures = dict.fromkeys([Measure("mrr", min(known.ks, default=1)), known.headline, Measure("auc")])
    confidence = "" if known.confidence is None else f"{known.confidence * 100:g} % "
    base = known.baseline_ranker
    against = base.title if base else known.baseline
    note = (
        f" ▲ ▼ the interval of the paired difference to {against} excludes 0, and at least {MIN_SEARCHES} searches "
        "count."
        if against
        else ""
    )
    table = Table(
        title=Text(known.title, "bold"),
        title_justify="left",
        caption=Text(f"After each figure its {confidence}interval: as ±, or its ends where its sides differ.{note}"),
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("Task", overflow="fold", max_width=14)
    table.add_column("Ranker", overflow="fold", max_width=30)
    for measure in measures:
        table.add_column(measure.label, justify="right", no_wrap=True)
    table.add_column("PD@10", justify="right", no_wrap=True)
    for task in known.tasks:
        for index, ranker in enumerate(known.rankers):
            table.add_row(
                Text(task_title(task) if index == 0 else ""),
                Text(ranker.title, "dim" if ranker.name == known.baseline else ""),
                *(_figure(known, ranker, measure, task) for measure in measures),
                _personalization(ranker),
                end_section=index == len(known.rankers) - 1,
            )
    return table


def _figure(comparison: Comparison, ranker: Ranker, measure: Measure, task: str) -> Text:
    interval = ranker.get(measure, task)
    figure = Text(number(interval.value if interval else None))
    if interval is not None:
        figure.append(spread(interval), "dim")
    compared = interval is not None and ranker.name != comparison.baseline
    difference = comparison.difference(ranker, measure, task) if compared else None
    return figure.append(*MARKS.get(difference.sign or 0, NO_MARK)) if difference else figure.append(*NO_MARK)


def spread(interval: Interval) -> str:
    """An interval after its value: `±` and its longer side where both are about as long, else its ends.

    Args:
        interval: The interval.

    Returns:
        The text, with a space before it; empty where the ends are not known.

    Example:
        >>> spread(Interval(value=0.25, low=0.238, high=0.261)), spread(Interval(value=0.0, low=0.0, high=0.49))
        (' ±0.012', ' 0.000–0.490')
    """
    if interval.value is None or interval.low is None or interval.high is None:
        return ""
    sides = (interval.value - interval.low, interval.high - interval.value)
    alike = abs(sides[0] - sides[1]) <= max(MAX_SKEW * sum(sides), 0.002)
    return f" ±{max(sides):.3f}" if alike else f" {brief(interval)}"


def _personalization(ranker: Ranker) -> Text:
    degree = ranker.pd.get("10")
    return Text(number(degree.value if degree else None))
