"""The texts of queries and products, and the features of their pairs."""

from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.plan import EntityTables, product_documents
from shelfrank.features.textual import TextFeatures
from shelfrank.logs.search_log import SearchLog
from shelfrank.text.scores import SEMANTIC_SCORE, AlignedScores, SemanticScores

SHOWN_PRODUCT_COLUMNS = ("brand", "price", "category")
"""Product columns that pages show beside the title."""

TEXT_ATTRIBUTES = ("brand", "color", "age_group")
"""Product columns whose values a query may name."""


@runtime_checkable
class PairFeatures(Protocol):
    """Features that depend on the query and the product only."""

    features: tuple[Feature, ...]

    def compute(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows n"]:
        """The features' values for pairs."""
        ...


class SemanticFeature:
    """The cosine of the query's and the product's embedding as a feature (Paper: Sec. 3.2)."""

    features = (Feature(name=SEMANTIC_SCORE, side=Side.INTERACTION, kind=Kind.NUMERICAL),)

    def __init__(self, scores: AlignedScores) -> None:
        self.cosine = scores.cosine

    def compute(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows 1"]:
        """The cosine of each pair; NaN where a text is missing."""
        return self.cosine(query_idx, product_idx)[:, None]


class Texts:
    """The texts of queries and products, and the features of their pairs."""

    def __init__(
        self, log: SearchLog, entities: EntityTables, config: PrepareConfig, scores: SemanticScores | None
    ) -> None:
        products = entities.products
        self.queries = entities.queries["query"]
        self.titles = [title or "" for title in products["title"].to_pylist()]
        self.documents = product_documents(log.schema, products, self.titles)
        self.textual = self.semantic = None
        if config.text:
            named = [name for name in TEXT_ATTRIBUTES if name in products.column_names]
            attributes = {name: products[name].cast(pa.string()).to_pylist() for name in named}
            self.textual = TextFeatures(self.queries.to_pylist(), self.titles, self.documents, attributes)
        if scores:
            ids = products["product_id"].to_pylist()
            self.semantic = SemanticFeature(scores.align(self.queries.to_pylist(), ids))

    @property
    def pairs(self) -> list[PairFeatures]:
        """The features of pairs."""
        return [source for source in (self.textual, self.semantic) if source is not None]

    def table(self, products: pa.Table) -> pa.Table:
        """`product_id`, the product columns that pages show, and the documents."""
        shown = [name for name in SHOWN_PRODUCT_COLUMNS if name in products.column_names]
        table = products.select(["product_id", *shown])
        table = table.append_column("title", pa.array(self.titles, pa.string()))
        return table.append_column("document", pa.array(self.documents, pa.string()))
