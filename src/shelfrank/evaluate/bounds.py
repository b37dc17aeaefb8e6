"""How well a simulated shop could be ranked at best, from its hidden truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shelfrank.config import EvaluateConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.logs.search_log import has_table, table_files
from shelfrank.metrics import mrr_at_k

TRUTH = "truth/impressions"
ORDERS = {"best": "{task}_given_examined", "non_personalized": "{task}_average"}
"""Truth columns by which a page is ordered for each bound."""


def truth_bounds(log: Path, prepared: PreparedData, config: EvaluateConfig, split_name: str) -> dict[str, Any] | None:
    """MRR of the order by the true chance of each outcome, for this customer and for the average one.

    Both order the products that the shop showed by what the simulator knows, the examined position aside, and are
    measured on the same logged labels as every ranker.

    Args:
        log: The log's folder.
        prepared: The data whose split is measured.
        config: The cutoffs.
        split_name: The split.

    Returns:
        By bound, cutoff and task the MRR; None where the log has no truth.
    """
    if not has_table(log, TRUTH):
        return None
    split = prepared.split(split_name)
    tasks = split.tasks
    columns = [pattern.format(task=task) for pattern in ORDERS.values() for task in tasks]
    truth = _aligned(log, prepared, split_name, columns)
    bounds: dict[str, Any] = {}
    for bound, pattern in ORDERS.items():
        bounds[bound] = {"mrr": {str(k): {} for k in config.ks}}
        for index, task in enumerate(tasks):
            scores = truth[pattern.format(task=task)].to_numpy().astype(np.float64)
            labels = np.ascontiguousarray(split.labels[:, index])
            for k in config.ks:
                value = float(mrr_at_k(scores, labels, split.search_offsets, split.tie_keys, k))
                bounds[bound]["mrr"][str(k)][task] = None if np.isnan(value) else value
    return bounds


def _aligned(log: Path, prepared: PreparedData, split_name: str, columns: list[str]) -> pa.Table:
    split = prepared.split(split_name)
    ids = prepared.searches(split_name)["search_id"].combine_chunks()
    keys = pa.table(
        {
            "search_id": ids.take(pa.array(np.repeat(np.arange(split.n_searches), np.diff(split.search_offsets)))),
            "product_id": prepared.products()["product_id"].combine_chunks().take(pa.array(split.product_idx[:])),
            "row": pa.array(np.arange(split.n_rows)),
        }
    )
    parts = []
    for file in table_files(log, TRUTH):
        part = pq.read_table(file, columns=["search_id", "product_id", *columns])
        parts.append(part.filter(pc.is_in(part["search_id"], value_set=ids)))  # pyright: ignore[reportAttributeAccessIssue]
    joined = keys.join(pa.concat_tables(parts), ["search_id", "product_id"], join_type="inner").sort_by("row")
    assert joined.num_rows == keys.num_rows, "the truth must cover every row of the log"
    return joined
