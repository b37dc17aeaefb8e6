"""Calibration: predicted probabilities against observed rates."""

from collections.abc import Sequence

from shelfrank.report.blocks import Block, Cell, Details, Figure, Figures, Missing, Row, Section, Table, Tabs
from shelfrank.report.charts import reliability_chart
from shelfrank.report.comparison import Bin, Comparison, Ranker
from shelfrank.report.formats import count, number, task_title

INTRO = (
    "Observed rate by predicted probability, in bins of similar predictions. A calibrated ranker is on the diagonal."
)


def calibration_section(comparison: Comparison) -> Section:
    """Reliability diagrams by ranker and task, with their figures."""
    items = []
    for index, ranker in enumerate(comparison.rankers):
        blocks = _diagrams(ranker, comparison.tasks, f"calibration-{index}")
        if blocks:
            items.append((ranker.title, blocks))
    if not items:
        return Section(
            "calibration",
            "Calibration",
            [Missing("Predicted probabilities are not part of this comparison.")],
        )
    return Section("calibration", "Calibration", [Tabs("calibration", "Ranker", items)], INTRO)


def _diagrams(ranker: Ranker, tasks: list[str], chart_id: str) -> list[Block]:
    figures, rows = [], []
    for index, task in enumerate(tasks):
        bins = ranker.calibration.get(task, [])
        if not bins:
            continue
        title = f"{ranker.title}, {task_title(task)}"
        figures.append(Figure(task_title(task), reliability_chart(f"{chart_id}-{index}", title, bins), summary(bins)))
        rows += [
            Row(
                task_title(task),
                [Cell(number(b.predicted, 4)), Cell(number(b.observed, 4)), Cell(count(b.rows))],
            )
            for b in bins
        ]
    if not figures:
        return []
    table = Table(f"Bins of {ranker.title}", "Task", ["Predicted", "Observed", "Rows"], rows)
    caption = "Bars: rows in each bin. Each task has its own axis."
    return [Figures(figures, caption), Details("The bins in numbers", [table])]


def summary(bins: Sequence[Bin]) -> str:
    """How far predictions are off, over all rows of the bins.

    Args:
        bins: The bins; one with an unknown figure does not count.

    Returns:
        The ratio of predicted to observed events, and the mean gap between the two weighted by rows.

    Example:
        >>> summary([Bin(predicted=0.1, observed=0.2, rows=100), Bin(predicted=0.3, observed=0.2, rows=100)])
        'predicted / observed 1.00, mean gap 0.1000'
    """
    known = _known(bins)
    total = sum(rows for *_, rows in known)
    gap = sum(abs(predicted - seen) * rows for predicted, seen, rows in known) / total if total else None
    return f"predicted / observed {number(predicted_over_observed(bins), 2)}, mean gap {number(gap, 4)}"


def predicted_over_observed(bins: Sequence[Bin]) -> float | None:
    """The ratio of predicted to observed events over all rows of the bins; None where no event was observed."""
    known = _known(bins)
    observed = sum(seen * rows for _, seen, rows in known)
    return sum(predicted * rows for predicted, _, rows in known) / observed if observed else None


def _known(bins: Sequence[Bin]) -> list[tuple[float, float, int]]:
    return [
        (b.predicted, b.observed, b.rows) for b in bins if b.predicted is not None and b.observed is not None and b.rows
    ]
