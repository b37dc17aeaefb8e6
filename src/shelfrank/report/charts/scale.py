"""From values to coordinates, and round numbers for an axis."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Number = int | float
"""A value, a coordinate or a length; a run that checks types takes `float` at its word."""


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
