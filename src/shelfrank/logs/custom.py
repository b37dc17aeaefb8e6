"""Imports a shop's own CSV or Parquet files with a `mapping.yaml` that describes their columns."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import RANDOMISED, TASKS, Kind, Schema, Side
from shelfrank.core.values import CategorySpelling, IdSpelling
from shelfrank.logs.convert import (
    Conversion,
    cells_of,
    convert_category,
    convert_feature,
    convert_id,
    convert_role,
    converted,
    failed,
    given_of,
    require_converted,
    require_single_values,
    value_of,
)
from shelfrank.logs.engine import Table, Value, keep, one_row, open_engine, rows_of, sql_name, sql_of, steps_as_columns
from shelfrank.logs.id_columns import ID_ROLES, RawIdColumn, id_spelling
from shelfrank.logs.mapping import REQUIRED_ROLES, ColumnUse, SourceMapping, TableName
from shelfrank.logs.missing_values import (
    cells_without,
    has_spaces,
    is_read_as_missing,
    note_missing,
    without_null_words,
)
from shelfrank.logs.number_columns import numbers_of, whole_numbers
from shelfrank.logs.raw_files import column_names, is_parquet, read_raw, readable, require_in_all_parts, sha256, zone_of
from shelfrank.logs.time_columns import (
    is_whole_day,
    is_without_zone,
    known_zone,
    numbers_of_times,
    time_of,
    unit_of,
)
from shelfrank.logs.time_precision import EVENTS, SEARCHES, note_whole_days, require_whole_times
from shelfrank.logs.times import is_in_future
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log


def import_custom(mapping: Path, out: Path) -> bool:
    """Imports a shop's own files as a search log.

    No row is left out: one that breaks the data contract is an error. If the mapping names no table of products or
    customers, the table is derived from the impressions: an attribute that never changes becomes a column of it. One
    that changes, or that rows without the id also have, stays in the impressions with its value at that time.

    Args:
        mapping: A `mapping.yaml`.
        out: The folder of the log.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where the mapping or a file is wrong.
    """
    source = SourceMapping.load(mapping)
    files: dict[TableName, Path] = {table: mapping.parent / file for table, file in source.tables.items()}
    for table, file in files.items():
        source.check_file(table, file, column_names(file, _separator(source, file)))
    schema = source.schema_of(str(mapping))
    inputs = {
        "source": "custom",
        "mapping": source.model_dump(mode="json"),
        "files": {table: sha256(file) for table, file in files.items()},
    }
    if log_is_current(out, inputs):
        return False
    with write_search_log(out, schema, inputs) as writer, open_engine() as engine:
        raws: dict[TableName, Table] = {
            table: _raw(engine, writer, source, table, file) for table, file in files.items()
        }
        spellings = _id_spellings(engine, writer, source, files, raws)
        writer.declare_whole_numbers([role for role, each in spellings.items() if each.whole_numbers])
        tables: dict[TableName, Table] = {
            table: _converted(engine, writer, source, table, files[table], raw, spellings)
            for table, raw in raws.items()
        }
        if "events" in tables:
            _note_lost_visitors(engine, writer, tables["events"], tables["impressions"])
        impressions = _with_all_columns(tables["impressions"])
        if not any("title" in columns.columns for columns in (impressions, *tables.values())):
            writer.notes["title"] = (
                "no column has this role: text features and text rankers use the products' other texts and categories"
            )
        if "products" in tables and "title" not in tables["products"].columns:
            tables["products"] = tables["products"].mutate(title=ibis.null("string"))
        if "products" not in tables:
            impressions, tables["products"] = _derived(engine, writer, impressions, schema, "product_id", Side.PRODUCT)
        if "customers" not in tables:
            impressions, tables["customers"] = _derived(
                engine, writer, impressions, schema, "customer_id", Side.CUSTOMER
            )
            if "events" in tables and "customer_id" in tables["events"].columns:
                tables["customers"] = _with_customers_of(tables["events"], tables["customers"])
        tables["impressions"] = impressions
        for table, rows in tables.items():
            with readable(files.get(table, files["impressions"])):
                write_rows(writer, table, engine, rows)
    return True


def _raw(engine: Backend, writer: SearchLogWriter, source: SourceMapping, table: TableName, file: Path) -> Table:
    with readable(file):
        roles = source.roles(table)
        require_in_all_parts(file, {role: roles[role] for role in REQUIRED_ROLES[table]})
        raw = read_raw(engine, file, writer.notes, _separator(source, file), source.columns[table])
        if not is_parquet(file):
            # Otherwise every later pass would parse the text again.
            raw = keep(engine, f"raw_{table}", raw)
        require_single_values(file, raw, source.columns[table])
    return raw


def _id_spellings(
    engine: Backend,
    writer: SearchLogWriter,
    source: SourceMapping,
    files: Mapping[TableName, Path],
    raws: Mapping[TableName, Table],
) -> dict[str, IdSpelling]:
    """By role, the spelling of its ids, the same in all tables."""
    columns: dict[str, list[RawIdColumn]] = {}
    for table, raw in raws.items():
        for role, column in source.roles(table).items():
            if role in ID_ROLES:
                columns.setdefault(role, []).append(RawIdColumn(files[table], raw, column))
    spellings: dict[str, IdSpelling] = {}
    for role, some in columns.items():
        with readable(some[0].file):
            spellings[role] = id_spelling(engine, writer, role, some, source.null_words_of_role(role))
    return spellings


def _converted(
    engine: Backend,
    writer: SearchLogWriter,
    source: SourceMapping,
    table: TableName,
    file: Path,
    raw: Table,
    spellings: Mapping[str, IdSpelling],
) -> Table:
    roles = source.roles(table)
    with readable(file):
        if "timestamp" in roles:
            place = f"{roles['timestamp']} of {file.name}"
            require_whole_times(engine, raw, roles["timestamp"], place, writer.notes)
        unit = _timestamp_unit(engine, writer, source, raw, roles, file)
        first = _first_position(engine, writer, source, raw, roles, file)
        conversions = [
            _conversion(source, column, use, raw[column], spellings, unit, first) for column, use in source.uses(table)
        ]
        # One pass over the source gives the log's values and all that is noted or refused; later passes read those.
        rows = converted(raw, conversions)
        flags = _flags(engine, rows, conversions, source.uses(table), file, unit)
        name = f"converted_{table}"
        with steps_as_columns():
            kept = keep(engine, name, rows.select(**_values(rows, conversions), **flags))
        counts = dict(
            zip(flags, one_row(engine.con, name, [f"count(*) FILTER ({flag})" for flag in flags]), strict=True)
        )
        _note_and_require(engine, writer, file, raw, conversions, counts)
        if "timestamp" in roles and "search_id" in roles:
            note_whole_days(engine, writer, file.name, kept.select("whole_day", "search"), SEARCHES, key="search")
        elif "timestamp" in roles:
            note_whole_days(engine, writer, file.name, kept.select("whole_day"), EVENTS)
        if not is_parquet(file):
            engine.con.execute(f"DROP TABLE raw_{table}")
    unused = [name for name in raw.columns if name not in source.columns[table]]
    if unused:
        writer.notes[f"columns of {file.name} that are not used"] = unused
    if counts.get("without_zone"):
        writer.notes[f"timestamps of {file.name} without a time zone, read as UTC"] = counts["without_zone"]
    return kept.select(*(kept[f"value_{place}"].name(each.name) for place, each in enumerate(conversions)))


def _conversion(
    source: SourceMapping,
    column: str,
    use: ColumnUse,
    cells: Value,
    spellings: Mapping[str, IdSpelling],
    unit: str | None,
    first: int,
) -> Conversion:
    words = source.null_words_of(use)
    if use.role is not None and use.role in spellings:
        return convert_id(use.role, column, cells, spellings[use.role])
    if use.kind is Kind.CATEGORICAL:
        return convert_category(use.name or column, column, cells, CategorySpelling(words, use.fold_case))
    if use.kind is Kind.NUMERICAL or use.role in (*TASKS, RANDOMISED):
        cells = without_null_words(cells, words)
    elif use.kind is Kind.TEXT or use.role in ("query", "title"):
        cells = cells_without(cells, words)
    if cells.type().is_string():
        # An empty cell is a missing value, quoted or not.
        cells = cells.nullif("")
    if use.role is not None:
        return convert_role(use.role, column, cells, unit, first)
    assert use.kind is not None
    return convert_feature(use.name or column, column, cells, use.kind, source.decimal_mark)


def _values(rows: Table, conversions: Sequence[Conversion]) -> dict[str, Value]:
    """The log's values and, for the count of searches, a hash of the source's search id."""
    values: dict[str, Value] = {f"value_{place}": value_of(rows, place) for place in range(len(conversions))}
    for place, each in enumerate(conversions):
        if each.name == "search_id":
            values["search"] = given_of(rows, place).hash()
    return values


def _flags(
    engine: Backend,
    rows: Table,
    conversions: Sequence[Conversion],
    uses: Sequence[tuple[str, ColumnUse]],
    file: Path,
    unit: str | None,
) -> dict[str, Value]:
    """Whether each cell is read as missing, does not fit, or has spaces around it, and what its time lacks."""
    flags: dict[str, Value] = {}
    spelled: set[str] = set()
    for place, (each, (column, use)) in enumerate(zip(conversions, uses, strict=True)):
        given, cells = given_of(rows, place), cells_of(rows, place)
        if not cells.equals(given):
            flags[f"missing_{place}"] = is_read_as_missing(given, cells)
        if each.steps:
            flags[f"failed_{place}"] = failed(rows, place)
        if given.type().is_string() and (use.role in ID_ROLES or use.kind is Kind.CATEGORICAL):
            if column not in spelled:
                flags[f"spaces_{place}"] = has_spaces(given)
            spelled.add(column)
        if use.role == "timestamp":
            zone = known_zone(engine, zone_of(file, column)) if is_parquet(file) else None
            flags["without_zone"] = is_without_zone(given, unit)
            flags["whole_day"] = is_whole_day(given, value_of(rows, place), unit, zone)
    return flags


def _note_and_require(
    engine: Backend,
    writer: SearchLogWriter,
    file: Path,
    raw: Table,
    conversions: Sequence[Conversion],
    counts: Mapping[str, int],
) -> None:
    """Notes missing values and spaces, and refuses cells that do not fit, by the counts of `_flags`."""
    n_missing, n_failed = (
        [counts.get(f"{flag}_{place}", 0) for place in range(len(conversions))] for flag in ("missing", "failed")
    )
    cells = {(each.column, each.name): each.cells for each in conversions}
    note_missing(engine, writer, file, raw, cells, n_missing)
    for place, each in enumerate(conversions):
        if counts.get(f"spaces_{place}"):
            note = f"{each.column} of {file.name}, values with white space around them"
            writer.notes[note] = counts[f"spaces_{place}"]
    require_converted(engine, file, raw, conversions, n_failed)


def _separator(source: SourceMapping, file: Path) -> str | None:
    return None if is_parquet(file) else source.separator


def _timestamp_unit(
    engine: Backend, writer: SearchLogWriter, source: SourceMapping, raw: Table, roles: Mapping[str, str], file: Path
) -> str | None:
    """The declared unit, or the only one in which all numbers are valid times."""
    if source.timestamp_unit is not None or "timestamp" not in roles:
        return source.timestamp_unit
    cells: Value = raw[roles["timestamp"]]
    if not (cells.type().is_numeric() or cells.type().is_string()):
        return None
    held = cells.nullif("") if cells.type().is_string() else cells
    times = raw.select(held=held, number=numbers_of_times(cells))
    fits = {unit: fit.sum() for unit, fit in unit_of(times["number"]).items()}
    counts = rows_of(engine, times.aggregate(n_held=times["held"].count(), **fits))[0]
    unit = next((unit for unit in fits if counts[unit] and counts[unit] == counts["n_held"]), None)
    if unit is not None:
        latest = rows_of(engine, raw.aggregate(latest=time_of(cells, unit).max()))[0]["latest"]
        if is_in_future(latest.replace(tzinfo=UTC)):
            raise UserError(
                f"timestamps of {file} must not be in the future, but as numbers of {unit} since 1970, as their size "
                f"suggests, the latest is {latest:%Y-%m-%d}; declare `timestamp_unit: {unit}` if that is right, else "
                "write times such as 2024-05-31T18:04:05Z"
            )
        writer.notes[f"timestamps of {file.name}"] = f"numbers of {unit} since 1970, as their size indicates"
    return unit


def _first_position(
    engine: Backend, writer: SearchLogWriter, source: SourceMapping, raw: Table, roles: Mapping[str, str], file: Path
) -> int:
    """The declared position of the topmost product, or else the one at which every list begins, 0 or 1."""
    if "position" not in roles or "search_id" not in roles:
        return 1
    shown = raw.select(search=raw[roles["search_id"]], position=numbers_of(raw[roles["position"]]))
    shown = shown.select("search", position=whole_numbers(shown["position"]))
    tops = f"(SELECT min(position) AS top FROM {sql_of(engine, shown)} GROUP BY search)"
    n, n_0, n_1 = one_row(engine.con, tops, ["count(top)", "count(*) FILTER (top = 0)", "count(*) FILTER (top = 1)"])
    declared, column = source.first_position, roles["position"]
    if declared == 1 and n and n_0 == n:
        raise UserError(
            f"{column!r} of {file} must count from 1, as `first_position: 1` says, but every list begins at 0; declare "
            "`first_position: 0`"
        )
    if declared == 0 and n and n_1 == n:
        raise UserError(
            f"{column!r} of {file} must count from 0, as `first_position: 0` says, but every list begins at 1; remove "
            "`first_position`"
        )
    if declared is not None:
        return declared
    if n_0 and n_0 < n:
        raise UserError(
            f"{column!r} of {file} must count from 1, or from 0 in every list, but {n_0:,} of {n:,} lists begin at 0; "
            "declare `first_position: 0` if 0 is the top"
        )
    if n_0:
        writer.notes[f"positions of {file.name}"] = "counted from 0, since every list begins there"
        return 0
    return 1


def _note_lost_visitors(engine: Backend, writer: SearchLogWriter, events: Table, impressions: Table) -> None:
    """Notes events whose only visitor id is one that the impressions do not have."""
    ids = [name for name in ("customer_id", "session_id") if name in events.columns]
    lost = [name for name in ids if name not in impressions.columns]
    unnamed = [events[name].isnull() for name in ids if name not in lost]
    rows = events.filter(*unnamed) if unnamed else events
    n_rows = rows_of(engine, rows.aggregate(n=rows.count()))[0]["n"] if lost else 0
    if n_rows:
        writer.notes["events"] = (
            f"{n_rows:,} rows have only {' and '.join(lost)}, which no impression has: no visitor's history holds them"
        )


def _with_all_columns(impressions: Table) -> Table:
    absent: dict[str, Value] = {task: ibis.null("int8") for task in TASKS if task not in impressions.columns}
    if "customer_id" not in impressions.columns:
        absent["customer_id"] = ibis.null("string")
    return impressions.mutate(**absent)


def _derived(
    engine: Backend, writer: SearchLogWriter, impressions: Table, schema: Schema, key: str, side: Side
) -> tuple[Table, Table]:
    """Moves constant attributes of products or customers from the impressions to a table of their own.

    A product's texts are only read from that table, so they move there even if they change. Any other attribute stays
    in the impressions if the table could not reproduce the value of every row.
    """
    rows = impressions.filter(impressions[key].notnull())
    features = [feature for feature in schema.select(side=side) if feature.name in impressions.columns]
    texts = [feature.name for feature in features if side is Side.PRODUCT and feature.kind is Kind.TEXT]
    attributes = [feature.name for feature in features if feature.name not in texts]
    if side is Side.PRODUCT and "title" in impressions.columns:
        texts.insert(0, "title")
    changes = _count_changes(engine, rows, key, [*texts, *attributes])
    keyless = _count_values(engine, impressions.filter(impressions[key].isnull()), attributes)
    constant: list[str] = []
    for name in (*texts, *attributes):
        reasons = [f"differs between rows of {changes[name]:,} {key}"] if changes[name] else []
        reasons += [f"{keyless[name]:,} rows without {key} have a value"] if keyless.get(name) else []
        kept = "the latest was kept" if name in texts else "kept in the impressions, with its value at that time"
        if reasons:
            writer.notes[name] = f"{' and '.join(reasons)}: {kept}"
        elif name in attributes:
            constant.append(name)
    values: list[Value] = [_latest(rows, name).name(name) for name in texts]
    values += [rows[name].max().name(name) for name in constant]
    derived = rows.group_by(key).aggregate(values) if values else rows.select(key).distinct()
    if side is Side.PRODUCT and "title" not in texts:
        derived = derived.mutate(title=ibis.null("string"))
    return impressions.drop(*texts, *constant), derived.order_by(key)


def _count_values(engine: Backend, rows: Table, names: list[str]) -> dict[str, int]:
    """Counts the rows that have a value of each column."""
    if not names:
        return {}
    counts = one_row(engine.con, sql_of(engine, rows), [f"count({sql_name(name)})" for name in names])
    return dict(zip(names, counts, strict=True))


def _count_changes(engine: Backend, rows: Table, key: str, names: list[str]) -> dict[str, int]:
    """Counts the products or customers with several values, or with a value in some rows only."""
    if not names:
        return {}
    # A feature name plus a suffix could be the name of another feature.
    columns = [(sql_name(name), f"{place}") for place, name in enumerate(names)]
    values = [f"count({name}) AS known_{i}, min({name}) AS min_{i}, max({name}) AS max_{i}" for name, i in columns]
    each = f"(SELECT count(*) AS n, {', '.join(values)} FROM {sql_of(engine, rows)} GROUP BY {key})"
    changed = [f"count(*) FILTER (known_{i} > 0 AND (known_{i} < n OR min_{i} <> max_{i}))" for _, i in columns]
    return dict(zip(names, one_row(engine.con, each, changed), strict=True))


def _latest(rows: Table, name: str) -> Value:
    # The largest (time, value) pair, so that ties at the last time are deterministic.
    pair: Value = ibis.struct({"timestamp": rows["timestamp"], "value": rows[name]})
    return pair.max(where=rows[name].notnull())["value"]


def _with_customers_of(events: Table, customers: Table) -> Table:
    seen = events.select("customer_id").drop_null("customer_id").distinct()
    return (
        seen.outer_join(customers, "customer_id")
        .select(
            ibis.coalesce(seen["customer_id"], customers["customer_id"]).name("customer_id"),
            *(customers[name] for name in customers.columns if name != "customer_id"),
        )
        .order_by("customer_id")
    )
