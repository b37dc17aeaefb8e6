"""The embedded engine that reads raw logs and validates finished ones: ibis on DuckDB with a memory limit."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
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


def keep(engine: Backend, name: str, rows: Table) -> Table:
    """Materialises a table for several passes; the engine drops it when it closes."""
    return engine.create_table(name, rows, temp=True)


def stream(engine: Backend, rows: Table) -> Iterator[pa.Table]:
    """Computes a table in batches, in its order, with bounded memory; an empty table is one batch."""
    # ibis's to_pyarrow_batches calls a method that DuckDB 2 removed; Arrow's stream protocol works in all versions.
    reader = pa.RecordBatchReader.from_stream(engine.con.sql(engine.compile(rows)))
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
    return rows_of(engine, rows.aggregate(n=rows.count()))[0]["n"]


def available_bytes() -> int:
    """Memory that this process may use: the machine's or the container's, whichever is smaller."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        return min(machine, int(_CGROUP_LIMIT.read_text()))
    return machine
