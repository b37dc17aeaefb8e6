"""Converts a source's columns to the contract's types, and reports cells that do not fit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import RANDOMISED, TASKS, Kind
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
from shelfrank.logs.number_columns import number_hints, number_of_cells, numbers_of, whole_numbers
from shelfrank.logs.time_columns import time_hints, time_steps
from shelfrank.logs.violation import Violation

MAX_CELL_LENGTH = 60
"""Characters of a cell that an error prints."""

_TRUE, _FALSE = r"^(1(\.0*)?|true|t|yes)$", r"^(0(\.0*)?|false|f|no)$"


def _no_hints(_: Value) -> Mapping[str, Value]:
    return {}


@dataclass(frozen=True)
class Conversion:
    """How a column of a source becomes one of the log.

    Attributes:
        column: The source's column.
        name: The log's column.
        cells: The source's cells, with missing values as null.
        steps: Functions that turn the cells into the log's values, one after the other; none if the cells are the
            values. Each is computed as a column, so that it may use its input several times at no cost.
        must: What a cell must hold.
        hints: By advice, the cells for which it helps.
    """

    column: str
    name: str
    cells: Value
    steps: tuple[Callable[[Value], Value], ...]
    must: str
    hints: Callable[[Value], Mapping[str, Value]] = _no_hints

    def is_given(self, raw: Table) -> bool:
        """Whether the cells are the source's, so that no value of the source is read as missing."""
        return self.cells.equals(raw[self.column])


def converted(raw: Table, conversions: Sequence[Conversion]) -> Table:
    """Converts columns.

    Args:
        raw: The source's rows.
        conversions: The columns.

    Returns:
        By the place of each conversion, the columns of `given_of`, `cells_of` and `value_of`.
    """
    cleaned = {f"cells_{place}": each.cells for place, each in enumerate(conversions) if not each.is_given(raw)}
    rows = raw.select(**{f"given_{place}": raw[each.column] for place, each in enumerate(conversions)}, **cleaned)
    for number in range(max(len(each.steps) for each in conversions)):
        stepped = {
            f"value_{place}": each.steps[number](rows[f"value_{place}"] if number else cells_of(rows, place))
            for place, each in enumerate(conversions)
            if number < len(each.steps)
        }
        rows = rows.mutate(**stepped)
    return rows


def given_of(rows: Table, place: int = 0) -> Value:
    """The source's cells of the conversion at this place of `converted`."""
    return rows[f"given_{place}"]


def cells_of(rows: Table, place: int = 0) -> Value:
    """The cells, with missing values as null, of the conversion at this place of `converted`."""
    return rows[f"cells_{place}" if f"cells_{place}" in rows.columns else f"given_{place}"]


def value_of(rows: Table, place: int = 0) -> Value:
    """The log's values of the conversion at this place of `converted`."""
    return rows[f"value_{place}"] if f"value_{place}" in rows.columns else cells_of(rows, place)


def failed(rows: Table, place: int = 0) -> Value:
    """Whether a cell of the conversion at this place of `converted` has a value that does not fit."""
    cells = cells_of(rows, place)
    held = cells.notnull() & ~cells.isnan() if cells.type().is_floating() else cells.notnull()
    return held & value_of(rows, place).isnull()


def convert_role(role: str, column: str, cells: Value, timestamp_unit: str | None, first_position: int) -> Conversion:
    """Converts a column that has a role in the data contract.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type.
        timestamp_unit: Unit of numeric timestamps since 1970.
        first_position: Position of the topmost product in the source.

    Returns:
        The conversion.
    """
    if role == "timestamp":
        unit = f"numbers of {timestamp_unit} since 1970" if timestamp_unit else "times such as 2024-05-31T18:04:05Z"
        must = f"must hold {unit}, from 1990 on and before 2100"
        hints = partial(time_hints, unit=timestamp_unit)
        return Conversion(column, role, cells, time_steps(cells, timestamp_unit), must, hints)
    if role == "position":
        steps = (numbers_of, partial(whole_numbers, data_type="int32", shift=1 - first_position))
        return Conversion(column, role, cells, steps, "must hold whole numbers")
    if role in (*TASKS, RANDOMISED):
        return Conversion(column, role, cells, (_label,), "must hold 0 or 1 (or true or false)")
    steps = _identifier_steps(cells)
    if role == "query":
        # Browsing without a query; the validator warns with the count.
        steps = (*steps, lambda texts: texts.fill_null(""))
    return Conversion(column, role, cells, steps, "must hold text or whole numbers")


def convert_id(role: str, column: str, cells: Value, spelling: IdSpelling) -> Conversion:
    """Converts a column of ids.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type, null words included.
        spelling: Their spelling.

    Returns:
        The conversion.
    """
    held = cells.type()
    if held.is_string():
        # A cell that becomes null here is missing, not invalid.
        return Conversion(column, role, spelling.expression(cells), (), "must hold text or whole numbers")
    steps = (_exact, _whole_text) if held.is_floating() else (_exact,)
    cells = cells_without(cells, spelling.null_words)
    return Conversion(column, role, cells, steps, "must hold text or whole numbers" + _limit(cells))


def convert_category(name: str, column: str, cells: Value, spelling: CategorySpelling) -> Conversion:
    """Converts a column of categories; floats stay floats until the writer spells them.

    Args:
        name: The feature.
        column: The source's column, for the error.
        cells: Its cells, of any type, null words included.
        spelling: Their spelling.

    Returns:
        The conversion.
    """
    if cells.type().is_string():
        steps = (_case_folded,) if spelling.fold_case else ()
        return Conversion(column, name, spelling.expression(cells), steps, "must hold categories")
    cells = cells_without(cells, spelling.missing)
    return Conversion(column, name, cells, (_exact,), "must hold categories" + _limit(cells))


def convert_feature(name: str, column: str, cells: Value, kind: Kind, decimal_mark: str | None = None) -> Conversion:
    """Converts a column of numbers or texts.

    Args:
        name: The feature's name.
        column: The source's column, for the error.
        cells: Its cells, of any type.
        kind: `numerical` or `text`; for categories see `convert_category`.
        decimal_mark: Decimal mark of numbers that are text.

    Returns:
        The conversion.
    """
    assert kind is not Kind.CATEGORICAL
    held, hints = cells.type(), _no_hints
    if held.is_string() and kind is not Kind.TEXT:
        step, hints = (
            partial(number_of_cells, decimal_mark=decimal_mark),
            partial(number_hints, decimal_mark=decimal_mark),
        )
    elif held.is_string() or (kind is not Kind.TEXT and (held.is_integer() or held.is_floating())):
        step = None
    elif kind is Kind.TEXT:
        step = _text
    else:
        step = _whole_label if held.is_boolean() else _float
    return Conversion(column, name, cells, (step,) if step else (), "must hold numbers", hints)


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


def require_converted(
    engine: Backend, path: Path, raw: Table, conversions: Sequence[Conversion], counts: Sequence[int]
) -> None:
    """Raises a `UserError` that lists every column with cells that do not fit, with examples.

    Args:
        engine: Reads the file.
        path: The file.
        raw: Its rows.
        conversions: The columns.
        counts: By conversion, the number of its cells that `failed`.
    """
    problems: list[Violation] = []
    for conversion, n in zip(conversions, counts, strict=True):
        if n:
            rows = converted(raw, [conversion])
            unfit = rows.filter(failed(rows))
            cells = unfit.select(cell=given_of(unfit).cast("string")).distinct()
            shown = [repr(row["cell"][:MAX_CELL_LENGTH]) for row in rows_of(engine, cells.order_by("cell").limit(5))]
            must = conversion.must + _hint(engine, unfit, conversion, n)
            problems.append(Violation(conversion.column, None, must, "error", n, "row", tuple(shown)))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{path} must match the mapping, but some cells do not; correct them:\n{listed}")


def _hint(engine: Backend, unfit: Table, conversion: Conversion, n_failed: int) -> str:
    """The advice that helps with most of the cells that do not fit; empty if there is none."""
    hints = conversion.hints(cells_of(unfit))
    if not hints:
        return ""
    sums = {f"hint_{i}": helped.sum() for i, helped in enumerate(hints.values())}
    counts = rows_of(engine, unfit.aggregate(**sums))[0].values()
    helped, hint = max(zip((n or 0 for n in counts), hints, strict=True))
    return f"; {hint}" if 2 * helped >= n_failed else ""


def _label(cells: Value) -> Value:
    if cells.type().is_boolean():
        return cells.cast("int8")
    words = cells.cast("string").strip().lower()
    # Patterns rather than isin, which DuckDB runs as a join that changes the order of rows.
    return ibis.cases((words.re_search(_TRUE), 1), (words.re_search(_FALSE), 0), else_=ibis.null("int8")).cast("int8")


def _identifier_steps(cells: Value) -> tuple[Callable[[Value], Value], ...]:
    held = cells.type()
    if held.is_floating():
        # A column with a missing value stores whole numbers as floats; 123.0 and 123 are the same id.
        return (numbers_of, lambda numbers: whole_numbers(numbers).cast("string"))
    return () if held.is_string() else (lambda others: others.cast("string"),)


def _text(cells: Value) -> Value:
    # In a column of floats, NaN means missing.
    cells = cells.isnan().ifelse(ibis.null("float64"), cells) if cells.type().is_floating() else cells
    return cells.cast("string")


def _whole_label(cells: Value) -> Value:
    return cells.cast("int8")


def _float(cells: Value) -> Value:
    return cells.try_cast("float64")


def _whole_text(floats: Value) -> Value:
    return ((floats % 1) == 0).ifelse(floats, ibis.null("float64")).try_cast("int64").cast("string")


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
