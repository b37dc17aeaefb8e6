"""Random small logs in which keys, moments and products repeat often, and how they are written."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shelfrank.config import EngineConfig, PrepareConfig, UnderstandingConfig
from shelfrank.core.artifact import publish
from shelfrank.core.schema import AS_WRITTEN, TASKS, Schema
from shelfrank.logs.search_log import COLUMN_TYPES, KIND, SCHEMA_FILE
from shelfrank.logs.writer import SearchLogWriter

START = dt.datetime(2025, 3, 1, 8, tzinfo=dt.UTC)
TYPES = {
    **COLUMN_TYPES,
    "brand": pa.string(),
    "age_group": pa.string(),
    "price": pa.float64(),
    "device": pa.string(),
    "loyalty": pa.float64(),
}
SCHEMA: dict[str, Any] = {
    "name": "random",
    "features": [
        {"name": "brand", "side": "product", "kind": "categorical"},
        {"name": "age_group", "side": "product", "kind": "categorical"},
        {"name": "price", "side": "product", "kind": "numerical", "log1p": True},
        {"name": "loyalty", "side": "customer", "kind": "numerical"},
        {"name": "device", "side": "context", "kind": "categorical"},
    ],
}

Tables = dict[str, list[dict[str, Any]]]


def one_thread(**settings: Any) -> PrepareConfig:
    """A prepare config for small logs."""
    small: dict[str, Any] = {
        "min_count": 1,
        "engine": EngineConfig(threads=1, memory_limit="300MB"),
        "understanding": UnderstandingConfig(first_rows=20),
    }
    return PrepareConfig(**small | settings)


def random_tables(
    seed: int,
    n_searches: int = 30,
    n_moments: int = 18,
    n_products: int = 7,
    unlabelled: tuple[str, ...] = (),
    some_unlabelled: bool = False,
    sessions: bool = True,
    events: bool = True,
    price_in_rows: bool = False,
    nulls_in_products: bool = False,
) -> Tables:
    """Rows whose searches share few moments, customers, queries and sessions."""
    rng = np.random.default_rng(seed)
    products = [
        {
            "product_id": f"p{i}",
            "title": f"thing {i}",
            "brand": None if nulls_in_products and i % 3 == 0 else "AB"[i % 2],
            "age_group": ("kids", "adult", "teen")[i % 3],
            "price": None if nulls_in_products and i % 4 == 1 else round(float(rng.uniform(1, 90)), 2),
        }
        for i in range(n_products)
    ]
    customers = [{"customer_id": f"c{i}", "loyalty": float(i)} for i in range(4)]
    # Whole hours apart and microseconds apart: both ends of what a recency sees.
    moments = [START + dt.timedelta(seconds=int(s), microseconds=int(s) % 3) for s in rng.integers(0, 9000, n_moments)]
    tables: Tables = {"impressions": [], "products": products, "customers": customers, "events": []}
    for search in range(n_searches):
        customer = int(rng.integers(-2, 4))
        page = {
            "search_id": f"s{search:03d}",
            "timestamp": moments[int(rng.integers(n_moments))],
            "customer_id": f"c{customer}" if customer >= 0 else None,
            "session_id": f"v{customer}" if rng.random() < 0.7 else None,
            "query": ("red", "blue", "red kids thing 3")[int(rng.integers(3))],
            "device": ("phone", "desktop")[int(rng.integers(2))],
        }
        no_labels = {task for task in TASKS if some_unlabelled and rng.random() < 0.3} | set(unlabelled)
        shown = rng.permutation(n_products)[: int(rng.integers(1, n_products))]
        for position, product in enumerate(shown.tolist(), start=1):
            click = int(rng.random() < 0.45)
            cart = click * int(rng.random() < 0.6)
            labels = {"click": click, "add_to_cart": cart, "purchase": cart * int(rng.random() < 0.6)}
            tables["impressions"].append(
                page
                | {"product_id": f"p{product}", "position": position}
                | {task: None if task in no_labels else label for task, label in labels.items()}
            )
            if price_in_rows:
                price = None if nulls_in_products and rng.random() < 0.2 else round(float(rng.uniform(0, 9)), 1)
                tables["impressions"][-1]["price"] = price
    for _ in range(12 if events else 0):
        customer = int(rng.integers(-2, 4))
        tables["events"].append(
            {
                "timestamp": moments[int(rng.integers(n_moments))],
                "customer_id": f"c{customer}" if customer >= 0 else None,
                "session_id": f"v{customer}" if rng.random() < 0.7 else None,
                "product_id": f"p{int(rng.integers(n_products))}",
                "action": "view",
            }
        )
    if not sessions:
        for row in (*tables["impressions"], *tables["events"]):
            del row["session_id"]
    if price_in_rows:
        for product in products:
            del product["price"]
    return tables


def write_log(out: Path, tables: Tables, n_parts: int = 1, schema: dict[str, Any] = SCHEMA) -> Path:
    """Writes rows as a finished log, without the validation that a real source goes through."""
    with publish(out, KIND, {"source": "test"}) as draft:
        writer = SearchLogWriter(draft, Schema.model_validate(schema).model_copy(update={"spelling": AS_WRITTEN}))
        for name, rows in tables.items():
            for part in range(n_parts if name == "impressions" else min(len(rows), 1)):
                some = rows[part::n_parts] if name == "impressions" else rows
                columns = {column: [row[column] for row in some] for column in rows[0]}
                arrays = {column: pa.array(values, TYPES.get(column)) for column, values in columns.items()}
                writer.write(name, pa.table(arrays))
        Schema.model_validate(schema).save(draft.path / SCHEMA_FILE)
        draft.info.update(rows=dict(writer.rows), left_out={})
    return out
