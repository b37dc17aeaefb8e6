"""The searches of a log as pages that are asked for, and what a store says of them beside what preparing says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.data.prepared import PreparedData
from shelfrank.features.request import PageRequest
from shelfrank.features.store import FeatureStore
from shelfrank.logs.search_log import SearchLog

Rows = list[dict[str, Any]]
KEYS = {"search_id", "timestamp", "customer_id", "session_id", "query", "product_id", "position"}


def pages(log: Path) -> Iterator[tuple[str, PageRequest]]:
    """Every search of a log in no particular order."""
    tables = [pq.read_table(file) for file in SearchLog.open(log).files("impressions")]
    table = pa.concat_tables(tables)
    table = table.set_column(
        table.column_names.index("timestamp"), "timestamp", table["timestamp"].cast(pa.timestamp("us")).cast(pa.int64())
    )
    searches: dict[str, Rows] = {}
    for row in table.to_pylist():
        searches.setdefault(row["search_id"], []).append(row)
    declared = [feature.name for feature in SearchLog.open(log).schema.features]
    for search_id, rows in searches.items():
        yield search_id, page_of(search_id, sorted(rows, key=lambda row: row["position"]), declared)


def page_of(search_id: str, rows: Rows, declared: list[str]) -> PageRequest:
    """One search's rows as a page."""
    first = rows[0]
    given = [{name: row[name] for name in declared if name in row} for row in rows]
    same = {name: value for name, value in given[0].items() if all(each[name] == value for each in given)}
    return PageRequest(
        query=first["query"],
        product_ids=[row["product_id"] for row in rows],
        customer_id=first["customer_id"],
        session_id=first.get("session_id"),
        ts_us=first["timestamp"],
        positions=[row["position"] for row in rows],
        context=same,
        products=[{name: value for name, value in each.items() if name not in same} for each in given],
        search_id=search_id,
    )


def assert_prepared(store: FeatureStore, log: Path, prepared: PreparedData, split: str) -> int:
    """Compares every page of a split with the prepared rows; the number of pages."""
    arrays, ids = prepared.split(split), prepared.searches(split)["search_id"].to_pylist()
    asked = dict(pages(log))
    assert store.numerical_columns == prepared.numerical_columns
    assert store.categorical_columns == prepared.categorical_columns
    for place, search_id in enumerate(ids):
        rows = slice(int(arrays.search_offsets[place]), int(arrays.search_offsets[place + 1]))
        page = store.page(asked[search_id])
        np.testing.assert_allclose(page.numerical, arrays.numerical[rows], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(page.categorical, arrays.categorical[rows])
        np.testing.assert_array_equal(page.product_idx, arrays.product_idx[rows])
        np.testing.assert_array_equal(page.tie_keys, arrays.tie_keys[rows])
        assert {page.query_idx} == set(arrays.query_idx[rows].tolist())
    return len(ids)


def assert_raw(store: FeatureStore, asked: dict[str, PageRequest], raw: pa.Table) -> None:
    """Compares the computed features of pages with those of the log, bit for bit."""
    columns = {name: raw[name].to_numpy() for name in raw.column_names}
    starts = np.flatnonzero(np.append(True, columns["search_id"][1:] != columns["search_id"][:-1]))
    seen = 0
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(columns["search_id"])], strict=True):
        if columns["search_id"][start] not in asked:
            continue
        page = asked[columns["search_id"][start]]
        assert columns["product_id"][start:end].tolist() == list(page.product_ids)
        made = store.computed(page)
        assert set(made) == set(columns) - {"search_id", "product_id"}
        for name, values in made.items():
            expected = np.asarray(columns[name][start:end], np.float64)
            np.testing.assert_array_equal(np.asarray(values, np.float64), expected, err_msg=name)
        seen += 1
    assert seen == len(asked)
