"""Handcrafted text similarity between query and product (Paper: Sec. 3.3, interaction features)."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from shelfrank.schema import Feature, Kind, Side

WORD = re.compile(r"[^\W_]+")
MAX_QUERY_WORDS = 12
MAX_PRODUCT_WORDS = 48

OVERLAP_FEATURES = tuple(
    Feature(name=name, side=Side.INTERACTION, kind=Kind.NUMERICAL)
    for name in ("query_in_title", "query_in_document", "query_in_document_idf")
)


class TextOverlap:
    """Shares of a query's words that a product's words contain.

    Words are runs of letters and digits, folded to lower case. A text's distinct words beyond a fixed number are not
    compared; `truncated` counts the texts concerned.
    """

    def __init__(self, queries: Sequence[str], titles: Sequence[str], documents: Sequence[str]) -> None:
        self.truncated = 0
        vocabulary: dict[str, int] = {}
        self._titles = self._word_ids(titles, MAX_PRODUCT_WORDS, vocabulary)
        self._documents = self._word_ids(documents, MAX_PRODUCT_WORDS, vocabulary)
        self._queries = self._word_ids(queries, MAX_QUERY_WORDS, vocabulary)
        present = np.bincount(self._documents[self._documents >= 0], minlength=max(len(vocabulary), 1))
        self._idf = np.log1p(len(documents) / (1.0 + present)).astype(np.float32)

    def features(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows 3"]:
        """The three shares of `OVERLAP_FEATURES` for pairs of a query and a product; 0 for a query without words."""
        words = self._queries[query_idx]
        real = words >= 0
        in_title = _contains(self._titles[product_idx], words) & real
        in_document = _contains(self._documents[product_idx], words) & real
        idf = np.where(real, self._idf[words], 0.0).astype(np.float32)
        n = np.maximum(real.sum(axis=1), 1)
        weight = np.maximum(idf.sum(axis=1), 1e-6)
        shares = (
            in_title.sum(axis=1) / n,
            in_document.sum(axis=1) / n,
            (idf * in_document).sum(axis=1) / weight,
        )
        return np.stack(shares, axis=1).astype(np.float32)

    def _word_ids(
        self, texts: Sequence[str], width: int, vocabulary: dict[str, int]
    ) -> Int32[np.ndarray, "texts width"]:
        ids = np.full((len(texts), width), -1, dtype=np.int32)
        for row, text in enumerate(texts):
            words = list(dict.fromkeys(WORD.findall(text.casefold())))
            self.truncated += len(words) > width
            for column, word in enumerate(words[:width]):
                ids[row, column] = vocabulary.setdefault(word, len(vocabulary))
        return ids


def _contains(haystacks: Int32[np.ndarray, "rows n"], needles: Int32[np.ndarray, "rows m"]) -> np.ndarray:
    found = np.zeros(needles.shape, dtype=bool)
    for column in range(haystacks.shape[1]):
        words = haystacks[:, column : column + 1]
        if (words >= 0).any():
            found |= needles == words
    return found
