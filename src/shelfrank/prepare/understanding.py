"""The log's queries as the shop understands them: read by its catalogue, and by what training searches taught."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32

from shelfrank.config import PrepareConfig, UnderstandingConfig
from shelfrank.core.schema import Feature, Kind
from shelfrank.engine.base import Kept
from shelfrank.features.history_features import Columns
from shelfrank.features.plan import EntityTables, Plan
from shelfrank.features.understanding import Catalogue, QueryReadings, QueryUnderstanding, ShownRows, time_blocks

CATEGORY = "category"
"""The product column whose values are the shop's categories."""
KEYS = ("ts_us", "search_idx", "query_idx", "product_idx", "position")
NOT_LEARNED_FROM = "training rows that query understanding did not learn from"


class UnderstoodQueries:
    """The features of rows by how their query is read.

    Args:
        understanding: Reads the queries.
        readings: The log's queries as it read them.

    Attributes:
        left_out: Training rows that were not learned from, by reason.
    """

    def __init__(self, understanding: QueryUnderstanding, readings: QueryReadings) -> None:
        self.understanding, self.readings = understanding, readings
        self.left_out: dict[str, int] = {}

    @classmethod
    def read(cls, entities: EntityTables, plan: Plan, config: UnderstandingConfig) -> "UnderstoodQueries":
        """Reads the queries of a log by its catalogue alone; `learn` has yet to be called."""
        products = entities.products
        spelled = {
            feature.name: feature.spelling.column(products[feature.name]).to_pylist()
            for feature in plan.product_features
            if feature.kind is Kind.CATEGORICAL
        }
        categories = spelled.pop(CATEGORY, None)
        if categories is None and CATEGORY in products.column_names:
            categories = products[CATEGORY].cast(pa.string()).to_pylist()
        understanding = QueryUnderstanding.of_catalogue(
            Catalogue(products["title"].to_pylist(), spelled, categories), plan.tasks if config.log else ()
        )
        return cls(understanding, understanding.read(entities.queries["query"].to_pylist()))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features, in the order of `compute`."""
        return self.understanding.features

    def learn(self, rows: Kept, plan: Plan, config: PrepareConfig) -> None:
        """Learns from the training searches among some rows; where there are too many, from a random part."""
        assert config.understanding is not None
        if not config.understanding.log:
            return
        train = [part.filter(pa.array(part["split"].to_numpy() == 0)) for part in rows.batches(["ts_us", "split"])]
        if not any(len(part) for part in train):
            return
        blocks = time_blocks(np.concatenate([part["ts_us"].to_numpy() for part in train]))
        shares = np.minimum(config.understanding.max_rows / np.bincount(blocks), 1.0)
        parts: list[pa.RecordBatch] = []
        chosen: list[Int32[np.ndarray, " rows"]] = []
        start = 0
        for part in rows.batches([*KEYS, "split", *plan.tasks]):
            own = part.filter(pa.array(part["split"].to_numpy() == 0))
            block, start = blocks[start : start + len(own)], start + len(own)
            kept = _draws(own["search_idx"].to_numpy()) < shares[block]
            parts.append(own.filter(pa.array(kept)))
            chosen.append(block[kept])
        table = pa.Table.from_batches(parts)
        if table.num_rows < len(blocks):
            self.left_out[NOT_LEARNED_FROM] = len(blocks) - table.num_rows
        keys = {name: table[name].to_numpy() for name in KEYS}
        labels = [table[task].fill_null(-1).to_numpy().astype(np.int8) for task in plan.tasks]
        shown = ShownRows(
            query_idx=keys["query_idx"].astype(np.int32),
            product_idx=keys["product_idx"].astype(np.int32),
            search_idx=keys["search_idx"].astype(np.int32),
            times_us=keys["ts_us"],
            positions=keys["position"].astype(np.int32),
            labels=np.stack(labels, axis=1),
            blocks=np.concatenate(chosen),
        )
        delay_us = round(config.history.outcome_delay_s * 1e6)
        self.understanding = self.understanding.with_log(self.readings, shown, delay_us)

    def compute(self, columns: Columns) -> Float32[np.ndarray, "rows n"]:
        """The features of rows."""
        query, product = (columns[name].astype(np.int32) for name in ("query_idx", "product_idx"))
        return self.understanding.compute(self.readings, query, product, columns["ts_us"])

    def facts(self, n_queries: Sequence[int]) -> dict[str, Any]:
        """What people may want to see: the slots, and the words that were not understood with how often they came."""
        lexicon = self.understanding.lexicon
        return {"n_terms": len(lexicon.terms), "n_queries": len(n_queries)}


def _draws(search_idx: Int32[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """A number from 0 to below 1 for each row, the same for all rows of a search."""
    mixed = search_idx.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)) / 2.0**24
