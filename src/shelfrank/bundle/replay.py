"""Pages of a log as page requests, and the figures of a bundle that ranks them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Float, Int64

from shelfrank.bundle.loaded import Bundle
from shelfrank.core.schema import Schema, Side
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.features.request import PageRequest
from shelfrank.logs.search_log import SearchLog
from shelfrank.metrics import auc_roc, mean_over_searches, reciprocal_rank
from shelfrank.metrics.order import fuse

MRR_AT = 10
OF_ROWS = (Side.PRODUCT, Side.INTERACTION)
"""Sides whose features belong to a row even where a page has one value."""


def logged_pages(
    log: SearchLog, prepared: PreparedData, split_name: str, chosen: Int64[np.ndarray, " chosen"]
) -> list[PageRequest]:
    """Turns some searches of a split into the page requests of a caller.

    Args:
        log: The log that was prepared.
        prepared: The prepared data.
        split_name: The split.
        chosen: Indices of its searches.

    Returns:
        One page per search, candidates in the shown order.
    """
    ids = prepared.searches(split_name)["search_id"].take(pa.array(chosen)).to_pylist()
    dataset = ds.dataset([str(file) for file in _files(log)])
    table = dataset.to_table(filter=ds.field("search_id").isin(ids)).sort_by("position")
    microseconds = pc.cast(table["timestamp"], pa.timestamp("us", tz="UTC")).cast(pa.int64())
    rows = table.append_column("ts_us", microseconds).to_pylist()
    pages: dict[str, list[dict[str, Any]]] = {search_id: [] for search_id in ids}
    for row in rows:
        pages[row["search_id"]].append(row)
    return [_page(pages[search_id], log.schema) for search_id in ids]


def replay(
    bundle: Bundle, pages: Sequence[PageRequest], rows: Split, offline: Float[np.ndarray, "rows n_tasks"]
) -> dict[str, Any]:
    """Ranks pages of a log through a bundle, and measures the ranking as the evaluation does.

    Equal scores are ordered by the tie keys here, not by the engine's order as in the service: a constant score must
    not get the credit of the shown order.

    Args:
        bundle: The bundle.
        pages: The pages.
        rows: Their prepared rows, with labels.
        offline: The run's own scores of these rows.

    Returns:
        AUC and MRR by task, and the largest distance from the run's own scores.
    """
    scores = np.concatenate([np.asarray(bundle.score(page).scores) for page in pages])
    fused = fuse(scores, tuple(bundle.spec.task_weights[task] for task in rows.tasks))
    auc, mrr = {}, {}
    for index, task in enumerate(rows.tasks):
        labels = np.ascontiguousarray(rows.labels[:, index])
        values = reciprocal_rank(fused, labels, rows.search_offsets, rows.tie_keys, MRR_AT)
        mrr[task] = _number(mean_over_searches(values))
        both = (labels == 1).any() and (labels == 0).any()
        auc[task] = _number(auc_roc(np.ascontiguousarray(scores[:, index]), labels)) if both else None
    gap = float(np.abs(scores - offline).max(initial=0.0))
    return {"searches": len(pages), "auc": auc, f"mrr@{MRR_AT}": mrr, "largest_gap": gap}


def spread(n: int, max_chosen: int) -> Int64[np.ndarray, " chosen"]:
    """Chooses evenly spread numbers below `n`."""
    return np.unique(np.linspace(0, n - 1, min(n, max_chosen)).astype(np.int64)) if n else np.empty(0, np.int64)


def _page(rows: list[dict[str, Any]], schema: Schema) -> PageRequest:
    first = rows[0]
    named = [(feature.name, feature.side) for feature in schema.features if feature.name in first]
    # A value that differs within a page, such as a discount, belongs to each product, whatever its side.
    by_row = {name for name, side in named if any(row[name] != first[name] for row in rows) or side in OF_ROWS}

    def of(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
        return {name: row[name] for name in names if row[name] is not None}

    return PageRequest(
        query=first["query"],
        product_ids=[row["product_id"] for row in rows],
        customer_id=first["customer_id"],
        session_id=first.get("session_id"),
        ts_us=first["ts_us"],
        positions=[row["position"] for row in rows],
        context=of(first, [name for name, side in named if name not in by_row and side is not Side.CUSTOMER]),
        customer=of(first, [name for name, side in named if name not in by_row and side is Side.CUSTOMER]),
        products=[of(row, [name for name, _ in named if name in by_row]) for row in rows],
        search_id=first["search_id"],
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)


def _files(log: SearchLog) -> list[Path]:
    return [Path(file) for file in log.files("impressions")]
