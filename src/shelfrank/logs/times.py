"""Times that the data contract allows, and numbers that stand for them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Units per second of numeric times since 1970; no number is a valid time in two of them."""

SCIENTIFIC = r"^\s*[+-]?(\d+)[.,]?(\d*)[eE]\+(\d+)\s*$"
"""Scientific notation of spreadsheets: digits before and after the decimal mark, and a signed exponent."""

COMMA_BEFORE_EXPONENT = r"^(\s*[+-]?\d+),(\d*[eE])"
"""A comma that must be a decimal mark, as in 1,709280123456E+12."""

ALL_DIGITS = r"^\s*[+-]?\d{9,19}(?:[.,]\d*)?\s*$"
"""A numeric time with all of its digits."""

MIN_EXPONENT, MAX_EXPONENT = 8, 18
"""Exponents of valid numeric times, from seconds in 1990 to nanoseconds in 2099."""


def with_decimal_point(value: object) -> object:
    """Replaces the decimal comma of a number in scientific notation by a point."""
    return re.sub(COMMA_BEFORE_EXPONENT, r"\1.\2", value, flags=re.ASCII) if isinstance(value, str) else value


def number_text(value: object) -> str | None:
    """The value if it is text with a numeric time, which may have been rounded; otherwise None."""
    if not isinstance(value, str):
        return None
    return value if any(re.match(form, value, re.ASCII) for form in (SCIENTIFIC, ALL_DIGITS)) else None


def may_be_rounded(value: object) -> bool:
    """Whether a value is a time in scientific notation whose last digit is above the seconds.

    Args:
        value: The JSON value.

    Returns:
        Whether the time may have been rounded.

    Example:
        >>> [may_be_rounded(each) for each in ("1.70928E+12", "1.709280123E+12", "1.70928E12", 1.70928e12)]
        [True, False, False, False]
    """
    parts = re.match(SCIENTIFIC, value, re.ASCII) if isinstance(value, str) else None
    if parts is None:
        return False
    whole, decimals, exponent = parts.groups()
    first, last = int(exponent) + len(whole) - 1, int(exponent) - len(decimals)
    return MIN_EXPONENT <= first <= MAX_EXPONENT and last > place_of_second(first)


def place_of_second(first: Any) -> Any:
    """The exponent of the seconds digit in a numeric time.

    The size determines the unit: 1.7e9 is in seconds, 1.7e12 in milliseconds, and so on.

    Args:
        first: The exponent of the first digit, as a number or an ibis column.

    Returns:
        The exponent, of the same type.
    """
    return (first - MIN_EXPONENT) // 3 * 3


def is_in_future(time: datetime) -> bool:
    """Whether a time is more than a day in the future, so that its unit was inferred wrongly."""
    return time > datetime.now(UTC) + timedelta(days=1)


def unit_of_number(number: float) -> str | None:
    """The only unit in which a number since 1970 is a valid time; None if there is none.

    Args:
        number: The number.

    Returns:
        A key of `PER_SECOND`.
    """
    for unit, per_second in PER_SECOND.items():
        if EARLIEST.timestamp() <= number / per_second < LATEST.timestamp():
            return unit
    return None
