"""Decides how a source's ids are spelled, over all tables that are joined by them."""

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
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.missing_values import cells_without
from shelfrank.logs.violation import N_EXAMPLES
from shelfrank.logs.writer import SearchLogWriter

ID_ROLES: tuple[str, ...] = get_args(IdColumn)


@dataclass(frozen=True)
class RawIdColumn:
    """A column of ids.

    Attributes:
        file: Where it stands.
        raw: The file's rows.
        column: The column.
    """

    file: Path
    raw: Table
    column: str

    def __str__(self) -> str:
        return f"{self.column} of {self.file.name}"


@dataclass(frozen=True)
class _Found:
    """What a column of ids holds.

    Attributes:
        known: Cells that hold an id.
        others: Ids that are no whole numbers.
        rounded: Numbers that were rounded.
        decimals: Texts such as 412.0.
    """

    known: int
    others: int
    rounded: int
    decimals: int


def id_spelling(
    engine: Backend, writer: SearchLogWriter, role: str, columns: Sequence[RawIdColumn], words: Sequence[str]
) -> IdSpelling:
    """Looks at all ids of a role: where every one is a whole number, the text 412.0 is 412.

    A table that met a missing number writes all its numbers as floats. Where other ids are no numbers, 412.0 may be a
    name like any other, and is kept; the notes tell how many such ids there are. Tables are joined by their ids, so all
    that have the role are looked at together.

    Args:
        engine: Where the files are read.
        writer: Its notes tell what was found.
        role: The role.
        columns: Every column that has it.
        words: The texts that mean that there is none.

    Returns:
        The spelling.

    Raises:
        UserError: Where ids are numbers that were rounded, such as 1.2e+18.
    """
    spelling = IdSpelling(tuple(words))
    found = [_look_at(engine, each, spelling, may_be_rounded=role == "action") for each in columns]
    others = [str(column) for column, each in zip(columns, found, strict=True) if each.others]
    is_whole = not others and any(each.known for each in found)
    for column, each in zip(columns, found, strict=True):
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
    """Reads 412.0 as 412 in the columns of an id whose every value, in all tables, is a whole number.

    Args:
        engine: Where the tables are kept.
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
            rows = tables[table].select(id=_flat(tables[table][column]))
            whole, decimal = rows["id"].re_search(WHOLE_ID), rows["id"].re_search(DECIMAL_ID)
            sums = rows.aggregate(known=rows["id"].count(), others=(~whole).sum(), decimals=(whole & decimal).sum())
            found = rows_of(engine, sums)[0]
            known, others = known + (found["known"] or 0), others + (found["others"] or 0)
            decimals += found["decimals"] or 0
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


def _look_at(engine: Backend, column: RawIdColumn, spelling: IdSpelling, may_be_rounded: bool) -> _Found:
    cells: Value = column.raw[column.column]
    held = cells.type()
    if held.is_numeric() and not held.is_boolean():
        n_known = rows_of(engine, column.raw.aggregate(n=cells_without(cells, spelling.null_words).count()))[0]["n"]
        return _Found(known=n_known or 0, others=0, rounded=0, decimals=0)
    text = spelling.expression(cells if held.is_string() else cells.cast("string"))
    whole = text.re_search(WHOLE_ID)
    decimal = whole & text.re_search(DECIMAL_ID)
    rounded = text.re_search(SCIENTIFIC_ID) | (
        decimal & (text.try_cast("float64").abs() >= WHOLE_BELOW["float64"]).fill_null(False)
    )
    sums = {
        "known": text.count(),
        "others": (~whole & ~rounded).sum(),
        "rounded": rounded.sum(),
        "decimals": decimal.sum(),
    }
    found = _Found(**{name: n or 0 for name, n in rows_of(engine, column.raw.aggregate(**sums))[0].items()})
    if found.rounded and not may_be_rounded:
        examples = column.raw.filter(rounded).select(cell=text).limit(N_EXAMPLES)
        shown = ", ".join(row["cell"] for row in rows_of(engine, examples))
        were = "was" if found.rounded == 1 else "were"
        raise UserError(
            f"{column} must hold ids, but {found.rounded:,} of its numbers {were} rounded, e.g. {shown}: {TOO_LARGE} "
            "where the file is written"
        )
    return found


def _flat(ids: Value) -> Value:
    return ids.unnest() if ids.type().is_array() else ids


def _spelled(ids: Value) -> Value:
    return ids.map(_SPELLING.expression) if ids.type().is_array() else _SPELLING.expression(ids)
