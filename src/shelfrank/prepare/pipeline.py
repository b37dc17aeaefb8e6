"""`prepare`: from a search log to PreparedData, in three streams over rows in one order.

index (integer keys) -> rows.parquet      declared columns and labels, by search and position
                     -> history.parquet   point-in-time statistics, the same rows in the same order
fit the encoder on the training rows, then encode both files batch by batch into memory-mapped arrays
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.artifact import is_current, publish
from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import KIND
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.engine import connect, engine_errors, materialise
from shelfrank.prepare.features import Plan, entity_tables, plan_features
from shelfrank.prepare.history import statistics, timeline
from shelfrank.prepare.index import IndexedLog, index_log
from shelfrank.prepare.page import page_features, upstream_features
from shelfrank.prepare.split import assign_splits
from shelfrank.prepare.write import RowFiles, write_prepared
from shelfrank.progress import measured
from shelfrank.schema import TASKS, Feature

PREPARE_VERSION = 1
"""Part of every prepared folder's inputs: raise it when the same log and config give other arrays."""


def prepare(log_path: Path, out: Path, config: PrepareConfig) -> bool:
    """Prepares a log for training.

    Args:
        log_path: A finished search log.
        out: Where the prepared data goes.
        config: How to split, which features to make, what the engine may use.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the log is unusable or a setting names a feature that the log has not.
    """
    log = SearchLog.open(log_path)
    settings = config.model_dump(mode="json", exclude={"engine"})
    inputs = {"log": log.manifest.fingerprint, "config": settings, "version": PREPARE_VERSION}
    if is_current(out, KIND, inputs):
        return False
    with publish(out, KIND, inputs) as draft, measured() as cost, _scratch(out) as scratch:
        with connect(config.engine, scratch) as backend, engine_errors():
            plan = plan_features(log, backend, config)
            files, searches = _build_rows(log, backend, plan, config, scratch)
        splits = assign_splits(searches["ts_us"].to_numpy(), searches["search_id"].to_pylist(), config.split)
        info = write_prepared(draft.path, log, files, searches, splits, plan, config, scratch)
        draft.info.update(info, log=str(log_path), log_name=log.schema.name, cost=cost.stop().as_dict())
    return True


def raw_features(log_path: Path, config: PrepareConfig) -> pa.Table:
    """The point-in-time features of every impression before encoding, for inspection and for tests.

    Args:
        log_path: A finished search log.
        config: Which features to make.

    Returns:
        `search_id`, `product_id` and one column per statistic, by search and position.
    """
    log = SearchLog.open(log_path)
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(config.engine, Path(folder)) as backend,
        engine_errors(),
    ):
        plan = plan_features(log, backend, config)
        files, searches = _build_rows(log, backend, plan, config, Path(folder))
        rows, history = pq.read_table(files.rows), pq.read_table(files.history)
        products = entity_tables(log, backend).products
    keys = {
        "search_id": searches["search_id"].take(rows["search_idx"]),
        "product_id": products["product_id"].take(rows["product_idx"]),
    }
    return pa.table({**keys, **{feature.name: history[feature.name] for feature in files.made}})


def _build_rows(
    log: SearchLog, backend: Backend, plan: Plan, config: PrepareConfig, scratch: Path
) -> tuple[RowFiles, pa.Table]:
    indexed = index_log(log, backend)
    n_rows = int(log.manifest.info["rows"]["impressions"])
    searches = backend.to_pyarrow(indexed.searches.order_by("search_idx"))
    # The searches' keys are a small table computed by a large aggregate: keep it, or every use computes it again.
    stored = scratch / "searches.parquet"
    pq.write_table(searches, stored)
    keyed = index_log(log, backend, searches=backend.read_parquet(stored, table_name="stored_searches"))
    columns = [feature.name for feature in plan.row_features]
    rows = keyed.rows.select(
        "search_idx",
        "ts_us",
        "product_idx",
        "query_idx",
        "customer_idx",
        "session_idx",
        "position",
        *(task for task in TASKS),
        *dict.fromkeys([*columns, *(["price"] if plan.price_in_rows else [])]),
    )
    rows = materialise(
        backend, rows.order_by("search_idx", "position"), scratch / "rows.parquet", "Indexing rows", n_rows
    )
    made, history = _history_expression(keyed, rows, plan, config, backend, scratch)
    materialise(backend, history, scratch / "history.parquet", "Computing history", n_rows)
    return RowFiles(scratch / "rows.parquet", scratch / "history.parquet", tuple(made)), searches


def _history_expression(
    log: IndexedLog, rows: ibis.Table, plan: Plan, config: PrepareConfig, backend: Backend, scratch: Path
) -> tuple[list[Feature], ibis.Table]:
    rows = rows.mutate(row_id=rows.search_idx.cast("int64") * 1_000_000 + rows.position)
    if plan.history.has_price:
        if plan.price_in_rows:
            rows = rows.mutate(price=rows.price.cast("float64"))
        else:
            prices = log.products.select("product_idx", price=log.products.price.cast("float64"))
            rows = rows.left_join(prices, "product_idx").drop("product_idx_right")
    keyed = IndexedLog(rows, log.searches, log.products, log.customers, log.queries, log.events)
    codes = _affinity_codes(log.products, plan.history.affinity)
    pq.write_table(backend.to_pyarrow(codes), scratch / "codes.parquet")
    moments = timeline(keyed, backend.read_parquet(scratch / "codes.parquet"), plan.history, config.history)
    made = statistics(moments, plan.history, config.history)
    price = ["price"] if plan.history.has_price else []
    known = moments.select(
        "row_id", "search_idx", "product_idx", "position", *price, *(statistic.value for statistic in made)
    ).filter(ibis._.row_id >= 0)
    features = [statistic.feature for statistic in made]
    extra: list[tuple[Feature, ibis.Value]] = []
    if config.page:
        extra += page_features(known, plan.history.has_price)
    if config.upstream_order:
        extra += upstream_features(known, "session_product_is_last" in known.columns)
    table = known.select("row_id", *(feature.name for feature in features), *(value for _, value in extra))
    return features + [feature for feature, _ in extra], table.order_by("row_id")


def _affinity_codes(products: ibis.Table, names: tuple[str, ...]) -> ibis.Table:
    codes = {
        f"{name}_code": ibis.dense_rank().over(order_by=products[name].cast("string")).cast("int32") for name in names
    }
    return products.select("product_idx", **codes)


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    folder = out.with_name(f".{out.name}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
