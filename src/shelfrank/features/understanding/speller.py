"""The spelling of a query's words, by the words of the catalogue."""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64

from shelfrank.features.understanding.arrays import contains
from shelfrank.features.understanding.lexicon import Lexicon
from shelfrank.features.understanding.phrases import STOP_WORDS
from shelfrank.features.understanding.products import CodedProducts
from shelfrank.features.understanding.tokens import has_digit, is_character

MIN_LETTERS = 4
"""Letters of a word that may be respelled."""
TWO_EDITS_FROM = 8
"""Letters from which on two edits are one word."""
PREFIX = 7
"""Letters of a word that the index reads: two edits later in a word leave its beginning as it is."""
EDIT_COST = 4.0
"""What a second edit costs, in log odds."""
CONTEXT_WEIGHT = 2.0
"""Products by which a word's share among those of another one is drawn to its share among all."""
MIN_PART = 4
"""Letters of each part of a word that is split in two."""
MAX_WORD = 40
LINKS = ("", "s", "n", "es", "en", "er")
"""Letters between the parts of a compound: Arbeit-s-platz, Blume-n-topf."""


class Speller:
    """Finds what an unknown word of a query was meant to be.

    A known word, one of any title or attribute value, stays as it is, and so does a word with a digit. Of the words one
    edit away (a letter too many, missing, or another one, or two neighbours exchanged; in long words also two edits),
    the one is meant that is likely beside the query's other words: by how many products have both, and without known
    words beside it by how many products have it. Where no word is one edit away, it may be two known ones written as
    one, as in compounds.

    Args:
        lexicon: Gives the known words.
        products: Say which words go together.
    """

    def __init__(self, lexicon: Lexicon, products: CodedProducts) -> None:
        self._number, self._counts = lexicon.word_number, lexicon.word_counts
        self._words, self._products = lexicon.words, products
        # The products of words are ordered now, so that the first unknown word does not wait for it.
        products.with_word(0)
        ids, hashes = [], []
        for at, word in enumerate(lexicon.words):
            plain = not has_digit(word) and not _of_characters(word) and not word.startswith(" ")
            if MIN_LETTERS - 1 <= len(word) <= MAX_WORD and plain:
                own = _index_keys(word)
                ids += [at] * len(own)
                hashes += own
        keys = np.array(hashes, np.int64)
        order = np.argsort(keys, kind="stable")
        self._keys: Int64[np.ndarray, " entries"] = keys[order]
        self._ids: Int32[np.ndarray, " entries"] = np.array(ids, np.int32)[order]

    def knows(self, word: str) -> bool:
        """Whether a word stays as it is."""
        return word in self._number

    def respell(self, word: str, others: Sequence[str]) -> tuple[str, ...] | None:
        """What an unknown word was meant to be.

        Args:
            word: A token of a query.
            others: The query's other tokens.

        Returns:
            The words, which are several where two were written as one; None where nothing is near.
        """
        if self.knows(word) or has_digit(word) or not MIN_LETTERS <= len(word) <= MAX_WORD or _of_characters(word):
            return None
        near = self._near(word)
        if not near or min(edits for _, edits in near) > 1:
            parts = self._parts(word)
            if parts is not None:
                return parts
        if near:
            context = [self._number[other] for other in others if other in self._number and other not in STOP_WORDS]
            scored = [(self._log_odds(at, context) - EDIT_COST * (n_edits - 1), -at) for at, n_edits in near]
            return (self._words[-max(scored)[1]],)
        return None

    def joined(self, left: str, right: str) -> str | None:
        """The known word that two words form, at least one of which is unknown; None where they form none."""
        word = left + right
        known = self.knows(word) and not has_digit(word) and not _of_characters(word)
        return word if known and not (self.knows(left) and self.knows(right)) else None

    def _near(self, word: str) -> list[tuple[int, int]]:
        found: set[int] = set()
        for key in _index_keys(word):
            start, end = np.searchsorted(self._keys, np.array([key, key + 1], np.int64)).tolist()
            found.update(self._ids[start:end].tolist())
        most = 2 if len(word) >= TWO_EDITS_FROM else 1
        edits = [(at, n_edits(word, self._words[at], most)) for at in sorted(found)]
        return [(at, n) for at, n in edits if n <= most]

    def _log_odds(self, word: int, context: Sequence[int]) -> float:
        n_products = max(len(self._products), 1)
        share = (float(self._counts[word]) + 0.5) / (n_products + 1.0)
        total = float(np.log(share))
        own = self._products.with_word(word)
        for other in context:
            beside = self._products.with_word(other)
            few, many = sorted((own, beside), key=len)
            both = int(contains(many, few).sum())
            total += float(np.log((both + CONTEXT_WEIGHT * share) / (len(beside) + CONTEXT_WEIGHT) / share))
        return total

    def _parts(self, word: str) -> tuple[str, ...] | None:
        best: tuple[int, tuple[str, ...]] | None = None
        for cut in range(MIN_PART, len(word) - MIN_PART + 1):
            right = word[cut:]
            if right not in self._number:
                continue
            for link in LINKS:
                left = word[: cut - len(link)]
                if word[:cut].endswith(link) and len(left) >= MIN_PART and left in self._number:
                    rarer = int(min(self._counts[self._number[left]], self._counts[self._number[right]]))
                    if best is None or rarer > best[0]:
                        best = rarer, (left, right)
        return None if best is None else best[1]


def n_edits(left: str, right: str, most: int) -> int:
    """Edits between two words, where an exchange of neighbours is one; `most + 1` where they are more than `most`.

    Args:
        left: A word.
        right: Another one.
        most: Edits up to which they are counted.

    Returns:
        The edits.

    Example:
        >>> n_edits("sofa", "soaf", 2), n_edits("sofa", "safe", 2), n_edits("sofa", "chair", 2)
        (1, 2, 3)
    """
    if abs(len(left) - len(right)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, other in enumerate(right, 1):
            edits = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == right[j - 2] and left[i - 2] == other:
                edits = min(edits, last[j - 2] + 1)
            row.append(edits)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def _index_keys(word: str) -> list[int]:
    """Hashes of a word's beginning with up to one or two letters left out: near words share one of them."""
    start = word[:PREFIX]
    forms = {start} | _without_one(start)
    if len(word) >= TWO_EDITS_FROM - 2:
        forms |= {shorter for form in list(forms) for shorter in _without_one(form)}
    # Numerics: Python's own hash of a text differs from process to process.
    return [zlib.crc32(form.encode("utf-8", "surrogatepass")) for form in sorted(forms)]


def _without_one(text: str) -> set[str]:
    return {text[:at] + text[at + 1 :] for at in range(len(text))}


def _of_characters(word: str) -> bool:
    return any(map(is_character, word))
