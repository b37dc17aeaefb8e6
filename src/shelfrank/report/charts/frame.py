"""The frame that charts draw into: scales, axes with round ticks, grid, titles, and a legend below."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.svg import Number, line, text

LEGEND_ROW = 16


@dataclass(frozen=True)
class Scale:
    """A linear map from values to coordinates."""

    low: Number
    high: Number
    start: Number
    end: Number

    def __call__(self, value: Number) -> float:
        """The coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def span(values: Iterable[Number], margin: float = 0.06) -> tuple[float, float]:
    """The range that holds all values with a margin on both sides; never of zero width.

    Args:
        values: The values; none gives 0 to 1.
        margin: The margin as a share of their range.

    Returns:
        Its two ends.
    """
    known = list(values)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * margin or abs(low) * 0.1 or 1.0
    return low - room, high + room


def ticks(low: Number, high: Number, about: int = 4) -> list[float]:
    """Round numbers within a range, about so many.

    Args:
        low: Where the range begins.
        high: Where it ends.
        about: How many are wanted.

    Returns:
        The numbers, rising.

    Example:
        >>> ticks(0.28, 0.46)
        [0.3, 0.35, 0.4, 0.45]
    """
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.8)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Rounded, so that 3 * 0.1 is written 0.3; adding 0.0 turns a negative zero into zero.
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """Axis labels with the same number of decimals, as few as tell the ticks apart.

    Args:
        values: The ticks.

    Returns:
        Their labels.

    Example:
        >>> tick_labels([0.3, 0.35, -0.4])
        ['0.30', '0.35', '−0.40']
    """
    digits = max((len(f"{value:.12f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return [f"{value:,.{digits}f}".replace("-", "−") for value in values]


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        low: The value at its start.
        high: The value at its end.
        title: What it measures.
        marks: Values that have a tick, with their labels.
        has_grid: Whether a line crosses the chart at each tick.
    """

    low: Number
    high: Number
    title: str
    marks: Sequence[tuple[Number, str]]
    has_grid: bool = True

    @classmethod
    def of(cls, low: Number, high: Number, title: str, about: int = 4, has_grid: bool = True) -> "Axis":
        """An axis with about so many round ticks."""
        values = ticks(low, high, about)
        return cls(low, high, title, list(zip(values, tick_labels(values), strict=True)), has_grid)


@dataclass(frozen=True)
class Frame:
    """The area of a chart's marks and the axes around it; every chart with axes draws into one.

    Attributes:
        left: Left edge of the area.
        right: Right edge of the area.
        top: Upper edge of the area.
        bottom: Lower edge of the area.
        x: The horizontal axis.
        y: The vertical axis; None where rows have names instead.
        inset: Room between the sides of the area and the ends of the horizontal axis.
        below: Room between the area and the labels of the horizontal axis.
    """

    left: Number
    right: Number
    top: Number
    bottom: Number
    x: Axis
    y: Axis | None = None
    inset: Number = 0
    below: Number = 0

    @property
    def height(self) -> Number:
        """Where the titles of the horizontal axis end."""
        return self.bottom + self.below + 40

    def x_of(self, value: Number) -> float:
        """The horizontal coordinate of a value."""
        return Scale(self.x.low, self.x.high, self.left + self.inset, self.right - self.inset)(value)

    def y_of(self, value: Number) -> float:
        """The vertical coordinate of a value."""
        assert self.y is not None, "a chart of named rows has no vertical axis"
        return Scale(self.y.low, self.y.high, self.bottom, self.top)(value)

    def draw(self) -> list[Markup]:
        """Grid, axis line, tick labels and titles, to be drawn before the marks."""
        labels = self.bottom + self.below
        parts = []
        for value, label in self.x.marks:
            at = self.x_of(value)
            if self.x.has_grid:
                parts.append(line(at, self.top, at, self.bottom, "grid"))
            parts.append(text(at, labels + 15, label, "tick", "middle"))
        if self.y is not None:
            for value, label in self.y.marks:
                at = self.y_of(value)
                parts.append(line(self.left, at, self.right, at, "grid"))
                parts.append(text(self.left - 6, at + 4, label, "tick", "end"))
            if self.y.title:
                parts.append(text(0, max(self.top - 8, 9), self.y.title, "axis-title"))
        parts.append(line(self.left, self.bottom, self.right, self.bottom, "axis"))
        parts.append(text((self.left + self.right) / 2, labels + 32, self.x.title, "axis-title", "middle"))
        return parts

    def legend(self, items: Sequence[tuple[str, str]]) -> list[Markup]:
        """Rows below the axis, each with a line in its class and what it means.

        Args:
            items: Labels with the classes of their lines.

        Returns:
            The rows; a chart that has them is `LEGEND_ROW` higher for each.
        """
        parts = []
        for index, (label, look) in enumerate(items):
            y = self.height + LEGEND_ROW * index + 8
            parts += [line(2, y - 4, 28, y - 4, look), text(34, y, label, "tick")]
        return parts
