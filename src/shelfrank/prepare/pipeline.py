"""`prepare`: from a search log to PreparedData.

engine   integer keys        -> rows.parquet         keys, labels and declared columns, by search and position
         totals of each key  -> totals-NN.parquet    the same rows in the same order
NumPy    whole pages of all files side by side: features, encoder fitted on the training rows, arrays
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from jaxtyping import Int8

from shelfrank.artifact import is_current, publish
from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import KIND, save_columns
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.arrays import write_arrays
from shelfrank.prepare.encode import numbers
from shelfrank.prepare.engine import connect, engine_errors, materialise
from shelfrank.prepare.features import (
    PRICE,
    EntityTables,
    Plan,
    entity_tables,
    plan_features,
    product_documents,
    refuse_taken_names,
)
from shelfrank.prepare.fit import fit_encoder
from shelfrank.prepare.history import Made, history_features
from shelfrank.prepare.index import IndexedLog, index_log
from shelfrank.prepare.interactions import OVERLAP_FEATURES, TextOverlap
from shelfrank.prepare.page import page_features, upstream_features
from shelfrank.prepare.rows import RowFiles, RowReader
from shelfrank.prepare.split import assign_splits
from shelfrank.prepare.totals import Total, timeline, totals_of_key
from shelfrank.progress import measured, progress
from shelfrank.schema import TASKS

PREPARE_VERSION = 2
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
    # The engine's limits change how fast the result comes, never what it is.
    settings = config.model_dump(mode="json", exclude={"engine"})
    inputs = {"log": log.manifest.fingerprint, "config": settings, "version": PREPARE_VERSION}
    if is_current(out, KIND, inputs):
        return False
    with publish(out, KIND, inputs) as draft, measured() as cost, _scratch(out) as scratch:
        reading = _read(log, config, scratch)
        splits = assign_splits(
            reading.searches["ts_us"].to_numpy(), reading.searches["search_id"].to_pylist(), config.split
        )
        info = _write(draft.path, log, reading, splits, config)
        draft.info.update(info, log=str(log_path), log_name=log.schema.name, cost=cost.stop().as_dict())
    return True


def raw_features(log_path: Path, config: PrepareConfig) -> pa.Table:
    """The computed features of every impression before encoding, for inspection and for tests.

    Args:
        log_path: A finished search log.
        config: Which features to make.

    Returns:
        `search_id`, `product_id` and one column per computed feature, by search and position.
    """
    log = SearchLog.open(log_path)
    with tempfile.TemporaryDirectory() as folder:
        reading = _read(log, config, Path(folder))
        reader = reading.reader(np.zeros(reading.searches.num_rows, dtype=np.int8))
        parts = [
            pa.table(
                {
                    "search_id": reading.searches["search_id"].take(batch.rows["search_idx"]),
                    "product_id": reading.entities.products["product_id"].take(batch.rows["product_idx"]),
                    **batch.made,
                }
            )
            for batch in reader.batches("Computing features")
        ]
    return pa.concat_tables(parts)


class _Reading:
    """What the engine left: the row files, and the small tables in memory."""

    def __init__(
        self,
        log: SearchLog,
        files: RowFiles,
        searches: pa.Table,
        entities: EntityTables,
        plan: Plan,
        made: list[Made],
        text_overlap: bool,
    ) -> None:
        self.files, self.searches, self.entities, self.plan, self.made = files, searches, entities, plan, made
        self.titles = [title or "" for title in entities.products["title"].to_pylist()]
        self.documents = product_documents(log.schema, entities.products, self.titles)
        queries = entities.queries["query"].to_pylist()
        self.overlap = TextOverlap(queries, self.titles, self.documents) if text_overlap else None

    def reader(self, splits: Int8[np.ndarray, " searches"]) -> RowReader:
        in_products = self.plan.history.has_price and not self.plan.price_in_rows
        prices = numbers(self.entities.products[PRICE]) if in_products else None
        return RowReader(self.files, splits, self.made, self.overlap, prices)


def _read(log: SearchLog, config: PrepareConfig, scratch: Path) -> _Reading:
    with connect(config.engine, scratch) as backend, engine_errors():
        plan = plan_features(log, backend, config)
        made = history_features(plan.history, config.history)
        if config.page:
            made += page_features(plan.history)
        if config.upstream_order:
            made += upstream_features(plan.history, config.history.session)
        refuse_taken_names(plan, [*(each.feature for each in made), *(OVERLAP_FEATURES if config.text_overlap else ())])
        indexed = index_log(log, backend)
        searches = backend.to_pyarrow(indexed.searches.order_by("search_idx"))
        # A small table that a large aggregate computes: keep it, or every use computes it again.
        pq.write_table(searches, scratch / "searches.parquet")
        indexed = index_log(log, backend, searches=backend.read_parquet(scratch / "searches.parquet"))
        entities = entity_tables(indexed, backend)
        files = _row_files(log, indexed, backend, plan, made, config, scratch)
    return _Reading(log, files, searches, entities, plan, made, config.text_overlap)


def _row_files(
    log: SearchLog,
    indexed: IndexedLog,
    backend: Backend,
    plan: Plan,
    made: list[Made],
    config: PrepareConfig,
    scratch: Path,
) -> RowFiles:
    n_rows = int(log.manifest.info["rows"]["impressions"])
    declared = [feature.name for feature in plan.row_features]
    price = [PRICE] if plan.history.has_price and plan.price_in_rows else []
    keys = ("search_idx", "ts_us", "product_idx", "query_idx", "customer_idx", "session_idx", "position")
    rows = indexed.rows.select(*keys, *TASKS, *dict.fromkeys([*declared, *price]))
    by_key: dict[str, list[Total]] = {}
    for total in sorted({total for each in made for total in each.totals}):
        by_key.setdefault(total.key, []).append(total)
    with progress("Computing history", total=n_rows * (2 + len(by_key)), unit="rows") as advance:
        rows = materialise(backend, rows.order_by("search_idx", "position"), scratch / "rows.parquet", advance, n_rows)
        moments = materialise(
            backend,
            _moments(indexed, rows, backend, plan, config, scratch),
            scratch / "timeline.parquet",
            advance,
            n_rows,
        )
        files = []
        for key, totals in by_key.items():
            files.append(scratch / f"totals-{len(files):02d}.parquet")
            materialise(backend, totals_of_key(moments, key, totals), files[-1], advance, n_rows)
    return RowFiles(scratch / "rows.parquet", tuple(files))


def _moments(
    indexed: IndexedLog, rows: ibis.Table, backend: Backend, plan: Plan, config: PrepareConfig, scratch: Path
) -> ibis.Table:
    rows = rows.mutate(row_id=rows.search_idx.cast("int64") * 1_000_000 + rows.position)
    if plan.history.has_price:
        if plan.price_in_rows:
            rows = rows.mutate(price=rows.price.cast("float64"))
        else:
            prices = indexed.products.select("product_idx", price=indexed.products.price.cast("float64"))
            rows = rows.left_join(prices, "product_idx").drop("product_idx_right")
    codes = {
        f"{name}_code": ibis.dense_rank().over(order_by=indexed.products[name].cast("string")).cast("int32")
        for name in plan.history.affinity
    }
    pq.write_table(backend.to_pyarrow(indexed.products.select("product_idx", **codes)), scratch / "codes.parquet")
    log = IndexedLog(rows, indexed.searches, indexed.products, indexed.customers, indexed.queries, indexed.events)
    return timeline(log, backend.read_parquet(scratch / "codes.parquet"), plan.history, config.history)


def _write(
    out: Path, log: SearchLog, reading: _Reading, splits: Int8[np.ndarray, " searches"], config: PrepareConfig
) -> dict[str, Any]:
    reader = reading.reader(splits)
    encoder = fit_encoder(reader, reading.entities, reading.plan, config)
    statistics = write_arrays(out, reader, reading.entities, encoder, reading.searches, splits, reading.plan)
    encoder.save(out / "encoder.json")
    log.schema.save(out / "schema.yaml")
    columns = [column for encoding in encoder.numerical for column in encoding.columns()]
    codes = [encoding.column() for encoding in encoder.categorical]
    save_columns(out, reading.plan.tasks, columns, codes)
    _write_texts(out, reading)
    return {
        "splits": statistics,
        "features": dict(Counter(column.side.value for column in (*columns, *codes))),
        "left_out_features": encoder.left_out,
        "left_out": dict(log.manifest.info["left_out"]),
        "texts_cut_for_overlap": reading.overlap.truncated if reading.overlap else 0,
    }


def _write_texts(out: Path, reading: _Reading) -> None:
    (out / "texts").mkdir()
    entities = reading.entities
    pq.write_table(entities.queries.select(["query"]), out / "texts" / "queries.parquet")
    shown = [name for name in ("brand", "price", "category") if name in entities.products.column_names]
    products = entities.products.select(["product_id", *shown])
    products = products.append_column("title", pa.array(reading.titles, pa.string()))
    products = products.append_column("document", pa.array(reading.documents, pa.string()))
    pq.write_table(products, out / "texts" / "products.parquet")
    pq.write_table(entities.customers, out / "customers.parquet")


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    folder = out.with_name(f".{out.name}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
