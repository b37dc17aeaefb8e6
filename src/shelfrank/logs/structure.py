"""Checks the schema and the Parquet footers of a log without reading rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.logs.search_log import (
    COLUMN_TYPES,
    REQUIRED_COLUMNS,
    SCHEMA_FILE,
    TABLES,
    has_table,
    table_files,
)
from shelfrank.logs.violation import Violation

OPTIONAL_TABLES = frozenset({"events"})
MAY_BE_EMPTY = frozenset({"customers", "events"})
"""A shop without known customers is valid; nothing is personalized then."""

HOME_TABLE: Mapping[Side, str] = {
    Side.CUSTOMER: "customers",
    Side.PRODUCT: "products",
    Side.QUERY: "impressions",
    Side.INTERACTION: "impressions",
    Side.CONTEXT: "impressions",
}


@dataclass
class Structure:
    """The usable tables and columns of a log's folder.

    Attributes:
        schema: The declared features; None where `schema.yaml` is broken.
        columns: By readable table, the columns that have a usable type in every part file.
        n_rows: By readable table, its number of rows.
        violations: The rules that the footers and the schema break.
    """

    schema: Schema | None = None
    columns: dict[str, dict[str, pa.DataType]] = field(default_factory=dict)
    n_rows: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)


def inspect_structure(folder: Path) -> Structure:
    """Checks tables, columns, types and declared features without reading rows.

    Args:
        folder: A log's folder, finished or not.

    Returns:
        The structure, with its violations.
    """
    structure = Structure()
    try:
        structure.schema = Schema.load(folder / SCHEMA_FILE)
    except UserError as error:
        must = str(error).removeprefix(f"{folder / SCHEMA_FILE}").removeprefix(":").strip()
        structure.violations.append(Violation(SCHEMA_FILE, None, must))
    for table in TABLES:
        if has_table(folder, table):
            _inspect_table(folder, table, structure)
        elif table not in OPTIONAL_TABLES:
            structure.violations.append(
                Violation(table, None, f"must hold at least one part file {table}/*.parquet, but there is none")
            )
    for feature in structure.schema.features if structure.schema else ():
        _inspect_feature(feature, structure)
    return structure


def holds_grades(folder: Path) -> bool:
    """Whether a log has a relevance grade of each shown product: the column `grade` of `truth/impressions`."""
    files = table_files(folder, "truth/impressions")
    return bool(files) and all("grade" in pq.read_schema(file).names for file in files)


def feature_table(feature: Feature, columns: Mapping[str, Mapping[str, object]]) -> str | None:
    """Finds the table that holds a declared feature's column.

    Args:
        feature: The feature.
        columns: By table, its columns.

    Returns:
        Its side's home table, or `impressions` if the source has it per impression, or None.
    """
    for table in (HOME_TABLE[feature.side], "impressions"):
        if feature.name in columns.get(table, {}):
            return table
    return None


def _inspect_table(folder: Path, table: str, structure: Structure) -> None:
    schemas: list[pa.Schema] = []
    n_rows = 0
    unreadable: list[str] = []
    for file in table_files(folder, table):
        try:
            metadata = pq.read_metadata(file)
            schemas.append(metadata.schema.to_arrow_schema())
            n_rows += metadata.num_rows
        except (pa.ArrowException, OSError):
            unreadable.append(f"{table}/{Path(file).name}")
    if unreadable:
        must = "must be complete Parquet files; write the log again"
        structure.violations.append(_of_files(table, None, must, unreadable))
        return
    if not n_rows and table in MAY_BE_EMPTY:
        must = "should hold at least one row, but it is empty"
        structure.violations.append(Violation(table, None, must, "warning"))
    elif not n_rows:
        structure.violations.append(Violation(table, None, "must hold at least one row, but it is empty"))
    structure.n_rows[table] = n_rows
    structure.columns[table] = _usable_columns(table, schemas, structure)


def _usable_columns(table: str, schemas: list[pa.Schema], structure: Structure) -> dict[str, pa.DataType]:
    usable: dict[str, pa.DataType] = {}
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        types = [_plain(schema.field(name).type) for schema in schemas if name in schema.names]
        expected = COLUMN_TYPES.get(name)
        others = sorted({str(found_type) for found_type in types if found_type != (expected or types[0])})
        if others and expected is not None:
            must = f"must be of type {expected}, but it is {' and '.join(others)}; cast it in the source"
            structure.violations.append(Violation(table, name, must))
        elif others:
            must = f"must have one type in all part files, but it is {types[0]} and {' and '.join(others)}"
            structure.violations.append(Violation(table, name, must))
        elif len(types) == len(schemas):
            usable[name] = types[0]
        elif name not in REQUIRED_COLUMNS[table]:
            must = f"must be in all part files, but {len(schemas) - len(types)} of {len(schemas)} lack it"
            structure.violations.append(Violation(table, name, must))
    for name in REQUIRED_COLUMNS[table]:
        lacking = sum(name not in schema.names for schema in schemas)
        if lacking:
            held = ", ".join(schemas[0].names)
            some = "" if lacking == len(schemas) else f" in {lacking} of {len(schemas)} part files"
            must = f"must be a column of the table, but it is missing{some}; the columns are {held}"
            structure.violations.append(Violation(table, name, must))
    if table == "events" and not {"customer_id", "session_id"} & set(usable):
        must = "must have the column customer_id, session_id, or both, but it has neither"
        structure.violations.append(Violation(table, None, must))
    return usable


def _inspect_feature(feature: Feature, structure: Structure) -> None:
    home = HOME_TABLE[feature.side]
    if not {home, "impressions"} <= set(structure.columns):
        return  # the missing or unreadable table is reported already
    named = {violation.column for violation in structure.violations if violation.table in (home, "impressions")}
    table = feature_table(feature, structure.columns)
    if table is None:
        if feature.name not in named:
            elsewhere = "" if home == "impressions" else " or in impressions"
            must = f"must be a column{elsewhere}, since schema.yaml declares it ({feature.side}), but it is missing"
            structure.violations.append(Violation(home, feature.name, must))
        return
    if table != "impressions" and feature.name in structure.columns["impressions"]:
        must = f"must be in one table, since it is one declared feature, but it is in {table} and impressions"
        structure.violations.append(Violation(table, feature.name, must))
    held = structure.columns[table][feature.name]
    fits = {Kind.NUMERICAL: _is_numeric, Kind.TEXT: pa.types.is_string, Kind.CATEGORICAL: _is_scalar}[feature.kind]
    if not fits(held):
        expected = {Kind.NUMERICAL: "a number", Kind.TEXT: "text", Kind.CATEGORICAL: "a single value"}[feature.kind]
        must = f"must be {expected}, since schema.yaml declares it as {feature.kind}, but it is of type {held}"
        structure.violations.append(Violation(table, feature.name, must))
        del structure.columns[table][feature.name]


def _plain(data_type: pa.DataType) -> pa.DataType:
    # Memory layouts of text differ between writers; the values in Parquet are the same.
    if pa.types.is_dictionary(data_type):
        return _plain(data_type.value_type)
    if pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return pa.string()
    return data_type


def _is_numeric(data_type: pa.DataType) -> bool:
    return pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_decimal(data_type)


def _is_scalar(data_type: pa.DataType) -> bool:
    return not (pa.types.is_nested(data_type) or pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type))


def _of_files(table: str, column: str | None, must: str, files: list[str]) -> Violation:
    return Violation(table, column, must, count=len(files), unit="file", examples=tuple(files[:5]))
