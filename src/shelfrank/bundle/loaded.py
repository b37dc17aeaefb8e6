"""A bundle in memory: from a page request to scores."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from shelfrank.bundle.queries import QueryEncoder, QueryReader
from shelfrank.bundle.scorers import SCORERS, Rows, Scorer
from shelfrank.bundle.spec import (
    FEATURES,
    MATCHING_TOKENIZER,
    PRODUCT_VECTORS,
    SEMANTIC_TOKENIZER,
    Precision,
    Spec,
    graph_file,
)
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import Neutral
from shelfrank.features.request import Page, PageRequest
from shelfrank.features.store import FeatureStore
from shelfrank.text.scores import widened

CACHED_QUERIES = 4096


@dataclass(frozen=True)
class ScoredPage:
    """A page with its scores.

    Attributes:
        page: The encoded page with all columns; of missing and clipped features, those that the score can depend on.
        rows: The columns that the ranker sees.
        scores: One per candidate and task, in the order of the candidates.
    """

    page: Page
    rows: Rows
    scores: Float[np.ndarray, "rows n_tasks"]


@dataclass(frozen=True)
class Bundle:
    """One version, ready to score.

    Attributes:
        name: The version's name.
        spec: The content of `bundle.json`.
        precision: Precision of its graphs.
        features: The online feature tables.
        scorer: The ranker.
        matching: Encodes queries for the ranker; None if it reads no text.
        semantic: Encodes queries for the semantic score, if possible in one pass with `matching`; None if the features
            have none.
        product_vectors: A vector per product of the catalogue and, last, that of a product without text; None if the
            ranker reads no text.
    """

    name: str
    spec: Spec
    precision: Precision
    features: FeatureStore
    scorer: Scorer
    matching: QueryEncoder | None
    semantic: QueryEncoder | None
    product_vectors: Float[np.ndarray, "products_plus_1 d"] | None

    @classmethod
    def open(
        cls,
        folder: Path,
        precision: Precision = "fp32",
        cached: int = CACHED_QUERIES,
    ) -> "Bundle":
        """Opens a version whose files match its manifest.

        Args:
            folder: The version's folder.
            precision: Precision of the graphs.
            cached: Size of the cache of query vectors.

        Returns:
            The bundle.

        Raises:
            UserError: If a file cannot be read, or the bundle has no such precision.
        """
        spec = Spec.load(folder)
        if precision not in spec.precisions:
            raise UserError(
                f"{folder} must have graphs in {precision}, but it has {', '.join(spec.precisions)}; export them too"
            )
        matching = semantic = vectors = None

        def read(graph: str, tokenizer: str, *max_tokens: int) -> tuple[QueryEncoder, ...]:
            reader = QueryReader(folder / graph_file(graph, precision), folder / tokenizer, max_tokens, cached)
            return reader.make_encoders()

        if spec.matching_tokens is not None:
            vectors = np.asarray(np.load(folder / PRODUCT_VECTORS, mmap_mode="r", allow_pickle=False))
            if spec.shares_encoder and spec.semantic_tokens is not None:
                matching, semantic = read("query", MATCHING_TOKENIZER, spec.matching_tokens, spec.semantic_tokens)
            else:
                (matching,) = read("query", MATCHING_TOKENIZER, spec.matching_tokens)
        if spec.semantic_tokens is not None and semantic is None:
            (semantic,) = read("semantic", SEMANTIC_TOKENIZER, spec.semantic_tokens)
        return cls(
            name=folder.name,
            spec=spec,
            precision=precision,
            features=FeatureStore.open(folder / FEATURES),
            scorer=SCORERS[spec.model](folder, spec, precision),
            matching=matching,
            semantic=semantic,
            product_vectors=vectors,
        )

    def score(self, request: PageRequest) -> ScoredPage:
        """Computes the features of a page, then its scores."""
        page = self.features.page(request, self.semantic_vector(request.query))
        read = {each.name for each in self.spec.request_features}
        seen = {name for name, _, _ in self.spec.columns}
        page = replace(
            page,
            missing_features={name: n for name, n in page.missing_features.items() if name in read},
            clipped_features={name: n for name, n in page.clipped_features.items() if name in seen},
        )
        n_rows = len(page.product_idx)
        position = np.arange(1, n_rows + 1) if request.positions is None else np.asarray(request.positions)
        return self._score(request.query, page, position)

    def score_neutrally(self, request: PageRequest, scored: ScoredPage, mode: Neutral) -> ScoredPage:
        """Scores the same page for a neutral customer; see `Split.neutral`.

        Args:
            request: The page request.
            scored: The page with its scores for the customer.
            mode: Definition of a neutral customer.

        Returns:
            The page with its scores.
        """
        return self._score(request.query, scored.page.neutral(mode), scored.rows.position)

    def _score(self, query: str, page: Page, position: Int[np.ndarray, " rows"]) -> ScoredPage:
        rows = self.rows(
            self.features.spelling.query(query), page.numerical, page.categorical, page.product_idx, position
        )
        return ScoredPage(page, rows, self.scorer.score(rows))

    def rows(
        self,
        query: str,
        numerical: Float32[np.ndarray, "rows all_num"],
        categorical: Int[np.ndarray, "rows all_cat"],
        product_idx: Int[np.ndarray, " rows"],
        position: Int[np.ndarray, " rows"],
    ) -> Rows:
        """Selects the columns that the ranker sees of an encoded page, and adds the vectors of its texts."""
        spec = self.spec
        return Rows(
            numerical=np.ascontiguousarray(numerical[:, spec.numerical], dtype=np.float32),
            categorical=np.ascontiguousarray(categorical[:, spec.categorical], dtype=np.int32),
            position=position,
            rates=np.ascontiguousarray(numerical[:, spec.rates], dtype=np.float32),
            query=None if self.matching is None else self.matching.vector(query),
            products=self._product_vectors(product_idx),
        )

    def semantic_vector(self, query: str) -> Float32[np.ndarray, " d"] | None:
        """The query's embedding as offline scoring stores it; None for a blank query or without a semantic score."""
        query = self.features.spelling.query(query)
        if self.semantic is None or not query.strip():
            return None
        known = self.features.query_embedding(query)
        if known is not None:
            return known.astype(np.float32)
        # Numerics: stored embeddings are float16, and a cosine must not depend on where it is computed.
        stored = self.semantic.vector(query)[0].astype(np.float16).astype(np.float32)
        return (stored / np.linalg.norm(stored)).astype(np.float16).astype(np.float32)

    def _product_vectors(self, product_idx: Int[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows d"] | None:
        if self.product_vectors is None:
            return None
        # A product that the catalogue lacks has no text.
        places = np.where(product_idx < 0, len(self.product_vectors) - 1, product_idx)
        vectors = self.product_vectors[places]
        return widened(vectors) if vectors.dtype == np.float16 else vectors
