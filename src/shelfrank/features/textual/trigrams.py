"""Similarity of two words that are spelled alike."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt64

LEAST = 2, 5
"""The least similarity that counts, as a fraction, so that it is tested in whole numbers."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Trigrams:
    """Character trigrams of a vocabulary, and the Dice coefficient of two words' sets of them.

    A word is padded with two blanks in front and one behind, as PostgreSQL's pg_trgm does: typing errors rarely hit
    the first letter, so that it weighs more. `blender` and `belnder` share `__b nde der er_` of 8 each: 0.5. Dice
    reads as a share of both spellings; a cosine of sets so alike in size hardly differs.

    A similarity below 2/5 counts as 0, because words of one language share beginnings and endings. Measured on the
    words of Home Depot's titles: 96 % of words with one typing error keep 2/5 or more with what was meant, and 2 % of
    random titles hold an unrelated word that does (at 3/10 these are 99 % and 5 %, at 1/2 they are 89 % and 1 %).

    Two words are compared in three steps, each dearer and left to fewer pairs: by 64 bits, by 256 bits, which can
    only let too many through, and by the trigrams themselves.

    Args:
        vocabulary: The words, in the order of their ids.
        others: Of the words that these ones will be compared with; None where they will be compared with each other.

    Attributes:
        signature: 64 bits a word, one set for each trigram; the last entry, for padding, has none.
        n_trigrams: Distinct trigrams of each word.
    """

    def __init__(self, vocabulary: Iterable[str], others: "Trigrams | None" = None) -> None:
        words = list(vocabulary)
        n_of_word = np.array([len(word) + 1 for word in words], np.int64)
        text = "".join(f"\0\0{word}\0" for word in words)
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64)
        owner = np.repeat(np.arange(len(words)), n_of_word)
        # A padded word has two letters more than windows.
        at = np.arange(len(owner)) + 2 * owner
        packed = codes[at] << 42 | codes[at + 1] << 21 | codes[at + 2]
        kinds, ids = np.unique(packed, return_inverse=True)
        keys = np.unique(owner << 32 | ids)
        self.n_trigrams = np.bincount(keys >> 32, minlength=len(words))
        self._starts = np.concatenate([[0], np.cumsum(self.n_trigrams)])
        self._ids = (keys & 0xFFFFFFFF).astype(np.int32)
        self._wide = self._signatures(kinds)
        self._kinds = kinds
        if others is not None:
            self._ids = others._numbers(kinds)[self._ids]
        self.signature = np.append(np.bitwise_or.reduce(self._wide, axis=1), np.uint64(0))
        # 2 * shared / (n + n_other) >= over / under, where shared <= common bits + hidden and n_other >= its bits;
        # hidden are a word's trigrams that fell on a bit that another one of it had set already.
        over, under = LEAST
        hidden = self.n_trigrams - np.bitwise_count(self.signature[:-1])
        self._must_reach = np.maximum(over * self.n_trigrams - 2 * under * hidden, -1000).astype(np.int16)

    def _signatures(self, kinds: Int64[np.ndarray, " kinds"]) -> UInt64[np.ndarray, "vocabulary 4"]:
        """A bit of 256 for each trigram of a word."""
        mixed = kinds.astype(np.uint64) * _MIX
        bit, place = np.uint64(1) << (mixed >> np.uint64(58)), mixed >> np.uint64(56) & np.uint64(3)
        wide = np.zeros((len(self.n_trigrams), 4), np.uint64)
        if len(wide):
            for column in range(4):
                bits = np.where(place == column, bit, np.uint64(0))[self._ids]
                wide[:, column] = np.bitwise_or.reduceat(bits, self._starts[:-1])
        return wide

    def _numbers(self, kinds: Int64[np.ndarray, " kinds"]) -> Int32[np.ndarray, " kinds"]:
        """The number here of each trigram; what no word here has gets a number of its own."""
        own = np.arange(len(self._kinds), len(self._kinds) + len(kinds))
        if not len(self._kinds):
            return own.astype(np.int32)
        at = np.minimum(np.searchsorted(self._kinds, kinds), len(self._kinds) - 1)
        return np.where(self._kinds[at] == kinds, at, own).astype(np.int32)

    def may_be_alike(self, word: np.ndarray, others: np.ndarray) -> Bool[np.ndarray, "lines pairs"]:
        """Which pairs could reach the least similarity, by their signatures alone; it lets no such pair out.

        Args:
            word: One word of each pair, by its id here.
            others: Signatures of the words it is compared with, one line of them for each place in a text.

        Returns:
            Whether each pair must be looked at.
        """
        over, under = LEAST
        reached = np.multiply(np.bitwise_count(others & self.signature[word]), 2 * under, dtype=np.int16)
        reached -= np.multiply(np.bitwise_count(others), over, dtype=np.int16)
        return reached >= self._must_reach[word]

    def dice(
        self, left: Int64[np.ndarray, " n"], others: "Trigrams", right: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Twice the shared trigrams over all trigrams of two words; 0 below the least similarity.

        Args:
            left: Words by their ids here.
            others: What these trigrams were made to be compared with.
            right: Words by their ids there.

        Returns:
            The similarity of each pair.
        """
        over, under = LEAST
        values = np.zeros(len(left))
        # Most pairs that 64 bits let through are none by 256.
        wide = self._wide[left]
        shared_at_most = np.bitwise_count(wide & others._wide[right]).sum(axis=1, dtype=np.int64)
        shared_at_most += self.n_trigrams[left] - np.bitwise_count(wide).sum(axis=1, dtype=np.int64)
        both = self.n_trigrams[left] + others.n_trigrams[right]
        kept = np.flatnonzero(2 * under * shared_at_most >= over * both)
        pairs, inverse = np.unique(left[kept] << 32 | right[kept], return_inverse=True)
        left, right = pairs >> 32, pairs & 0xFFFFFFFF
        both = self.n_trigrams[left] + others.n_trigrams[right]
        keys = np.sort(np.concatenate([self._keys_of(left), others._keys_of(right)]))
        # No word has a trigram twice, so that a key found twice is in both.
        shared = np.bincount(keys[1:][keys[1:] == keys[:-1]] >> 32, minlength=len(pairs))
        alike = 2 * under * shared >= over * both
        values[kept] = np.where(alike, 2 * shared / np.maximum(both, 1), 0.0)[inverse]
        return values

    def _keys_of(self, words: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " keys"]:
        """The trigrams of some words, one after the other, each behind its word's place among them."""
        n_of_word = self.n_trigrams[words]
        owner = np.repeat(np.arange(len(words)), n_of_word)
        first = np.repeat(self._starts[words] - np.cumsum(n_of_word) + n_of_word, n_of_word)
        return owner << 32 | self._ids[first + np.arange(len(owner))]
