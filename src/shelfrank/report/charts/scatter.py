"""Two figures against each other, with the front that nothing beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.scale import Scale, span, tick_labels, ticks
from shelfrank.report.charts.svg import dot, element, line, picture, text

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 352, 14, 214


@dataclass(frozen=True)
class Spot:
    """A candidate.

    Attributes:
        x: Its figure along the bottom.
        y: Its figure along the side.
        tip: What it says when pointed at.
        front: Whether nothing beats it.
        chosen: Whether it is the one that was chosen.
    """

    x: float
    y: float
    tip: str
    front: bool = False
    chosen: bool = False


def scatter_chart(chart_id: str, title: str, spots: Sequence[Spot], axes: tuple[str, str]) -> Markup:
    """Candidates by two figures; those on the front stand out and the chosen one is ringed.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What it shows.
        spots: The candidates.
        axes: What the bottom and the side measure.

    Returns:
        The chart.
    """
    x_low, x_high = span(spot.x for spot in spots)
    y_low, y_high = span(spot.y for spot in spots)
    x, y = Scale(x_low, x_high, LEFT, RIGHT), Scale(y_low, y_high, BOTTOM, TOP)
    parts = []
    marks = ticks(y_low, y_high)
    for mark, label in zip(marks, tick_labels(marks), strict=True):
        parts += [line(LEFT, y(mark), RIGHT, y(mark), "grid"), text(LEFT - 6, y(mark) + 4, label, "tick", "end")]
    marks = ticks(x_low, x_high)
    for mark, label in zip(marks, tick_labels(marks), strict=True):
        parts += [line(x(mark), TOP, x(mark), BOTTOM, "grid"), text(x(mark), BOTTOM + 15, label, "tick", "middle")]
    parts += [
        line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"),
        text((LEFT + RIGHT) / 2, BOTTOM + 32, axes[0], "axis-title", "middle"),
        text(0, TOP - 4, axes[1], "axis-title"),
    ]
    for spot in sorted(spots, key=lambda each: (each.front, each.chosen)):
        look = "point up" if spot.front else "point plain faint"
        parts.append(dot(x(spot.x), y(spot.y), 4 if spot.front else 3, look, spot.tip))
        if spot.chosen:
            parts.append(element("circle", cx=x(spot.x), cy=y(spot.y), r=7.5, class_="mark-chosen"))
    front = [spot.tip for spot in spots if spot.front]
    chosen = [f"chosen: {spot.tip}" for spot in spots if spot.chosen]
    said = "; ".join([f"{len(spots)} candidates, {len(front)} on the front", *chosen, *front])
    return picture(chart_id, title, said, (WIDTH, BOTTOM + 40), *parts)
