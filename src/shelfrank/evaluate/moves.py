"""Where personalization moves products: how far, and some pages to look at."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.logs.search_log import TABLES, has_table, table_files
from shelfrank.metrics import served_order

N_EXAMPLES = 6
SHOWN_PRODUCTS = 10
HISTORY_LINES = 6


def moves(evaluation: Evaluation, prepared: PreparedData, log: Path, split_name: str) -> dict[str, Any] | None:
    """How far each product moves between the neutral and the personalized order, with example pages.

    The examples are drawn by a fixed hash among the pages of known customers with a click, not picked for effect.

    Args:
        evaluation: A ranker's scores with and without personalization.
        prepared: The data.
        log: The log, for the customers' histories in words.
        split_name: The split that was measured.

    Returns:
        Histogram of moves in places (negative is towards the first), their mean size, and examples; None where the
        ranker has no Personalization Degree.
    """
    if evaluation.report["pd"] is None:
        return None
    subset = prepared.split(split_name).searches(np.asarray(evaluation.array("pd_searches")))
    own, neutral = np.asarray(evaluation.array("pd_fused")), np.asarray(evaluation.array("pd_neutral"))
    own_rank, neutral_rank = _ranks(own, subset), _ranks(neutral, subset)
    moved = own_rank - neutral_rank
    values, counts = np.unique(moved, return_counts=True)
    return {
        "histogram": [[int(value), int(count)] for value, count in zip(values, counts, strict=True)],
        "mean_absolute": float(np.abs(moved).mean()) if len(moved) else None,
        "examples": _examples(evaluation, prepared, log, split_name, subset, own_rank, neutral_rank),
    }


def _ranks(scores: np.ndarray, split: Split) -> np.ndarray:
    order = served_order(scores, split.search_offsets, split.position)
    starts = np.repeat(split.search_offsets[:-1], np.diff(split.search_offsets))
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = np.arange(len(scores)) - starts
    return ranks


def _examples(
    evaluation: Evaluation,
    prepared: PreparedData,
    log: Path,
    split_name: str,
    subset: Split,
    own_rank: np.ndarray,
    neutral_rank: np.ndarray,
) -> list[dict[str, Any]]:
    if "click" not in subset.tasks or not subset.n_searches:
        return []
    clicked = subset.labels[:, subset.tasks.index("click")] == 1
    starts, sizes = subset.search_offsets[:-1], np.diff(subset.search_offsets)
    has_click = np.add.reduceat(clicked, starts) > 0
    known = subset.customer_idx[starts] >= 0
    candidates = np.flatnonzero(has_click & known & (sizes > SHOWN_PRODUCTS))
    # The least key of a page is the same in whatever order it was shown.
    least = np.minimum.reduceat(subset.tie_keys, starts)
    candidates = candidates[np.argsort(least[candidates])]
    searches = prepared.searches(split_name).take(pa.array(np.asarray(evaluation.array("pd_searches"))))
    products, queries = prepared.products(), prepared.queries()
    examples = []
    for search in candidates[: 4 * N_EXAMPLES]:
        about = {name: searches[name][int(search)].as_py() for name in ("search_id", "customer_id", "timestamp")}
        history = _history(log, products, about["customer_id"], about["timestamp"])
        if not history:
            continue
        rows = np.arange(int(subset.search_offsets[search]), int(subset.search_offsets[search + 1]))
        orders = {}
        for name, ranks in (("neutral", neutral_rank), ("personalized", own_rank)):
            first = rows[np.argsort(ranks[rows])][:SHOWN_PRODUCTS]
            orders[name] = [_product(products, subset, int(row), bool(clicked[row])) for row in first]
        query = queries["query"][int(subset.query_idx[rows[0]])].as_py()
        examples.append({"query": query, "customer": about["customer_id"], "history": history, **orders})
        if len(examples) == N_EXAMPLES:
            break
    return examples


def _product(products: pa.Table, subset: Split, row: int, clicked: bool) -> dict[str, Any]:
    index = int(subset.product_idx[row])
    about = {
        name: products[name][index].as_py()
        for name in ("product_id", "title", "brand", "price")
        if name in products.column_names
    }
    return {**about, "clicked": clicked, "shown": int(subset.position[row])}


def _history(log: Path, products: pa.Table, customer: str, before: Any) -> list[str]:
    """What the customer did before a time, in words, most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for table in ("impressions", "events"):
        if table not in TABLES or not has_table(log, table):
            continue
        columns = ["product_id", "timestamp", "customer_id"]
        columns += ["click", "add_to_cart", "purchase"] if table == "impressions" else ["action"]
        held = set(pq.read_schema(table_files(log, table)[0]).names)
        if "customer_id" not in held:
            continue
        rows = pq.read_table(table_files(log, table), columns=columns, filters=[("customer_id", "==", customer)])
        earlier = pc.less(rows["timestamp"], pa.scalar(before, rows["timestamp"].type))  # pyright: ignore[reportAttributeAccessIssue]
        rows = rows.filter(earlier)
        for row in rows.to_pylist():
            action = row.get("action") if table == "events" else _deepest(row)
            if action:
                counts[action, row["product_id"]] = counts.get((action, row["product_id"]), 0) + 1
    titles = dict(zip(products["product_id"].to_pylist(), range(products.num_rows), strict=True)) if counts else {}
    lines = []
    for (action, product), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:HISTORY_LINES]:
        title = products["title"][titles[product]].as_py() if product in titles else product
        lines.append(f"{action} {title}" + (f" ({count} times)" if count > 1 else ""))
    return lines


def _deepest(row: dict[str, Any]) -> str | None:
    for task, words in (("purchase", "bought"), ("add_to_cart", "put in the cart"), ("click", "clicked")):
        if row[task] == 1:
            return words
    return None
