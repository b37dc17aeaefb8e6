"""What `prepare` asks of an engine: ibis expressions, tables kept in order, and whole groups handed to Python."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import ibis
import pyarrow as pa

Advance = Callable[[float], None]
"""Moves a progress bar."""

ROW = "row"
"""The column of a kept table that numbers its rows from 0 in their order."""


@runtime_checkable
class Kept(Protocol):
    """A table that the engine has computed once and keeps in a fixed order."""

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        ...

    @property
    def table(self) -> ibis.Table:
        """Its rows with their number, `ROW`, for further expressions."""
        ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in their order, on this machine."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Runs ibis expressions somewhere."""

    def read(self, files: Sequence[str]) -> ibis.Table:
        """A table of Parquet files."""
        ...

    def microseconds(self, moment: ibis.Value) -> ibis.Value:
        """Microseconds since 1970 of a timestamp."""
        ...

    def collect(self, expression: ibis.Table) -> pa.Table:
        """Computes a small table here."""
        ...

    def stream(self, expression: ibis.Table) -> Iterator[pa.RecordBatch]:
        """Computes a table here in pieces, in no particular order."""
        ...

    def share(self, table: pa.Table, name: str) -> ibis.Table:
        """Hands a small table to the engine."""
        ...

    def keep(self, expression: ibis.Table, name: str, order_by: Sequence[str], advance: Advance, rows: float) -> Kept:
        """Computes a table once, in this order; its progress moves the bar by `rows` in all."""
        ...

    def map_groups(
        self,
        expression: ibis.Table,
        keys: Sequence[str],
        order_by: str,
        function: Callable[[pa.RecordBatch], pa.RecordBatch],
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        """Hands whole groups, several at a time, to a function.

        Args:
            expression: The rows.
            keys: Columns that make a group.
            order_by: Column that orders the rows of a group.
            function: Takes rows of whole groups, a group's rows together and in order; must be picklable.
            schema: What the function returns.

        Returns:
            What it returned, in no particular order.
        """
        ...


def plain(table: pa.Table) -> pa.Table:
    """The same columns in plain types: nothing that an engine noted in the schema, every moment in UTC."""
    types = [pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(type_) else type_ for type_ in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def whole_groups(batches: Iterator[pa.RecordBatch], keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Cuts sorted rows where a group ends, so that no group is in two batches.

    Args:
        batches: Rows that are sorted by the keys.
        keys: Columns that make a group; integers that are never null.

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
