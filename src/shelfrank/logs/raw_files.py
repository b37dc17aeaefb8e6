"""Reads a source's raw CSV and Parquet files, tells what is wrong with them, and streams rows into a log."""

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
"""Characters of a list of files in a note or an error."""

LONGEST_LINE = 80
"""Characters of a line that an error shows."""

_PLACE = re.compile(r"CSV Error on Line: (\d+)\s*(?:Original Line: ?(.*))?", re.DOTALL)
_CELLS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_ADVICE = re.compile(r"\s*Possible (?:fixes|solution)s?:", re.IGNORECASE)


def sha256(path: Path) -> str:
    """Hashes a source's files, so that a finished import of the same bytes is recognised."""
    whole = hashlib.sha256()
    for file in raw_files(path):
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def raw_files(path: Path) -> list[Path]:
    """Lists the files of a table: the path itself, or the Parquet files of the folder that it names.

    Args:
        path: A file or a folder.

    Returns:
        The files, none of which is empty.

    Raises:
        UserError: Where there is no such file, or nothing in it.
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


def is_parquet(path: Path) -> bool:
    """Whether a table is Parquet, by its name or because it is a folder."""
    return path.is_dir() or path.suffix in (".parquet", ".pq")


def column_names(path: Path, separator: str | None = None) -> list[str]:
    """Reads the column names of a Parquet file or of a CSV file's header.

    Args:
        path: A file or a folder.
        separator: What stands between the cells of a CSV file's lines; None finds it.

    Returns:
        The names, of which some may differ by case only; a column without a name has the empty one.

    Raises:
        UserError: Where there are none, they cannot be read, or one is there twice.
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
        raise UserError(f"{path} must begin with a line of column names, but its first line is empty")
    if repeated:
        twice = ", ".join(sorted(set(repeated)))
        row = "; it looks like a row, so the line of names is missing" if look_like_a_row(names) else ""
        raise UserError(f"{path} must name each column once, but {twice} is named again{row}")
    return names


def partly_absent(path: Path, names: Collection[str]) -> dict[str, dict[str, int]]:
    """Finds columns that some Parquet files of a folder have and others lack.

    Args:
        path: A file or a folder.
        names: The columns to look for.

    Returns:
        By such a column, the rows of each file that lacks it, by the file's name. Files without rows do not count.

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
    """Raises a `UserError` where a required column is absent from some of a folder's Parquet files.

    Args:
        path: A file or a folder.
        roles: By required role, its column.
    """
    for name, files in partly_absent(path, roles.values()).items():
        role = next(role for role, column in roles.items() if column == name)
        shown = ", ".join(files)[:MAX_FILES_TEXT]
        raise UserError(
            f"{path} must have the column {name!r}, which has the role `{role}`, in all of its files, but {shown} "
            f"({sum(files.values()):,} rows) has none; write these files again with it, or remove them"
        )


def zone_of(path: Path, column: str) -> str | None:
    """The time zone of a Parquet table's column, which the engine does not keep; None where it has none."""
    for file in raw_files(path):
        schema = pq.read_schema(file)
        if column in schema.names:
            return getattr(schema.field(column).type, "tz", None)
    return None


def require_columns(path: Path, names: Collection[str], required: Collection[str]) -> None:
    """Raises a `UserError` where a file lacks columns that its format has."""
    missing = [name for name in required if name not in names]
    if missing:
        raise UserError(f"{path} must have the columns {', '.join(missing)}, but it has {', '.join(names)}")
    alike = [name for name in required if name in alike_names(list(names))]
    if alike:
        raise UserError(
            f"{path} must have one column {alike[0]}, but it has another whose name differs by case only; rename one"
        )


def _header(path: Path, separator: str | None) -> list[str]:
    try:
        names = header_of(path, separator)[1]
    except UnicodeError as error:
        # It tells the line, which need not be the first.
        inspect_csv(path)
        raise UserError(f"{path} must be text in UTF-8, but it is not; write it again in UTF-8") from error
    if any("\0" in name for name in names):
        inspect_csv(path)
    return names


def alike_names(names: list[str]) -> set[str]:
    """The names that differ from another by case only, which an engine takes for one."""
    lowered = [name.lower() for name in names]
    return {name for name in names if lowered.count(name.lower()) > 1}


def read_raw(
    engine: Backend,
    path: Path,
    notes: dict[str, Any] | None = None,
    separator: str | None = None,
    used: Collection[str] | None = None,
) -> Table:
    """Opens a raw file as a table; the cells of a CSV stay text, so that an id keeps its leading zeros.

    Of columns whose names differ by case only, and of those without a name, the table has none.

    Args:
        engine: The engine.
        path: A file or a folder.
        notes: Told what was recognised of how a CSV file is written.
        separator: What stands between the cells of a CSV file's lines; None finds it.
        used: The columns that are read; None for all.

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
    alike = alike_names(names) | {""}
    with readable(path):
        if is_parquet(path):
            table = read_parquet(engine, raw_files(path))
            return table.select(*(name for name in table.columns if name in names and name not in alike))
        return _read_csv(engine, path, names, alike, notes, separator)


def _read_csv(
    engine: Backend, path: Path, names: list[str], alike: set[str], notes: dict[str, Any], separator: str | None
) -> Table:
    found, _ = header_of(path, separator)
    declared = separator_line(path)
    if declared is not None:
        notes[f"first line of {path.name}, which names the separator"] = f"left out; it says {SEPARATORS[declared]}"
    elif separator is None and found != suffix_separator(path):
        notes[f"separator of {path.name}"] = f"{SEPARATORS[found]}, as its line of column names shows"
    try:
        # The engine takes a truncated archive for a shorter one, and says nothing.
        writing = inspect_csv(path)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error, is_parquet(path)) from error
    file = path
    if writing.needs_copy:
        notes[f"writing of {path.name}"] = f"{writing.encoding}, lines end in {' and '.join(writing.line_ends)}"
        file = scratch_of(engine) / f"copy-{next(_COPIES)}.csv"
        copy_in_utf8(path, file, writing.encoding)
    # Names of any letters may be no names of the engine.
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
    if writing.n_headers > 1:
        notes[f"lines of {path.name} that repeat the column names, left out"] = writing.n_headers - 1
        again: Value = ibis.and_(*(cell == name for name, cell in cells.items() if name))
        table = table.filter(~again.fill_null(False))
        cells = {name: table[place] for place, name in zip(places, names, strict=True)}
    return table.select(*(cell.name(name) for name, cell in cells.items() if name not in alike))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tells the engine's errors in this block as a `UserError` about the raw file."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException) as error:
        raise unreadable(path, error, is_parquet(path)) from error


def unreadable(path: Path, error: Exception, is_parquet: bool) -> UserError:
    """Says why a raw file cannot be read, without the advice that its reader gives to programmers.

    Args:
        path: The file.
        error: What reading it raised.
        is_parquet: Whether it was read as Parquet.

    Returns:
        The error, to be raised by the caller.
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
    shown = repr(line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…")
    if cells is not None:
        expected, found = map(int, cells.groups())
        advice = (
            "put cells that hold the separator in quotes, or write the file with another separator"
            if found > expected
            else "remove the line if it is no row, such as a total at the end, or write its missing cells as empty ones"
        )
        have = "1 cell" if found == 1 else f"{found} cells"
        return UserError(
            f"{path} must have as many cells in each line as its header, which has {expected}, but line {number} has "
            f"{have}: {shown}; {advice}"
        )
    if "quote" in _ADVICE.split(text)[0].replace(line, ""):
        return UserError(
            f"{path} must close each quote at the end of the cell that it begins, but line {number} does not: {shown}; "
            'put a cell that holds quotes in quotes, and write each of its own twice, as in "12"" shoe"'
        )
    if "Maximum line size" in text:
        return UserError(
            f"{path} must have lines of at most 2 MB, but line {number} is longer: {shown}; look for a quote that is "
            "never closed"
        )
    reason = " ".join(_ADVICE.split(text)[0].split())
    return UserError(f"{path} must be a CSV file, but line {number} cannot be read: {reason[:300]}; mend the line")
