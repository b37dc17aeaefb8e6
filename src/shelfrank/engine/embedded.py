"""The embedded engine: ibis on DuckDB with bounded memory, and progress while a query runs."""

# ibis's own annotations reject its operators and column methods.
# pyright: reportArgumentType=false

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import duckdb
import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.config import EngineConfig
from shelfrank.core.errors import UserError
from shelfrank.core.parallel import ordered_map
from shelfrank.core.processor import usable_cores
from shelfrank.engine.base import ROW, Advance, plain, whole_groups

POLL_S = 0.2
BATCH_ROWS = 262_144


@ibis.udf.scalar.builtin(name="epoch_us", signature=((dt.Timestamp("UTC"),), dt.int64))
def epoch_us(timestamp):
    """DuckDB's function: microseconds since 1970."""


@dataclass(frozen=True)
class EmbeddedTable:
    """A kept table in one Parquet file."""

    file: Path
    n_rows: int
    table: ibis.Table

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in their order."""
        with pq.ParquetFile(self.file) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns))


class EmbeddedEngine:
    """DuckDB inside this process; tables are kept in a scratch folder."""

    def __init__(self, backend: Backend, scratch: Path, threads: int) -> None:
        self.backend, self.scratch, self.threads = backend, scratch, threads

    def read(self, files: Sequence[str]) -> ibis.Table:
        """Opens Parquet files as one table."""
        return read_parquet(self.backend, files)

    def microseconds(self, timestamp: ibis.Value) -> ibis.Value:
        """Microseconds since 1970 of a timestamp."""
        return epoch_us(timestamp)

    def collect(self, expression: ibis.Table) -> pa.Table:
        """Computes a small table into local memory."""
        return plain(self.backend.to_pyarrow(expression))

    def stream(self, expression: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Computes a table in local batches, in the expression's order if it has one."""
        yield from self.backend.to_pyarrow_batches(expression, chunk_size=BATCH_ROWS)

    def share(self, table: pa.Table, name: str) -> ibis.Table:
        """Copies a small local table to the engine."""
        file = self.scratch / f"{name}.parquet"
        pq.write_table(table, file)
        return self.read([str(file)])

    def view(self, expression: ibis.Table, name: str) -> ibis.Table:
        """Gives an expression a name in the engine, so that queries that read it compile the name alone."""
        return self.backend.create_view(name, expression)

    def keep(
        self, expression: ibis.Table, name: str, order_by: Sequence[str], advance: Advance, rows: float
    ) -> EmbeddedTable:
        """Materialises a table in this order; its progress advances the bar by `rows` in total."""
        file = self.scratch / f"{name}.parquet"
        ordered = expression.order_by(*order_by)
        with self._with_progress(advance, rows):
            self.backend.to_parquet(ordered, file, compression="zstd", compression_level=1, row_group_size=131_072)
        numbered = self.backend.read_parquet(escape(str(file)), file_row_number=True)
        return EmbeddedTable(file, pq.read_metadata(file).num_rows, numbered.rename({ROW: "file_row_number"}))

    def map_groups(
        self,
        expression: ibis.Table,
        keys: Sequence[str],
        order_by: str,
        function: Callable[[pa.RecordBatch], pa.RecordBatch],
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        """Applies a function to batches of whole groups; see `Engine`."""
        sorted_rows = self.stream(expression.order_by(*keys, order_by))
        for result in ordered_map(function, whole_groups(sorted_rows, keys), self.threads):
            yield result.cast(schema)

    @contextlib.contextmanager
    def _with_progress(self, advance: Advance, rows: float) -> Iterator[None]:
        finished = threading.Event()
        reported = 0.0

        def watch() -> None:
            nonlocal reported
            while not finished.wait(POLL_S):
                n_rows = min(max(self.backend.con.query_progress(), 0.0), 100.0) / 100 * rows
                if n_rows > reported:
                    advance(n_rows - reported)
                    reported = n_rows

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
        advance(rows - reported)


@contextlib.contextmanager
def open_embedded(config: EngineConfig, scratch: Path) -> Iterator[EmbeddedEngine]:
    """Opens the embedded engine.

    Args:
        config: Its limits.
        scratch: Folder for its tables and for data that exceeds the memory.

    Yields:
        The engine, closed at the end of the block.

    Raises:
        UserError: Where the disk is full, a Parquet file cannot be read, or the memory limit is too small.
    """
    threads = config.threads or usable_cores()
    with connect(config.memory_limit, threads, scratch / "spill") as backend, engine_errors():
        yield EmbeddedEngine(backend, scratch, threads)


@contextlib.contextmanager
def connect(memory_limit: str, threads: int, spill: Path) -> Iterator[Backend]:
    """Opens DuckDB in memory, in UTC, without its progress bar; data that exceeds the memory spills to a folder."""
    with warnings.catch_warnings():
        # ibis still calls methods that DuckDB 2 renamed; callers cannot change that.
        warnings.filterwarnings("ignore", message=r"fetch_\w+\(\) is deprecated", category=DeprecationWarning)
        backend = ibis.duckdb.connect(":memory:", memory_limit=memory_limit, temp_directory=str(spill), threads=threads)
        # We show our own progress bar.
        backend.raw_sql("SET enable_progress_bar_print = false")
        # Without its time zone extension the engine is in UTC and rejects the setting.
        with contextlib.suppress(duckdb.Error):
            backend.raw_sql("SET TimeZone = 'UTC'")
        try:
            yield backend
        finally:
            backend.disconnect()


def read_parquet(backend: Backend, files: Sequence[str | Path]) -> ibis.Table:
    """Reads Parquet files, with any characters in their paths, as one table."""
    return backend.read_parquet(_paths(files), **_PARQUET)


def parquet_relation(backend: Backend, files: Sequence[str | Path]) -> duckdb.DuckDBPyRelation:
    """Reads Parquet files, with any characters in their paths, as a relation of DuckDB itself."""
    return backend.con.read_parquet(_paths(files), **_PARQUET)


# Folders named a=b are not columns.
_PARQUET = {"hive_partitioning": False, "union_by_name": True}


def _paths(files: Sequence[str | Path]) -> list[str]:
    # Paths are not patterns.
    return [escape(str(file)) for file in files]


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turns the engine's errors that a user can act on into one sentence each."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UserError(
            "the engine must fit its work into engine.memory_limit and the free disk, but it ran out: "
            f"raise the limit or free some disk ({_first_line(error)})"
        ) from error
    except duckdb.Error as error:
        # A wrong expression is our bug and must not be reported as a broken file.
        if isinstance(error, duckdb.ProgrammingError) and not isinstance(error, duckdb.InvalidInputException):
            raise
        raise UserError(
            f"every table must be readable and the disk must have room, but the engine says: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
