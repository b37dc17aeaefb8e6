"""Query understanding as one object: learned once, saved, and used alike offline and online."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.understanding.catalogue import Catalogue
from shelfrank.features.understanding.heads import with_heads
from shelfrank.features.understanding.learned import (
    LearnedColumns,
    LearnedRelevance,
    ShownRows,
    Stage,
    learn_stages,
    stages_of_plain,
    stages_to_plain,
)
from shelfrank.features.understanding.lexicon import Lexicon
from shelfrank.features.understanding.products import CodedProducts
from shelfrank.features.understanding.reading import Comparison, QueryReader, QueryReadings
from shelfrank.features.understanding.storage import load_parts, save_parts

UNDERSTANDING = "understanding"
"""Folder of it in prepared data and in a feature store."""
CATALOGUE_COLUMNS = (
    "query_n_matched",
    "query_n_conflicts",
    "query_n_unknown",
    "query_share_matched",
    "query_category_probability",
    "query_type_probability",
)

OTHER_ANSWERS = ("type", "category", "slots", "words")
"""What a product answers beside attributes, in the order of the statuses."""

ANSWERS = np.array([0.0, 1.0, -1.0, -0.5], np.float32)
"""The feature of each `Status`; numbers that rise with how well a product fits."""


@dataclass(frozen=True)
class QueryUnderstanding:
    """Reads queries by a shop's catalogue and, where there is one, by its log.

    Attributes:
        lexicon: What words mean.
        products: The products, coded.
        tasks: The tasks whose labels teach relevance; none for the catalogue alone.
        stages: Synonyms and relevance from the log, by the time at which they were known.
    """

    lexicon: Lexicon
    products: CodedProducts
    tasks: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()

    @cached_property
    def reader(self) -> QueryReader:
        """Reads queries."""
        return QueryReader(self.lexicon, self.products)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that `compute` gives, in its order.

        `query_A_answer`, of each attribute A and of the type, the category, the slots and the words, is how the product
        answers what the query names: 1 for a match, 0 where it names none, -0.5 where the product's is unknown, -1 for
        a conflict. Of an attribute that is itself called `type`, `category`, `slots` or `words`, it is
        `query_A_attribute_answer`.
        """
        taken = set(OTHER_ANSWERS)
        answers = [f"{name}_attribute" if name.lower() in taken else name for name in self.lexicon.attributes]
        names = [*(f"query_{name}_answer" for name in (*answers, *OTHER_ANSWERS)), *CATALOGUE_COLUMNS]
        if self.tasks:
            names += ["query_type_same", *(f"query_relevance_{task}" for task in self.tasks)]
        return tuple(Feature(name=name, side=Side.INTERACTION, kind=Kind.NUMERICAL) for name in names)

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, tasks: Sequence[str] = ()) -> "QueryUnderstanding":
        """Learns from the catalogue.

        Args:
            catalogue: The products.
            tasks: The tasks whose labels will teach relevance, with `with_log`; none for the catalogue alone.

        Returns:
            What is learned.
        """
        if catalogue.categories is None:
            catalogue = with_heads(catalogue)
        lexicon = Lexicon.learn(catalogue)
        return cls(lexicon, CodedProducts.of(lexicon, catalogue), tuple(tasks))

    def with_log(self, readings: QueryReadings, rows: ShownRows, delay_us: int = 0) -> "QueryUnderstanding":
        """Learns from training searches also.

        Args:
            readings: Their queries, as `read` gives them.
            rows: The products that they showed, with the labels of `tasks`; no search that is not for training.
            delay_us: How long after a search its labels are known.

        Returns:
            What is learned; a search is read with what its past had taught.
        """
        stages = learn_stages(self.reader, readings, rows, delay_us)
        whole = QueryUnderstanding(self.lexicon, self.products, self.tasks, stages)
        # The reader depends on lexicon and products alone, so that it is not made again.
        whole.__dict__["reader"] = self.reader
        return whole

    def read(self, queries: Sequence[str]) -> QueryReadings:
        """Reads queries."""
        return self.reader.read(queries)

    def compute(
        self,
        readings: QueryReadings,
        query_idx: Int32[np.ndarray, " rows"],
        product_idx: Int32[np.ndarray, " rows"],
        times_us: Int64[np.ndarray, " rows"],
    ) -> Float32[np.ndarray, "rows features"]:
        """The features of rows.

        Args:
            readings: The queries.
            query_idx: The query of each row.
            product_idx: Its product; the number of products for one that the catalogue has not.
            times_us: When its search was; it is read with what was learned from labels that were known before.

        Returns:
            The features, in the order of `features`; a relevance of 1, the mean, before anything was learned.
        """
        pairs, of_row = np.unique(query_idx.astype(np.int64) << 32 | product_idx, return_inverse=True)
        query, product = (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32)
        comparison = readings.compare(query, product)
        values = _of_catalogue(comparison)[of_row]
        if not self.tasks:
            return values
        stage_of_row = np.searchsorted([stage.known_us for stage in self.stages], times_us, side="left")
        learned = np.empty((len(of_row), 1 + len(self.tasks)), np.float32)
        for stage in np.unique(stage_of_row).tolist():
            rows = stage_of_row == stage
            columns = self._learned(stage, readings, query, product, comparison)
            learned[rows, 0] = columns.same[of_row[rows]]
            learned[rows, 1:] = columns.relevance[of_row[rows]]
        return np.concatenate([values, learned], axis=1)

    def _learned(
        self,
        stage: int,
        readings: QueryReadings,
        query: Int32[np.ndarray, " pairs"],
        product: Int32[np.ndarray, " pairs"],
        comparison: Comparison,
    ) -> LearnedColumns:
        """What the first stages say of pairs; before the first one, what holds of a shop without a log."""
        learned = self.stages[stage - 1].learned if stage else LearnedRelevance.of_no_log(len(self.tasks))
        return learned.compute(self.reader, readings, query, product, comparison)

    def save(self, folder: Path) -> None:
        """Writes everything into a folder; the same content gives the same bytes."""
        parts = {
            "lexicon": (self.lexicon.names, self.lexicon.arrays),
            "products": ({}, self.products.arrays),
            "tasks": ({"names": list(self.tasks)}, {}),
        }
        if self.stages:
            parts["learned"] = stages_to_plain(self.stages)
        save_parts(folder, parts)

    @classmethod
    def load(cls, folder: Path) -> "QueryUnderstanding":
        """Reads what `save` wrote; what is no such folder is a `UserError`."""
        parts = load_parts(folder)
        try:
            lexicon = Lexicon(*parts["lexicon"])
            products = CodedProducts(parts["products"][1])
            stages = stages_of_plain(*parts["learned"]) if "learned" in parts else ()
            tasks = tuple(parts["tasks"][0]["names"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder} must hold a whole query understanding, but {error} is missing; save it again"
            ) from error
        return cls(lexicon, products, tasks, stages)


def _of_catalogue(comparison: Comparison) -> Float32[np.ndarray, "pairs features"]:
    parts = [
        ANSWERS[comparison.statuses],
        comparison.n_match[:, None],
        comparison.n_conflict[:, None],
        comparison.n_unknown[:, None],
        comparison.share[:, None],
        comparison.category_probability[:, None],
        comparison.type_probability[:, None],
    ]
    return np.concatenate([part.astype(np.float32) for part in parts], axis=1)
