"""Converts a source's columns to the contract's types, and reports cells that do not fit."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS, Kind
from shelfrank.core.values import (
    DECIMAL_ID,
    TOO_LARGE,
    WHOLE_BELOW,
    CategorySpelling,
    IdSpelling,
    each_distinct,
)
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.missing_values import cells_without
from shelfrank.logs.number_columns import number_hints, number_of_cells, whole_numbers
from shelfrank.logs.time_columns import time_hints, time_of
from shelfrank.logs.violation import Violation

MAX_CELL_LENGTH = 60
"""Characters of a cell that an error prints."""

_TRUE, _FALSE = r"^(1(\.0*)?|true|t|yes)$", r"^(0(\.0*)?|false|f|no)$"


@dataclass(frozen=True)
class Converted:
    """One converted column.

    Attributes:
        column: The source's column.
        name: The log's column.
        cells: The source's cells.
        value: The log's values.
        must: What a cell must hold.
        hints: By advice, the cells for which it helps.
    """

    column: str
    name: str
    cells: Value
    value: Value
    must: str
    hints: Mapping[str, Value] = field(default_factory=dict)

    @property
    def failed(self) -> Value:
        """Whether a cell has a value that does not fit."""
        held = self.cells.notnull()
        if self.cells.type().is_floating():
            held = held & ~self.cells.isnan()
        return held & self.value.isnull()


def convert_role(role: str, column: str, cells: Value, timestamp_unit: str | None, first_position: int) -> Converted:
    """Converts a column that has a role in the data contract.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type.
        timestamp_unit: Unit of numeric timestamps since 1970.
        first_position: Position of the topmost product in the source.

    Returns:
        The converted column.
    """
    if role == "timestamp":
        unit = f"numbers of {timestamp_unit} since 1970" if timestamp_unit else "times such as 2024-05-31T18:04:05Z"
        must = f"must hold {unit}, from 1990 on and before 2100"
        return Converted(column, role, cells, time_of(cells, timestamp_unit), must, time_hints(cells, timestamp_unit))
    if role == "position":
        position = whole_numbers(cells, "int32", 1 - first_position)
        return Converted(column, role, cells, position, "must hold whole numbers")
    if role in TASKS:
        return Converted(column, role, cells, _label(cells), "must hold 0 or 1 (or true or false)")
    value = _identifier(cells)
    if role == "query":
        # Browsing without a query; the validator warns with the count.
        value = value.fill_null("")
    return Converted(column, role, cells, value, "must hold text or whole numbers")


def convert_id(role: str, column: str, cells: Value, spelling: IdSpelling) -> Converted:
    """Converts a column of ids.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type, null words included.
        spelling: Their spelling.

    Returns:
        The converted column.
    """
    held = cells.type()
    if held.is_string():
        # A cell that becomes null here is missing, not invalid.
        cells = spelling.expression(cells)
        return Converted(column, role, cells, cells, "must hold text or whole numbers")
    cells = cells_without(cells, spelling.null_words)
    value = _exact(cells)
    if held.is_floating():
        is_whole = (value % 1) == 0
        value = is_whole.ifelse(value, ibis.null("float64")).try_cast("int64").cast("string")
    return Converted(column, role, cells, value, "must hold text or whole numbers" + _limit(cells))


def convert_category(name: str, column: str, cells: Value, spelling: CategorySpelling) -> Converted:
    """Converts a column of categories; floats stay floats until the writer spells them.

    Args:
        name: The feature.
        column: The source's column, for the error.
        cells: Its cells, of any type, null words included.
        spelling: Their spelling.

    Returns:
        The converted column.
    """
    held = cells.type()
    if held.is_string():
        cells = spelling.expression(cells)
        value = _case_folded(cells) if spelling.fold_case else cells
        return Converted(column, name, cells, value, "must hold categories")
    cells = cells_without(cells, spelling.missing)
    return Converted(column, name, cells, _exact(cells), "must hold categories" + _limit(cells))


def convert_feature(name: str, column: str, cells: Value, kind: Kind, decimal_mark: str | None = None) -> Converted:
    """Converts a column of numbers or texts.

    Args:
        name: The feature's name.
        column: The source's column, for the error.
        cells: Its cells, of any type.
        kind: `numerical` or `text`; for categories see `convert_category`.
        decimal_mark: Decimal mark of numbers that are text.

    Returns:
        The converted column.
    """
    assert kind is not Kind.CATEGORICAL
    hints: Mapping[str, Value] = {}
    held = cells.type()
    if kind is Kind.TEXT:
        # In a column of floats, NaN means missing.
        value = cells.isnan().ifelse(ibis.null("float64"), cells) if held.is_floating() else cells
        value = value.cast("string")
    elif held.is_boolean():
        value = cells.cast("int8")
    elif held.is_integer() or held.is_floating():
        value = cells
    elif held.is_string():
        value, hints = number_of_cells(cells, decimal_mark), number_hints(cells, decimal_mark)
    else:
        value = cells.try_cast("float64")
    return Converted(column, name, cells, value, "must hold numbers", hints)


def require_single_values(path: Path, raw: Table, columns: Collection[str]) -> None:
    """Raises a `UserError` where a column holds lists, bytes or other types that are not single values."""
    for column in columns:
        held = raw[column].type()
        if not (
            held.is_string()
            or held.is_numeric()
            or held.is_boolean()
            or held.is_timestamp()
            or held.is_date()
            or held.is_uuid()
            or held.is_time()
            or held.is_enum()
            or held.is_null()
        ):
            raise UserError(
                f"{path} must hold text, numbers, times or booleans in the columns of the mapping, but {column!r} is "
                f"of type {held}; write it as text"
            )


def require_converted(engine: Backend, path: Path, raw: Table, columns: list[Converted]) -> None:
    """Raises a `UserError` that lists every column with cells that do not fit, with examples."""
    sums = {f"column_{i}": column.failed.fill_null(False).sum() for i, column in enumerate(columns)}
    counts = rows_of(engine, raw.aggregate(**sums))[0].values()
    problems: list[Violation] = []
    for column, n in zip(columns, counts, strict=True):
        if n:
            cells = raw.filter(column.failed).select(cell=raw[column.column].cast("string")).distinct()
            shown = [repr(row["cell"][:MAX_CELL_LENGTH]) for row in rows_of(engine, cells.order_by("cell").limit(5))]
            must = column.must + _hint(engine, raw, column, n)
            problems.append(Violation(column.column, None, must, "error", n, "row", tuple(shown)))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{path} must match the mapping, but some cells do not; correct them:\n{listed}")


def _hint(engine: Backend, raw: Table, column: Converted, n_failed: int) -> str:
    """The advice that helps with most of the cells that do not fit; empty if there is none."""
    if not column.hints:
        return ""
    sums = {f"hint_{i}": (column.failed & helped).sum() for i, helped in enumerate(column.hints.values())}
    counts = rows_of(engine, raw.aggregate(**sums))[0].values()
    helped, hint = max(zip((n or 0 for n in counts), column.hints, strict=True))
    return f"; {hint}" if 2 * helped >= n_failed else ""


def _label(cells: Value) -> Value:
    if cells.type().is_boolean():
        return cells.cast("int8")
    words = cells.cast("string").strip().lower()
    # Patterns rather than isin, which DuckDB runs as a join that changes the order of rows.
    return ibis.cases((words.re_search(_TRUE), 1), (words.re_search(_FALSE), 0), else_=ibis.null("int8")).cast("int8")


def _identifier(cells: Value) -> Value:
    # A column with a missing value stores whole numbers as floats; 123.0 and 123 are the same id.
    return whole_numbers(cells, "int64").cast("string") if cells.type().is_floating() else cells.cast("string")


def _exact(cells: Value) -> Value:
    """Converts other cells to text; floats stay floats, and become null if too large to be exact."""
    held = cells.type()
    if held.is_floating():
        is_exact = (cells.abs() < WHOLE_BELOW[str(held.copy(nullable=True))]) & ~cells.isnan()
        return is_exact.ifelse(cells, ibis.null(held))
    text = cells.cast("string")
    return text.re_replace(r"(\.[0-9]*[1-9])0+$", r"\1").re_replace(DECIMAL_ID, "") if held.is_decimal() else text


def _limit(cells: Value) -> str:
    return f" ({TOO_LARGE})" if cells.type().is_floating() else ""


@ibis.udf.scalar.pyarrow(signature=(("string",), "string"))
def _case_folded(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    # The engine's lower() does not match Straße and STRASSE.
    return each_distinct(texts, str.casefold)
