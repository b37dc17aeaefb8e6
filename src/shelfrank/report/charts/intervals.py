"""Dots with intervals; a name stands above its dot, so that a narrow screen needs no smaller type."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.frame import LEGEND_ROW, Axis, Frame, span
from shelfrank.report.charts.svg import dot, element, line, picture, shortened_apart, text

WIDTH, PLOT = 360, 304
"""Values are printed right of the plot, where no reference line crosses them."""
ROW = 36
LABEL_LIMIT = 40


@dataclass(frozen=True)
class Dot:
    """A row of the chart.

    Attributes:
        label: The ranker's name.
        text: The value in digits.
        value: The value; None leaves the row without a dot.
        low: Lower end of the interval.
        high: Upper end of the interval.
        tone: How it looks: `plain`, `best`, `baseline`, `up`, `down` or `level`.
    """

    label: str
    text: str
    value: float | None
    low: float | None = None
    high: float | None = None
    tone: str = "plain"

    @property
    def known(self) -> list[float]:
        """The numbers that the axis must hold."""
        return [value for value in (self.value, self.low, self.high) if value is not None]


@dataclass(frozen=True)
class Reference:
    """A vertical line: a bound, the baseline, or zero.

    Attributes:
        label: What it is; an empty label gives a line without a legend.
        value: Where it stands.
        tone: How it looks: `best`, `non-personalized`, `baseline` or `zero`.
    """

    label: str
    value: float
    tone: str


def interval_chart(
    chart_id: str, title: str, dots: Sequence[Dot], references: Sequence[Reference], axis: str
) -> Markup:
    """Values with their intervals, in rows, beside vertical lines of reference.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What it shows.
        dots: Its rows.
        references: Its lines.
        axis: What the axis measures.

    Returns:
        The chart.
    """
    ends = span([*(v for d in dots for v in d.known), *(r.value for r in references)])
    frame = Frame(0, PLOT, 2, ROW * len(dots) + 6, Axis.of(*ends, axis), inset=6)
    parts = frame.draw()
    for reference in references:
        at = frame.x_of(reference.value)
        parts.append(line(at, frame.top, at, frame.bottom, f"reference {reference.tone}"))
    labels = shortened_apart([item.label for item in dots], LABEL_LIMIT)
    parts += [_row(item, label, index, frame) for index, (item, label) in enumerate(zip(dots, labels, strict=True))]
    legend = [(reference.label, f"reference {reference.tone}") for reference in references if reference.label]
    parts += frame.legend(legend)
    said = [f"{item.label}: {item.text}" for item in dots] + [label for label, _ in legend]
    return picture(chart_id, title, "; ".join(said), (WIDTH, frame.height + LEGEND_ROW * len(legend)), *parts)


def _row(item: Dot, label: str, index: int, frame: Frame) -> Markup:
    top = ROW * index
    y = top + 25
    parts = [
        element("title", f"{item.label}: {item.text}"),
        text(0, top + 14, label, f"label {item.tone}"),
        text(WIDTH, y + 4, item.text, f"value {item.tone}", "end"),
    ]
    if item.low is not None and item.high is not None:
        parts.append(line(frame.x_of(item.low), y, frame.x_of(item.high), y, f"interval {item.tone}"))
    if item.value is not None:
        parts.append(dot(frame.x_of(item.value), y, 4.5, f"dot {item.tone}", f"{item.label}: {item.text}"))
    return element("g", *parts)
