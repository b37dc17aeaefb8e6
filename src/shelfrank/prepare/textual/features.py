"""All text features of pairs of a query and a product."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int32

from shelfrank.prepare.textual.attributes import AttributeMentions, fold_values, read_values
from shelfrank.prepare.textual.comparison import WORD_FEATURES, WordComparison
from shelfrank.prepare.textual.products import ProductWords
from shelfrank.prepare.textual.trigrams import Trigrams
from shelfrank.prepare.textual.words import (
    MAX_PRODUCT_WORDS,
    MAX_QUERY_WORDS,
    Ragged,
    Vocabulary,
    distinct,
    read_texts,
    singular,
)
from shelfrank.schema import Feature, Kind, Side


def text_features(attributes: Iterable[str]) -> tuple[Feature, ...]:
    """The features that `TextFeatures` gives for these product attributes, in its order."""
    named = [
        each
        for name in attributes
        for each in (
            (f"query_names_{name}", Side.QUERY),
            (f"{name}_matched", Side.INTERACTION),
            (f"{name}_conflict", Side.INTERACTION),
        )
    ]
    return tuple(Feature(name=name, side=side, kind=Kind.NUMERICAL) for name, side in (*WORD_FEATURES, *named))


class TextFeatures:
    """How alike a query's and a product's texts are (Paper: Sec. 3.3; the paper names no formula).

    `docs/text_features.md` defines every feature. Words are runs of letters and digits, folded to lower case; a text
    is read up to a fixed number of words. A pair's values depend on its query's text and on the product table only:
    not on the order of either table, on other queries, or on the other pairs of a batch.

    Cost: compact arrays, about 0.1 KB a text: 0.4 GB for 1 million products and 3 million queries, and another 0.6 GB
    while they are read. The object can be pickled.

    Args:
        queries: Query texts.
        titles: Title of each product.
        documents: Document of each product.
        attributes: For each attribute that a query may name, its value in each product.

    Attributes:
        features: The features that `compute` gives, in its order.
        truncated: Texts that had more words than are read, by reason.
    """

    def __init__(
        self,
        queries: Sequence[str],
        titles: Sequence[str],
        documents: Sequence[str],
        attributes: Mapping[str, Sequence[str | None]],
    ) -> None:
        sizes = {"documents": len(documents), **{name: len(values) for name, values in attributes.items()}}
        for name, size in sizes.items():
            assert size == len(titles), f"every product must have its {name}: {len(titles)} titles, {size} values"
        self.features = text_features(attributes)
        self.truncated: dict[str, int] = {}
        vocabulary = Vocabulary()
        query_words = self._read("queries", queries, MAX_QUERY_WORDS, vocabulary)
        title_words = self._read("titles", titles, MAX_PRODUCT_WORDS, vocabulary)
        document_words = self._read("documents", documents, MAX_PRODUCT_WORDS, vocabulary)
        products = ProductWords(title_words, document_words, len(vocabulary))
        self._words = WordComparison(query_words, title_words, products, Trigrams(vocabulary))
        self._mentions = _find_mentions(attributes, query_words, title_words, vocabulary)

    def compute(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows n"]:
        """The features of pairs, given by their places in the texts; each distinct pair is computed once."""
        lowest = min(query_idx.min(initial=0), product_idx.min(initial=0))
        assert lowest >= 0, f"places in the texts must not be negative, but one is {lowest}"
        pairs, inverse = np.unique(query_idx.astype(np.int64) << 32 | product_idx, return_inverse=True)
        query, product = (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32)
        values = np.empty((len(pairs), len(self.features)), np.float32)
        values[:, : len(WORD_FEATURES)] = self._words.compute(query, product)
        column = len(WORD_FEATURES)
        for mentions in self._mentions:
            for value in mentions.compare(query, product):
                values[:, column] = value
                column += 1
        return values[inverse]

    def _read(self, name: str, texts: Sequence[str], limit: int, vocabulary: Vocabulary) -> Ragged:
        words, n_cut = read_texts(texts, limit, vocabulary)
        if n_cut:
            self.truncated[f"{name} of more than {limit} words"] = n_cut
        return words


def _find_mentions(
    attributes: Mapping[str, Sequence[str | None]], queries: Ragged, titles: Ragged, vocabulary: Vocabulary
) -> list[AttributeMentions]:
    if not attributes:
        return []
    spellings = [read_values(values, vocabulary) for values in attributes.values()]
    ids = Vocabulary()
    to_singular = np.array([ids[singular(word)] for word in vocabulary], np.int32)

    def in_singular(words: Ragged) -> Ragged:
        return Ragged(to_singular[words.values], words.starts)

    queries, titles = in_singular(queries), distinct(in_singular(titles))
    return [
        AttributeMentions(queries, titles, *fold_values(in_singular(words), of_product), len(ids))
        for words, of_product in spellings
    ]
