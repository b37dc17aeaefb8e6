"""The product table's words, with the counts that BM25 and the idf share need."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from shelfrank.features.textual.words import MAX_PRODUCT_WORDS, ROWS_AT_ONCE, Ragged, ragged

K1 = 1.2
B = 0.75


class ProductWords:
    """Every product's distinct words, those of the title first, with how often title and document hold each.

    One list for both texts, so that a query is compared with it once.

    Args:
        titles: Words of each title.
        documents: Words of each document.
        n_words: Size of the vocabulary; a word beyond it is in no product.

    Attributes:
        words: The distinct words of title and document.
        in_title: For each of `words`, its count in the title.
        in_document: The same in the document.
        n_title_words: Distinct words of each title.
        title: BM25 of titles.
        document: BM25 of documents.
        document_idf: ln(1 + N / (1 + n)) of each word of the vocabulary, n of the N documents holding it; the last
            entry is that of a word that none holds.
    """

    def __init__(self, titles: Ragged, documents: Ragged, n_words: int) -> None:
        n_products = len(titles.lengths)
        parts = [
            _count(titles, documents, first, min(first + ROWS_AT_ONCE, n_products))
            for first in range(0, max(n_products, 1), ROWS_AT_ONCE)
        ]
        words, lengths, in_title, in_document = (np.concatenate(column) for column in zip(*parts, strict=True))
        self.words = ragged(words, lengths)
        self.in_title, self.in_document = in_title, in_document
        holding_title = np.bincount(words[in_title > 0], minlength=n_words + 1)
        holding_document = np.bincount(words[in_document > 0], minlength=n_words + 1)
        title_entries = np.concatenate([[0], np.cumsum(in_title > 0)])
        self.n_title_words = np.diff(title_entries[self.words.starts]).astype(np.uint8)
        self.title = BM25(titles.lengths, holding_title)
        self.document = BM25(documents.lengths, holding_document)
        self.document_idf = _by_count(holding_document, lambda n: math.log1p(n_products / (1.0 + n)))


class BM25:
    """Okapi BM25 of texts of a table: the sum over a query's distinct words of idf x saturated count.

    idf = ln(1 + (N - n + 0.5) / (n + 0.5)), never negative. The scores stay raw: a query's length and rarity scale
    them, and a ranker that compares products of one query needs no other scale.

    Args:
        lengths: Words of each text.
        holding: For each word of the vocabulary, and last for any other word, the texts that hold it.
    """

    def __init__(self, lengths: Int64[np.ndarray, " texts"], holding: Int64[np.ndarray, " vocabulary"]) -> None:
        n_texts = len(lengths)
        self.idf = _by_count(holding, lambda n: math.log1p((n_texts - n + 0.5) / (n + 0.5)))
        self._lengths = lengths.astype(np.uint8)
        mean = lengths.sum() / n_texts if lengths.any() else 1.0
        # Counts and lengths are small integers, so that the formula is a table of them.
        count = np.arange(MAX_PRODUCT_WORDS + 1)[:, None]
        length = np.arange(MAX_PRODUCT_WORDS + 1)[None, :]
        self._saturated = (count * (K1 + 1) / (count + K1 * (1 - B + B * length / mean))).ravel()

    def scores(
        self, words: Int32[np.ndarray, "width pairs"], counts: UInt8[np.ndarray, "width pairs"], texts: np.ndarray
    ) -> Float64[np.ndarray, " pairs"]:
        """Scores of pairs, from the query's distinct words and their counts in the product's text."""
        total = np.zeros(len(texts))
        lengths = self._lengths[texts].astype(np.intp)
        # Numerics: word by word, because a sum over the axis may add in another order for another number of pairs.
        for word, count in zip(words, counts, strict=True):
            held = np.multiply(count, MAX_PRODUCT_WORDS + 1, dtype=np.intp)
            held += lengths
            total += self.idf.take(word, mode="clip") * self._saturated.take(held)
        return total


def _count(
    titles: Ragged, documents: Ragged, first: int, end: int
) -> tuple[
    Int32[np.ndarray, " entries"],
    Int64[np.ndarray, " rows"],
    UInt8[np.ndarray, " entries"],
    UInt8[np.ndarray, " entries"],
]:
    """Distinct words of some products' two texts: the words, how many each product has, and their counts."""
    n_rows = end - first
    keys, places, is_title = [], [], []
    for place, texts in enumerate((titles, documents)):
        starts = texts.starts[first : end + 1]
        owners = np.repeat(np.arange(n_rows), np.diff(starts))
        keys.append(owners << 32 | texts.values[starts[0] : starts[-1]])
        # Title before document, then by position within the text.
        position = np.arange(starts[0], starts[-1]) - starts[:-1][owners]
        places.append(owners << 8 | place << 7 | position)
        is_title.append(np.full(len(owners), place == 0))
    key, place, titled = np.concatenate(keys), np.concatenate(places), np.concatenate(is_title)
    order = np.argsort(place)
    key, titled = key[order], titled[order]
    unique, seen, inverse = np.unique(key, return_index=True, return_inverse=True)
    by_place = np.argsort(seen)
    in_title = np.bincount(inverse[titled], minlength=len(unique))[by_place].astype(np.uint8)
    in_document = np.bincount(inverse[~titled], minlength=len(unique))[by_place].astype(np.uint8)
    unique = unique[by_place]
    lengths = np.bincount(unique >> 32, minlength=n_rows)
    return (unique & 0xFFFFFFFF).astype(np.int32), lengths, in_title, in_document


def _by_count(
    counts: Int64[np.ndarray, " vocabulary"], function: Callable[[int], float]
) -> Float64[np.ndarray, " values"]:
    """The function of every count."""
    distinct, inverse = np.unique(counts, return_inverse=True)
    # Numerics: the C library's logarithm of a few numbers, because NumPy's depends on the processor.
    values = np.array([function(int(count)) for count in distinct])
    return values[inverse]
