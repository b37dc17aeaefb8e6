"""Reads ids and numbers from JSON values of any type.

Nothing here needs an engine, so the service reads live events with the rules of the import.
"""

import math
import re
from typing import Any

from shelfrank.core.errors import UserError
from shelfrank.core.values import NULL_WORDS, IdSpelling

Record = dict[str, Any]
"""A JSON object of one line, or the row that it is converted to."""

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_MAX_INT64 = 2**63 - 1
_ID = IdSpelling(NULL_WORDS)
_NAME = IdSpelling()


def id_of(value: object) -> str | None:
    """Reads an id with the spelling of all imports: text, or a whole number, also if written as 412.0.

    Args:
        value: The JSON value.

    Returns:
        The id; None for a blank, a null word such as undefined, and anything else.

    Raises:
        UserError: Where a float is too large to be exact.
    """
    try:
        return _ID.of(value)
    except ValueError as error:
        raise UserError(str(error)) from error


def named_of(value: object) -> str | None:
    """Reads an id like `id_of`, but keeps null words as names: which words mean missing is declared by the log."""
    try:
        return _NAME.of(value)
    except ValueError as error:
        raise UserError(str(error)) from error


def is_null_word(value: object) -> bool:
    """Whether a value is non-empty text that means a missing id."""
    return isinstance(value, str) and value != "" and _ID.of(value) is None


def text_of(value: object) -> str | None:
    """Reads a name: non-empty text, or a whole number as text; None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def number_of(value: object) -> float | None:
    """Reads a finite number, also from text; None for anything else."""
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
    """Reads a 64-bit whole number; None for anything else."""
    number = number_of(value)
    if number is None or not number.is_integer() or abs(number) > _MAX_INT64:
        return None
    return value if isinstance(value, int) else int(number)
