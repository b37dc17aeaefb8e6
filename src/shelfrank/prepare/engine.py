"""The embedded engine: ibis on DuckDB with bounded memory, and progress while a query runs."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import ibis
from ibis.backends.duckdb import Backend

from shelfrank.config import EngineConfig
from shelfrank.errors import UserError

POLL_S = 0.2


@contextlib.contextmanager
def connect(config: EngineConfig, scratch: Path) -> Iterator[Backend]:
    """Opens an in-memory engine that spills into `scratch`."""
    backend = ibis.duckdb.connect(
        memory_limit=config.memory_limit,
        temp_directory=str(scratch / "spill"),
        threads=config.threads or usable_cores(),
    )
    # Without its time zone extension the engine is in UTC anyway and refuses the setting.
    with contextlib.suppress(duckdb.Error):
        backend.raw_sql("SET TimeZone = 'UTC'")
    try:
        yield backend
    finally:
        backend.disconnect()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def materialise(
    backend: Backend, expression: ibis.Table, file: Path, advance: Callable[[float], None], rows: float
) -> ibis.Table:
    """Computes an expression into one Parquet file and reads it back, moving a progress bar meanwhile.

    Args:
        backend: The engine.
        expression: What to compute; its order is kept.
        file: Where the rows go.
        advance: Moves the bar.
        rows: How far the whole expression moves it.

    Returns:
        The same rows as a table of the engine.

    Raises:
        UserError: Where the disk is full, a Parquet file cannot be read, or the memory limit is too small.
    """
    finished = threading.Event()
    shown = 0.0

    def watch() -> None:
        nonlocal shown
        while not finished.wait(POLL_S):
            done = min(max(backend.con.query_progress(), 0.0), 100.0) / 100 * rows
            if done > shown:
                advance(done - shown)
                shown = done

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with engine_errors():
            backend.to_parquet(expression, file, compression="zstd", compression_level=1, row_group_size=131_072)
    finally:
        finished.set()
        watcher.join()
    advance(rows - shown)
    return backend.read_parquet(file)


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
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise UserError(
            f"every table must be readable and the disk must have room, but the engine says: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
