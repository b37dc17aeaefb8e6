"""Turns a source's columns into the contract's types, and tells which cells do not fit."""

from dataclasses import dataclass
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.errors import UserError
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.violation import Violation
from shelfrank.schema import TASKS, Kind

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}

_WITH_ZONE = r":\d\d(\.\d+)?\s*(Z|z|UTC|[+-]\d\d(:?\d\d)?)$"
_TRUE, _FALSE = r"^(1|1\.0|true|t|yes)$", r"^(0|0\.0|false|f|no)$"


@dataclass(frozen=True)
class Converted:
    """One converted column.

    Attributes:
        column: The source's column.
        name: The log's column.
        cells: What the source holds.
        value: What the log will hold.
        must: What a cell must hold.
    """

    column: str
    name: str
    cells: Value
    value: Value
    must: str

    @property
    def failed(self) -> Value:
        """Whether a cell holds something, but nothing that fits."""
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
        timestamp_unit: What a timestamp that is a number counts since 1970.
        first_position: The position of the topmost product in the source.

    Returns:
        The converted column.
    """
    if role == "timestamp":
        unit = f"numbers of {timestamp_unit} since 1970" if timestamp_unit else "times such as 2024-05-31T18:04:05Z"
        hint = "" if timestamp_unit else "; for numbers, declare `timestamp_unit` as s, ms or us"
        return Converted(column, role, cells, _time(cells, timestamp_unit), f"must hold {unit}{hint}")
    if role == "position":
        position = _whole(cells, "int32") + (1 - first_position)
        return Converted(column, role, cells, position, "must hold whole numbers")
    if role in TASKS:
        return Converted(column, role, cells, _label(cells), "must hold 0 or 1 (or true or false)")
    value = _identifier(cells)
    if role == "query":
        # A customer who browsed without words; a warning of the validation counts them.
        value = value.fill_null("")
    return Converted(column, role, cells, value, "must hold text or whole numbers")


def convert_feature(name: str, column: str, cells: Value, kind: Kind) -> Converted:
    """Converts a column that is a feature."""
    held = cells.type()
    if kind is not Kind.NUMERICAL:
        # Where a category is a float, NaN is how the writer stored a missing one.
        value = cells.isnan().ifelse(ibis.null("float64"), cells) if held.is_floating() else cells
        value = value.cast("string")
    elif held.is_boolean():
        value = cells.cast("int8")
    elif held.is_integer() or held.is_floating():
        value = cells
    else:
        value = cells.try_cast("float64")
    return Converted(column, name, cells, value, "must hold numbers")


def require_converted(engine: Backend, path: Path, raw: Table, columns: list[Converted]) -> None:
    """Raises a `UserError` that lists every column with cells that do not fit, with examples."""
    sums = {f"column_{i}": column.failed.fill_null(False).sum() for i, column in enumerate(columns)}
    counts = rows_of(engine, raw.aggregate(**sums))[0].values()
    problems: list[Violation] = []
    for column, n in zip(columns, counts, strict=True):
        if n:
            cells = raw.filter(column.failed).select(cell=raw[column.column].cast("string")).distinct()
            shown = [repr(row["cell"]) for row in rows_of(engine, cells.order_by("cell").limit(5))]
            problems.append(Violation(column.column, None, column.must, "error", n, "row", tuple(shown)))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{path} must hold what the mapping says, but some cells do not; mend them:\n{listed}")


def count_without_zone(engine: Backend, raw: Table, column: str, timestamp_unit: str | None) -> int:
    """Counts timestamps that name no time zone, and are therefore read as UTC."""
    cells: Value = raw[column]
    held = cells.type()
    if held.is_string() and timestamp_unit is None:
        without = cells.notnull() & ~cells.re_search(_WITH_ZONE)
    elif held.is_date() or (held.is_timestamp() and held.timezone is None):
        without = cells.notnull()
    else:
        return 0
    return rows_of(engine, raw.aggregate(n=without.sum()))[0]["n"] or 0


def _time(cells: Value, unit: str | None) -> Value:
    held = cells.type()
    if held.is_timestamp() or held.is_date() or (held.is_string() and unit is None):
        return cells.try_cast("timestamp('UTC', 6)")
    numbers = cells.try_cast("float64")
    if unit is None:
        return ibis.null("timestamp('UTC', 6)")
    # A float64 holds the microseconds of 285 years exactly.
    micros = (numbers * (1_000_000 // PER_SECOND[unit])).try_cast("int64")
    seconds = (micros // 1_000_000).cast("int64")
    return seconds.as_timestamp("s") + (micros - seconds * 1_000_000).as_interval("us")


def _label(cells: Value) -> Value:
    if cells.type().is_boolean():
        return cells.cast("int8")
    words = cells.cast("string").strip().lower()
    # Patterns rather than isin, which DuckDB runs as a join: that would mix up the order of the rows.
    return ibis.cases((words.re_search(_TRUE), 1), (words.re_search(_FALSE), 0), else_=ibis.null("int8")).cast("int8")


def _whole(cells: Value, data_type: str) -> Value:
    numbers = cells.try_cast("float64")
    # A cast alone would round 1.5 to 2.
    return ((numbers % 1) == 0).ifelse(numbers, ibis.null("float64")).try_cast(data_type)


def _identifier(cells: Value) -> Value:
    # Tables that met a missing value store whole numbers as floats; 123.0 and 123 are one id.
    return _whole(cells, "int64").cast("string") if cells.type().is_floating() else cells.cast("string")
