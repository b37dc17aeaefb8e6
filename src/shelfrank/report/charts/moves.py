"""How personalization moves products: a histogram, and the lines between two orders of a page."""

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from shelfrank.report.charts.frame import Axis, Frame, tick_labels, ticks
from shelfrank.report.charts.svg import bar, element, picture, text
from shelfrank.report.formats import count, percent

WIDTH = 400
LEFT, RIGHT, TOP, BOTTOM = 44, 396, 14, 178
FARTHEST = 15
"""Moves beyond so many places share the outermost bars."""


def move_histogram(chart_id: str, title: str, histogram: Sequence[tuple[int, int]]) -> Markup:
    """Share of products by how many places they move; a negative move is towards the first place.

    Args:
        chart_id: The chart's id, unique on the page.
        title: Whose moves these are.
        histogram: Pairs of a move and a count of products.

    Returns:
        The chart.
    """
    counts: Counter[int] = Counter()
    for move, products in histogram:
        counts[max(-FARTHEST, min(FARTHEST, move))] += products
    total = counts.total() or 1
    reach = max((abs(move) for move in counts), default=1) or 1
    high = max(counts.values(), default=0) / total * 1.05 or 1.0
    percents = ticks(0, 100 * high)
    heights = [(mark / 100, f"{words} %") for mark, words in zip(percents, tick_labels(percents), strict=True)]
    places = [(move, _move_label(move)) for move in _labelled(reach)]
    across = Axis(-reach - 0.5, reach + 0.5, "places moved", places, has_grid=False)
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, Axis(0, high, "", heights))
    width = min(28.0, (frame.x_of(1) - frame.x_of(0)) * 0.8)
    parts = frame.draw()
    for move in sorted(counts):
        tone = "up" if move < 0 else "down" if move > 0 else "level"
        tall = BOTTOM - frame.y_of(counts[move] / total)
        tip = f"{_move_label(move)} places: {count(counts[move])} products, {percent(counts[move] / total)}"
        parts.append(bar(frame.x_of(move) - width / 2, BOTTOM - tall, width, tall, f"bar {tone}", tip))
    parts += [
        text(LEFT, BOTTOM + 32, "← up the page", "axis-title up"),
        text(RIGHT, BOTTOM + 32, "down the page →", "axis-title down", "end"),
    ]
    said = "; ".join(f"{_move_label(move)}: {percent(counts[move] / total)}" for move in sorted(counts))
    return picture(
        chart_id,
        title,
        f"Share of products by places moved. {said}",
        (WIDTH, frame.height),
        *parts,
        class_="chart wide",
    )


def order_links(neutral: Sequence[str], personalized: Sequence[str], clicked: set[str], row_height: int) -> Markup:
    """Lines from each product's place in one order to its place in the other.

    Args:
        neutral: Product ids, first place first.
        personalized: The same page in the other order.
        clicked: Products whose line stands out.
        row_height: Height of a row of the two lists beside it, in CSS pixels.

    Returns:
        A drawing as high as the longer list, whose width stretches; hidden from screen readers, since the
        lists say the same.
    """
    places = {product: place for place, product in enumerate(personalized)}
    paths = []
    for place, product in enumerate(neutral):
        if product not in places:
            continue
        start, end = (place + 0.5) * row_height, (places[product] + 0.5) * row_height
        tone = "up" if end < start else "down" if end > start else "level"
        paths.append(
            element(
                "path",
                d=f"M0 {start:g} C45 {start:g} 55 {end:g} 100 {end:g}",
                class_=f"link {tone}" + (" clicked" if product in clicked else ""),
                vector_effect="non-scaling-stroke",
            )
        )
    height = max(len(neutral), len(personalized), 1) * row_height
    return element(
        "svg",
        *paths,
        class_="links",
        viewBox=f"0 0 100 {height}",
        height=str(height),
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _move_label(move: int) -> str:
    sign = "−" if move < 0 else "+" if move > 0 else ""
    beyond = "≤ " if move == -FARTHEST else "≥ " if move == FARTHEST else ""
    return f"{beyond}{sign}{abs(move)}"


def _labelled(reach: int) -> list[int]:
    step = 1 if reach <= 6 else 2 if reach <= 10 else 5
    upward = range(0, reach + 1, step)
    return sorted({*upward, *(-move for move in upward)})
