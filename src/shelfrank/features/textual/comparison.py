"""Word-by-word comparison of a query with a product's title and document."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from shelfrank.core.schema import Side
from shelfrank.features.textual.products import ProductWords
from shelfrank.features.textual.trigrams import Trigrams
from shelfrank.features.textual.words import Ragged, distinct

WORD_FEATURES = (
    ("query_in_title", Side.INTERACTION),
    ("query_in_document", Side.INTERACTION),
    ("query_in_document_idf", Side.INTERACTION),
    ("title_jaccard", Side.INTERACTION),
    ("title_bm25", Side.INTERACTION),
    ("document_bm25", Side.INTERACTION),
    ("title_char_ngram", Side.INTERACTION),
    ("query_phrase_in_title", Side.INTERACTION),
    ("query_length", Side.QUERY),
)
_PAIRS_AT_ONCE = 8192
# Different, so that padding never equals padding.
_PRODUCT_PADDING, _QUERY_PADDING = -1, -2
_NO_WORD = -1
"""Padding of a query's own word ids."""


@dataclass(frozen=True)
class _AlikeWords:
    """Query words that a title lacks, by the queries' own ids, beside each of its words that may be spelled alike."""

    slots: Int64[np.ndarray, " n"]
    query_words: Int64[np.ndarray, " n"]
    title_words: Int64[np.ndarray, " n"]


class WordComparison:
    """Computes `WORD_FEATURES`.

    Pairs are compared some thousands at a time, of like lengths, one line of memory for each position of a word, so
    that every step is a plain operation on vectors that fit the cache.

    Args:
        queries: Words of each query, by ids of their own.
        query_vocabulary: The words that these ids stand for.
        word_ids: Of each of them, its id among the products' words.
        titles: Words of each title.
        products: Distinct words of each product, with their counts.
        trigrams: Of the products' words.
    """

    def __init__(
        self,
        queries: Ragged,
        query_vocabulary: Sequence[str],
        word_ids: Int32[np.ndarray, " query_vocabulary"],
        titles: Ragged,
        products: ProductWords,
        trigrams: Trigrams,
    ) -> None:
        self._queries, self._titles, self._products = queries, titles, products
        self._word_trigrams = trigrams
        self._trigrams = Trigrams(query_vocabulary, others=trigrams)
        # The last entry is what the padding of a query stands for: an id that no product has either.
        self._word_ids = np.append(word_ids, np.int32(_QUERY_PADDING))
        self._query_words = distinct(queries)
        weights = products.document_idf.take(word_ids[self._query_words.values], mode="clip")
        self._query_idf = _sum_by_row(self._query_words.owners, weights, len(queries.lengths))

    def compute(
        self, query_idx: Int32[np.ndarray, " pairs"], product_idx: Int32[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, "pairs 9"]:
        """The features of distinct pairs."""
        values = np.zeros((len(query_idx), len(WORD_FEATURES)), np.float32)
        n_found = np.zeros(len(query_idx), np.uint8)
        query_lengths = self._query_words.lengths_of(query_idx)
        lengths = query_lengths << 8 | self._products.words.lengths_of(product_idx)
        order = np.argsort(lengths.astype(np.uint16), kind="stable")
        alike = []
        for start in range(0, len(order), _PAIRS_AT_ONCE):
            rows = order[start : start + _PAIRS_AT_ONCE]
            values[rows], n_found[rows], some = self._compare(query_idx[rows], product_idx[rows], rows)
            alike.append(some)
        best = n_found + self._similarity_of_missing(alike, len(query_idx))
        values[:, 6] = best / np.maximum(query_lengths, 1)
        return values

    def _compare(
        self, query: Int32[np.ndarray, " n"], product: Int32[np.ndarray, " n"], rows: Int64[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, "n 9"], UInt8[np.ndarray, " n"], _AlikeWords]:
        products = self._products
        own_ids = self._query_words.columns(query, _NO_WORD)
        query_words = self._word_ids[own_ids]
        words = products.words.columns(product, _PRODUCT_PADDING)
        places = _places(words, query_words)
        held = np.flatnonzero(places)
        entry = products.words.starts[product[held % len(query)]] + places.ravel()[held] - 1
        in_title, in_document = np.zeros_like(places), np.zeros_like(places)
        in_title.ravel()[held], in_document.ravel()[held] = products.in_title[entry], products.in_document[entry]
        n_query = self._query_words.lengths_of(query)
        n_found = np.count_nonzero(in_title, axis=0).astype(np.uint8)
        n_title = products.n_title_words[product]
        idf_found = np.zeros(len(query))
        for word, count in zip(query_words, in_document, strict=True):
            idf_found += products.document_idf.take(word, mode="clip") * (count > 0)
        some = np.maximum(n_query, 1)
        values = np.empty((len(query), len(WORD_FEATURES)), np.float32)
        values[:, 0] = n_found / some
        values[:, 1] = np.count_nonzero(in_document, axis=0) / some
        values[:, 2] = idf_found / np.maximum(self._query_idf[query], 1e-6)
        values[:, 3] = n_found / np.maximum(n_query + n_title - n_found, 1)
        values[:, 4] = products.title.scores(query_words, in_title, product)
        values[:, 5] = products.document.scores(query_words, in_document, product)
        values[:, 7] = self._phrase_in_title(query, product, (n_found == n_query) & (n_query > 0))
        values[:, 8] = self._queries.lengths_of(query)
        missing = (query_words != _QUERY_PADDING) & (in_title == 0)
        return values, n_found, self._alike_words(own_ids, missing, words, n_title, rows)

    def _phrase_in_title(
        self, query: Int32[np.ndarray, " n"], product: Int32[np.ndarray, " n"], all_found: Bool[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        lengths = self._queries.lengths_of(query)
        found = all_found & (lengths == 1)
        rows = np.flatnonzero(all_found & (lengths > 1))
        words = self._word_ids[self._queries.columns(query[rows], _NO_WORD)]
        title = self._titles.columns(product[rows], _PRODUCT_PADDING)
        # Line i tells whether the words so far follow each other in the title from its place i on.
        follow = np.ones(title.shape, dtype=bool)
        for place, word in enumerate(words):
            past_end = word == _QUERY_PADDING
            n_places = max(len(title) - place, 0)
            follow[:n_places] &= (title[place:] == word) | past_end
            follow[n_places:] &= past_end
        found[rows] = follow.any(axis=0)
        return found

    def _alike_words(
        self,
        query_words: Int32[np.ndarray, "n_query n"],
        missing: Bool[np.ndarray, "n_query n"],
        words: Int32[np.ndarray, "n_words n"],
        n_title: UInt8[np.ndarray, " n"],
        rows: Int64[np.ndarray, " n"],
    ) -> _AlikeWords:
        columns = np.flatnonzero(missing.any(axis=0))
        n_title = n_title[columns]
        n_lines = int(n_title.max(initial=0))
        beyond = np.arange(n_lines)[:, None] >= n_title
        title = words[:n_lines].take(columns, axis=1, mode="clip")
        np.copyto(title, _PRODUCT_PADDING, where=beyond)
        signatures = self._word_trigrams.signature.take(title, mode="wrap")
        slots, lefts, rights = [], [], []
        for slot, (word, is_missing) in enumerate(zip(query_words, missing, strict=True)):
            at = np.flatnonzero(is_missing[columns])
            left = word[columns[at]]
            others = signatures if len(at) == len(columns) else signatures.take(at, axis=1, mode="clip")
            line, pair = np.divmod(np.flatnonzero(self._trigrams.may_be_alike(left, others)), max(len(at), 1))
            right = title[line, at[pair]]
            real = right != _PRODUCT_PADDING
            pair, right = pair[real], right[real]
            slots.append(rows[columns[at[pair]]] << 8 | slot)
            lefts.append(left[pair])
            rights.append(right)
        return _AlikeWords(*(np.concatenate([np.empty(0, np.int64), *parts]) for parts in (slots, lefts, rights)))

    def _similarity_of_missing(self, alike: list[_AlikeWords], n_pairs: int) -> Float64[np.ndarray, " pairs"]:
        """The sum over a pair's query words that the title lacks of the best similarity with a word of the title."""
        slots, left, right = (
            np.concatenate([np.empty(0, np.int64), *(getattr(some, name) for some in alike)])
            for name in ("slots", "query_words", "title_words")
        )
        dice = self._trigrams.dice(left, self._word_trigrams, right)
        slots, dice = slots[dice > 0], dice[dice > 0]
        order = np.lexsort((dice, slots))
        slots, dice = slots[order], dice[order]
        last = np.append(slots[1:] != slots[:-1], True)[: len(slots)]
        return _sum_by_row(slots[last] >> 8, dice[last], n_pairs)


def _sum_by_row(
    rows: Int64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"], n_rows: int
) -> Float64[np.ndarray, " n_rows"]:
    """Sums of each row's weights, added in their order; float where there are none, too."""
    return np.bincount(rows, weights=weights, minlength=n_rows).astype(np.float64)


def _places(
    words: Int32[np.ndarray, "n_words n"], query_words: Int32[np.ndarray, "n_query n"]
) -> UInt8[np.ndarray, "n_query n"]:
    """Where each of the query's words stands among the product's distinct words, from 1; 0 where it does not."""
    place = np.arange(1, len(words) + 1, dtype=np.uint8)[:, None]
    found = np.zeros(query_words.shape, np.uint8)
    for line, word in enumerate(query_words):
        # A word stands at one place at most, so that the sum is that place.
        np.add.reduce((words == word).view(np.uint8) * place, axis=0, dtype=np.uint8, out=found[line])
    return found
