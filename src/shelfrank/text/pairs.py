"""Positive pairs of queries and product documents, and the false negatives of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64


@dataclass(frozen=True)
class Pairs:
    """Unique pairs of a query and the document of a product that was chosen for it.

    Attributes:
        queries: The unique queries.
        documents: The unique documents.
        query_idx: Each pair's query.
        document_idx: Each pair's document; pairs are sorted by query, then document, each once.
        counts: How often each pair occurs.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    query_idx: Int64[np.ndarray, " pairs"]
    document_idx: Int64[np.ndarray, " pairs"]
    counts: Int64[np.ndarray, " pairs"]

    @classmethod
    def unique(cls, queries: Sequence[str], documents: Sequence[str], counts: Sequence[int] | None = None) -> "Pairs":
        """Deduplicates pairs; texts that differ only in case and spaces are equal.

        Args:
            queries: A query for each pair.
            documents: Its product's document.
            counts: How often each pair occurs; None counts each once.

        Returns:
            The unique pairs, in an order that depends on the texts alone.
        """
        return cls.numbered(queries, documents, counts)[0]

    @classmethod
    def numbered(
        cls, queries: Sequence[str], documents: Sequence[str], counts: Sequence[int] | None = None
    ) -> tuple["Pairs", Int64[np.ndarray, " given"]]:
        """The unique pairs of `unique`, and which of them each given one is."""
        unique_queries, query_of = _numbered(queries)
        unique_documents, document_of = _numbered(documents)
        n_documents = len(unique_documents)
        codes = query_of * n_documents + document_of
        unique, pair_of = np.unique(codes, return_inverse=True)
        totals = np.zeros(len(unique), dtype=np.int64)
        np.add.at(totals, pair_of, 1 if counts is None else np.asarray(counts, dtype=np.int64))
        divisor = max(n_documents, 1)
        return cls(unique_queries, unique_documents, unique // divisor, unique % divisor, totals), pair_of

    def __len__(self) -> int:
        return len(self.query_idx)

    def known_positives(self, batch: Int64[np.ndarray, " batch"]) -> Bool[np.ndarray, "batch batch"]:
        """Whether the document of a column is a known positive of the query of a row, the diagonal included.

        Off the diagonal, such a column is a false negative: a repeated document, or another document that is a
        positive of the query in any training pair.

        Args:
            batch: Pairs of the batch.

        Returns:
            True for training pairs.
        """
        n_documents = len(self.documents)
        known = self.query_idx * n_documents + self.document_idx
        candidates = self.query_idx[batch][:, None] * n_documents + self.document_idx[batch][None, :]
        place = np.minimum(np.searchsorted(known, candidates), len(known) - 1)
        return known[place] == candidates


def _numbered(texts: Sequence[str]) -> tuple[tuple[str, ...], Int64[np.ndarray, " texts"]]:
    keys = [" ".join(text.lower().split()) for text in texts]
    # The smallest spelling in code points represents equal texts, independent of the order of rows.
    spelling: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        spelling[key] = min(spelling.get(key, text), text)
    number = {key: index for index, key in enumerate(sorted(spelling))}
    return tuple(spelling[key] for key in number), np.array([number[key] for key in keys], dtype=np.int64)
