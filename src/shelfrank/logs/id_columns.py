"""Spells a source's own columns before its tables are joined, and tells what was read as missing or as a number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import IdColumn
from shelfrank.core.values import (
    DECIMAL_ID,
    SCIENTIFIC_ID,
    TOO_LARGE,
    WHOLE_BELOW,
    WHOLE_ID,
    CategorySpelling,
    IdSpelling,
    each_distinct,
    number_words,
    trimmed_expression,
)
from shelfrank.logs.convert import Converted
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.search_log import SearchLogWriter

ID_ROLES: tuple[str, ...] = get_args(IdColumn)
N_SHOWN = 5


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
        examples = column.raw.filter(rounded).select(cell=text).limit(N_SHOWN)
        shown = ", ".join(row["cell"] for row in rows_of(engine, examples))
        were = "was" if found.rounded == 1 else "were"
        raise UserError(
            f"{column} must hold ids, but {found.rounded:,} of its numbers {were} rounded, e.g. {shown}: {TOO_LARGE} "
            "where the file is written"
        )
    return found


def convert_id(role: str, column: str, cells: Value, spelling: IdSpelling) -> Converted:
    """Converts a column of ids.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type, with their null words still in them.
        spelling: How they are spelled.

    Returns:
        The converted column.
    """
    held = cells.type()
    if held.is_string():
        # What becomes null here is missing, not wrong.
        cells = spelling.expression(cells)
        return Converted(column, role, cells, cells, "must hold text or whole numbers")
    cells = cells_without(cells, spelling.null_words)
    value = _exact(cells)
    if held.is_floating():
        is_whole = (value % 1) == 0
        value = is_whole.ifelse(value, ibis.null("float64")).try_cast("int64").cast("string")
    return Converted(column, role, cells, value, "must hold text or whole numbers" + _limit(cells))


def convert_category(name: str, column: str, cells: Value, spelling: CategorySpelling) -> Converted:
    """Converts a column of categories; floats stay floats until the log is written, which spells them.

    Args:
        name: The feature.
        column: The source's column, for the error.
        cells: Its cells, of any type, with their null words still in them.
        spelling: How they are spelled.

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


def _exact(cells: Value) -> Value:
    """Cells that are no text, as text; floats stay floats, null where one stands for several whole numbers."""
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
    # The engine's own lower() leaves Straße and STRASSE apart.
    return each_distinct(texts, str.casefold)


def cells_without(cells: Value, words: Sequence[str], is_number: bool = False) -> Value:
    """Cells, null where they are one of some words; numbers by their value.

    Args:
        cells: Cells of any type.
        words: Texts that mean missing.
        is_number: Whether the cells are numbers, also where they are texts.

    Returns:
        The cells; no other one is changed.
    """
    held = cells.type()
    numbers = number_words(words)
    missing: list[Value] = []
    if held.is_numeric() and not held.is_boolean():
        missing += [cells.cast("float64") == number for number in numbers]
    else:
        text = cells if held.is_string() else cells.cast("string")
        if words:
            missing.append(IdSpelling(tuple(words)).expression(text).isnull() & (trimmed_expression(text) != ""))
        if is_number and held.is_string():
            missing += [text.try_cast("float64") == number for number in numbers]
    for is_missing in missing:
        cells = is_missing.fill_null(False).ifelse(ibis.null(held), cells)
    return cells


def without_null_words(cells: Value, words: Sequence[str]) -> Value:
    """Cells of numbers or labels, null where they are blank or a word that means missing, or NaN."""
    held = cells.type()
    cells = cells_without(cells, words, is_number=True)
    if held.is_string():
        return IdSpelling().expression(cells)
    return cells.isnan().ifelse(ibis.null(held), cells) if held.is_floating() else cells


def note_missing(
    engine: Backend, writer: SearchLogWriter, file: Path, raw: Table, columns: Iterable[Converted]
) -> None:
    """Notes which words and blanks of each column were read as missing; empty cells are the usual way to say so.

    Args:
        engine: Where the file is read.
        writer: Gets the notes.
        file: The file.
        raw: Its rows.
        columns: Its columns, each as often as it is used.
    """
    uses = list(columns)
    missing = [_holds_something(raw[use.column]) & use.cells.isnull() for use in uses]
    sums = {f"use_{i}": is_missing.sum() for i, is_missing in enumerate(missing)}
    counts = list(rows_of(engine, raw.aggregate(**sums))[0].values())
    told: dict[str, dict[str, str]] = {}
    for use, is_missing, count in zip(uses, missing, counts, strict=True):
        told.setdefault(use.column, {})[use.name] = _words(engine, raw, use.column, is_missing) if count else ""
    for column, by_use in told.items():
        place = f"{column} of {file.name}, words or blanks read as missing"
        if len(set(by_use.values())) == 1:
            by_use = {"": next(iter(by_use.values()))}
        writer.notes |= {f"{place} by {name}" if name else place: shown for name, shown in by_use.items() if shown}


def _holds_something(cells: Value) -> Value:
    if cells.type().is_string():
        return cells != ""
    return cells.notnull() & ~cells.isnan() if cells.type().is_floating() else cells.notnull()


def _words(engine: Backend, raw: Table, column: str, missing: Value) -> str:
    cells: Value = raw[column]
    word = trimmed_expression(cells) if cells.type().is_string() else cells.cast("string")
    found = raw.filter(missing).select(word=word).group_by("word").aggregate(n=ibis._.count())
    rows = rows_of(engine, found.order_by(ibis.desc("n"), "word").limit(N_SHOWN))
    return ", ".join(f"{row['word'] or 'blank'} ({row['n']:,})" for row in rows)


def note_spaces(engine: Backend, writer: SearchLogWriter, file: Path, raw: Table, columns: Sequence[str]) -> None:
    """Notes how many ids and categories have white space around them, which is left out."""
    texts = {f"column_{i}": raw[column] for i, column in enumerate(columns) if raw[column].type().is_string()}
    if not texts:
        return
    spaced = {
        name: ((cells != trimmed_expression(cells)) & (trimmed_expression(cells) != "")).sum()
        for name, cells in texts.items()
    }
    counts = rows_of(engine, raw.aggregate(**spaced))[0]
    for i, column in enumerate(columns):
        if counts.get(f"column_{i}"):
            writer.notes[f"{column} of {file.name}, values with white space around them"] = counts[f"column_{i}"]
