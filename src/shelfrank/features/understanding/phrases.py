"""Phrases: tokens that belong together, and the splitting of texts into them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int32

from shelfrank.features.understanding.arrays import lower_bound
from shelfrank.features.understanding.tokens import is_character

Term = tuple[str, ...]

_ENGLISH = "a an and by for from in of on or the to with w x"
_GERMAN = "am auf aus bei das dem den der des die ein eine fur im mit oder und von zu"
_ROMANCE = "au avec de del di du e el en et la las le les los o ou par para per pour sans sur un una une y"
_CHARACTERS = "\u7684 \u548c \u4e0e \u306e \u3068"
_JOINS = "a an and die das der e el et la las le les los o of or oder ou the un una und une x y"
ROMANCE = frozenset(_ROMANCE.split())
JOINS = frozenset(_JOINS.split())
"""Stop words inside names, as in `board and batten shutter`; the others begin what a product has or is for."""
STOP_WORDS = frozenset(f"{_ENGLISH} {_GERMAN} {_ROMANCE} {_CHARACTERS}".split())
"""Words that join others; they are no phrase's first or last, and a query is not read by them."""

MAX_PHRASE = 4
MAX_CHARACTER_PHRASE = 8
ROUNDS = 3
MIN_COUNT = 4
MIN_SHARE = 0.5
"""Least share of a word's titles in which its neighbour is the other one, as a lower bound."""
MIN_LIFT = 2.0
MIN_CHARACTER_SHARE = 0.25
MIN_CHARACTER_LIFT = 4.0


def learn_phrases(
    texts: Sequence[Sequence[str]], groups: Int32[np.ndarray, " texts"], literals: Iterable[Term]
) -> set[Term]:
    """Phrases of two and more tokens from pairs of neighbours that cohere within a group of texts.

    A pair coheres where one of the two seldom stands without the other in the group, and all texts have them together
    more often than chance. Pairs are joined in rounds, so that longer phrases grow. Characters of languages without
    blanks stand in many words each, so that less is asked of them.

    Args:
        texts: Tokens of each text.
        groups: Each text's category; negative for none, which is a group too.
        literals: Values of attributes: units from the start, which never attract a neighbour of their own.

    Returns:
        The phrases, those literals among them that have several tokens.
    """
    phrases = {literal for literal in literals if len(literal) > 1}
    fixed = set(literals)
    rows = PhraseSplitter(phrases).split_all(texts)
    for _ in range(ROUNDS):
        found = _cohesive_pairs(rows, groups, fixed)
        if not found:
            break
        rows = [_joined(row, found) for row in rows]
        phrases |= {left + right for left, right in found}
    return phrases


class PhraseSplitter:
    """Splits tokens into known phrases and single words, from left to right, the longest phrase first.

    Args:
        phrases: Phrases of two and more tokens.
    """

    def __init__(self, phrases: Iterable[Term]) -> None:
        self._phrases = set(phrases)
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for phrase in self._phrases:
            lengths[phrase[0]].add(len(phrase))
        # By length, since thousands of values may begin with one word, such as a brand's.
        self._lengths = {word: sorted(some, reverse=True) for word, some in lengths.items()}

    def split(self, words: Sequence[str]) -> list[Term]:
        """The phrases and words of one text, in order."""
        found: list[Term] = []
        at = 0
        while at < len(words):
            term: Term = (words[at],)
            for length in self._lengths.get(words[at], ()):
                longer = tuple(words[at : at + length])
                if longer in self._phrases:
                    term = longer
                    break
            found.append(term)
            at += len(term)
        return found

    def split_all(self, texts: Sequence[Sequence[str]]) -> list[list[Term]]:
        """The phrases and words of each text."""
        return [self.split(words) for words in texts]


def _cohesive_pairs(
    rows: list[list[Term]], groups: Int32[np.ndarray, " texts"], fixed: set[Term]
) -> set[tuple[Term, Term]]:
    units: dict[Term, int] = {}
    flat = np.array([units.setdefault(unit, len(units)) for row in rows for unit in row], np.int64)
    if len(flat) < 2:
        return set()
    names = list(units)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    group = groups.astype(np.int64)[owner] - groups.min()
    n_units = len(names)
    adjacent = np.flatnonzero(owner[1:] == owner[:-1])
    left, right = flat[adjacent], flat[adjacent + 1]
    may_open, may_close = _may_join(names)
    allowed = may_open[left] & may_close[right] & (left != right)
    adjacent, left, right = adjacent[allowed], left[allowed], right[allowed]
    pairs, pair = np.unique(left * n_units + right, return_inverse=True)
    in_group, count = np.unique(group[adjacent] * max(len(pairs), 1) + pair, return_counts=True)
    pair, at_group = in_group % max(len(pairs), 1), in_group // max(len(pairs), 1)
    often = count >= MIN_COUNT
    pair, at_group, count = pair[often], at_group[often], count[often]
    left, right = pairs[pair] // n_units, pairs[pair] % n_units
    keys, n_of_key = np.unique(group * n_units + flat, return_counts=True)
    n_left = n_of_key[np.searchsorted(keys, at_group * n_units + left)]
    n_right = n_of_key[np.searchsorted(keys, at_group * n_units + right)]
    in_all = np.bincount(flat, minlength=n_units)
    lift = count * len(rows) / (in_all[left] * in_all[right])
    characters = np.array([is_character(name[0]) and is_character(name[-1]) for name in names])
    is_fixed = np.array([name in fixed for name in names])
    # `dark blue` is a phrase since `dark` asks for `blue`; that `acme` (a brand) stands before `chair` makes none.
    of_left = np.where(is_fixed[left], 0.0, lower_bound(count, n_left))
    of_right = np.where(is_fixed[right], 0.0, lower_bound(count, n_right))
    share = np.maximum(of_left, of_right)
    kept = (share >= MIN_SHARE) & (lift >= MIN_LIFT)
    of_characters = characters[left] & characters[right]
    kept |= of_characters & (share >= MIN_CHARACTER_SHARE) & (lift >= MIN_CHARACTER_LIFT)
    return {(names[a], names[b]) for a, b in zip(left[kept].tolist(), right[kept].tolist(), strict=True)}


def _may_join(names: list[Term]) -> tuple[Bool[np.ndarray, " units"], Bool[np.ndarray, " units"]]:
    opens = np.array([name[0] not in STOP_WORDS and len(name) < _longest(name) for name in names])
    closes = np.array([name[-1] not in STOP_WORDS and len(name) < _longest(name) for name in names])
    return opens, closes


def _longest(name: Term) -> int:
    return MAX_CHARACTER_PHRASE if all(map(is_character, name)) else MAX_PHRASE


def _joined(row: list[Term], pairs: set[tuple[Term, Term]]) -> list[Term]:
    found: list[Term] = []
    at = 0
    while at < len(row):
        if at + 1 < len(row) and (row[at], row[at + 1]) in pairs:
            found.append(row[at] + row[at + 1])
            at += 2
        else:
            found.append(row[at])
            at += 1
    return found
