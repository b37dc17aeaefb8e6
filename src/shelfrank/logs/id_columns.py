"""Determines the spelling of a source's ids over all tables that they join."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import IdColumn
from shelfrank.core.values import (
    DECIMAL_ID,
    SCIENTIFIC_ID,
    TOO_LARGE,
    WHOLE_BELOW,
    WHOLE_ID,
    IdSpelling,
)
from shelfrank.logs.engine import Table, Value, one_row, sql_of, sql_text
from shelfrank.logs.missing_values import cells_without
from shelfrank.logs.violation import N_EXAMPLES
from shelfrank.logs.writer import SearchLogWriter

ID_ROLES: tuple[str, ...] = get_args(IdColumn)


@dataclass(frozen=True)
class RawIdColumn:
    """A column of ids.

    Attributes:
        file: Its file.
        raw: The file's rows.
        column: Its name.
    """

    file: Path
    raw: Table
    column: str

    def __str__(self) -> str:
        return f"{self.column} of {self.file.name}"


@dataclass(frozen=True)
class _IdCounts:
    """Counts of the ids in a column.

    Attributes:
        known: Cells with an id.
        others: Ids that are not whole numbers.
        rounded: Numbers that were rounded.
        decimals: Whole numbers written as 412.0.
    """

    known: int
    others: int
    rounded: int
    decimals: int


def id_spelling(
    engine: Backend, writer: SearchLogWriter, role: str, columns: Sequence[RawIdColumn], words: Sequence[str]
) -> IdSpelling:
    """Determines the spelling of a role's ids: if all are whole numbers, the text 412.0 is 412.

    A column with a missing number writes all its numbers as floats. If other ids are not numbers, 412.0 may be a name
    and is kept; a note counts such ids. Ids join tables, so all columns of the role are considered together.

    Args:
        engine: Reads the files.
        writer: Receives the notes.
        role: The role.
        columns: Every column with this role.
        words: Texts that mean a missing id.

    Returns:
        The spelling.

    Raises:
        UserError: Where ids are numbers that were rounded, such as 1.2e+18.
    """
    spelling = IdSpelling(tuple(words))
    counts = [_count_ids(engine, each, spelling, may_be_rounded=role == "action") for each in columns]
    others = [str(column) for column, each in zip(columns, counts, strict=True) if each.others]
    is_whole = not others and any(each.known for each in counts)
    for column, each in zip(columns, counts, strict=True):
        if not each.decimals:
            continue
        if is_whole:
            writer.notes[f"{column}, whole numbers written as floats"] = f"{each.decimals:,} (412.0 is read as 412)"
        else:
            writer.notes[f"{column}, ids that end in .0"] = (
                f"{each.decimals:,}, kept as they are, since other ids of {' and '.join(others)} are no whole numbers"
            )
    return replace(spelling, whole_numbers=is_whole)


_SPELLING = IdSpelling(whole_numbers=True)


def spell_whole_numbers(
    engine: Backend,
    writer: SearchLogWriter,
    tables: Mapping[str, Table],
    columns: Mapping[str, Sequence[tuple[str, str]]],
) -> dict[str, Table]:
    """Reads 412.0 as 412 in the columns of an id if all of its values, in all tables, are whole numbers.

    Args:
        engine: Holds the tables.
        writer: Declares these ids, and notes how many end in .0.
        tables: The tables by name.
        columns: By id column of the log, the tables and columns, of texts or lists of texts, that hold it.

    Returns:
        The tables with the same columns.
    """
    whole_numbers: list[str] = []
    changed: dict[str, dict[str, Value]] = {name: {} for name in tables}
    for role, places in columns.items():
        known = others = decimals = 0
        for table, column in places:
            ids = tables[table].select(id=_flat(tables[table][column]))
            whole, decimal = _matches(WHOLE_ID), _matches(DECIMAL_ID)
            sums = ["count(id)", f"count(*) FILTER (NOT {whole})", f"count(*) FILTER ({whole} AND {decimal})"]
            counts = one_row(engine.con, sql_of(engine, ids), sums)
            known, others, decimals = known + counts[0], others + counts[1], decimals + counts[2]
        if known and not others:
            whole_numbers.append(role)
        if decimals and others:
            writer.notes[f"{role}, ids that end in .0"] = (
                f"{decimals:,}, kept as they are, since other ids of the source are no whole numbers"
            )
        elif decimals:
            writer.notes[f"{role}, whole numbers written as floats"] = f"{decimals:,} (412.0 is read as 412)"
            for table, column in places:
                changed[table][column] = _spelled(tables[table][column])
    writer.declare_whole_numbers(whole_numbers)
    return {name: table.mutate(**changed[name]) if changed[name] else table for name, table in tables.items()}


def _count_ids(engine: Backend, column: RawIdColumn, spelling: IdSpelling, may_be_rounded: bool) -> _IdCounts:
    cells: Value = column.raw[column.column]
    held = cells.type()
    if held.is_numeric() and not held.is_boolean():
        known = column.raw.select(id=cells_without(cells, spelling.null_words))
        return _IdCounts(*one_row(engine.con, sql_of(engine, known), ["count(id)"]), others=0, rounded=0, decimals=0)
    texts = column.raw.select(id=spelling.expression(cells if held.is_string() else cells.cast("string")))
    ids = (
        f"(SELECT id, is_whole, is_decimal, is_scientific OR (is_decimal AND "
        f"coalesce(abs(try_cast(id AS DOUBLE)) >= {WHOLE_BELOW['float64']!r}, false)) AS is_rounded "
        f"FROM (SELECT id, {_matches(WHOLE_ID)} AS is_whole, {_matches(SCIENTIFIC_ID)} AS is_scientific, "
        f"is_whole AND {_matches(DECIMAL_ID)} AS is_decimal FROM {sql_of(engine, texts)}))"
    )
    others = "count(*) FILTER (NOT is_whole AND NOT is_rounded)"
    sums = ["count(id)", others, "count(*) FILTER (is_rounded)", "count(*) FILTER (is_decimal)"]
    counts = _IdCounts(*one_row(engine.con, ids, sums))
    if counts.rounded and not may_be_rounded:
        examples = f"(SELECT id FROM {ids} WHERE is_rounded LIMIT {N_EXAMPLES})"
        (shown,) = one_row(engine.con, examples, ["string_agg(id, ', ')"])
        were = "was" if counts.rounded == 1 else "were"
        raise UserError(
            f"{column} must hold ids, but {counts.rounded:,} of its numbers {were} rounded, e.g. {shown}: {TOO_LARGE} "
            "where the file is written"
        )
    return counts


def _matches(pattern: str) -> str:
    return f"regexp_matches(id, {sql_text(pattern)})"


def _flat(ids: Value) -> Value:
    return ids.unnest() if ids.type().is_array() else ids


def _spelled(ids: Value) -> Value:
    return ids.map(_SPELLING.expression) if ids.type().is_array() else _SPELLING.expression(ids)
