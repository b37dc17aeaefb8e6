"""Spells a source's own columns before its tables are joined, and tells what was read as missing or as a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.errors import UserError
from shelfrank.logs.convert import Converted
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.search_log import SearchLogWriter
from shelfrank.values import (
    DECIMAL_ID,
    SCIENTIFIC_ID,
    TOO_LARGE,
    WHOLE_BELOW,
    WHOLE_ID,
    CategorySpelling,
    IdSpelling,
    trimmed_expression,
)

ID_ROLES = ("search_id", "customer_id", "session_id", "product_id", "action")
N_SHOWN = 5


@dataclass(frozen=True)
class IdColumns:
    """How the id columns of a file are spelled.

    Attributes:
        spellings: By role.
        whole_numbers: Roles whose every id is a whole number.
    """

    spellings: Mapping[str, IdSpelling]
    whole_numbers: frozenset[str]


def id_columns(
    engine: Backend,
    writer: SearchLogWriter,
    file: Path,
    raw: Table,
    columns: Mapping[str, str],
    words: Mapping[str, Sequence[str]],
) -> IdColumns:
    """Looks at the ids of a file: where all of a column are whole numbers, the text 412.0 is 412.

    A table that met a missing number writes all its numbers as floats. Where other ids of the column are no numbers,
    412.0 may be a name like any other, and is kept; the notes tell how many such ids there are.

    Args:
        engine: Where the file is read.
        writer: Its notes tell what was found.
        file: The file, for the notes.
        raw: Its rows.
        columns: The column of each role in `ID_ROLES` that the file has.
        words: By role, the texts that mean that there is none.

    Returns:
        The spellings.

    Raises:
        UserError: Where ids are numbers that were rounded, such as 1.2e+18.
    """
    texts = {role: raw[column] for role, column in columns.items() if raw[column].type().is_string()}
    spellings = {role: IdSpelling(tuple(words.get(role, ()))) for role in columns}
    if not texts:
        return IdColumns(spellings, frozenset())
    cells = {role: spellings[role].expression(text) for role, text in texts.items()}
    sums: dict[str, Value] = {}
    for role, text in cells.items():
        whole, rounded = text.re_search(WHOLE_ID), text.re_search(SCIENTIFIC_ID)
        decimal = whole & text.re_search(DECIMAL_ID)
        large = decimal & (text.try_cast("float64").abs() >= WHOLE_BELOW["float64"])
        sums |= {
            f"{role}_known": text.count(),
            f"{role}_others": (~whole & ~rounded).sum(),
            f"{role}_rounded": (rounded | large).sum(),
            f"{role}_decimals": decimal.sum(),
        }
    found = {name: n or 0 for name, n in rows_of(engine, raw.aggregate(**sums))[0].items()}
    whole_numbers: set[str] = set()
    for role in texts:
        known, others, rounded, decimals = (
            found[f"{role}_{what}"] for what in ("known", "others", "rounded", "decimals")
        )
        place = f"{columns[role]} of {file.name}"
        if not known or others:
            if decimals:
                writer.notes[f"{place}, ids that end in .0"] = (
                    f"{decimals:,}, kept as they are, since other ids of the column are no whole numbers"
                )
            continue
        if rounded and role != "action":
            examples = raw.filter(
                cells[role].re_search(SCIENTIFIC_ID)
                | (cells[role].re_search(DECIMAL_ID) & (cells[role].try_cast("float64").abs() >= 2.0**53))
            )
            shown = ", ".join(row["cell"] for row in rows_of(engine, examples.select(cell=cells[role]).limit(N_SHOWN)))
            raise UserError(
                f"{place} must hold ids, but {rounded:,} of its numbers were rounded, e.g. {shown}: {TOO_LARGE} "
                "where the file is written"
            )
        whole_numbers.add(role)
        spellings[role] = IdSpelling(spellings[role].null_words, whole_numbers=True)
        if decimals:
            writer.notes[f"{place}, whole numbers written as floats"] = f"{decimals:,}, 412.0 is read as 412"
    return IdColumns(spellings, frozenset(whole_numbers))


def convert_id(role: str, column: str, cells: Value, spelling: IdSpelling) -> Converted:
    """Converts a column of ids.

    Args:
        role: The role, which is also the log's column.
        column: The source's column, for the error.
        cells: Its cells, of any type; texts with their null words still in them.
        spelling: How they are spelled.

    Returns:
        The converted column.
    """
    held = cells.type()
    if held.is_string():
        # What becomes null here is missing, not wrong.
        cells = spelling.expression(cells)
        return Converted(column, role, cells, cells, "must hold text or whole numbers")
    if held.is_floating():
        is_whole = ((cells % 1) == 0) & (cells.abs() < WHOLE_BELOW[str(held.copy(nullable=True))])
        value = is_whole.ifelse(cells, ibis.null("float64")).try_cast("int64").cast("string")
        return Converted(column, role, cells, value, f"must hold text or whole numbers ({TOO_LARGE})")
    value = cells.cast("string")
    if held.is_decimal():
        value = value.re_replace(DECIMAL_ID, "")
    return Converted(column, role, cells, value, "must hold text or whole numbers")


def convert_category(name: str, column: str, cells: Value, spelling: CategorySpelling) -> Converted:
    """Converts a column of categories; floats stay floats until the log is written, which spells them.

    Args:
        name: The feature.
        column: The source's column, for the error.
        cells: Its cells, of any type; texts with their null words still in them.
        spelling: How they are spelled.

    Returns:
        The converted column.
    """
    held = cells.type()
    if held.is_floating():
        is_fine = cells.abs() < WHOLE_BELOW[str(held.copy(nullable=True))]
        value = (is_fine & ~cells.isnan()).ifelse(cells, ibis.null(held))
        return Converted(column, name, cells, value, f"must hold categories ({TOO_LARGE})")
    if held.is_string():
        cells = spelling.expression(cells)
        return Converted(column, name, cells, cells, "must hold a category")
    value = cells.cast("string")
    if held.is_decimal():
        value = value.re_replace(r"(\.[0-9]*[1-9])0+$", r"\1").re_replace(r"\.0+$", "")
    return Converted(column, name, cells, value, "must hold a category")


def without_null_words(cells: Value, words: Sequence[str]) -> Value:
    """Cells of numbers or labels, null where they are blank or a word that means missing, or NaN."""
    held = cells.type()
    if held.is_string():
        return IdSpelling(tuple(words)).expression(cells)
    return cells.isnan().ifelse(ibis.null(held), cells) if held.is_floating() else cells


def note_missing(
    engine: Backend, writer: SearchLogWriter, file: Path, raw: Table, words: Mapping[str, Sequence[str]]
) -> None:
    """Notes which words and blanks of each column were read as missing; empty cells are the usual way to say so.

    Args:
        engine: Where the file is read.
        writer: Gets the notes.
        file: The file.
        raw: Its rows.
        words: By column, the texts that mean missing.
    """
    texts = {column: raw[column] for column in words if raw[column].type().is_string()}
    if not texts:
        return
    missing = {
        column: (cells != "") & IdSpelling(tuple(words[column])).expression(cells).isnull()
        for column, cells in texts.items()
    }
    names = {f"column_{i}": column for i, column in enumerate(texts)}
    counts = rows_of(engine, raw.aggregate(**{name: missing[column].sum() for name, column in names.items()}))[0]
    for name, column in names.items():
        if not counts[name]:
            continue
        word = trimmed_expression(texts[column])
        found = raw.filter(missing[column]).select(word=word).group_by("word").aggregate(n=ibis._.count())
        told = rows_of(engine, found.order_by(ibis.desc("n"), "word").limit(N_SHOWN))
        shown = ", ".join(f"{row['word'] or 'blank'} ({row['n']:,})" for row in told)
        writer.notes[f"{column} of {file.name}, words or blanks read as missing"] = shown


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
