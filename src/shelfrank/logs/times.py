"""The times that the data contract allows."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Units of times that are numbers since 1970; no number is a time of the data contract in two of them."""

SCIENTIFIC = r"^\s*[+-]?(\d+)[.,]?(\d*)[eE]\+(\d+)\s*$"
"""A number as spreadsheets write it: the digits before and after its mark, and its exponent, with a sign."""

COMMA_BEFORE_EXPONENT = r"^(\s*[+-]?\d+),(\d*[eE])"
"""A comma, as in 1,709280123456E+12, that can only be of decimals."""

IN_FULL = r"^\s*[+-]?\d{9,19}(?:[.,]\d*)?\s*$"
"""A time that is a number with all digits before its mark."""

LEAST_EXPONENT, GREATEST_EXPONENT = 8, 18
"""Exponents of the times of the data contract, from seconds in 1990 to nanoseconds in 2099."""


def with_point(value: object) -> object:
    """The value, with a point before the decimals of a number in scientific notation."""
    return re.sub(COMMA_BEFORE_EXPONENT, r"\1.\2", value, flags=re.ASCII) if isinstance(value, str) else value


def number_text(value: object) -> str | None:
    """A text that is the number of a time, which may have been rounded; None for anything else."""
    if not isinstance(value, str):
        return None
    return value if any(re.match(form, value, re.ASCII) for form in (SCIENTIFIC, IN_FULL)) else None


def is_short(value: object) -> bool:
    """Whether a value is a time in scientific notation whose last digit stands for more than a second.

    Args:
        value: What the JSON holds.

    Returns:
        Whether it may have been rounded.

    Example:
        >>> [is_short(each) for each in ("1.70928E+12", "1.709280123E+12", "1.70928E12", 1.70928e12)]
        [True, False, False, False]
    """
    parts = re.match(SCIENTIFIC, value, re.ASCII) if isinstance(value, str) else None
    if parts is None:
        return False
    whole, decimals, exponent = parts.groups()
    first, last = int(exponent) + len(whole) - 1, int(exponent) - len(decimals)
    return LEAST_EXPONENT <= first <= GREATEST_EXPONENT and last > place_of_second(first)


def place_of_second(first: Any) -> Any:
    """The exponent of the seconds' digit, of a time whose first digit has an exponent.

    The size tells the unit: 1.7e9 is in seconds, 1.7e12 in milliseconds, and so on.

    Args:
        first: The exponent, as a number or as an engine's column.

    Returns:
        The exponent, likewise.
    """
    return (first - LEAST_EXPONENT) // 3 * 3


def is_in_future(time: datetime) -> bool:
    """Whether a time is more than a day later than now, so that a number whose unit was guessed is no such time."""
    return time > datetime.now(UTC) + timedelta(days=1)


def unit_of_number(number: float) -> str | None:
    """The only unit in which a number since 1970 is a time of the data contract; None where it is in none.

    Args:
        number: The number.

    Returns:
        A key of `PER_SECOND`.
    """
    for unit, per_second in PER_SECOND.items():
        if EARLIEST.timestamp() <= number / per_second < LATEST.timestamp():
            return unit
    return None
