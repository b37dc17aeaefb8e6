"""Reads ids and numbers of JSON, whatever type a shop gives them.

Nothing here needs an engine, so that a service reads its events as an import does.
"""

import math
import re
from typing import Any

from shelfrank.core.errors import UserError
from shelfrank.core.values import NULL_WORDS, IdSpelling

Record = dict[str, Any]
"""A JSON object of one line, or one row that is made from it."""

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LARGEST_INT64 = 2**63 - 1
_ID = IdSpelling(NULL_WORDS)
_NAME = IdSpelling()


def id_of(value: object) -> str | None:
    """Reads an id as every import spells it: a text, or a whole number, also where it is written as 412.0.

    Args:
        value: What the JSON holds.

    Returns:
        The id; None for a blank, for a word such as null or undefined, and for anything else.

    Raises:
        UserError: Where a number has a fraction's form and is too large to be told apart from others.
    """
    try:
        return _ID.of(value)
    except ValueError as error:
        raise UserError(str(error)) from error


def named_of(value: object) -> str | None:
    """Reads an id as `id_of` does, but takes a word such as null for a name: whether it is one is for a log to say."""
    try:
        return _NAME.of(value)
    except ValueError as error:
        raise UserError(str(error)) from error


def is_null_word(value: object) -> bool:
    """Whether a text that is not empty says that there is no id."""
    return isinstance(value, str) and value != "" and _ID.of(value) is None


def text_of(value: object) -> str | None:
    """Reads a name: a text that is not empty, or a whole number as text; None for anything else."""
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
