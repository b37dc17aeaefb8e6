"""A small shop's rows, and how tests write them as a finished search log."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shelfrank.core.schema import RANDOMISED, Schema
from shelfrank.logs.writer import write_search_log

START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
BRANDS = ("acme", "bolt", "cedar", "dune")
NOUNS = ("sofa", "chair", "lamp", "desk", "shelf")


def small_tables(
    n_searches: int, seed: int = 0, n_products: int = 30, n_customers: int = 12
) -> dict[str, list[dict[str, Any]]]:
    """Rows of a small shop: some anonymous customers, some searches at the same moment, events beside the pages."""
    rng = np.random.default_rng(seed)
    products = [
        {
            "product_id": f"p{i:03d}",
            "title": f"{BRANDS[i % 4]} {NOUNS[i % 5]} {i}",
            "brand": BRANDS[i % 4],
            "price": float(5 + 3 * i),
        }
        for i in range(n_products)
    ]
    customers = [{"customer_id": f"c{i:02d}", "age_band": ("young", "old")[i % 2]} for i in range(n_customers)]
    impressions, events = [], []
    seconds = np.sort(rng.integers(0, n_searches * 40, n_searches))
    for search in range(n_searches):
        customer = int(rng.integers(-3, n_customers))
        shown = rng.choice(n_products, size=int(rng.integers(3, 14)), replace=False)
        wanted = int(rng.integers(0, 5))
        moment = START + dt.timedelta(seconds=int(seconds[search]))
        for position, product in enumerate(shown.tolist(), start=1):
            liked = product % 5 == wanted or product % 4 == customer % 4
            click = int(rng.random() < (0.6 if liked else 0.08))
            cart = click * int(rng.random() < 0.5)
            impressions.append(
                {
                    "search_id": f"s{search:05d}",
                    "timestamp": moment,
                    "customer_id": f"c{customer:02d}" if customer >= 0 else None,
                    "session_id": f"v{search // 3:05d}-{customer}",
                    "query": f"{NOUNS[wanted]}",
                    "product_id": f"p{product:03d}",
                    "position": position,
                    "click": click,
                    "add_to_cart": cart,
                    "purchase": cart * int(rng.random() < 0.5),
                    "device": ("phone", "desktop")[search % 2],
                }
            )
        if search % 4 == 0 and customer >= 0:
            events.append(
                {
                    "timestamp": moment + dt.timedelta(seconds=1),
                    "customer_id": f"c{customer:02d}",
                    "session_id": f"v{search // 3:05d}-{customer}",
                    "product_id": f"p{int(rng.integers(0, n_products)):03d}",
                    "action": "view",
                }
            )
    return {"impressions": impressions, "products": products, "customers": customers, "events": events}


SMALL_SCHEMA = Schema.model_validate(
    {
        "name": "small",
        "features": [
            {"name": "brand", "side": "product", "kind": "categorical"},
            {"name": "price", "side": "product", "kind": "numerical", "unit": "usd", "log1p": True},
            {"name": "age_band", "side": "customer", "kind": "categorical"},
            {"name": "device", "side": "context", "kind": "categorical"},
        ],
    }
)

IMPRESSION_TYPES = pa.schema(
    [
        ("search_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.string()),
        ("session_id", pa.string()),
        ("query", pa.string()),
        ("product_id", pa.string()),
        ("position", pa.int32()),
        ("click", pa.int8()),
        ("add_to_cart", pa.int8()),
        ("purchase", pa.int8()),
        ("device", pa.string()),
    ]
)


def write_small_log(out: Path, tables: dict[str, list[dict[str, Any]]], schema: Schema = SMALL_SCHEMA) -> Path:
    """Writes rows as a finished search log."""
    with write_search_log(out, schema, {"source": "test"}) as writer:
        for name, rows in tables.items():
            if rows:
                types = IMPRESSION_TYPES if name == "impressions" and "device" in rows[0] else None
                if types is not None and RANDOMISED in rows[0]:
                    types = types.append(pa.field(RANDOMISED, pa.int8()))
                writer.write(name, pa.Table.from_pylist(rows, schema=types))
    return out


def prepare_small_log(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """Writes tables as a log under `folder`, prepares it with every default, and returns the prepared folder."""
    from shelfrank.config import PrepareConfig
    from shelfrank.prepare.pipeline import prepare

    write_small_log(folder / "log", tables)
    prepare(folder / "log", folder / "prepared", PrepareConfig())
    return folder / "prepared"
