"""Writes a search log: spells and casts rows, counts losses, and validates the whole before it is put in place."""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.core.artifact import Draft, is_current, publish
from shelfrank.core.errors import UserError
from shelfrank.core.progress import measured, progress
from shelfrank.core.schema import Schema, Spelling
from shelfrank.logs.engine import Table, one_row, sql_of, stream_sql
from shelfrank.logs.search_log import COLUMN_TYPES, KIND, SCHEMA_FILE, TABLES, TRUTH_TABLES
from shelfrank.logs.spelling import SPELLING_VERSION, LogSpelling
from shelfrank.logs.validate import require_valid
from shelfrank.logs.violation import Violation

MAX_LOST_SHARE = 0.1
"""Largest share of the source's labels or impressions of a kind that may be lost without a warning."""


@dataclass
class SearchLogWriter:
    """Writes the tables of one log and counts what is left out of it.

    Attributes:
        draft: The folder being written.
        schema: The schema that the log will have.
        rows: By table, the number of rows written.
        left_out: By reason, the number of rows or searches left out; printed and stored in the manifest.
        notes: Facts that a reader of the log should know.
        kept: By kind, such as `click labels`, how many of the source's are in the log.
        lost: By kind and reason, how many are not.
    """

    draft: Draft
    schema: Schema
    rows: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: dict[str, Any] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    lost: dict[str, Counter[str]] = field(default_factory=dict)
    _parts: Counter[str] = field(default_factory=Counter)
    _spelling: LogSpelling = field(init=False)

    def __post_init__(self) -> None:
        self._spelling = LogSpelling(self.schema)

    def declare_whole_numbers(self, columns: Collection[str]) -> None:
        """Declares id columns with whole numbers only, before anything is written; see `Spelling`."""
        assert self.schema.spelling is not None
        spelling = self.schema.spelling.model_copy(update={"whole_number_ids": tuple(sorted(columns))})
        self.schema = self.schema.model_copy(update={"spelling": spelling})
        self._spelling = LogSpelling(self.schema)

    def declare_first_ordinal(self, first_ordinal: int) -> None:
        """Declares the ordinal at which the source's lists begin, before anything is written; see `Spelling`."""
        assert self.schema.spelling is not None
        spelling = self.schema.spelling.model_copy(update={"first_ordinal": first_ordinal})
        self.schema = self.schema.model_copy(update={"spelling": spelling})

    def write(self, table: str, rows: pa.Table) -> None:
        """Spells values, casts reserved columns to the contract's types, and appends the rows as one part file.

        Args:
            table: One of `TABLES` or `TRUTH_TABLES`.
            rows: The rows.

        Raises:
            UserError: Where a reserved column cannot be cast to its type, or float ids are too large to be exact.
        """
        if table not in TABLES + TRUTH_TABLES:
            raise AssertionError(f"no such table: {table}")
        folder = self.draft.path / table
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"part-{self._parts[table]:05d}.parquet"
        pq.write_table(
            cast_reserved(table, self._spelling.spell(table, rows)), part, compression="zstd", compression_level=1
        )
        self._parts[table] += 1
        self.rows[table] += rows.num_rows

    def spelling_notes(self) -> dict[str, Any]:
        """The changes that spelling made to the written values."""
        return self._spelling.notes()

    def leave_out(self, reason: str, count: int = 1, of: str | None = None) -> None:
        """Counts rows or searches of the source that are not in the log.

        Args:
            reason: Why.
            count: How many.
            of: Their kind of labels or impressions; None for neither.
        """
        if count:
            self.left_out[reason] += count
            if of is not None:
                self.lose(of, reason, count)

    def lose(self, kind: str, reason: str, count: int) -> None:
        """Counts labels or impressions of the source that are not in the log; many of them give a warning."""
        self.lost.setdefault(kind, Counter())[reason] += count

    def loss_warnings(self) -> list[dict[str, Any]]:
        """A warning for each kind of labels or impressions of which too many were lost."""
        warnings: list[dict[str, Any]] = []
        for kind, reasons in sorted(self.lost.items()):
            n_lost = sum(reasons.values())
            n = n_lost + self.kept[kind]
            if n_lost > MAX_LOST_SHARE * n:
                reason, n_most = max(sorted(reasons.items()), key=lambda item: item[1])
                must = (
                    f"should hold nearly all {kind} of the source, but {n_lost:,} of {n:,} ({n_lost / n:.0%}) are "
                    f"lost, most of them as: {reason} ({n_most:,})"
                )
                warnings.append(Violation("impressions", None, must, "warning").as_dict())
        return warnings


def cast_reserved(table: str, rows: pa.Table) -> pa.Table:
    """Casts the reserved columns of a table to the contract's types.

    Args:
        table: The table's name, for the error.
        rows: The rows.

    Returns:
        The rows with the same columns in the same order.

    Raises:
        UserError: Where a value does not fit its column's type.
    """
    for index, name in enumerate(rows.column_names):
        expected = COLUMN_TYPES.get(name)
        if (
            expected is None
            or rows.schema.field(name).type == expected
            or (table.startswith("truth/") and name not in ("search_id", "product_id", "customer_id"))
        ):
            continue
        try:
            rows = rows.set_column(index, name, rows.column(name).cast(expected))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            given = rows.schema.field(name).type
            raise UserError(
                f"{table}.{name} must hold values of type {expected}, but it holds {given}: {error}"
            ) from error
    return rows


@contextlib.contextmanager
def write_search_log(out: Path, schema: Schema, inputs: dict[str, Any]) -> Iterator[SearchLogWriter]:
    """Writes one log: the block fills it, then it is validated as a whole and moved into place.

    Args:
        out: The folder of the finished log.
        schema: The features that it declares; without a spelling, ids are normalised and queries folded.
        inputs: Plain data that determines the content (source, file hashes, options, seeds).

    Yields:
        The writer.

    Raises:
        UserError: Where the log breaks the contract; every violation is listed.
    """
    schema = schema.model_copy(update={"spelling": schema.spelling or Spelling()})
    with publish(out, KIND, _versioned(inputs)) as draft, measured() as cost:
        writer = SearchLogWriter(draft, schema)
        yield writer
        if not writer.rows["impressions"]:
            raise UserError(
                f"the log must hold at least one search, but no search is left{_reasons(writer.left_out)}; check the "
                "source"
            )
        writer.schema.save(draft.path / SCHEMA_FILE)
        warnings = require_valid(draft.path)
        draft.info.update(
            rows=dict(writer.rows),
            left_out=dict(writer.left_out),
            notes=writer.notes | writer.spelling_notes(),
            warnings=writer.loss_warnings() + warnings,
            cost=cost.stop().as_dict(),
        )


def log_is_current(out: Path, inputs: dict[str, Any]) -> bool:
    """Whether `out` already holds the finished log of these inputs."""
    return is_current(out, KIND, _versioned(inputs))


def write_rows(writer: SearchLogWriter, table: str, engine: Backend, rows: Table) -> None:
    """Streams the rows of an expression into a log, in their order."""
    sql = sql_of(engine, rows)
    (total,) = one_row(engine.con, sql, ["count(*)"])
    with progress(f"Writing {table}", total=total, unit="rows") as advance:
        for part in stream_sql(engine.con, sql):
            writer.write(table, part)
            advance(part.num_rows)


def _versioned(inputs: dict[str, Any]) -> dict[str, Any]:
    return {**inputs, "spelling": SPELLING_VERSION}


def _reasons(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return " (left out: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items())) + ")"
