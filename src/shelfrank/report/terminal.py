"""The comparison for the terminal: a table, and its conclusion in words."""

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from shelfrank.evaluate.truth import EXPECTED_FIGURES
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.comparison import Comparison, EvaluatedCounts, Ranker, figure_of, read_comparison
from shelfrank.report.estimates import Estimate, Measure
from shelfrank.report.formats import brief, number, plural, task_title
from shelfrank.report.sections.data import evaluated_on
from shelfrank.report.sections.result import judge, lead

PERSONALIZATION_DEGREE = (
    "share of the first 10 products that are the same with and without personalization; lower is more personalized"
)
MARKS = {1: (" ▲", "bold blue"), -1: (" ▼", "bold dark_orange3")}
NO_MARK = ("  ", "")
MAX_TASK = 14
"""Columns of a task's name."""
MIN_NAME = 20
"""Columns that a ranker's name has before the layout becomes a narrower one."""
MIN_WIDTH = 66
"""Columns of the narrowest table."""
MAX_SKEW = 0.1
"""Sides of an interval that differ by no more than this share of its width are written as one."""


def comparison_table(comparison: Mapping[str, Any], width: int = 100) -> Table:
    """Rankers by task: MRR at the headline cutoff, AUC, and PD, with intervals.

    Beside them is MRR at the smallest cutoff or, of a simulated log, the expected MRR at the headline cutoff.

    A triangle after a figure says that its paired difference to the baseline is shown, see `shown_sign`. Where the
    columns do not leave `MIN_NAME` to the rankers' names, each task is a line above its rankers; where that is not
    enough, intervals stand below their figures.

    Args:
        comparison: The comparison, as parsed from JSON.
        width: Columns of the terminal.

    Returns:
        A table that fits the terminal, or `MIN_WIDTH` columns where it has fewer.

    Raises:
        UserError: Where a part of the comparison has the wrong type.
    """
    known = read_comparison(comparison)
    width = max(width, MIN_WIDTH)
    # The logged figure at another cutoff tells less than what is known of the same order without noise and bias.
    smallest = Measure("mrr", min(known.ks, default=1))
    mrr = [known.headline, *known.expected_measures] if known.expected_measures else [smallest, known.headline]
    measures = list(dict.fromkeys([*mrr, Measure("auc")]))
    labels = [*(measure.label for measure in measures), "PD@10"]
    confidence = "" if known.confidence is None else f"{known.confidence * 100:g} % "
    base = known.baseline_ranker
    against = base.title if base else known.baseline
    note = (
        f" ▲ ▼: the interval of the paired difference to {against} excludes 0 and at least {MIN_SEARCHES} searches "
        "count."
        if against
        else ""
    )
    table = Table(
        title=Text(known.title, "bold"),
        title_justify="left",
        caption=Text(f"Figures with {confidence}intervals: ±, or both ends where these are asymmetric.{note}"),
        caption_justify="left",
        pad_edge=False,
    )
    titles = [ranker.title for ranker in known.rankers]
    tasks = [task_title(task) for task in known.tasks]
    wanted = min(max(map(cell_len, titles), default=0), MIN_NAME)
    # Each layout is narrower than the one before.
    for has_task_column, is_folded in ((True, False), (False, False), (False, True)):
        rows = {
            (task, ranker.name): [
                *(_figure(known, ranker, measure, task, is_folded) for measure in measures),
                _personalization(ranker),
            ]
            for task in known.tasks
            for ranker in known.rankers
        }
        headings = [label.replace(" ", "\n") if is_folded else label for label in labels]
        widths = [
            max(
                cell_len(line)
                for text in (heading, *(row[place].plain for row in rows.values()))
                for line in text.split("\n")
            )
            for place, heading in enumerate(headings)
        ]
        if has_task_column:
            widths.insert(0, min(max(map(cell_len, ["Task", *tasks])), MAX_TASK))
        # Columns are three characters apart, and the table has an edge on either side.
        left = width - sum(widths) - 3 * len(widths) - 2
        if left >= wanted:
            break
    if has_task_column:
        table.add_column("Task", overflow="fold", width=widths[0])
    table.add_column("Ranker", overflow="fold", width=min(max(map(cell_len, ["Ranker", *titles])), left))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for task, title in zip(known.tasks, tasks, strict=True):
        if not has_task_column:
            table.add_row(Text(title, "bold"))
        for index, ranker in enumerate(known.rankers):
            first = [Text(title if index == 0 else "")] if has_task_column else []
            name = Text(ranker.title, "dim" if ranker.name == known.baseline else "")
            is_last = index == len(known.rankers) - 1
            table.add_row(*first, name, *rows[task, ranker.name], end_section=is_last)
    return table


def conclusion_lines(comparison: Mapping[str, Any]) -> list[str]:
    """The comparison's conclusion in words, and a line on each figure of the table that is not a standard one.

    Args:
        comparison: The comparison, as parsed from JSON.

    Returns:
        Lines of text to print below `comparison_table`.

    Raises:
        UserError: Where a part of the comparison has the wrong type.
    """
    known = read_comparison(comparison)
    conclusion = lead(known, [judge(known, task) for task in known.tasks])
    figures = {
        measure.label: text
        for measure in known.expected_measures
        for figure, text in EXPECTED_FIGURES.items()
        if figure == measure.family
    }
    if any(ranker.pd.get("10") for ranker in known.rankers):
        figures["PD@10"] = PERSONALIZATION_DEGREE
    evaluated = evaluated_on(known.counts)
    return [
        *([conclusion] if conclusion else []),
        *([f"Evaluated on {evaluated}."] if evaluated else []),
        *_randomised_line(known),
        *(f"{label}: {text}." for label, text in figures.items()),
    ]


def evaluation_lines(report: Mapping[str, Any]) -> list[str]:
    """Which searches an evaluation is on, and MRR at the largest cutoff with that of each test window.

    Args:
        report: An evaluation's `report.json`.

    Returns:
        Lines of text; none where all searches of a single split were evaluated.
    """
    evaluated = evaluated_on(EvaluatedCounts.model_validate(report["evaluated"]))
    folds: Mapping[str, Any] = report.get("folds", {})
    k = max(report["mrr"], key=int)
    by_task = {
        task: ", ".join(f"{name} {_estimate(fold['mrr'][k][task])}" for name, fold in folds.items())
        for task in report["mrr"][k]
    }
    return [
        *([f"evaluated on {evaluated}"] if evaluated else []),
        *(
            f"MRR@{k} {task_title(task).lower()}: {_estimate(report['mrr'][k][task])}; {each}"
            for task, each in by_task.items()
            if each
        ),
    ]


def clipped_lines(report: Mapping[str, Any]) -> list[str]:
    """The evaluated rows whose number is clipped to what training saw, by feature, from an evaluation's report."""
    # Evaluations of former versions clipped nothing.
    counts = sorted(report.get("clipped", {}).items())
    return [f"clipped to the training range: {name} of {count:,} rows" for name, count in counts]


def _estimate(figure: Mapping[str, Any]) -> str:
    estimate = Estimate.model_validate(figure)
    return f"{number(estimate.value)}{spread(estimate)}"


def _randomised_line(known: Comparison) -> list[str]:
    """The figures on randomised pages alone, in a line; none where the log marks no page."""
    segment = known.segments.get("randomised", {}).get("randomised")
    if segment is None or not segment.searches:
        return []
    measure = Measure("mrr", max(known.ks, default=10))
    figures = [
        f"{ranker.title} {number(figure.value)}{spread(figure)} ({task_title(task).lower()})"
        for task in known.tasks
        for ranker in known.rankers
        if (figure := figure_of(segment.rankers, ranker, measure, task)) is not None
    ]
    pages = plural(segment.searches, "search", "searches")
    return [f"{measure.label} on randomised pages alone, {pages}: {', '.join(figures)}. The table is on all pages."]


def _figure(comparison: Comparison, ranker: Ranker, measure: Measure, task: str, is_folded: bool) -> Text:
    interval = ranker.get(measure, task)
    compared = interval is not None and ranker.name != comparison.baseline
    difference = comparison.difference(ranker, measure, task) if compared else None
    mark = MARKS.get(difference.sign or 0, NO_MARK) if difference else NO_MARK
    figure = Text(number(interval.value if interval else None))
    sides = spread(interval) if interval is not None else ""
    if is_folded:
        return figure.append(*mark).append(sides.replace(" ", "\n"), "dim")
    return figure.append(sides, "dim").append(*mark)


def spread(interval: Estimate) -> str:
    """An interval after its value: `±` and its longer side where both are about as long, else its ends.

    Args:
        interval: The interval.

    Returns:
        The text, with a space before it; empty where the ends are not known.

    Example:
        >>> spread(Estimate(value=0.25, low=0.238, high=0.261)), spread(Estimate(value=0.0, low=0.0, high=0.49))
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
