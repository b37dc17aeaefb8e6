"""Reads blanks and words such as NULL as missing values, and notes which ones a source has."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.values import BLANKS, IdSpelling, number_words, trimmed, trimmed_expression
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
        # Cells are compared without the blanks at their ends, so a word that has some is none.
        held_words = [re.escape(word) for word in words if word and word == trimmed(word)]
        if held_words:
            missing.append(text.re_search(f"^[{BLANKS}]*(?:{'|'.join(held_words)})[{BLANKS}]*$"))
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
    engine: Backend,
    writer: SearchLogWriter,
    file: Path,
    raw: Table,
    uses: Mapping[tuple[str, str], Value],
    counts: Sequence[int],
) -> None:
    """Notes which words and blanks of each column were read as missing; empty cells go without saying.

    Args:
        engine: Reads the file.
        writer: Receives the notes.
        file: The file.
        raw: Its rows.
        uses: By column and the name of what it is used as, its cells with missing values as null.
        counts: By use, the number of cells that `is_read_as_missing`.
    """
    shown_by_use: dict[str, dict[str, str]] = {}
    for ((column, name), cells), count in zip(uses.items(), counts, strict=True):
        shown_by_use.setdefault(column, {})[name] = _words(engine, raw, column, cells) if count else ""
    for column, by_use in shown_by_use.items():
        place = f"{column} of {file.name}, words or blanks read as missing"
        if len(set(by_use.values())) == 1:
            by_use = {"": next(iter(by_use.values()))}
        writer.notes |= {f"{place} by {name}" if name else place: shown for name, shown in by_use.items() if shown}


def is_read_as_missing(given: Value, cells: Value) -> Value:
    """Whether a given cell has a value that is null among the cells without missing values."""
    return _has_value(given) & cells.isnull()


def has_spaces(texts: Value) -> Value:
    """Whether there are blanks around a text that is not blank as a whole."""
    return texts.re_search(f"^[{BLANKS}]+[^{BLANKS}]|[^{BLANKS}][{BLANKS}]+$")


def _has_value(cells: Value) -> Value:
    if cells.type().is_string():
        return cells != ""
    return cells.notnull() & ~cells.isnan() if cells.type().is_floating() else cells.notnull()


def _words(engine: Backend, raw: Table, column: str, cells: Value) -> str:
    rows = raw.select(given=raw[column], cells=cells)
    rows = rows.filter(is_read_as_missing(rows["given"], rows["cells"]))
    word = trimmed_expression(rows["given"]) if rows["given"].type().is_string() else rows["given"].cast("string")
    counts = rows.select(word=word).group_by("word").aggregate(n=ibis._.count())
    found = rows_of(engine, counts.order_by(ibis.desc("n"), "word").limit(N_EXAMPLES))
    return ", ".join(f"{row['word'] or 'blank'} ({row['n']:,})" for row in found)
