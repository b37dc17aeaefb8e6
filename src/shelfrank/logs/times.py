"""The times that the data contract allows."""

import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Units of times that are numbers since 1970; no number is a time of the data contract in two of them."""

SCIENTIFIC = r"^\s*[+-]?(\d+)[.,]?(\d*)[eE]\+(\d+)\s*$"
"""A number as spreadsheets write it: the digits before and after its mark, and its exponent, with a sign."""


def scientific(value: object) -> str | None:
    """A text that is a number in scientific notation, which may have been rounded; None for anything else."""
    return value if isinstance(value, str) and re.match(SCIENTIFIC, value, re.ASCII) else None


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
