"""Decides over all tables of a source whether its ids are whole numbers, so that the text 412.0 is 412."""

from collections.abc import Mapping, Sequence

from ibis.backends.duckdb import Backend

from shelfrank.core.values import DECIMAL_ID, WHOLE_ID, IdSpelling
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.search_log import SearchLogWriter

_SPELLING = IdSpelling(whole_numbers=True)


def spell_whole_numbers(
    engine: Backend,
    writer: SearchLogWriter,
    tables: Mapping[str, Table],
    columns: Mapping[str, Sequence[tuple[str, str]]],
) -> dict[str, Table]:
    """Reads 412.0 as 412 in the columns of an id whose every value, in all tables, is a whole number.

    Args:
        engine: Where the tables are kept.
        writer: Declares these ids, and notes how many end in .0.
        tables: The tables by name.
        columns: By id column of the log, the tables and columns, of texts or lists of texts, that hold it.

    Returns:
        The tables with the same columns.
    """
    whole_numbers: list[str] = []
    changed: dict[str, dict[str, Value]] = {name: {} for name in tables}
    for role, places in columns.items():
        known = others = decimals = 0
        for table, column in places:
            rows = tables[table].select(id=_flat(tables[table][column]))
            whole, decimal = rows["id"].re_search(WHOLE_ID), rows["id"].re_search(DECIMAL_ID)
            sums = rows.aggregate(known=rows["id"].count(), others=(~whole).sum(), decimals=(whole & decimal).sum())
            found = rows_of(engine, sums)[0]
            known, others = known + (found["known"] or 0), others + (found["others"] or 0)
            decimals += found["decimals"] or 0
        if known and not others:
            whole_numbers.append(role)
        if decimals and others:
            writer.notes[f"{role}, ids that end in .0"] = (
                f"{decimals:,}, kept as they are, since other ids of the source are no whole numbers"
            )
        elif decimals:
            writer.notes[f"{role}, whole numbers written as floats"] = f"{decimals:,} (412.0 is read as 412)"
            for table, column in places:
                changed[table][column] = _spelled(tables[table][column])
    writer.declare_whole_numbers(whole_numbers)
    return {name: table.mutate(**changed[name]) if changed[name] else table for name, table in tables.items()}


def _flat(ids: Value) -> Value:
    return ids.unnest() if ids.type().is_array() else ids


def _spelled(ids: Value) -> Value:
    return ids.map(_SPELLING.expression) if ids.type().is_array() else _SPELLING.expression(ids)
