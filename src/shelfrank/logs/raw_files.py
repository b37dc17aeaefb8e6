"""Reads a source's raw CSV and Parquet files, tells what is wrong with them, and streams rows into a log."""

import contextlib
import csv
import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterator
from glob import escape
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.errors import UserError
from shelfrank.logs.engine import Table, read_parquet, rows_of, stream
from shelfrank.logs.search_log import SearchLogWriter
from shelfrank.progress import progress


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


def column_names(path: Path) -> list[str]:
    """Reads the column names of a Parquet file or of a CSV file's header."""
    files = raw_files(path)
    try:
        if is_parquet(path):
            return list(dict.fromkeys(name for file in files for name in pq.read_schema(file).names))
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=_delimiter(path)), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    if not any(names):
        raise UserError(f"{path} must begin with a line of column names, but its first line is empty")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path} must name each column once, but {', '.join(twice)} is named again")
    return names


def require_columns(path: Path, names: Collection[str], required: Collection[str]) -> None:
    """Raises a `UserError` where a file lacks columns that its format has."""
    missing = [name for name in required if name not in names]
    if missing:
        raise UserError(f"{path} must have the columns {', '.join(missing)}, but it has {', '.join(names)}")


def read_raw(engine: Backend, path: Path) -> Table:
    """Opens a raw file as a table; the cells of a CSV stay text, so that an id keeps its leading zeros."""
    names = column_names(path)
    with readable(path):
        if is_parquet(path):
            return read_parquet(engine, raw_files(path))
        if path.suffix == ".gz":
            _require_whole(path)
        return engine.read_csv(
            escape(str(path)),
            columns=dict.fromkeys(names, "string"),
            header=True,
            auto_detect=False,
            delim=_delimiter(path),
            quote='"',
            escape='"',
            hive_partitioning=False,
        )


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tells the engine's errors in this block as a `UserError` about the raw file."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except (duckdb.Error, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def write_rows(writer: SearchLogWriter, table: str, engine: Backend, rows: Table) -> None:
    """Streams a computed table into a log, in its order."""
    total = count(engine, rows)
    with progress(f"Writing {table}", total=total, unit="rows") as advance:
        for part in stream(engine, rows):
            writer.write(table, part)
            advance(part.num_rows)


def count(engine: Backend, rows: Table) -> int:
    """Counts the rows of a computed table."""
    return rows_of(engine, rows.aggregate(n=rows.count()))[0]["n"]


def _require_whole(path: Path) -> None:
    # The engine takes a truncated archive for a shorter one, and says nothing.
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes[-2:] else ","


def _unreadable(path: Path, error: Exception) -> UserError:
    kind = "a Parquet file" if is_parquet(path) else "a CSV file in UTF-8 with as many cells in each line as its header"
    reason = " ".join((str(error) or type(error).__name__).split())
    return UserError(f"{path} must be {kind}, but it cannot be read: {reason[:300]}")
