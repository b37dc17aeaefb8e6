"""Reads numbers from a source's cells, with or without thousands separators."""

from collections.abc import Mapping

import ibis

from shelfrank.logs.engine import Value

_PLAIN = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_BY_COMMA = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*$"
_BY_COMMA_SURELY = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+(,\d{3}|\.\d*)\s*$"
_WITH_COMMA = r"^\s*[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+)(,\d*)?\s*$"
_DIGIT = r"\d"


def number_of_cells(cells: Value, decimal_mark: str | None) -> Value:
    """Reads numbers from text, with or without thousands separators.

    Args:
        cells: Text.
        decimal_mark: The decimal mark; None takes a point, and reads a comma as a thousands separator only if it
            cannot be a decimal mark, as in 1,234.5.

    Returns:
        Numbers; null where a cell is not a number or its comma is ambiguous.
    """
    if decimal_mark == ",":
        return cells.re_extract(_WITH_COMMA, 0).replace(".", "").replace(",", ".").try_cast("float64")
    grouped = cells.re_search(_BY_COMMA if decimal_mark == "." else _BY_COMMA_SURELY)
    return plain_number(grouped.ifelse(cells.replace(",", ""), cells))


def number_hints(cells: Value, decimal_mark: str | None) -> Mapping[str, Value]:
    """By advice, the cells that `number_of_cells` cannot read and for which it helps."""
    if not cells.type().is_string() or decimal_mark is not None:
        return {}
    has_digit = cells.re_search(_DIGIT)
    both = cells.re_search(_BY_COMMA) & cells.re_search(_WITH_COMMA)
    return {
        "they have a comma, so declare `decimal_mark: ','` if it is the decimal mark": (
            cells.re_search(_WITH_COMMA) & has_digit & ~both
        ),
        "a comma may be a decimal mark or a thousands separator, so declare `decimal_mark` as ',' or '.'": both,
    }


def numbers_of(cells: Value) -> Value:
    """Reads numbers from text or other cells; null where a cell is not one."""
    return number_of_cells(cells, None) if cells.type().is_string() else cells.try_cast("float64")


def whole_numbers(numbers: Value, data_type: str = "int64", shift: int = 0) -> Value:
    """Casts whole numbers.

    Args:
        numbers: Numbers of `numbers_of`.
        data_type: The type of the result.
        shift: Added to each number.

    Returns:
        Whole numbers; null where a number is not one or does not fit the type.
    """
    # A cast alone would round 1.5 to 2.
    return ((numbers % 1) == 0).ifelse(numbers + shift, ibis.null("float64")).try_cast(data_type)


def plain_number(cells: Value) -> Value:
    """Reads numbers without separators: a plain cast would also accept 1_000."""
    return cells.re_extract(_PLAIN, 0).try_cast("float64")
