"""Bars: the same quantity before and after for groups in their order, and a share within a table's cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.frame import Axis, Frame, ticks
from shelfrank.report.charts.svg import Number, bar, element, picture, text

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 52, 396, 34, 188
SHARE = 0.76
"""Share of a group's width that its two bars fill."""
MAX_LABELS = 20
CELL_WIDTH, CELL_HEIGHT = 100, 5


@dataclass(frozen=True)
class Pair:
    """A group's two values; one that is not known has no bar."""

    label: str
    before: Number | None
    after: Number | None


def pair_chart(chart_id: str, title: str, pairs: Sequence[Pair], axis: str, spoken: Callable[[float], str]) -> Markup:
    """Two bars for each group, before and after.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What it shows.
        pairs: The groups.
        axis: What the groups are.
        spoken: Writes a value.

    Returns:
        The chart.
    """
    known = [value for pair in pairs for value in (pair.before, pair.after) if value is not None]
    high = max(known, default=0) * 1.05 or 1.0
    every = 1 + len(pairs) // MAX_LABELS
    names = [(index + 0.5, pair.label) for index, pair in enumerate(pairs) if index % every == 0]
    across = Axis(0, max(1, len(pairs)), axis, names, has_grid=False)
    up = Axis(0, high, "", [(mark, spoken(mark)) for mark in ticks(0, high)])
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, up)
    width = min(18.0, (frame.x_of(1) - frame.x_of(0)) * SHARE / 2)
    parts = [_legend(LEFT, "before", "bar"), _legend(LEFT + 80, "after", "bar up"), *frame.draw()]
    for index, pair in enumerate(pairs):
        middle = frame.x_of(index + 0.5)
        for name, value, x, tone in (
            ("before", pair.before, middle - width, "bar"),
            ("after", pair.after, middle, "bar up"),
        ):
            if value is not None:
                tip = f"{axis} {pair.label}, {name}: {spoken(value)}"
                parts.append(bar(x, frame.y_of(value), width, BOTTOM - frame.y_of(value), tone, tip))
    said = "; ".join(
        f"{pair.label}: {_said(pair.before, spoken)} before, {_said(pair.after, spoken)} after" for pair in pairs
    )
    return picture(chart_id, title, said, (WIDTH, frame.height), *parts, class_="chart wide")


def share_bar(share: float | None) -> Markup:
    """A share from 0 to 1 as a bar; beyond these ends it is empty or full, and the number beside it is exact.

    Args:
        share: The share; None gives no bar.

    Returns:
        A drawing that is hidden from screen readers, since the cell holds the number.
    """
    if share is None:
        return Markup()
    filled = max(0.0, min(1.0, share)) * CELL_WIDTH
    return element(
        "svg",
        element("rect", width=CELL_WIDTH, height=CELL_HEIGHT, class_="bar-track"),
        element("rect", width=filled, height=CELL_HEIGHT, class_="bar up"),
        class_="cell-bar",
        viewBox=f"0 0 {CELL_WIDTH} {CELL_HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _legend(x: Number, word: str, tone: str) -> Markup:
    return bar(x, TOP - 28, 12, 10, tone, word) + text(x + 18, TOP - 19, word, "tick")


def _said(value: Number | None, spoken: Callable[[float], str]) -> str:
    return "not known" if value is None else spoken(value)
