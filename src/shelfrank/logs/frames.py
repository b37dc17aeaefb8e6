"""Imports a log from tables in memory: pandas, Polars, Arrow, or anything else that exports an Arrow stream."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.schema import Side, one_sentence
from shelfrank.logs.custom import import_custom
from shelfrank.logs.mapping import ROLES, SourceMapping

_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
"""How pandas calls an index without a name when it becomes a column."""
_TABLE_OF_SIDE: Mapping[str, str] = {Side.PRODUCT: "products", Side.CUSTOMER: "customers"}


def import_frames(
    frames: Mapping[str, Any],
    out: Path,
    name: str,
    columns: Mapping[str, Mapping[str, Any]],
    features: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> bool:
    """Turns tables in memory into a search log: writes them as Parquet files and imports those as a shop's own files.

    A column that is called like a role of its table has this role, unless `columns` gives it another use.

    Args:
        frames: By the log's table, the rows.
        out: The folder of the log.
        name: What the log is called.
        columns: By table and column, its use or uses, as in a `mapping.yaml`.
        features: By column, the feature or features that it is. A feature of products or customers is looked for in
            their table first, any other in the impressions, then in all tables.
        settings: Other keys of a `mapping.yaml`, such as `timestamp_unit`.

    Returns:
        Whether the log was written; False where `out` already holds it.

    Raises:
        UserError: Where a table or column cannot be read, is not named as it must be, or breaks the data contract.
    """
    tables = {table: arrow_table(frame, table) for table, frame in frames.items()}
    mapping = _mapping(tables, name, columns, features, settings)
    with tempfile.TemporaryDirectory(prefix="shelfrank-frames-") as folder:
        for table, rows in tables.items():
            pq.write_table(rows, Path(folder) / f"{table}.parquet")
        file = Path(folder) / "mapping.yaml"
        file.write_text(yaml.safe_dump(mapping.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
        try:
            return import_custom(file, out)
        except UserError as error:
            # The caller has never seen the folder.
            raise UserError(str(error).replace(f"{folder}/", "")) from error


def arrow_table(frame: Any, name: str) -> pa.Table:
    """Reads a table in memory.

    Args:
        frame: Of any library that exports an Arrow stream (`__arrow_c_stream__`) or has `to_arrow()`.
        name: What an error calls it.

    Returns:
        The same rows without the metadata of their library, and without an index that has no name.

    Raises:
        UserError: Where it is no such table.
    """
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            rows = pa.RecordBatchReader.from_stream(frame).read_all()
        elif hasattr(frame, "to_arrow"):
            rows = pa.table(frame.to_arrow())
        else:
            raise TypeError(f"it is {type(frame).__module__}.{type(frame).__qualname__}")
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{name} must be a table of pandas 2.2 or newer, Polars or Arrow, but it cannot be read as one: {error}"
        ) from error
    rows = rows.drop_columns([column for column in rows.column_names if _UNNAMED_INDEX.fullmatch(column)])
    return rows.cast(pa.schema([_as_parquet(field) for field in rows.schema]))


def _as_parquet(field: pa.Field) -> pa.Field:
    # Views, which Polars exports, are a layout in memory: not every reader of Parquet knows them.
    if pa.types.is_string_view(field.type):
        return pa.field(field.name, pa.large_string())
    return pa.field(field.name, field.type)


def _mapping(
    tables: Mapping[str, pa.Table],
    name: str,
    columns: Mapping[str, Mapping[str, Any]],
    features: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> SourceMapping:
    for table in columns:
        if table not in tables:
            raise unknown_name("table in `columns`", table, tables)
    uses = {table: _default_roles(table, rows) | dict(columns.get(table, {})) for table, rows in tables.items()}
    for column, declared in features.items():
        for feature in declared if _is_list(declared) else [declared]:
            table = _table_of(column, feature, tables)
            before = uses[table].get(column, [])
            uses[table][column] = [*(before if _is_list(before) else [before]), feature]
    files = {table: f"{table}.parquet" for table in tables}
    for key in ("name", "tables", "columns"):
        if key in settings:
            raise UserError(f"{key} must not be among the settings of the mapping, since it follows from the tables")
    try:
        return SourceMapping.model_validate({"name": name, "tables": files, "columns": uses, **settings})
    except ValidationError as error:
        raise UserError(one_sentence("from_frames", error)) from error


def _default_roles(table: str, rows: pa.Table) -> dict[str, Any]:
    return {column: column for column in rows.column_names if column in ROLES[table]}


def _table_of(column: str, feature: Any, tables: Mapping[str, pa.Table]) -> str:
    side = feature.get("side") if isinstance(feature, Mapping) else None
    # Where the feature cannot be in the table that has the column, the mapping's check says so.
    for table in (_TABLE_OF_SIDE.get(str(side), "impressions"), "impressions", *tables):
        if table in tables and column in tables[table].column_names:
            return table
    raise unknown_name("column in `features`", column, {name for rows in tables.values() for name in rows.column_names})


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
