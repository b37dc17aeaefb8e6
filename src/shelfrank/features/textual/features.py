"""All text features of pairs of a query and a product."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.textual.attributes import AttributeMentions, AttributeValues, fold_values, read_values
from shelfrank.features.textual.comparison import WORD_FEATURES, WordComparison
from shelfrank.features.textual.products import ProductWords
from shelfrank.features.textual.trigrams import Trigrams
from shelfrank.features.textual.words import (
    MAX_PRODUCT_WORDS,
    MAX_QUERY_WORDS,
    Ragged,
    Vocabulary,
    distinct,
    read_texts,
    singular,
)


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


class ProductTexts:
    """The product table's side of the text features: read once, compared with any queries.

    Args:
        titles: Title of each product.
        documents: Document of each product.
        attributes: For each attribute that a query may name, its value in each product.

    Attributes:
        features: The features of a pair, in their order.
        truncated: Texts that had more words than are read, by reason.
    """

    def __init__(
        self, titles: Sequence[str], documents: Sequence[str], attributes: Mapping[str, Sequence[str | None]]
    ) -> None:
        sizes = {"documents": len(documents), **{name: len(values) for name, values in attributes.items()}}
        for name, size in sizes.items():
            assert size == len(titles), f"every product must have its {name}: {len(titles)} titles, {size} values"
        self.features = text_features(attributes)
        self.truncated: dict[str, int] = {}
        vocabulary = Vocabulary()
        self._titles = _read("titles", titles, MAX_PRODUCT_WORDS, vocabulary, self.truncated)
        read_documents = _read("documents", documents, MAX_PRODUCT_WORDS, vocabulary, self.truncated)
        self._products = ProductWords(self._titles, read_documents, len(vocabulary))
        self._trigrams = Trigrams(vocabulary)
        spellings = [read_values(values, vocabulary) for values in attributes.values()]
        singulars = Vocabulary()
        to_singular = np.array([singulars[singular(word)] for word in vocabulary] if attributes else [], np.int32)

        def in_singular(words: Ragged) -> Ragged:
            return Ragged(to_singular[words.values], words.starts)

        title_words = distinct(in_singular(self._titles)) if attributes else self._titles
        self._values = [
            AttributeValues(title_words, *fold_values(in_singular(words), of_product), len(singulars))
            for words, of_product in spellings
        ]
        self._vocabulary, self._singulars = dict(vocabulary), dict(singulars)

    def read(self, queries: Sequence[str]) -> "QueryTexts":
        """Reads queries; neither these nor earlier ones change what the products hold."""
        truncated: dict[str, int] = {}
        vocabulary = Vocabulary()
        words = _read("queries", queries, MAX_QUERY_WORDS, vocabulary, truncated)
        own = list(vocabulary)
        word_ids = _ids_of(own, self._vocabulary)
        comparison = WordComparison(words, own, word_ids, self._titles, self._products, self._trigrams)
        singular_ids = _ids_of([singular(word) for word in own], self._singulars)
        in_singular = Ragged(singular_ids[words.values], words.starts)
        mentions = [values.named_by(in_singular) for values in self._values]
        return QueryTexts(self.features, truncated, comparison, mentions)


@dataclass(frozen=True)
class QueryTexts:
    """Some queries that were read, beside the products they are compared with.

    Attributes:
        features: The features that `compute` gives, in its order.
        truncated: Queries that had more words than are read, by reason.
        words: Compares the words.
        mentions: What the queries name of each attribute.
    """

    features: tuple[Feature, ...]
    truncated: dict[str, int]
    words: WordComparison
    mentions: list[AttributeMentions]

    def compute(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows n"]:
        """The features of pairs, given by their places in the texts; each distinct pair is computed once."""
        lowest = min(query_idx.min(initial=0), product_idx.min(initial=0))
        assert lowest >= 0, f"places in the texts must not be negative, but one is {lowest}"
        pairs, inverse = np.unique(query_idx.astype(np.int64) << 32 | product_idx, return_inverse=True)
        query, product = (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32)
        values = np.empty((len(pairs), len(self.features)), np.float32)
        values[:, : len(WORD_FEATURES)] = self.words.compute(query, product)
        column = len(WORD_FEATURES)
        for mentions in self.mentions:
            for value in mentions.compare(query, product):
                values[:, column] = value
                column += 1
        return values[inverse]


class TextFeatures:
    """How alike a query's and a product's texts are (Paper: Sec. 3.3; the paper names no formula).

    `docs/text_features.md` defines every feature. Words are runs of letters and digits, folded to lower case; a text
    is read up to a fixed number of words. A pair's values depend on its query's text and on the product table only:
    not on the order of either table, on other queries, or on the other pairs of a batch. A service therefore reads
    the products once, as `ProductTexts`, and each query when it comes.

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
        products = ProductTexts(titles, documents, attributes)
        self._queries = products.read(queries)
        self.features = products.features
        self.truncated = self._queries.truncated | products.truncated

    def compute(
        self, query_idx: Int32[np.ndarray, " rows"], product_idx: Int32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows n"]:
        """The features of pairs, given by their places in the texts; each distinct pair is computed once."""
        return self._queries.compute(query_idx, product_idx)


def _read(name: str, texts: Sequence[str], limit: int, vocabulary: Vocabulary, truncated: dict[str, int]) -> Ragged:
    words, n_cut = read_texts(texts, limit, vocabulary)
    if n_cut:
        truncated[f"{name} of more than {limit} words"] = n_cut
    return words


def _ids_of(words: Sequence[str], known: Mapping[str, int]) -> Int32[np.ndarray, " words"]:
    """The words' ids; one that is not known gets an id of its own beyond those that are."""
    return np.array([known.get(word, len(known) + place) for place, word in enumerate(words)], np.int32)
