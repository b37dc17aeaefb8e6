"""Converts JSON lines to Parquet, one line at a time; an error names the line."""

import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.logs.json_values import Record
from shelfrank.logs.raw_files import file_beside, raw_files, reason_of, require_columns

SUFFIXES = (".jsonl", ".ndjson", ".json")
LINE = pa.field("line", pa.int64())
_ROWS_AT_ONCE = 20_000


def find_json_lines(folder: Path, name: str) -> Path | None:
    """Finds a file of JSON lines, gzipped or not, by its name without a suffix."""
    return file_beside(folder / name, *(f"{name}{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")))


def require_json_lines(folder: Path, name: str) -> Path:
    """Finds a required file of JSON lines; a missing one is a `UserError`."""
    if not folder.is_dir():
        problem = "it is a file" if folder.exists() else "there is no such file or folder"
        raise UserError(f"{folder} must be a folder that holds {name}.jsonl, but {problem}")
    found = find_json_lines(folder, name)
    if found is None:
        others = ", ".join(sorted(file.name for file in folder.iterdir())[:9]) or "nothing"
        raise UserError(f"{folder} must hold {name}.jsonl or {name}.jsonl.gz, but it holds {others}")
    return found


def keep_json_lines(
    path: Path, out: Path, schema: pa.Schema, row: Callable[[Record], Record], required: Collection[str] = ()
) -> None:
    """Converts each line to one row, and writes the rows with their line numbers (from 1) as one Parquet file.

    Memory is bounded by a batch of rows, whatever the file's size.

    Args:
        path: The file of JSON lines.
        out: The Parquet file.
        schema: The columns of the rows, without `line`.
        row: Converts a line's object to a row; a column that it leaves out is null.
        required: Keys that the first line of this format has.

    Raises:
        UserError: Where the file is missing, empty, truncated or not in UTF-8, or a line is not a JSON object or `row`
            refuses it.
    """
    (path,) = raw_files(path)
    columns = pa.schema([LINE, *schema])
    rows: list[Record] = []
    n_rows, n_bytes = 0, 0
    with (
        path.open("rb") as raw,
        pq.ParquetWriter(out, columns) as writer,
        progress(f"Reading {path.name}", total=path.stat().st_size, unit="bytes") as advance,
    ):
        for number, record in _objects(path, raw):
            if not n_rows:
                require_columns(path, record, required)
            try:
                rows.append({"line": number, **row(record)})
            except UserError as error:
                raise UserError(f"{path}, line {number}: {error}") from error
            n_rows += 1
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_batch(_batch(path, rows, columns))
                rows.clear()
                advance(raw.tell() - n_bytes)
                n_bytes = raw.tell()
        writer.write_batch(_batch(path, rows, columns))
    if not n_rows:
        raise UserError(f"{path} must hold rows, but all its lines are empty")


def _objects(path: Path, raw: IO[bytes]) -> Iterator[tuple[int, Record]]:
    number = 0
    lines = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    try:
        for number, line in enumerate(lines, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                yield number, _object(path, number, text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be text in UTF-8, but its line {number} is not: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} must be complete, but it cannot be read after line {number}: {reason_of(error)}; export it again"
        ) from error


def _object(path: Path, number: int, text: str) -> Record:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} must hold one JSON object per line, but line {number} is not one: {reason_of(error)}"
        ) from error
    if not isinstance(record, dict):
        given = type(record).__name__
        raise UserError(f"{path} must hold one JSON object per line, but line {number} holds a {given}")
    return record


def _batch(path: Path, rows: list[Record], columns: pa.Schema) -> pa.RecordBatch:
    try:
        return pa.RecordBatch.from_pylist(rows, columns)
    except UnicodeEncodeError as error:
        between = f"between lines {rows[0]['line']} and {rows[-1]['line']}"
        raise UserError(f"{path} must hold text, but there is half a character {between}: {error}") from error
