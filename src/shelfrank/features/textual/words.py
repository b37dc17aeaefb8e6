"""Texts as runs of integer word ids."""

import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

WORD = re.compile(r"[^\W_]+")
MAX_QUERY_WORDS = 16
MAX_PRODUCT_WORDS = 64
ROWS_AT_ONCE = 65_536
"""Texts that are counted together, so that the memory for it does not grow with the table."""


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one flat array: row `i` is `values[starts[i] : starts[i + 1]]`."""

    values: Int32[np.ndarray, " n_values"]
    starts: Int64[np.ndarray, " n_starts"]

    @property
    def lengths(self) -> Int64[np.ndarray, " n_rows"]:
        """Each row's length."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Int64[np.ndarray, " n_values"]:
        """The row of every value."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)

    def lengths_of(self, rows: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The lengths of some rows."""
        return self.starts[rows + 1] - self.starts[rows]

    def columns(self, rows: Int32[np.ndarray, " n"], padding: int) -> Int32[np.ndarray, "width n"]:
        """Some rows side by side, one position to a line: as wide as the longest, the shorter ones padded."""
        starts = self.starts[rows]
        lengths = self.starts[rows + 1] - starts
        width = int(lengths.max(initial=0))
        if width == 0:
            return np.empty((0, len(rows)), np.int32)
        position = np.arange(width)[:, None]
        values = self.values.take(starts + position, mode="clip")
        if lengths.min() < width:
            np.copyto(values, padding, where=position >= lengths)
        return values


class Vocabulary(defaultdict[str, int]):
    """Gives each new word the next id. Ids follow the order of reading; no feature's value depends on them."""

    def __init__(self) -> None:
        super().__init__(self.__len__)


def read_texts(texts: Sequence[str], limit: int, vocabulary: Vocabulary) -> tuple[Ragged, int]:
    """Word ids of texts, in their order; words are runs of letters and digits, folded to lower case.

    Args:
        texts: The texts.
        limit: Words of a text that are read.
        vocabulary: Gives the ids; it grows by the words that are new to it.

    Returns:
        The ids, and the number of texts that had more words than the limit.
    """
    values, lengths, n_cut = array("i"), array("i"), 0
    id_of = vocabulary.__getitem__
    for text in texts:
        words = WORD.findall(text.casefold())
        if len(words) > limit:
            n_cut += 1
            del words[limit:]
        lengths.append(len(words))
        values.extend(map(id_of, words))
    return ragged(np.array(values, np.int32), np.array(lengths, np.int64)), n_cut


def ragged(values: Int32[np.ndarray, " n_values"], lengths: Int64[np.ndarray, " n_rows"]) -> Ragged:
    """Rows of the given lengths, cut one after the other from flat values."""
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def distinct(rows: Ragged) -> Ragged:
    """Each row's distinct values in the order of their first appearance."""
    n_rows = len(rows.starts) - 1
    if n_rows == 1:
        own = np.array(list(dict.fromkeys(rows.values.tolist())), np.int32)
        return Ragged(own, np.array([0, len(own)], np.int64))
    values, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, n_rows, ROWS_AT_ONCE):
        starts = rows.starts[start : start + ROWS_AT_ONCE + 1]
        owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        own = rows.values[starts[0] : starts[-1]]
        _, first = np.unique(owners << 32 | own, return_index=True)
        first.sort()
        values.append(own[first])
        lengths.append(np.bincount(owners[first], minlength=len(starts) - 1))
    return ragged(np.concatenate(values), np.concatenate(lengths))


def singular(word: str) -> str:
    """A word without its English plural ending: `dresses` -> `dress`, `berries` -> `berry`, `kids` -> `kid`.

    Both sides of a comparison go through it, so that a wrong cut (`adidas` -> `adida`) does no harm; words of three
    letters, and those that end in `ss`, `us` or `is`, stay.
    """
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
