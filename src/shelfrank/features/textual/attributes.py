"""Which values of a product attribute a query names."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int32, Int64

from shelfrank.features.textual.words import MAX_QUERY_WORDS, Ragged, Vocabulary, distinct, ragged, read_texts

NONE = -1


class AttributeValues:
    """The values of one attribute, which a query may name.

    A query names a value where all of the value's words follow each other in it, in the singular; values that differ
    only in case, punctuation or plural are one. From left to right the longest value wins and its words are used up:
    `navy blue dress` names `navy blue`, not `blue`.

    A value of one word that is also an ordinary word is not taken as named: one whose word stands in the titles of
    more products with another value than with it (the brand `Home` in a shop of `home` goods). Products without a
    value say nothing, and a word of no title is no ordinary word. A value longer than what is read of a query is
    never named.

    Args:
        titles: Distinct words of each title, in the singular.
        phrases: Words of each value.
        of_product: Each product's value; -1 for none.
        n_words: How many words the ids number; a query's word beyond them is in no value.

    Attributes:
        of_product: Each product's value; -1 for none.
    """

    def __init__(
        self,
        titles: Ragged,
        phrases: list[tuple[int, ...]],
        of_product: Int32[np.ndarray, " products"],
        n_words: int,
    ) -> None:
        self.of_product = of_product
        self._trie = _Trie(_nameable_values(phrases, of_product, titles, n_words), n_words)

    def named_by(self, queries: Ragged) -> "AttributeMentions":
        """The values that queries name, given by their words in the singular."""
        return AttributeMentions(self.of_product, _longest_matches(queries, self._trie))


@dataclass(frozen=True)
class AttributeMentions:
    """The values of one attribute that queries name.

    Attributes:
        of_product: Each product's value; -1 for none.
        named: The distinct values that each query names.
    """

    of_product: Int32[np.ndarray, " products"]
    named: Ragged

    def compare(
        self, query_idx: Int32[np.ndarray, " pairs"], product_idx: Int32[np.ndarray, " pairs"]
    ) -> tuple[Bool[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
        """Whether the query names a value, whether it names the product's, and whether it names only other ones."""
        names = self.named.lengths_of(query_idx) > 0
        matched = np.zeros(len(names), dtype=bool)
        rows = np.flatnonzero(names)
        value = self.of_product[product_idx[rows]]
        # Padded with another number than a product without a value has.
        matched[rows] = (self.named.columns(query_idx[rows], padding=NONE - 1) == value).any(axis=0)
        conflict = np.zeros(len(names), dtype=bool)
        conflict[rows] = ~matched[rows] & (value != NONE)
        return names, matched, conflict


def read_values(values: Sequence[str | None], vocabulary: Vocabulary) -> tuple[Ragged, Int64[np.ndarray, " products"]]:
    """Reads the distinct spellings of an attribute's values, whole, so that no two values become one.

    Args:
        values: Each product's value.
        vocabulary: Gives the word ids.

    Returns:
        The spellings' words, and each product's spelling.
    """
    spellings: dict[str | None, int] = {}
    of_product = np.array([spellings.setdefault(value, len(spellings)) for value in values], np.int64)
    words, _ = read_texts([each or "" for each in spellings], sys.maxsize, vocabulary)
    return words, of_product


def fold_values(
    spellings: Ragged, of_product: Int64[np.ndarray, " products"]
) -> tuple[list[tuple[int, ...]], Int32[np.ndarray, " products"]]:
    """Makes one value of all spellings with the same words; one without words is none.

    Args:
        spellings: The spellings' words in the singular.
        of_product: Each product's spelling.

    Returns:
        The values' words, and each product's value.
    """
    numbers: dict[tuple[int, ...], int] = {}
    words = spellings.values.tolist()
    phrases = [tuple(words[start:end]) for start, end in pairwise(spellings.starts.tolist())]
    number = np.array([numbers.setdefault(each, len(numbers)) if each else NONE for each in phrases], np.int32)
    return list(numbers), number[of_product] if len(number) else np.empty(0, np.int32)


def _nameable_values(
    phrases: list[tuple[int, ...]], of_product: Int32[np.ndarray, " products"], titles: Ragged, n_words: int
) -> dict[tuple[int, ...], int]:
    value_of_word = np.full(n_words, NONE, np.int32)
    for value, phrase in enumerate(phrases):
        if len(phrase) == 1:
            value_of_word[phrase[0]] = value
    named, had = value_of_word[titles.values], of_product[titles.owners]
    told = (named != NONE) & (had != NONE)
    for_it = np.bincount(named[told & (named == had)], minlength=len(phrases))
    against = np.bincount(named[told & (named != had)], minlength=len(phrases))
    return {
        phrase: value
        for value, phrase in enumerate(phrases)
        if (len(phrase) > 1 or against[value] <= for_it[value]) and len(phrase) <= MAX_QUERY_WORDS
    }


class _Trie:
    """Phrases as paths from a root: nodes are numbered, and each may end a value."""

    def __init__(self, values: dict[tuple[int, ...], int], n_words: int) -> None:
        nodes: dict[tuple[int, ...], int] = {}
        for phrase in values:
            for end in range(1, len(phrase) + 1):
                nodes.setdefault(phrase[:end], len(nodes))
        self.depth = max(map(len, values), default=0)
        self.value = np.array([values.get(path, NONE) for path in nodes], np.int32)
        # The last entry is that of every word beyond.
        self.root = np.full(n_words + 1, NONE, np.int64)
        edges = {}
        for path, node in nodes.items():
            if len(path) == 1:
                self.root[path[0]] = node
            else:
                edges[nodes[path[:-1]] << 32 | path[-1]] = node
        self._keys = np.array(sorted(edges), np.int64)
        self._to = np.array([edges[key] for key in self._keys.tolist()], np.int64)

    def step(self, nodes: Int64[np.ndarray, " n"], words: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The nodes that the words lead to; -1 where no value goes on so."""
        if not len(self._keys):
            return np.full(len(nodes), NONE, np.int64)
        key = nodes << 32 | words
        at = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[at] == key, self._to[at], NONE)


def _longest_matches(queries: Ragged, trie: _Trie) -> Ragged:
    """The distinct values that the queries name."""
    n_queries = len(queries.lengths)
    node = trie.root.take(queries.values, mode="clip")
    first = np.flatnonzero(node != NONE)
    if not len(first):
        return Ragged(np.empty(0, np.int32), np.zeros(n_queries + 1, np.int64))
    owner = np.searchsorted(queries.starts, first, side="right") - 1
    end, node = queries.starts[owner + 1], node[first]
    value, length = np.full(len(first), NONE, np.int32), np.zeros(len(first), np.int64)
    on_path = np.arange(len(first))
    for depth in range(1, trie.depth + 1):
        ends_here = on_path[trie.value[node] != NONE]
        value[ends_here], length[ends_here] = trie.value[node[trie.value[node] != NONE]], depth
        more = first[on_path] + depth < end[on_path]
        on_path, node = on_path[more], node[more]
        node = trie.step(node, queries.values[first[on_path] + depth])
        on_path, node = on_path[node != NONE], node[node != NONE]
    free_from = np.zeros(n_queries, np.int64)
    taken = np.zeros(len(first), dtype=bool)
    position = first - queries.starts[owner]
    for at in range(int(position.max(initial=-1)) + 1):
        here = np.flatnonzero((position == at) & (value != NONE))
        here = here[free_from[owner[here]] <= at]
        taken[here] = True
        free_from[owner[here]] = at + length[here]
    counts = np.bincount(owner[taken], minlength=n_queries)
    return distinct(ragged(value[taken], counts))
