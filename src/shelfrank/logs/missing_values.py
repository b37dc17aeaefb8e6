"""Reads blanks and words such as NULL as missing values, and notes which ones a source has."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.values import (
    IdSpelling,
    number_words,
    trimmed_expression,
)
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.violation import N_EXAMPLES
from shelfrank.logs.writer import SearchLogWriter


def cells_without(cells: Value, words: Sequence[str], is_number: bool = False) -> Value:
    """Replaces null words by null; numbers are compared by value.

    Args:
        cells: Cells of any type.
        words: Texts that mean missing.
        is_number: Whether the cells are numbers, possibly as text.

    Returns:
        The cells, otherwise unchanged.
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
    """Replaces blanks, null words and NaN by null in cells of numbers or labels."""
    held = cells.type()
    cells = cells_without(cells, words, is_number=True)
    if held.is_string():
        return IdSpelling().expression(cells)
    return cells.isnan().ifelse(ibis.null(held), cells) if held.is_floating() else cells


def note_missing(
    engine: Backend, writer: SearchLogWriter, file: Path, raw: Table, uses: Mapping[tuple[str, str], Value]
) -> None:
    """Notes which words and blanks of each column were read as missing; empty cells go without saying.

    Args:
        engine: Reads the file.
        writer: Receives the notes.
        file: The file.
        raw: Its rows.
        uses: By column and the name of what it is used as, its cells with missing values as null.
    """
    missing = [_has_value(raw[column]) & cells.isnull() for (column, _), cells in uses.items()]
    sums = {f"use_{i}": is_missing.sum() for i, is_missing in enumerate(missing)}
    counts = list(rows_of(engine, raw.aggregate(**sums))[0].values())
    shown_by_use: dict[str, dict[str, str]] = {}
    for (column, name), is_missing, count in zip(uses, missing, counts, strict=True):
        shown_by_use.setdefault(column, {})[name] = _words(engine, raw, column, is_missing) if count else ""
    for column, by_use in shown_by_use.items():
        place = f"{column} of {file.name}, words or blanks read as missing"
        if len(set(by_use.values())) == 1:
            by_use = {"": next(iter(by_use.values()))}
        writer.notes |= {f"{place} by {name}" if name else place: shown for name, shown in by_use.items() if shown}


def note_spaces(engine: Backend, writer: SearchLogWriter, file: Path, raw: Table, columns: Sequence[str]) -> None:
    """Notes how many ids and categories have white space around them, which is stripped."""
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


def _has_value(cells: Value) -> Value:
    if cells.type().is_string():
        return cells != ""
    return cells.notnull() & ~cells.isnan() if cells.type().is_floating() else cells.notnull()


def _words(engine: Backend, raw: Table, column: str, missing: Value) -> str:
    cells: Value = raw[column]
    word = trimmed_expression(cells) if cells.type().is_string() else cells.cast("string")
    counts = raw.filter(missing).select(word=word).group_by("word").aggregate(n=ibis._.count())
    rows = rows_of(engine, counts.order_by(ibis.desc("n"), "word").limit(N_EXAMPLES))
    return ", ".join(f"{row['word'] or 'blank'} ({row['n']:,})" for row in rows)
