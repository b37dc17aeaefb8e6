"""The Spark engine: the same ibis expressions, with groups computed on the executors."""

# pyright: reportArgumentType=false, reportMissingImports=false, reportPrivateImportUsage=false
# Spark is an extra, and ibis's own annotations reject its operators and column methods.

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from shelfrank.config import EngineConfig
from shelfrank.core.errors import UserError
from shelfrank.engine.base import ROW, Advance, plain, whole_groups

BATCH_ROWS = 262_144
PARTITION = "partition_and_row"


@ibis.udf.scalar.builtin(name="unix_micros", signature=((dt.Timestamp("UTC"),), dt.int64))
def _unix_micros(timestamp):
    """Spark's function: microseconds since 1970."""


@dataclass(frozen=True)
class SparkTable:
    """A kept table as local Parquet files, whose names sort in the order of their rows."""

    folder: Path
    n_rows: int
    table: ibis.Table

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in their order; they stay readable after Spark has stopped."""
        return _read_parts(self.folder.as_uri(), columns)


class SparkEngine:
    """Spark behind ibis; tables are in storage that driver and executors share, kept ones also on this machine."""

    def __init__(self, session: Any, here: Path, shared: str, log: Path, log_url: str) -> None:
        self.session, self.here, self.scratch, self._log, self._log_url = session, here, shared, str(log), log_url
        self.backend = ibis.pyspark.connect(session)
        self._n_tables = 0

    def read(self, files: Sequence[str]) -> ibis.Table:
        """Opens Parquet files as one table; the log's files by the URL that the executors use."""
        urls = [self._log_url + file.removeprefix(self._log) if file.startswith(self._log) else file for file in files]
        return self._named(self.session.read.option("mergeSchema", "true").parquet(*urls))

    def microseconds(self, timestamp: ibis.Value) -> ibis.Value:
        """Microseconds since 1970 of a timestamp."""
        return _unix_micros(timestamp)

    def collect(self, expression: ibis.Table) -> pa.Table:
        """Computes a small table into local memory."""
        return plain(self.backend.to_pyarrow(expression))

    def stream(self, expression: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Computes a table in local batches, in no particular order."""
        url = self._new_url("stream")
        self._rows(expression).write.parquet(url)
        yield from _read_parts(url, None)
        _remove(url)

    def share(self, table: pa.Table, name: str) -> ibis.Table:
        """Copies a small local table to the engine."""
        url = self._new_url(name)
        files, folder = _resolve(url)
        files.create_dir(folder)
        pq.write_table(table, f"{folder}/part.parquet", filesystem=files)
        return self._named(self.session.read.parquet(url))

    def view(self, expression: ibis.Table, name: str) -> ibis.Table:
        """Gives an expression a name in the engine, so that queries that read it compile the name alone."""
        return self._named(self._rows(expression))

    def keep(
        self, expression: ibis.Table, name: str, order_by: Sequence[str], advance: Advance, rows: float
    ) -> SparkTable:
        """Materialises a table in this order; its progress advances the bar by `rows` in total."""
        url = self._new_url(name)
        # A sort partitions rows into ranges, whose files are named in order.
        self._rows(expression).orderBy(*order_by).write.parquet(url)
        advance(rows)
        folder = (self.here / name).resolve()
        folder.mkdir()
        for files, part in _parts(url):
            with files.open_input_stream(part) as source, (folder / Path(part).name).open("wb") as target:
                shutil.copyfileobj(source, target)
        sizes = [pq.read_metadata(part).num_rows for _, part in _parts(folder.as_uri())]
        return SparkTable(folder, sum(sizes), self._numbered(url, sizes))

    def map_groups(
        self,
        expression: ibis.Table,
        keys: Sequence[str],
        order_by: str,
        function: Callable[[pa.RecordBatch], pa.RecordBatch],
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        """Applies a function to batches of whole groups on the executors; see `Engine`."""
        # Spark reads a dot in a column's name as a path.
        places = tuple(f"column_{index}" for index in range(len(schema)))
        from pyspark.sql.pandas.types import from_arrow_schema

        target = from_arrow_schema(
            pa.schema([(place, field.type) for place, field in zip(places, schema, strict=True)])
        )
        rows = self._rows(expression).repartition(*keys).sortWithinPartitions(*keys, order_by)
        url = self._new_url("groups")
        rows.mapInArrow(_OfPartition(tuple(keys), function, schema, places), target).write.parquet(url)
        for batch in _read_parts(url, None):
            yield batch.rename_columns(schema.names).cast(schema)
        _remove(url)

    def _rows(self, expression: ibis.Table) -> Any:
        # ibis registers in-memory tables only when it runs the query itself.
        self.backend._run_pre_execute_hooks(expression)
        return self.session.sql(self.backend.compile(expression))

    def _named(self, frame: Any) -> ibis.Table:
        self._n_tables += 1
        name = f"shelfrank_{self._n_tables}"
        frame.createOrReplaceTempView(name)
        return self.backend.table(name)

    def _new_url(self, name: str) -> str:
        self._n_tables += 1
        return f"{self.scratch}/{self._n_tables:03d}-{name}"

    def _numbered(self, url: str, sizes: Sequence[int]) -> ibis.Table:
        """The rows of kept files with their number: rows before the file, and the row within it."""
        from pyspark.sql import functions as sql

        names = [Path(part).name for _, part in _parts(url)]
        before = self.session.createDataFrame(
            [(name, sum(sizes[:index])) for index, name in enumerate(names)], "part_name string, rows_before long"
        )
        rows = self.session.read.parquet(url)
        rows = rows.select(
            "*", sql.col("_metadata.file_name").alias("part_name"), sql.col("_metadata.row_index").alias(PARTITION)
        )
        rows = rows.join(sql.broadcast(before), "part_name")
        rows = rows.withColumn(ROW, sql.col("rows_before") + sql.col(PARTITION))
        return self._named(rows.drop("part_name", "rows_before", PARTITION))


@dataclass(frozen=True)
class _OfPartition:
    """Applies the function to the groups of one partition, on an executor."""

    keys: tuple[str, ...]
    function: Callable[[pa.RecordBatch], pa.RecordBatch]
    schema: pa.Schema
    places: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for groups in whole_groups(batches, self.keys):
            yield self.function(groups).cast(self.schema).rename_columns(list(self.places))


@contextlib.contextmanager
def open_spark(config: EngineConfig, scratch: Path, log: Path) -> Iterator[SparkEngine]:
    """Connects to Spark, and starts it if the master is this machine.

    Args:
        config: Where Spark is, and its settings.
        scratch: A local folder, used if the config has no shared one.
        log: The log's folder.

    Yields:
        The engine; the session is stopped at the end of the block.

    Raises:
        UserError: Where Spark is not installed, cannot start, or fails.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError(
            "engine.name spark needs PySpark and Java 17, but PySpark is not installed; "
            "run pip install 'shelfrank[spark]'"
        ) from error
    spark = config.spark
    shared = f"{(spark.scratch_url or scratch.resolve().as_uri()).rstrip('/')}/shelfrank-{os.getpid()}"
    # Local executors must use this Python with its packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(spark.master).appName("shelfrank prepare")
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": spark.driver_memory,
        "spark.executor.memory": spark.executor_memory,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.ansi.enabled": "false",
        **spark.settings,
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield SparkEngine(session, scratch, shared, log, (spark.log_url or log.resolve().as_uri()).rstrip("/"))
        finally:
            session.stop()
            _remove(shared)
    except (PySparkException, Py4JError) as error:
        raise UserError(
            "Spark must reach the master, the log and a scratch folder with room, but it says: "
            f"{_reason(error)}; check engine.spark"
        ) from error


def _reason(error: Exception) -> str:
    found = re.search(r"(?:Caused by: |Exception: )(.+)", str(error))
    return (found.group(1) if found else str(error).splitlines()[0]).strip()


def _resolve(url: str) -> tuple[pafs.FileSystem, str]:
    # Spark uses other schemes for S3.
    return pafs.FileSystem.from_uri(re.sub(r"^s3[an]://", "s3://", url))


def _parts(url: str) -> list[tuple[pafs.FileSystem, str]]:
    files, folder = _resolve(url)
    found = files.get_file_info(pafs.FileSelector(folder))
    return [(files, part.path) for part in sorted(found, key=lambda part: part.path) if part.path.endswith(".parquet")]


def _read_parts(url: str, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    for files, part in _parts(url):
        with files.open_input_file(part) as stream:
            file = pq.ParquetFile(stream)
            yield from file.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns))


def _remove(url: str) -> None:
    files, folder = _resolve(url)
    with contextlib.suppress(FileNotFoundError, OSError):
        files.delete_dir(folder)
