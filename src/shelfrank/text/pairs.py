"""Positive pairs of queries and product documents, and which of a batch's pairs are no negatives."""

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
        counts: How often the pair was seen.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    query_idx: Int64[np.ndarray, " pairs"]
    document_idx: Int64[np.ndarray, " pairs"]
    counts: Int64[np.ndarray, " pairs"]

    @classmethod
    def unique(cls, queries: Sequence[str], documents: Sequence[str], counts: Sequence[int] | None = None) -> "Pairs":
        """Makes pairs unique; texts that differ only in case and spaces are the same text.

        Args:
            queries: A query for each pair.
            documents: Its product's document.
            counts: How often each was seen; None counts each once.

        Returns:
            The unique pairs, in an order that depends on the texts alone.
        """
        one, query_of = _numbered(queries)
        other, document_of = _numbered(documents)
        codes = query_of * len(other) + document_of
        unique, pair_of = np.unique(codes, return_inverse=True)
        seen = np.zeros(len(unique), dtype=np.int64)
        np.add.at(seen, pair_of, 1 if counts is None else np.asarray(counts, dtype=np.int64))
        return cls(one, other, unique // max(len(other), 1), unique % max(len(other), 1), seen)

    def __len__(self) -> int:
        return len(self.query_idx)

    def known_positives(self, batch: Int64[np.ndarray, " batch"]) -> Bool[np.ndarray, "batch batch"]:
        """Whether the document in a column is known to suit the query in a row, the diagonal included.

        Such a column is a false negative unless it is the row's own: the same product or document again, another
        product chosen for the same query, or one chosen for it elsewhere in the training pairs.

        Args:
            batch: Pairs of the batch.

        Returns:
            True where the two make a training pair.
        """
        n_documents = len(self.documents)
        known = self.query_idx * n_documents + self.document_idx
        asked = self.query_idx[batch][:, None] * n_documents + self.document_idx[batch][None, :]
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return known[place] == asked


def _numbered(texts: Sequence[str]) -> tuple[tuple[str, ...], Int64[np.ndarray, " texts"]]:
    keys = [" ".join(text.lower().split()) for text in texts]
    # Of spellings that count as one, the least in code points stands for all, whatever the order of rows.
    spelling: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        spelling[key] = min(spelling.get(key, text), text)
    number = {key: index for index, key in enumerate(sorted(spelling))}
    return tuple(spelling[key] for key in number), np.array([number[key] for key in keys], dtype=np.int64)
