"""What tables and charts show of a ranker: its role, a figure as a cell, a difference as a dot."""

from collections.abc import Iterable

from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import Cell
from shelfrank.report.charts import Dot
from shelfrank.report.comparison import Comparison, Ranker
from shelfrank.report.formats import brief, number, signed
from shelfrank.report.measured import Interval

NOTE_TONES = {1: "up", -1: "down"}
DOT_TONES = {1: "up", -1: "down", 0: "level", None: "plain"}
MARKS = {1: "▲ ", -1: "▼ "}
HOW_TO_READ = (
    "Below each value stand its interval and the paired difference to the baseline: ▲ or ▼ where the "
    f"interval of the difference excludes 0, no mark where it includes 0 or fewer than {MIN_SEARCHES} searches count. "
    "Shaded: the highest value of the column, which is not a test."
)
"""Legend of a table of `figure_cell`."""
HOW_TO_READ_DIFFERENCES = (
    "Coloured: the interval excludes 0, blue above and orange below. Hollow: it includes 0, or fewer than "
    f"{MIN_SEARCHES} searches count."
)
"""Caption of charts of `difference_dot`."""


def ranker_role(comparison: Comparison, ranker: Ranker) -> str:
    """What to know of a ranker beside its name; empty for a learned one that is not the baseline."""
    if ranker.name == comparison.baseline:
        return "baseline"
    return "not learned" if ranker.learned is False else ""


def figure_cell(interval: Interval | None, difference: Interval | None, best: str | None) -> Cell:
    """A value with its interval and its paired difference to the baseline.

    Args:
        interval: The value.
        difference: The difference; None for the baseline itself.
        best: The highest value of the column, from `best_of`.

    Returns:
        The cell.
    """
    notes = [(brief(interval), "")] if interval and interval.low is not None else []
    if difference is not None:
        sign = difference.sign or 0
        notes.append((MARKS.get(sign, "") + signed(difference.value), NOTE_TONES.get(sign, "")))
    text = number(interval.value if interval else None)
    return Cell(text, notes, best=text == best)


def best_of(intervals: Iterable[Interval | None]) -> str | None:
    """The highest of several values as printed, so that two that read alike are both marked; None for a single one."""
    values = [interval.value for interval in intervals if interval and interval.value is not None]
    return number(max(values)) if len(values) > 1 else None


def difference_dot(label: str, difference: Interval | None) -> Dot:
    """A paired difference as a row of a chart, coloured where it is shown."""
    if difference is None:
        return Dot(label, number(None), None)
    tone = DOT_TONES[difference.sign]
    return Dot(label, signed(difference.value), difference.value, difference.low, difference.high, tone)
