"""Pairs of bars: the same quantity before and after, for groups in their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.scale import Number, Scale, ticks
from shelfrank.report.charts.svg import bar, line, picture, text

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 396, 34, 188
SHARE = 0.76
"""Share of a group's width that its two bars fill."""
MOST_LABELS = 20


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
    y = Scale(0, high, BOTTOM, TOP)
    step = (RIGHT - LEFT) / max(1, len(pairs))
    width = min(18.0, step * SHARE / 2)
    parts = [_legend(LEFT, "before", "bar"), _legend(LEFT + 80, "after", "bar up")]
    for mark in ticks(0, high):
        parts += [line(LEFT, y(mark), RIGHT, y(mark), "grid"), text(LEFT - 6, y(mark) + 4, spoken(mark), "tick", "end")]
    for index, pair in enumerate(pairs):
        middle = LEFT + (index + 0.5) * step
        for name, value, x, tone in (
            ("before", pair.before, middle - width, "bar"),
            ("after", pair.after, middle, "bar up"),
        ):
            if value is not None:
                tip = f"{axis} {pair.label}, {name}: {spoken(value)}"
                parts.append(bar(x, y(value), width, BOTTOM - y(value), tone, tip))
        if index % (1 + len(pairs) // MOST_LABELS) == 0:
            parts.append(text(middle, BOTTOM + 15, pair.label, "tick", "middle"))
    parts.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 36, axis, "axis-title", "middle"))
    said = "; ".join(
        f"{pair.label}: {_said(pair.before, spoken)} before, {_said(pair.after, spoken)} after" for pair in pairs
    )
    return picture(chart_id, title, said, (WIDTH, HEIGHT), *parts, class_="chart wide")


def _legend(x: Number, word: str, tone: str) -> Markup:
    return bar(x, TOP - 28, 12, 10, tone, word) + text(x + 18, TOP - 19, word, "tick")


def _said(value: Number | None, spoken: Callable[[float], str]) -> str:
    return "not known" if value is None else spoken(value)
