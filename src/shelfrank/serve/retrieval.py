"""Candidates for the page: words by tantivy, meaning by exact cosines, fused by reciprocal rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from shelfrank.core.errors import UserError

RANK_CONSTANT = 60
"""Constant of reciprocal rank fusion: the larger, the more slowly a rank loses weight."""
TITLE_BOOST = 2.0
SPELLING_SCORE = 3.0
"""Score of a match one edit away from a query's word; an exact match of a rare word scores more."""
MIN_LENGTH = 4
"""Minimum length of a word that may be misspelt; shorter words are near too many others."""
MAX_WORDS = 32
INDEX_BYTES = 64_000_000
DOCUMENTS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Retrieved:
    """Candidates, best first.

    Attributes:
        rows: Their rows in the catalogue.
        by_words: Number of candidates that share a word with the query.
        by_meaning: Number of candidates among the nearest by cosine.
    """

    rows: Int64[np.ndarray, " retrieved"]
    by_words: int
    by_meaning: int


class Retrieval:
    """Retrieves products in memory; the index is built at the start, in about 20 seconds per million products.

    Args:
        titles: One per product.
        documents: One per product: title, categories, texts.
        embeddings: One per product at length 1; None retrieves by words alone.
    """

    def __init__(
        self, titles: Sequence[str], documents: Sequence[str], embeddings: Float[np.ndarray, "products d"] | None
    ) -> None:
        try:
            import tantivy
        except ImportError as error:
            raise UserError("the page needs tantivy; install it with: pip install 'shelfrank[serve]'") from error
        self._tantivy: Any = tantivy
        steps = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        for step in (
            tantivy.Filter.remove_long(64),
            tantivy.Filter.lowercase(),
            tantivy.Filter.ascii_fold(),
            tantivy.Filter.stemmer("english"),
        ):
            steps = steps.filter(step)
        self._analyzer = steps.build()
        builder = tantivy.SchemaBuilder()
        for field in ("title", "document"):
            builder.add_text_field(field, tokenizer_name="words", index_option="freq")
        builder.add_unsigned_field("row", stored=True)
        self._schema = builder.build()
        self._index = tantivy.Index(self._schema)
        self._index.register_tokenizer("words", self._analyzer)
        writer = self._index.writer(INDEX_BYTES, num_threads=1)
        for row, (title, document) in enumerate(zip(titles, documents, strict=True)):
            writer.add_document(tantivy.Document(title=title, document=document, row=row))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()
        self._embeddings = embeddings

    def find(self, query: str, query_vector: Float[np.ndarray, " d"] | None, n: int) -> Retrieved:
        """Retrieves candidates for a query.

        Args:
            query: Any text.
            query_vector: Its embedding at length 1; None retrieves by words alone.
            n: Maximum number of candidates.

        Returns:
            The candidates.
        """
        by_words, by_meaning = self._by_words(query, n), self._by_meaning(query_vector, n)
        fused: dict[int, float] = {}
        for rows in (by_words, by_meaning):
            for rank, row in enumerate(rows, start=1):
                fused[row] = fused.get(row, 0.0) + 1 / (RANK_CONSTANT + rank)
        rows = sorted(fused, key=lambda row: (-fused[row], row))[:n]
        return Retrieved(
            rows=np.array(rows, dtype=np.int64),
            by_words=len(set(rows) & set(by_words)),
            by_meaning=len(set(rows) & set(by_meaning)),
        )

    def words(self, text: str) -> list[str]:
        """Splits a text into the words of the index, each once."""
        return list(dict.fromkeys(self._analyzer.analyze(text)))[:MAX_WORDS]

    def _by_words(self, query: str, n: int) -> list[int]:
        words = self.words(query)
        if not words:
            return []
        exact = [self._exactly(word) for word in words]
        # A word that no product has may be misspelt.
        unknown = [word for word in words if len(word) >= MIN_LENGTH and not self._is_known(word)]
        if not unknown:
            return self._search(exact, n)
        return self._search([*exact, *(self._nearly(word) for word in unknown)], n)

    def _search(self, clauses: list[Any], n: int) -> list[int]:
        query = self._tantivy.Query.boolean_query([(self._tantivy.Occur.Should, clause) for clause in clauses])
        hits = self._searcher.search(query, limit=n, count=False).hits
        return [self._searcher.doc(address)["row"][0] for _, address in hits]

    def _exactly(self, word: str) -> Any:
        query = self._tantivy.Query
        return query.disjunction_max_query(
            [
                query.boost_query(query.term_query(self._schema, "title", word, index_option="freq"), TITLE_BOOST),
                query.term_query(self._schema, "document", word, index_option="freq"),
            ]
        )

    def _nearly(self, word: str) -> Any:
        query = self._tantivy.Query
        return query.boost_query(query.fuzzy_term_query(self._schema, "document", word, distance=1), SPELLING_SCORE)

    def _is_known(self, word: str) -> bool:
        return self._searcher.doc_freq("document", word) > 0

    def _by_meaning(self, query_vector: Float[np.ndarray, " d"] | None, n: int) -> list[int]:
        if query_vector is None or self._embeddings is None or not len(self._embeddings):
            return []
        vector = query_vector.astype(np.float32)
        cosines = np.empty(len(self._embeddings), dtype=np.float32)
        for start in range(0, len(cosines), DOCUMENTS_AT_ONCE):
            some = slice(start, start + DOCUMENTS_AT_ONCE)
            cosines[some] = self._embeddings[some].astype(np.float32) @ vector
        # A product without text has no direction.
        cosines = np.nan_to_num(cosines, nan=-np.inf)
        n = min(n, len(cosines))
        nearest = np.argpartition(-cosines, n - 1)[:n]
        return nearest[np.lexsort((nearest, -cosines[nearest]))].tolist()
