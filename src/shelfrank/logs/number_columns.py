"""Reads numbers of a source's cells, with or without marks between thousands."""

from collections.abc import Mapping

import ibis

from shelfrank.logs.engine import Value

_PLAIN = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_BY_COMMA = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*$"
_BY_COMMA_SURELY = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+(,\d{3}|\.\d*)\s*$"
_WITH_COMMA = r"^\s*[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+)(,\d*)?\s*$"
_DIGIT = r"\d"


def number_of_cells(cells: Value, decimal_mark: str | None) -> Value:
    """Reads numbers that are text, with or without marks between thousands.

    Args:
        cells: Text.
        decimal_mark: What stands before the decimals; None reads a point as such, and a comma as a mark of thousands
            only where it can be nothing else, as in 1,234.5.

    Returns:
        Numbers; null where a cell is none, or where its marks have two meanings.
    """
    if decimal_mark == ",":
        plain = cells.re_search(_WITH_COMMA)
        text = cells.replace(".", "").replace(",", ".")
        return plain.ifelse(text, ibis.null("string")).try_cast("float64")
    grouped = cells.re_search(_BY_COMMA if decimal_mark == "." else _BY_COMMA_SURELY)
    return plain_number(grouped.ifelse(cells.replace(",", ""), cells))


def number_hints(cells: Value, decimal_mark: str | None) -> Mapping[str, Value]:
    """What to do about cells that `number_of_cells` does not read, each with the cells for which it helps."""
    if not cells.type().is_string() or decimal_mark is not None:
        return {}
    has_digit = cells.re_search(_DIGIT)
    both = cells.re_search(_BY_COMMA) & cells.re_search(_WITH_COMMA)
    return {
        "they have a comma, so declare `decimal_mark: ','` if it stands before the decimals": (
            cells.re_search(_WITH_COMMA) & has_digit & ~both
        ),
        "a comma may stand before decimals or thousands, so declare `decimal_mark` as ',' or '.'": both,
    }


def whole_numbers(cells: Value, data_type: str = "int64", shift: int = 0) -> Value:
    """Reads whole numbers.

    Args:
        cells: Text or numbers.
        data_type: The type of the result.
        shift: Added to each number.

    Returns:
        Whole numbers; null where a cell is none, or does not fit into the type.
    """
    numbers = number_of_cells(cells, None) if cells.type().is_string() else cells.try_cast("float64")
    # A cast alone would round 1.5 to 2.
    return ((numbers % 1) == 0).ifelse(numbers + shift, ibis.null("float64")).try_cast(data_type)


def plain_number(cells: Value) -> Value:
    """The number of a text in digits alone: the engine would read 1_000 as well."""
    return cells.re_search(_PLAIN).ifelse(cells, ibis.null("string")).try_cast("float64")
