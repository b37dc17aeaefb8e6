"""The embedded engine that reads raw logs and validates finished ones: ibis on DuckDB with a memory limit."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.processor import usable_cores
from shelfrank.engine import embedded

Table = Any
"""An ibis table. ibis chooses a column's methods by its type at run time, which static checkers cannot follow."""

Value = Any
"""An ibis column or scalar."""

MEMORY_SHARE = 0.4
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@contextlib.contextmanager
def open_engine() -> Iterator[Backend]:
    """Opens an embedded DuckDB with a memory limit that spills to a temporary folder (under `TMPDIR`).

    Yields:
        The ibis backend, closed at the end of the block.

    Raises:
        UserError: Where memory and the temporary folder are both too small.
    """
    with tempfile.TemporaryDirectory(prefix="shelfrank-") as spill:
        limit_mb = int(available_bytes() * MEMORY_SHARE / 1e6)
        try:
            with embedded.connect(f"{limit_mb}MB", usable_cores(), Path(spill)) as engine:
                yield engine
        except duckdb.OutOfMemoryException as error:
            raise UserError(
                f"this step must fit into {limit_mb:,} MB of memory and the free disk of {spill}, but it "
                "does not; give it more memory, or set TMPDIR to a folder on a larger disk"
            ) from error


def scratch_of(engine: Backend) -> Path:
    """The engine's temporary folder, which is removed when the engine closes."""
    folder = Path(engine.raw_sql("SELECT current_setting('temp_directory')").fetchone()[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_parquet(engine: Backend, files: Sequence[str | Path]) -> Table:
    """Reads Parquet files, with any characters in their paths, as one table."""
    return embedded.read_parquet(engine, files)


def view_parquet(engine: Backend, name: str, files: Sequence[str | Path]) -> None:
    """Names Parquet files, with any characters in their paths, as a table of the engine's SQL."""
    embedded.parquet_relation(engine, files).create_view(name)


def one_row(connection: duckdb.DuckDBPyConnection, rows: str, values: Sequence[str]) -> tuple[Any, ...]:
    """Computes aggregates of a relation, all given as SQL."""
    found = connection.execute(f"SELECT {', '.join(values)} FROM {rows}").fetchone()
    assert found is not None
    return found


def sql_of(engine: Backend, rows: Table) -> str:
    """A table of the engine as SQL, for `one_row`: an aggregate in SQL costs a fraction of what ibis needs for it.

    Tables in Python's memory must be kept in the engine first.
    """
    return f"({engine.compile(rows)})"


def sql_name(column: str) -> str:
    """A column's name in SQL, which may have any characters."""
    return '"' + column.replace('"', '""') + '"'


def sql_text(text: str) -> str:
    """A literal text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def keep(engine: Backend, name: str, rows: Table) -> Table:
    """Materialises a table for several passes; the engine drops it when it closes."""
    return engine.create_table(name, rows, temp=True)


@contextlib.contextmanager
def steps_as_columns() -> Iterator[None]:
    """Compiles each selection of an expression as a query of its own, and does not try to merge it with the next."""
    before = ibis.options.sql.fuse_selects
    ibis.options.sql.fuse_selects = False
    try:
        yield
    finally:
        ibis.options.sql.fuse_selects = before


def stream(engine: Backend, rows: Table) -> Iterator[pa.Table]:
    """Computes a table in batches, in its order, with bounded memory; an empty table is one batch."""
    yield from stream_sql(engine.con, engine.compile(rows))


def stream_sql(connection: duckdb.DuckDBPyConnection, rows: str) -> Iterator[pa.Table]:
    """`stream` of a table that is given as SQL."""
    # ibis's to_pyarrow_batches calls a method that DuckDB 2 removed; Arrow's stream protocol works in all versions.
    reader = pa.RecordBatchReader.from_stream(connection.sql(rows))
    empty = True
    for batch in reader:
        empty = False
        yield pa.Table.from_batches([batch])
    if empty:
        yield reader.schema.empty_table()


def rows_of(engine: Backend, table: Table) -> list[dict[str, Any]]:
    """Computes a small table as plain dicts."""
    return engine.to_pyarrow(table).to_pylist()


def count(engine: Backend, rows: Table) -> int:
    """Counts the rows of a table."""
    return one_row(engine.con, sql_of(engine, rows), ["count(*)"])[0]


def available_bytes() -> int:
    """Memory that this process may use: the machine's or the container's, whichever is smaller."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        return min(machine, int(_CGROUP_LIMIT.read_text()))
    return machine
