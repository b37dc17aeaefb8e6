"""The log's queries as the shop understands them: read by its catalogue, and by what training searches taught."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32, Int64

from shelfrank.config import PrepareConfig, UnderstandingConfig
from shelfrank.core.schema import Feature, Kind
from shelfrank.engine.base import Kept
from shelfrank.features.history_features import Columns
from shelfrank.features.plan import EntityTables, Plan
from shelfrank.features.understanding import (
    Catalogue,
    QueryPartKind,
    QueryReadings,
    QueryUnderstanding,
    ShownRows,
    time_blocks,
)
from shelfrank.features.understanding.lexicon import TYPE
from shelfrank.features.understanding.products import NO_TERM

CATEGORY = "category"
"""The product column whose values are the shop's categories."""
KEYS = ("ts_us", "search_idx", "query_idx", "product_idx", "position")
N_SHOWN, N_TERMS = 20, 8
"""Slots and words that people are shown, and terms of a slot."""
PAIRS_AT_ONCE = 131_072
"""Pairs whose relevance is computed together, so that memory does not grow with them."""
MAX_SHOWN_CHARACTERS = 60
"""Characters of a word that people are shown."""


class UnderstoodQueries:
    """The features of rows by how their query is read.

    Args:
        understanding: Reads the queries.
        readings: The log's queries as it read them.

    Attributes:
        n_not_learned_from: Training rows that were not learned from, because their block of time has too many.
    """

    def __init__(self, understanding: QueryUnderstanding, readings: QueryReadings) -> None:
        self.understanding, self.readings = understanding, readings
        self.n_not_learned_from = 0

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
            column = products[CATEGORY]
            # A list of categories, or bytes, is none that a product could be compared by.
            if not (pa.types.is_nested(column.type) or pa.types.is_binary(column.type)):
                categories = column.cast(pa.string()).to_pylist()
        lists = {
            feature.name: [feature.values_of(text) for text in products[feature.name].to_pylist()]
            for feature in plan.product_lists
        }
        catalogue = Catalogue(products["title"].to_pylist(), spelled, categories, lists=lists)
        understanding = QueryUnderstanding.of_catalogue(catalogue, plan.tasks if config.log else ())
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
        times_us = np.concatenate([part["ts_us"].to_numpy() for part in train])
        blocks = time_blocks(times_us, config.understanding.first_rows)
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
            self.n_not_learned_from = len(blocks) - table.num_rows
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

    def relevance(
        self, query_idx: Int32[np.ndarray, " pairs"], product_idx: Int32[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """The relevance of pairs by all that was learned, in multiples of the mean rate of the first task."""
        found = np.empty(len(query_idx), np.float32)
        for start in range(0, len(query_idx), PAIRS_AT_ONCE):
            own = slice(start, start + PAIRS_AT_ONCE)
            last = np.full(len(query_idx[own]), np.iinfo(np.int64).max)
            values = self.understanding.compute(self.readings, query_idx[own], product_idx[own], last)
            found[own] = values[:, -len(self.understanding.tasks)]
        return found

    def facts(self, searches_of_query: Int64[np.ndarray, " queries"]) -> dict[str, Any]:
        """What people want to see of it, as plain data.

        Args:
            searches_of_query: How often each query was searched for.

        Returns:
            The numbers of terms and of product types; the slots that most products fill, with some of their terms; and
            the words of queries that nothing is known of, with the searches that had them; and the training rows that
            were not learned from.
        """
        lexicon = self.understanding.lexicon
        unknown: Counter[str] = Counter()
        respelled = 0
        for query, n_searches in enumerate(searches_of_query.tolist()):
            parts = self.readings.reading(query, n_likeliest=0).parts if n_searches else ()
            respelled += n_searches * any(part.typed is not None for part in parts)
            for text in {part.text for part in parts if part.kind is QueryPartKind.UNKNOWN}:
                unknown[shorten(text)] += n_searches
        return {
            "n_terms": len(lexicon.terms),
            "n_types": int(lexicon.is_type.sum()),
            "slots": [slot.as_dict() for slot in self._largest_slots()],
            "n_respelled": respelled,
            "n_unknown": len(unknown),
            "n_not_learned_from": self.n_not_learned_from,
            "unknown": dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:N_SHOWN]),
        }

    def _largest_slots(self) -> list["Slot"]:
        lexicon, products = self.understanding.lexicon, self.understanding.products
        found: list[Slot] = []
        for category, name in enumerate(lexicon.categories.names):
            own = products.slots[products.categories == category]
            for slot in range(own.shape[1]):
                terms, counts = np.unique(own[own[:, slot] != NO_TERM, slot], return_counts=True)
                if len(terms):
                    order = np.argsort(-counts, kind="stable")[:N_TERMS]
                    shown = tuple(" ".join(lexicon.terms[term]) for term in terms[order].tolist())
                    found.append(Slot(name, slot == TYPE, int(counts.sum()), len(terms), shown))
        return sorted(found, key=lambda slot: (-slot.n_products, slot.category, not slot.is_type))[:N_SHOWN]


@dataclass(frozen=True)
class Slot:
    """Terms of which each product of a category has one at most, such as its type or its size.

    Attributes:
        category: The category.
        is_type: Whether the terms are product types.
        n_products: Products that have one of the terms.
        n_terms: How many terms there are.
        terms: Those that most products have.
    """

    category: str
    is_type: bool
    n_products: int
    n_terms: int
    terms: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "terms": list(self.terms)}


def shorten(text: str) -> str:
    """A text that people are shown, cut where it is too long."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _draws(search_idx: Int32[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    """A number from 0 to below 1 for each row, the same for all rows of a search."""
    mixed = search_idx.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)) / 2.0**24
