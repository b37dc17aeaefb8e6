"""The texts of queries and products, and the features of their pairs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.history_features import Columns
from shelfrank.features.plan import EntityTables, product_documents
from shelfrank.features.textual import TextFeatures
from shelfrank.logs.search_log import SearchLog
from shelfrank.text.scores import SEMANTIC_SCORE, SemanticScores

SHOWN_PRODUCT_COLUMNS = ("brand", "price", "category")
"""Product columns that pages show beside the title."""

TEXT_ATTRIBUTES = ("brand", "color", "age_group")
"""Product columns whose values a query may name."""


@dataclass(frozen=True)
class TextColumns:
    """Features of rows that come from the texts of their query and product.

    Attributes:
        group: What people know them by.
        features: The features.
        compute: Their values, from the columns of some rows.
    """

    group: str
    features: tuple[Feature, ...]
    compute: Callable[[Columns], Float32[np.ndarray, "rows n"]]


SEMANTIC_FEATURE = Feature(name=SEMANTIC_SCORE, side=Side.INTERACTION, kind=Kind.NUMERICAL)
"""The cosine of the query's and the product's embedding (Paper: Sec. 3.2); NaN where a text is missing."""


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
            self.semantic = scores.align(self.queries.to_pylist(), ids)

    def columns(self) -> list[TextColumns]:
        """The features of the texts."""
        made: list[TextColumns] = []
        if (textual := self.textual) is not None:
            made.append(
                TextColumns(
                    "text", textual.features, lambda rows: textual.compute(rows["query_idx"], rows["product_idx"])
                )
            )
        if (semantic := self.semantic) is not None:
            made.append(
                TextColumns(
                    "semantic",
                    (SEMANTIC_FEATURE,),
                    lambda rows: semantic.cosine(rows["query_idx"], rows["product_idx"])[:, None],
                )
            )
        return made

    def table(self, products: pa.Table) -> pa.Table:
        """`product_id`, the product columns that pages show, and the documents."""
        shown = [name for name in SHOWN_PRODUCT_COLUMNS if name in products.column_names]
        table = products.select(["product_id", *shown])
        table = table.append_column("title", pa.array(self.titles, pa.string()))
        return table.append_column("document", pa.array(self.documents, pa.string()))
