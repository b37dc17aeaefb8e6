"""Query understanding as one object: learned once, saved, and used alike offline and online."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS, Feature, Kind, Side
from shelfrank.features.understanding.catalogue import Catalogue
from shelfrank.features.understanding.folds import Scheme
from shelfrank.features.understanding.learned import LearnedColumns, LearnedRelevance, ShownRows
from shelfrank.features.understanding.lexicon import Lexicon
from shelfrank.features.understanding.products import CodedProducts
from shelfrank.features.understanding.reading import Comparison, QueryReader, QueryReadings
from shelfrank.features.understanding.storage import load_parts, save_parts

CATALOGUE_COLUMNS = (
    "query_n_matched",
    "query_n_conflicts",
    "query_n_unknown",
    "query_category_probability",
    "query_type_probability",
)


@dataclass(frozen=True)
class QueryUnderstanding:
    """Reads queries by a shop's catalogue and, where there is one, by its log.

    Attributes:
        lexicon: What words mean.
        products: The products, coded.
        learned: Synonyms and relevance from the log; None for the catalogue alone.
        tasks: The tasks of the relevance estimate.
    """

    lexicon: Lexicon
    products: CodedProducts
    learned: LearnedRelevance | None = None
    tasks: tuple[str, ...] = TASKS

    @cached_property
    def reader(self) -> QueryReader:
        """Reads queries."""
        return QueryReader(self.lexicon, self.products)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that `compute` gives, in its order.

        `query_A_status`, of each attribute A and of the type, the category, the slots and the words, is a `Status`: 0
        where the query names none, 1 for a match, 2 for a conflict, 3 where it is unknown.
        """
        statuses = (*self.lexicon.attributes, "type", "category", "slots", "words")
        names = [*(f"query_{name}_status" for name in statuses), *CATALOGUE_COLUMNS]
        if self.learned is not None:
            names += ["query_type_same", *(f"query_relevance_{task}" for task in self.tasks)]
        return tuple(Feature(name=name, side=Side.INTERACTION, kind=Kind.NUMERICAL) for name in names)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue) -> "QueryUnderstanding":
        """Learns from the catalogue alone."""
        lexicon = Lexicon.learn(catalogue)
        return cls(lexicon, CodedProducts.of(lexicon, catalogue))

    def with_log(
        self,
        readings: QueryReadings,
        rows: ShownRows,
        tasks: Sequence[str] = TASKS,
        scheme: Scheme = "others",
    ) -> tuple["QueryUnderstanding", Float32[np.ndarray, "rows features"]]:
        """Learns from training searches also.

        Args:
            readings: Their queries, as `read` gives them.
            rows: The products that they showed; no search that is not for training.
            tasks: The tasks of the labels.
            scheme: Which folds a fold is learned from.

        Returns:
            What is learned, for later searches; and the features of the rows, without help from their own labels.
        """
        learned, columns = LearnedRelevance.fit(self.reader, readings, rows, scheme)
        comparison = readings.compare(rows.query_idx, rows.product_idx)
        whole = QueryUnderstanding(self.lexicon, self.products, learned, tuple(tasks))
        # The reader depends on lexicon and products alone, so that it is not made again.
        whole.__dict__["reader"] = self.reader
        return whole, _matrix(comparison, columns)

    def read(self, queries: Sequence[str]) -> QueryReadings:
        """Reads queries."""
        return self.reader.read(queries)

    def compute(
        self, readings: QueryReadings, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows features"]:
        """The features of pairs, which are of no search that was learned from.

        Args:
            readings: The queries.
            query_idx: The query of each pair.
            product_idx: Its product.

        Returns:
            The features, in the order of `features`.
        """
        comparison = readings.compare(query_idx, product_idx)
        if self.learned is None:
            return _matrix(comparison, None)
        columns = self.learned.compute(self.reader, readings, query_idx, product_idx, comparison)
        return _matrix(comparison, columns)

    def save(self, folder: Path) -> None:
        """Writes everything into a folder; the same content gives the same bytes."""
        parts = {
            "lexicon": (self.lexicon.names, self.lexicon.arrays),
            "products": ({}, self.products.arrays),
            "tasks": ({"names": list(self.tasks)}, {}),
        }
        if self.learned is not None:
            parts["learned"] = self.learned.to_plain()
        save_parts(folder, parts)

    @classmethod
    def load(cls, folder: Path) -> "QueryUnderstanding":
        """Reads what `save` wrote; what is no such folder is a `UserError`."""
        parts = load_parts(folder)
        try:
            lexicon = Lexicon(*parts["lexicon"])
            products = CodedProducts(parts["products"][1])
            learned = LearnedRelevance.of_plain(*parts["learned"]) if "learned" in parts else None
            tasks = tuple(parts["tasks"][0]["names"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder} must hold a whole query understanding, but {error} is missing; save it again"
            ) from error
        return cls(lexicon, products, learned, tasks)


def _matrix(comparison: Comparison, columns: LearnedColumns | None) -> Float32[np.ndarray, "rows features"]:
    parts = [
        comparison.statuses,
        comparison.n_match[:, None],
        comparison.n_conflict[:, None],
        comparison.n_unknown[:, None],
        comparison.category_probability[:, None],
        comparison.type_probability[:, None],
    ]
    if columns is not None:
        parts += [columns.same[:, None], columns.relevance]
    return np.concatenate([part.astype(np.float32) for part in parts], axis=1)
