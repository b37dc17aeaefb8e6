"""The engine interface of `prepare`: ibis expressions, ordered tables on disk, and Python functions over groups."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import ibis
import pyarrow as pa

Advance = Callable[[float], None]
"""Advances a progress bar."""

ROW = "row"
"""The column of a kept table with the row number, from 0."""


@runtime_checkable
class Kept(Protocol):
    """A materialised table with a fixed order."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def table(self) -> ibis.Table:
        """The rows with their number, `ROW`, as an ibis table."""
        ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in their order, as local batches."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Runs ibis expressions, embedded or on a cluster."""

    def read(self, files: Sequence[str]) -> ibis.Table:
        """Opens Parquet files as one table."""
        ...

    def microseconds(self, timestamp: ibis.Value) -> ibis.Value:
        """Microseconds since 1970 of a timestamp."""
        ...

    def collect(self, expression: ibis.Table) -> pa.Table:
        """Computes a small table into local memory."""
        ...

    def stream(self, expression: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Computes a table in local batches, in no particular order."""
        ...

    def share(self, table: pa.Table, name: str) -> ibis.Table:
        """Copies a small local table to the engine."""
        ...

    def view(self, expression: ibis.Table, name: str) -> ibis.Table:
        """Gives an expression a name in the engine, so that queries that read it compile the name alone."""
        ...

    def keep(self, expression: ibis.Table, name: str, order_by: Sequence[str], advance: Advance, rows: float) -> Kept:
        """Materialises a table in this order; its progress advances the bar by `rows` in total."""
        ...

    def map_groups(
        self,
        expression: ibis.Table,
        keys: Sequence[str],
        order_by: str,
        function: Callable[[pa.RecordBatch], pa.RecordBatch],
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        """Applies a function to batches of whole groups.

        Args:
            expression: The rows.
            keys: Columns that identify a group.
            order_by: Column that orders the rows of a group.
            function: Takes the rows of whole groups, each group contiguous and in order; must be picklable.
            schema: Schema of its result.

        Returns:
            Its results, in no particular order.
        """
        ...


def plain(table: pa.Table) -> pa.Table:
    """Removes the engine's metadata from the schema and puts every timestamp in UTC."""
    types = [pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(type_) else type_ for type_ in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def whole_groups(batches: Iterator[pa.RecordBatch], keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Splits sorted rows at group boundaries, so that no group is in two batches.

    Args:
        batches: Rows that are sorted by the keys.
        keys: Columns that identify a group; integers without nulls.

    Yields:
        The same rows.
    """
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        cut = _start_of_last_group(batch, keys)
        if waiting and cut == 0 and not _same_group(waiting[-1], batch, keys):
            yield _joined(waiting)
            waiting = [batch]
        elif cut == 0:
            waiting.append(batch)
        else:
            yield _joined([*waiting, batch.slice(0, cut)])
            waiting = [batch.slice(cut)]
    if waiting:
        yield _joined(waiting)


def _start_of_last_group(batch: pa.RecordBatch, keys: Sequence[str]) -> int:
    start = 0
    for key in keys:
        column = batch[key].to_numpy()
        different = (column != column[-1]).nonzero()[0]
        if len(different):
            start = max(start, int(different[-1]) + 1)
    return start


def _same_group(one: pa.RecordBatch, other: pa.RecordBatch, keys: Sequence[str]) -> bool:
    return all(one[key][-1].as_py() == other[key][0].as_py() for key in keys)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(parts) == 1:
        return parts[0]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
