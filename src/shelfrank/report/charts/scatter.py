"""Two figures against each other, with the front that nothing beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.frame import Axis, Frame, span
from shelfrank.report.charts.svg import dot, element, picture

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 352, 22, 222


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
    across = Axis.of(*span(spot.x for spot in spots), axes[0])
    up = Axis.of(*span(spot.y for spot in spots), axes[1])
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, up)
    parts = frame.draw()
    for spot in sorted(spots, key=lambda each: (each.front, each.chosen)):
        look = "point up" if spot.front else "point plain faint"
        parts.append(dot(frame.x_of(spot.x), frame.y_of(spot.y), 4 if spot.front else 3, look, spot.tip))
        if spot.chosen:
            parts.append(element("circle", cx=frame.x_of(spot.x), cy=frame.y_of(spot.y), r=7.5, class_="mark-chosen"))
    front = [spot.tip for spot in spots if spot.front]
    chosen = [f"chosen: {spot.tip}" for spot in spots if spot.chosen]
    said = "; ".join([f"{len(spots)} candidates, {len(front)} on the front", *chosen, *front])
    return picture(chart_id, title, said, (WIDTH, frame.height), *parts)
