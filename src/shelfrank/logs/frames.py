"""Imports a log from tables in memory: pandas, Polars, Arrow, or any library that exports an Arrow stream."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.schema import Side, one_sentence
from shelfrank.logs.custom import import_custom
from shelfrank.logs.mapping import ROLES, SourceMapping, key_hint

_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
"""The column name that pandas gives to an unnamed index."""
_TABLE_OF_SIDE: Mapping[str, str] = {Side.PRODUCT: "products", Side.CUSTOMER: "customers"}


def import_frames(
    frames: Mapping[str, Any],
    out: Path,
    name: str,
    columns: Mapping[str, Mapping[str, Any]],
    features: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> bool:
    """Imports tables in memory as a search log, through Parquet files and a mapping.

    A column with the name of a role of its table has this role, unless `columns` gives it another use.

    Args:
        frames: By the log's table, the rows.
        out: The folder of the log.
        name: Name of the log.
        columns: By table and column, its use or uses, as in a `mapping.yaml`.
        features: By column, its feature or features. Columns of product and customer features are looked up in their
            own table first, others in the impressions, then in all tables.
        settings: Other keys of a `mapping.yaml`, such as `timestamp_unit`.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a table or column cannot be read, has a wrong name, or breaks the data contract.
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
            # The caller does not know the folder.
            raise UserError(str(error).replace(f"{folder}/", "")) from error


def arrow_table(frame: Any, name: str) -> pa.Table:
    """Reads a table in memory.

    Args:
        frame: Of any library that exports an Arrow stream (`__arrow_c_stream__`) or has `to_arrow()`.
        name: Its name in errors.

    Returns:
        The rows without library metadata and without an unnamed index.

    Raises:
        UserError: Where it is not such a table.
    """
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            rows = pa.RecordBatchReader.from_stream(frame).read_all()
        elif hasattr(frame, "to_arrow"):
            rows = pa.table(frame.to_arrow())
        else:
            raise TypeError(f"it is {type(frame).__module__}.{type(frame).__qualname__}")
    except (TypeError, ValueError, pa.ArrowException) as error:
        if mixed := _mixed_column(frame, name):
            raise mixed from error
        raise UserError(
            f"{name} must be a table of pandas 2.2 or newer, Polars or Arrow, but it cannot be read as one: {error}"
        ) from error
    rows = rows.drop_columns([column for column in rows.column_names if _UNNAMED_INDEX.fullmatch(column)])
    return rows.cast(pa.schema([_as_parquet(field) for field in rows.schema]))


def _mixed_column(frame: Any, name: str) -> UserError | None:
    """The error for the first column whose values are of types that Arrow holds in no one column, if there is one."""
    for column in getattr(frame, "columns", ()):
        values = frame[column]
        if not hasattr(values, "tolist"):
            return None
        try:
            pa.array(values, from_pandas=True)
        except (TypeError, ValueError, pa.ArrowException):
            by_type: dict[str, Any] = {}
            for value in values.tolist():
                if value is not None and value == value:
                    by_type.setdefault(type(value).__name__, value)
            if len(by_type) < 2:
                return None
            (one, first), (other, second) = list(by_type.items())[:2]
            return UserError(
                f"{name} must hold values of one type in each column, but {column!r} holds {one} and {other}, such as "
                f"{first!r} and {second!r}; convert the column to one of them"
            )
    return None


def _as_parquet(field: pa.Field) -> pa.Field:
    # Polars exports string views, a memory layout that not every Parquet reader supports.
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
            raise UserError(
                f"{key} must not be among the settings of the mapping, since it follows from the tables; remove it"
            )
    try:
        return SourceMapping.model_validate({"name": name, "tables": files, "columns": uses, **settings})
    except ValidationError as error:
        keywords = [*ROLES, "out", "columns", "features", "name"]
        keywords += [key for key in SourceMapping.model_fields if key not in keywords and key != "tables"]
        raise UserError(one_sentence("from_frames", error, partial(key_hint, top=keywords))) from error


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
