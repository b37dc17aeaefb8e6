"""Integer keys for searches, products, customers, queries and sessions, so that windows and joins are cheap."""

# ibis's own annotations reject plain numbers where it takes values.
# pyright: reportArgumentType=false

from collections.abc import Callable, Set
from dataclasses import dataclass

import ibis
import pyarrow as pa
from ibis import _

from shelfrank.core.schema import RANDOMISED, RESERVED_COLUMNS, TASKS
from shelfrank.engine.base import Engine
from shelfrank.logs.search_log import SearchLog

KEYS = (
    "search_idx",
    "ts_us",
    "product_idx",
    "query_idx",
    "customer_idx",
    "session_idx",
    "row",
    "split",
    "kept",
    "search_key",
)
"""Columns that the engine's rows are given; no column of a log may go by these names."""


@dataclass(frozen=True)
class IndexedLog:
    """The log's tables with integer keys.

    Attributes:
        rows: One row per impression: `search_idx`, `product_idx`, `query_idx`, `customer_idx` (-1 = anonymous),
            `session_idx` (-1 = none), `ts_us`, `position`, the labels, and the log's own impression columns.
        searches: `search_idx` in order of time, with `search_id`, `timestamp`, `ts_us`, `customer_idx`, `query_idx`,
            `session_idx`, and `randomised` where the log marks it.
        products: The log's products with `product_idx`.
        customers: `customer_idx`, `customer_id` and the log's customer columns.
        queries: `query_idx` and `query`.
        events: `product_idx`, `customer_idx`, `session_idx`, `ts_us`, `action`; None where the log has none.
        sessions: `session_idx` and `session_id`; None where the log has none.
    """

    rows: ibis.Table
    searches: ibis.Table
    products: ibis.Table
    customers: ibis.Table
    queries: ibis.Table
    events: ibis.Table | None
    sessions: ibis.Table | None


def index_log(
    log: SearchLog, engine: Engine, searches: ibis.Table | None = None, also: tuple[str, ...] = ()
) -> IndexedLog:
    """Gives every id of a log an integer key.

    Keys follow the sorted ids (searches: time, then id), so that they do not depend on the order of files or rows.

    Args:
        log: The log.
        engine: The engine.
        searches: The `searches` of an earlier call, already computed; None computes them where they are used.
        also: Columns that are needed beside the reserved and the declared ones.

    Returns:
        The tables as expressions.
    """
    # Columns that nobody declared may go by any name, an engine's key in other letters among them.
    needed = RESERVED_COLUMNS | {"action", *also} | {feature.name for feature in log.schema.features}
    impressions, products, declared, events = (
        _select(engine.read(log.files(table)), needed) if log.has(table) else None
        for table in ("impressions", "products", "customers", "events")
    )
    assert impressions is not None
    assert products is not None

    products = products.mutate(product_idx=_numbered(products.product_id))
    ids = impressions.select("customer_id").distinct()
    if events is not None and "customer_id" in events.columns:
        ids = ids.union(events.select("customer_id"), distinct=True)
    if declared is not None:
        ids = ids.union(declared.select("customer_id"), distinct=True)
        ids = ids.filter(_.customer_id.notnull())
        customers = ids.left_join(declared, "customer_id").drop("customer_id_right")
    else:
        customers = ids.filter(_.customer_id.notnull())
    customers = customers.mutate(customer_idx=_numbered(customers.customer_id))
    texts = impressions.select("query").distinct()
    queries = texts.mutate(query_idx=_numbered(texts.query))
    sessions = _session_keys(impressions, events)

    if searches is None:
        searches = _index_searches(engine, impressions, customers, queries, sessions)
    return IndexedLog(
        rows=_index_rows(impressions, searches, products),
        searches=searches,
        products=products,
        customers=customers,
        queries=queries,
        events=None if events is None else _index_events(engine, events, products, customers, sessions),
        sessions=sessions,
    )


def index_and_collect(
    log: SearchLog,
    engine: Engine,
    also: tuple[str, ...] = (),
    complete: Callable[[pa.Table], pa.Table] | None = None,
) -> tuple[IndexedLog, pa.Table]:
    """Indexes a log with its searches computed once and handed back to the engine.

    Args:
        log: The log.
        engine: The engine.
        also: Columns that are needed beside the reserved and the declared ones.
        complete: Adds columns to the searches, which then stand in the rows too; None adds none.

    Returns:
        The tables as expressions, and the searches by `search_idx`.
    """
    searches = engine.collect(index_log(log, engine, also=also).searches.order_by("search_idx"))
    if complete is not None:
        searches = complete(searches)
    return index_log(log, engine, engine.share(searches, "searches"), also), searches


def tasks_with_labels(impressions: ibis.Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks for which the log has any label, and those of them whose label some impressions lack."""
    counts = {task: impressions[task].count() for task in TASKS}
    found = impressions.aggregate(rows=impressions.count(), **counts).to_pyarrow().to_pylist()[0]
    tasks = tuple(task for task in TASKS if found[task])
    return tasks, tuple(task for task in tasks if found[task] < found["rows"])


def _index_searches(
    engine: Engine, impressions: ibis.Table, customers: ibis.Table, queries: ibis.Table, sessions: ibis.Table | None
) -> ibis.Table:
    searches = impressions.group_by("search_id").agg(
        timestamp=_.timestamp.min(),
        customer_id=_.customer_id.max(),
        query=_.query.max(),
        **({} if sessions is None else {"session_id": _.session_id.max()}),
        **({RANDOMISED: _[RANDOMISED].max()} if RANDOMISED in impressions.columns else {}),
    )
    searches = searches.mutate(
        search_idx=ibis.row_number().over(order_by=[searches.timestamp, searches.search_id]).cast("int32"),
        ts_us=engine.microseconds(searches.timestamp),
    )
    searches = searches.left_join(customers.select("customer_id", "customer_idx"), "customer_id").drop(
        "customer_id_right"
    )
    searches = searches.inner_join(queries, "query").drop("query")
    if sessions is not None:
        searches = searches.left_join(sessions, "session_id").drop("session_id_right", "session_id")
    return searches.mutate(
        customer_idx=searches.customer_idx.fill_null(-1),
        session_idx=searches.session_idx.fill_null(-1) if sessions is not None else ibis.literal(-1, "int32"),
    )


def _select(table: ibis.Table, needed: Set[str]) -> ibis.Table:
    return table.select(*(name for name in table.columns if name in needed))


def _numbered(column: ibis.expr.types.Column) -> ibis.expr.types.Column:
    return ibis.row_number().over(order_by=column).cast("int32")


def _session_keys(impressions: ibis.Table, events: ibis.Table | None) -> ibis.Table | None:
    if "session_id" not in impressions.columns:
        return None
    ids = impressions.select("session_id").distinct()
    if events is not None and "session_id" in events.columns:
        ids = ids.union(events.select("session_id"), distinct=True)
    ids = ids.filter(_.session_id.notnull())
    return ids.mutate(session_idx=_numbered(ids.session_id))


def _index_rows(impressions: ibis.Table, searches: ibis.Table, products: ibis.Table) -> ibis.Table:
    given = [name for name in ("split", "search_key") if name in searches.columns]
    keys = searches.select("search_id", "search_idx", "ts_us", "customer_idx", "query_idx", "session_idx", *given)
    dropped = {"timestamp", "customer_id", "query", "session_id", RANDOMISED, *KEYS} & set(impressions.columns)
    rows = impressions.drop(*dropped).inner_join(keys, "search_id").drop("search_id")
    rows = rows.inner_join(products.select("product_id", "product_idx"), "product_id").drop("product_id")
    return rows.mutate(**{task: rows[task].cast("int8") for task in TASKS})


def _index_events(
    engine: Engine, events: ibis.Table, products: ibis.Table, customers: ibis.Table, sessions: ibis.Table | None
) -> ibis.Table:
    events = events.drop(*(set(KEYS) & set(events.columns)))
    rows = events.inner_join(products.select("product_id", "product_idx"), "product_id")
    if "customer_id" in events.columns:
        rows = rows.left_join(customers.select("customer_id", "customer_idx"), "customer_id")
    if sessions is not None and "session_id" in events.columns:
        rows = rows.left_join(sessions, "session_id")
    minus_one = ibis.literal(-1, "int32")
    return rows.select(
        product_idx=rows.product_idx,
        customer_idx=rows.customer_idx.fill_null(-1) if "customer_idx" in rows.columns else minus_one,
        session_idx=rows.session_idx.fill_null(-1) if "session_idx" in rows.columns else minus_one,
        ts_us=engine.microseconds(rows.timestamp),
        action=rows.action,
    )
