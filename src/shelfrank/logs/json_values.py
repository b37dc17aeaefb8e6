"""Reads ids and numbers of JSON, whatever type a shop gives them.

Nothing here needs an engine, so that a service reads its events as an import does.
"""

import math
import re
from typing import Any

Record = dict[str, Any]
"""A JSON object of one line, or one row that is made from it."""

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LARGEST_INT64 = 2**63 - 1


def text_of(value: object) -> str | None:
    """Reads an id or a name: a text that is not empty, or a whole number as text; None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def number_of(value: object) -> float | None:
    """Reads a finite number, also one that is text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole_of(value: object) -> int | None:
    """Reads a whole number that fits into 64 bits; None for anything else."""
    number = number_of(value)
    if number is None or not number.is_integer() or abs(number) > _LARGEST_INT64:
        return None
    return value if isinstance(value, int) else int(number)
