"""Reads a source's raw CSV and Parquet files; an unreadable file gives one sentence with the line and the advice."""

import contextlib
import csv
import hashlib
import itertools
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.logs.csv_files import (
    SEPARATORS,
    copy_in_utf8,
    header_of,
    inspect_csv,
    look_like_a_row,
    require_text_table,
    separator_line,
    suffix_separator,
)
from shelfrank.logs.engine import Table, Value, read_parquet, scratch_of

_COPIES = itertools.count()
MAX_FILES_TEXT = 200
"""Characters of a file list in a note or an error."""

MAX_LINE_LENGTH = 80
"""Characters of a line that an error prints."""

_PLACE = re.compile(r"CSV Error on Line: (\d+)\s*(?:Original Line: ?(.*))?", re.DOTALL)
_CELLS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_ADVICE = re.compile(r"\s*Possible (?:fixes|solution)s?:", re.IGNORECASE)


def sha256(path: Path) -> str:
    """Hashes a source's files, to recognise a finished import of the same bytes."""
    whole = hashlib.sha256()
    for file in raw_files(path):
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def raw_files(path: Path) -> list[Path]:
    """Lists the files of a table: the path itself, or the Parquet files of a folder.

    Args:
        path: A file or a folder.

    Returns:
        The files, none of them empty.

    Raises:
        UserError: Where there is no such file, or a file is empty.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} must be a file or a folder of *.parquet files, but it is a folder without any")
    if not path.exists():
        raise UserError(f"{path} must be a file, but there is no such file")
    for file in files:
        if not file.stat().st_size:
            raise UserError(f"{file} must hold rows, but the file is empty")
    return files


def file_beside(path: Path, *names: str) -> Path | None:
    """Finds the first of these files in the folder of a file."""
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def reason_of(error: Exception) -> str:
    """The text of an error on one line, or its type if it has no text."""
    return " ".join((str(error) or type(error).__name__).split())


def is_parquet(path: Path) -> bool:
    """Whether a table is Parquet: by its suffix, or because it is a folder."""
    return path.is_dir() or path.suffix in (".parquet", ".pq")


def column_names(path: Path, separator: str | None = None) -> list[str]:
    """Reads the column names of a Parquet file or of a CSV file's header.

    Args:
        path: A file or a folder.
        separator: Separator of a CSV file; None detects it.

    Returns:
        The names, some of which may differ only by case; a column without a name has an empty one.

    Raises:
        UserError: Where there are none, they cannot be read, or one is repeated.
    """
    files = raw_files(path)
    try:
        if is_parquet(path):
            schemas = [pq.read_schema(file) for file in files]
            names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
            repeated = [name for schema in schemas for name in schema.names if schema.names.count(name) > 1]
        else:
            require_text_table(path)
            names = _header(path, separator)
            repeated = [name for name in names if name and names.count(name) > 1]
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise unreadable(path, error, is_parquet(path)) from error
    if not any(names):
        raise UserError(
            f"{path} must begin with a line of column names, but its first line is empty; add the line of names"
        )
    if repeated:
        twice = ", ".join(sorted(set(repeated)))
        row = " (it looks like a row, so the line of names is missing)" if look_like_a_row(names) else ""
        raise UserError(f"{path} must name each column once, but {twice} is repeated{row}; rename it")
    return names


def partly_absent(path: Path, names: Collection[str]) -> dict[str, dict[str, int]]:
    """Finds columns that some Parquet files of a folder have and others lack.

    Args:
        path: A file or a folder.
        names: The columns to look for.

    Returns:
        By column, then by the name of a file that lacks it, the file's rows; files without rows are ignored.

    Raises:
        UserError: Where a file cannot be read.
    """
    if not path.is_dir():
        return {}
    try:
        parts = {file.name: pq.read_metadata(file) for file in raw_files(path)}
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error, is_parquet=True) from error
    held = {name: set(part.schema.to_arrow_schema().names) for name, part in parts.items()}
    absent = {
        name: {file: parts[file].num_rows for file in parts if parts[file].num_rows and name not in held[file]}
        for name in names
    }
    return {name: files for name, files in absent.items() if files and any(name in each for each in held.values())}


def require_in_all_parts(path: Path, roles: Mapping[str, str]) -> None:
    """Raises a `UserError` where a required column is missing from some of a folder's Parquet files.

    Args:
        path: A file or a folder.
        roles: By required role, its column.
    """
    for name, files in partly_absent(path, roles.values()).items():
        role = next(role for role, column in roles.items() if column == name)
        shown = ", ".join(files)[:MAX_FILES_TEXT]
        raise UserError(
            f"{path} must have the column {name!r}, which has the role `{role}`, in all of its files, but {shown} "
            f"({sum(files.values()):,} rows) lacks it; write these files again with it, or remove them"
        )


def zone_of(path: Path, column: str) -> str | None:
    """The time zone of a Parquet column, which the engine drops; None without one."""
    for file in raw_files(path):
        schema = pq.read_schema(file)
        if column in schema.names:
            return getattr(schema.field(column).type, "tz", None)
    return None


def require_columns(path: Path, names: Collection[str], required: Collection[str]) -> None:
    """Raises a `UserError` where a file lacks columns of its format."""
    missing = [name for name in required if name not in names]
    if missing:
        raise UserError(f"{path} must have the columns {', '.join(missing)}, but it has {', '.join(names)}")
    ambiguous = [name for name in required if name in names_equal_but_case(list(names))]
    if ambiguous:
        raise UserError(
            f"{path} must have one column {ambiguous[0]}, but it has another that differs by case only; rename one"
        )


def _header(path: Path, separator: str | None) -> list[str]:
    try:
        names = header_of(path, separator)[1]
    except UnicodeError as error:
        # Raises an error with the line, which may be a later one.
        inspect_csv(path)
        raise UserError(f"{path} must be text in UTF-8, but it is not; write it again in UTF-8") from error
    if any("\0" in name for name in names):
        inspect_csv(path)
    return names


def names_equal_but_case(names: list[str]) -> set[str]:
    """The names that differ from another only by case, which the engine treats as equal."""
    lowered = [name.lower() for name in names]
    return {name for name in names if lowered.count(name.lower()) > 1}


def read_raw(
    engine: Backend,
    path: Path,
    notes: dict[str, Any] | None = None,
    separator: str | None = None,
    used: Collection[str] | None = None,
) -> Table:
    """Opens a raw file as a table; CSV cells stay text, so that ids keep their leading zeros.

    Columns without a name, and columns whose names differ only by case, are dropped.

    Args:
        engine: The engine.
        path: A file or a folder.
        notes: Receives facts about a CSV file's format.
        separator: Separator of a CSV file; None detects it.
        used: The columns to read; None for all.

    Returns:
        The table.

    Raises:
        UserError: Where the file cannot be read.
    """
    names = column_names(path, separator)
    notes = {} if notes is None else notes
    for name, parts in partly_absent(path, names if used is None else used).items():
        n_rows, files = sum(parts.values()), ", ".join(parts)
        notes[f"column {name!r} of {path.name} that some of its files lack"] = (
            f"null in {n_rows:,} rows of {files[:MAX_FILES_TEXT]}{'…' if len(files) > MAX_FILES_TEXT else ''}"
        )
    ambiguous = names_equal_but_case(names) | {""}
    with readable(path):
        if is_parquet(path):
            table = read_parquet(engine, raw_files(path))
            return table.select(*(name for name in table.columns if name in names and name not in ambiguous))
        return _read_csv(engine, path, names, ambiguous, notes, separator)


def _read_csv(
    engine: Backend, path: Path, names: list[str], ambiguous: set[str], notes: dict[str, Any], separator: str | None
) -> Table:
    found, _ = header_of(path, separator)
    declared = separator_line(path)
    if declared is not None:
        notes[f"first line of {path.name}, which names the separator"] = f"left out; it names {SEPARATORS[declared]}"
    elif separator is None and found != suffix_separator(path):
        notes[f"separator of {path.name}"] = f"{SEPARATORS[found]}, detected in the line of column names"
    try:
        # The engine silently reads a truncated archive as a shorter one.
        csv_format = inspect_csv(path)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error, is_parquet(path)) from error
    file = path
    if csv_format.needs_copy:
        notes[f"format of {path.name}"] = f"{csv_format.encoding}, lines end in {' and '.join(csv_format.line_ends)}"
        file = scratch_of(engine) / f"copy-{next(_COPIES)}.csv"
        copy_in_utf8(path, file, csv_format.encoding)
    # The engine does not accept every column name.
    places = [f"column {place}" for place in range(len(names))]
    table = engine.read_csv(
        escape(str(file)),
        columns=dict.fromkeys(places, "string"),
        header=True,
        auto_detect=False,
        skip=int(declared is not None),
        delim=found,
        quote='"',
        escape='"',
        hive_partitioning=False,
    )
    cells: dict[str, Value] = {name: table[place] for place, name in zip(places, names, strict=True)}
    if csv_format.n_headers > 1:
        notes[f"lines of {path.name} that repeat the column names, left out"] = csv_format.n_headers - 1
        again: Value = ibis.and_(*(cell == name for name, cell in cells.items() if name))
        table = table.filter(~again.fill_null(False))
        cells = {name: table[place] for place, name in zip(places, names, strict=True)}
    return table.select(*(cell.name(name) for name, cell in cells.items() if name not in ambiguous))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns the engine's errors in this block into a `UserError` about the raw file."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException) as error:
        raise unreadable(path, error, is_parquet(path)) from error


def unreadable(path: Path, error: Exception, is_parquet: bool) -> UserError:
    """Explains why a raw file cannot be read, without the engine's advice to programmers.

    Args:
        path: The file.
        error: The engine's error.
        is_parquet: Whether the file was read as Parquet.

    Returns:
        The error for the caller to raise.
    """
    text = str(error) or type(error).__name__
    place = None if is_parquet else _PLACE.search(text)
    if place is None:
        kind = "a Parquet file" if is_parquet else "a CSV file in UTF-8 with as many cells in each line as its header"
        reason = " ".join(_ADVICE.split(text)[0].split())
        return UserError(f"{path} must be {kind}, but it cannot be read: {reason[:300]}; write it again")
    number, rest = place.groups()
    cells = _CELLS.search(rest or "")
    line = _CELLS.split(_ADVICE.split(rest or "")[0])[0].split("\n")[0].rstrip("\r")
    shown = repr(line if len(line) <= MAX_LINE_LENGTH else line[: MAX_LINE_LENGTH - 1] + "…")
    if cells is not None:
        expected, found = map(int, cells.groups())
        advice = (
            "put cells that hold the separator in quotes, or write the file with another separator"
            if found > expected
            else "remove the line if it is not a row, such as a total at the end, or add empty cells to it"
        )
        have = "1 cell" if found == 1 else f"{found} cells"
        return UserError(
            f"{path} must have as many cells in each line as its header, which has {expected}, but line {number} has "
            f"{have}: {shown}; {advice}"
        )
    if "quote" in _ADVICE.split(text)[0].replace(line, ""):
        return UserError(
            f"{path} must close each quote at the end of its cell, but line {number} does not: {shown}; "
            'put a cell that contains quotes in quotes and double them, as in "12"" shoe"'
        )
    if "Maximum line size" in text:
        return UserError(
            f"{path} must have lines of at most 2 MB, but line {number} is longer: {shown}; look for an unclosed quote"
        )
    reason = " ".join(_ADVICE.split(text)[0].split())
    return UserError(f"{path} must be a CSV file, but line {number} cannot be read: {reason[:300]}; correct the line")
