"""A figure over the weights of three tasks: the triangle of all ways to share out the whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.svg import element, picture, text
from shelfrank.report.formats import number

WIDTH, HEIGHT = 360, 318
LEFT, RIGHT, TOP, BOTTOM = 40, 320, 26, 268.5
FAINTEST = 0.07


@dataclass(frozen=True)
class Node:
    """A point of the triangle.

    Attributes:
        weights: Shares of the three corners.
        value: The figure there; None leaves it out.
        tip: What it says when pointed at.
        chosen: Whether it is the one that was chosen.
    """

    weights: tuple[float, float, float]
    value: float | None
    tip: str
    chosen: bool = False


def simplex_chart(chart_id: str, title: str, nodes: Sequence[Node], corners: tuple[str, str, str]) -> Markup:
    """Figures over the triangle, the higher the darker; the chosen point and the highest are marked.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What it shows.
        nodes: The points.
        corners: Names of the corners, where all weight is on one task: top, left, right.

    Returns:
        The chart.
    """
    known = [node for node in nodes if node.value is not None]
    values = [node.value for node in known if node.value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    top, left, right = (_place((1, 0, 0)), _place((0, 1, 0)), _place((0, 0, 1)))
    parts = [
        text(top[0], top[1] - 14, corners[0], "tick strong", "middle"),
        text(left[0] - 14, left[1] + 24, corners[1], "tick strong"),
        text(right[0] + 14, right[1] + 24, corners[2], "tick strong", "end"),
    ]
    # With few points, larger dots would cover the names of the corners.
    radius = min(12.0, 0.36 * (RIGHT - LEFT) / max(1, _n_along(known)))
    for node in known:
        x, y = _place(node.weights)
        share = 1.0 if high == low or node.value is None else (node.value - low) / (high - low)
        opacity = f"{FAINTEST + (1 - FAINTEST) * share:.2f}"
        parts.append(
            element("circle", element("title", node.tip), cx=x, cy=y, r=radius, class_="node", fill_opacity=opacity)
        )
    best = next((node for node in known if node.value == high), None)
    marks = [(best, "mark-best")] if best else []
    marks += [(node, "mark-chosen") for node in known if node.chosen]
    for node, look in marks:
        x, y = _place(node.weights)
        parts.append(element("circle", cx=x, cy=y, r=radius + (2.5 if look == "mark-best" else 5), class_=look))
    parts += _legend(low, high)
    said = [f"lowest {number(low)}, highest {number(high)}" if values else "no values"]
    said += [f"highest: {best.tip}"] if best else []
    said += [f"chosen: {node.tip}" for node in known if node.chosen]
    return picture(chart_id, title, "; ".join(said), (WIDTH, HEIGHT), *parts)


def _place(weights: tuple[float, float, float]) -> tuple[float, float]:
    top, _, right = weights
    x = LEFT + (RIGHT - LEFT) * (right + top / 2)
    return x, BOTTOM - (BOTTOM - TOP) * top


def _n_along(nodes: Sequence[Node]) -> int:
    """Points along an edge, less one."""
    return len({round(node.weights[0], 6) for node in nodes}) - 1


def _legend(low: float, high: float) -> list[Markup]:
    y, step = HEIGHT - 6, 9
    parts = [text(LEFT - 14, y, number(low), "tick")]
    for i in range(6):
        opacity = f"{FAINTEST + (1 - FAINTEST) * i / 5:.2f}"
        parts.append(element("circle", cx=LEFT + 30 + step * i, cy=y - 4, r=4, class_="node", fill_opacity=opacity))
    parts.append(text(LEFT + 84, y, number(high), "tick"))
    for x, look, word in ((LEFT + 136, "mark-best", "highest"), (LEFT + 210, "mark-chosen", "chosen")):
        parts += [element("circle", cx=x, cy=y - 4, r=4.5, class_=look), text(x + 10, y, word, "tick")]
    return parts
