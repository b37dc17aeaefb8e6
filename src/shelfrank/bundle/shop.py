"""Writes the shop that the page shows: its products, its queries, and some shoppers with their history."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

import datetime as dt
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
from ibis import _

from shelfrank.bundle.spec import SHOP_FACTS, SHOP_PRODUCTS, SHOP_QUERIES
from shelfrank.config import EngineConfig
from shelfrank.core.schema import Kind, Schema, Side
from shelfrank.data.prepared import PreparedData
from shelfrank.engine import open_engine
from shelfrank.engine.base import Engine
from shelfrank.logs.search_log import SearchLog

MAX_SHOPPERS = 120
MIN_CLICKS = 3
"""Minimum number of clicks of a shopper whose history is worth showing."""
MAX_QUERIES = 200_000
LATEST = 6
"""Actions of a shopper that the page lists."""
FAVOURITES = 3
_DID = {"click": "clicked", "add_to_cart": "put into the cart", "purchase": "bought"}
"""Words for each label, the strongest last."""


def write_shop(log: SearchLog, prepared: PreparedData, out: Path, engine: EngineConfig | None = None) -> str | None:
    """Writes the folder behind the page.

    Args:
        log: The log.
        prepared: The data prepared from it.
        out: The folder; it must not exist.
        engine: Limits of the embedded engine.

    Returns:
        Why no folder was written: a shop whose products have no texts cannot be searched. None if it was written.
    """
    limits = (engine or EngineConfig()).model_copy(update={"name": "duckdb"})
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, open_engine(limits, Path(scratch), log.path) as opened:
        products = _products(log, prepared, opened)
        if not any(products["document"].to_pylist()):
            return "no product has a title or another text to search"
        out.mkdir()
        feather.write_feather(products, str(out / SHOP_PRODUCTS), compression="uncompressed")
        rows = opened.read(log.files("impressions"))
        feather.write_feather(_queries(rows, opened), str(out / SHOP_QUERIES), compression="uncompressed")
        facts = {
            "name": log.schema.name,
            "features": _named(log.schema, products.column_names),
            "shoppers": _shoppers(log, rows, products, opened),
        }
    (out / SHOP_FACTS).write_text(json.dumps(facts, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return None


def _products(log: SearchLog, prepared: PreparedData, engine: Engine) -> pa.Table:
    """Id, title (else the id), document and declared features of each product, in the order of the catalogue."""
    known = prepared.products()
    table = engine.collect(engine.read(log.files("products")))
    place = {product: row for row, product in enumerate(table["product_id"].to_pylist())}
    table = table.take([place[product] for product in known["product_id"].to_pylist()])
    names = [each.name for each in log.schema.select(side=Side.PRODUCT) if each.name in table.column_names]
    columns = {name: table[name] for name in names}
    columns = {
        name: column if pa.types.is_floating(column.type) else column.cast(pa.string())
        for name, column in columns.items()
    }
    ids = known["product_id"].to_pylist()
    titles = [title or product for title, product in zip(known["title"].to_pylist(), ids, strict=True)]
    return pa.table({"product_id": ids, "title": titles, "document": known["document"], **columns})


def _named(schema: Schema, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The product features that the page shows, by name, kind and unit."""
    return [
        {"name": each.name, "kind": each.kind.value, "unit": each.unit}
        for each in schema.select(side=Side.PRODUCT)
        if each.name in columns and each.kind is not Kind.TEXT
    ]


def _queries(rows: ibis.Table, engine: Engine) -> pa.Table:
    """The most frequent queries in alphabetical order, with their number of searches."""
    searches = rows.filter(_.query.strip() != "").group_by("query").agg(searches=_.search_id.nunique())
    return engine.collect(searches.order_by([ibis.desc("searches"), "query"]).limit(MAX_QUERIES).order_by("query"))


def _shoppers(log: SearchLog, rows: ibis.Table, products: pa.Table, engine: Engine) -> list[dict[str, Any]]:
    """Some customers, from those with the most clicks to those with a few, with their histories."""
    known = rows.filter(_.customer_id.notnull())
    tasks = {task: known[task].sum().cast("int64") for task in _DID}
    totals = known.group_by("customer_id").agg(
        searches=_.search_id.nunique(), first=_.timestamp.min(), last=_.timestamp.max(), **tasks
    )
    table = engine.collect(totals.filter(_.click >= MIN_CLICKS).order_by([ibis.desc("click"), "customer_id"]))
    chosen = np.unique(np.linspace(0, table.num_rows - 1, min(table.num_rows, MAX_SHOPPERS)).astype(np.int64))
    shoppers = table.take(chosen).to_pylist()
    # Without a type, an empty list of ids is one of numbers to the engine and joins no customer.
    chosen_ids = pa.array([each["customer_id"] for each in shoppers], pa.string())
    ids = engine.share(pa.table({"customer_id": chosen_ids}), "shoppers")
    done = known.filter((_.click == 1) | (_.add_to_cart == 1) | (_.purchase == 1)).semi_join(ids, "customer_id")
    actions: dict[str, list[dict[str, Any]]] = {each["customer_id"]: [] for each in shoppers}
    columns = ("customer_id", "timestamp", "query", "product_id", "position", *_DID)
    for action in engine.collect(done.select(*columns)).to_pylist():
        actions[action["customer_id"]].append(action)
    about = _declared(log, ids, engine)
    place = {product: row for row, product in enumerate(products["product_id"].to_pylist())}
    named = [each.name for each in log.schema.select(side=Side.PRODUCT) if each.kind is Kind.CATEGORICAL]
    histories = []
    for shopper in shoppers:
        own = sorted(actions[shopper["customer_id"]], key=lambda action: (action["timestamp"], -action["position"]))
        bought = products.take([place[action["product_id"]] for action in own])
        histories.append(
            {
                "id": shopper["customer_id"],
                "about": about.get(shopper["customer_id"], {}),
                "searches": shopper["searches"],
                **{task: shopper[task] for task in _DID if shopper[task] is not None},
                "first": _day(shopper["first"]),
                "last": _day(shopper["last"]),
                "favourites": {
                    name: Counter(value for value in bought[name].to_pylist() if value).most_common(FAVOURITES)
                    for name in named
                    if name in bought.column_names
                },
                "price": _median_price(bought),
                "latest": [
                    {
                        "on": _day(action["timestamp"]),
                        "did": [did for task, did in _DID.items() if action[task] == 1][-1],
                        "title": title,
                        "query": action["query"],
                    }
                    for action, title in list(zip(own, bought["title"].to_pylist(), strict=True))[: -LATEST - 1 : -1]
                ],
            }
        )
    return histories


def _declared(log: SearchLog, ids: ibis.Table, engine: Engine) -> dict[str, dict[str, Any]]:
    """The declared features of some customers."""
    if not log.has("customers"):
        return {}
    table = engine.read(log.files("customers")).semi_join(ids, "customer_id")
    names = [each.name for each in log.schema.select(side=Side.CUSTOMER) if each.name in table.columns]
    return {
        row["customer_id"]: {name: _plain(row[name]) for name in names if row[name] is not None}
        for row in engine.collect(table.select("customer_id", *names)).to_pylist()
    }


def _median_price(products: pa.Table) -> float | None:
    if "price" not in products.column_names or not pa.types.is_floating(products["price"].type):
        return None
    prices = np.array([price for price in products["price"].to_pylist() if price is not None], dtype=np.float64)
    prices = prices[np.isfinite(prices)]
    return float(np.median(prices)) if len(prices) else None


def _day(time: dt.datetime) -> str:
    return time.date().isoformat()


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | bool) and np.isfinite(value) else str(value)
