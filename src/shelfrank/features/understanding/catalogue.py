"""What a catalogue says of its products, as numbers: tokens of titles, values of attributes, categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from shelfrank.features.understanding.tokens import MAX_TITLE_TOKENS, tokens

NONE = -1
MAX_VALUE_TOKENS = 6
"""Tokens of a value that a query may name; a longer one is prose."""


@dataclass(frozen=True)
class Catalogue:
    """The columns of a product table that queries are read with.

    Attributes:
        titles: Each product's title; None where it is missing.
        attributes: Of each declared categorical attribute, its value in each product; the category is none of them.
        categories: Each product's category; None where the shop has none.
        head_is_last: Where the categories are the heads of titles, whether a type ends in its head (`coffee table`) or
            begins with it (`table basse`); None where they are the shop's own.
        lists: Of each attribute with a list of values, such as what a hotel offers, each product's; None where it is
            missing.
    """

    titles: Sequence[str | None]
    attributes: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    categories: Sequence[str | None] | None = None
    head_is_last: bool | None = None
    lists: Mapping[str, Sequence[Sequence[str] | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {
            **self.attributes,
            **self.lists,
            **({} if self.categories is None else {"categories": self.categories}),
        }
        for name, values in columns.items():
            if len(values) != len(self.titles):
                raise ValueError(
                    f"each product must have one title and one entry of {name!r}, but there are {len(self.titles)} "
                    f"titles and {len(values)} entries; give None where a value is missing"
                )

    def __len__(self) -> int:
        return len(self.titles)

    @cached_property
    def title_tokens(self) -> list[list[str]]:
        """The tokens of each title."""
        return [tokens(title or "", MAX_TITLE_TOKENS) for title in self.titles]

    def category_column(self) -> Sequence[str | None]:
        """Each product's category; None everywhere in a shop without categories."""
        return [None] * len(self) if self.categories is None else self.categories


class Values:
    """The values of one column; spellings that have the same tokens are one value.

    Args:
        names: Values to begin with.

    Attributes:
        names: Each value as it is first written.
        words: Its tokens.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names: list[str] = []
        self.words: list[tuple[str, ...]] = []
        self._number: dict[tuple[str, ...], int] = {}
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str) -> int:
        """The number of a value, which is a new one if need be; `NONE` for a text without a word."""
        words = value_tokens(name)
        if not words:
            return NONE
        number = self._number.setdefault(words, len(self.names))
        if number == len(self.names):
            self.names.append(name)
            self.words.append(words)
        return number

    def code(self, column: Sequence[str | None]) -> Int32[np.ndarray, " products"]:
        """The known value of each entry; `NONE` for a missing or unknown one."""
        known = {name: self._number.get(value_tokens(name), NONE) for name in set(column) if name is not None}
        return np.array([NONE if name is None else known[name] for name in column], np.int32)

    def code_lists(self, column: Sequence[Sequence[str] | None]) -> list[list[int]]:
        """The known values of each list, ascending."""
        known = {name: self._number.get(value_tokens(name), NONE) for own in column for name in own or ()}
        return [sorted({known[name] for name in own or ()} - {NONE}) for own in column]

    @classmethod
    def of(cls, column: Sequence[str | None]) -> "Values":
        """The values of a column in the order of their names, so that the order of products does not matter."""
        return cls(sorted({name for name in column if name is not None}))


def value_tokens(name: str) -> tuple[str, ...]:
    """The tokens of a value; of a long one, those that are read of a title."""
    return tuple(tokens(name, MAX_TITLE_TOKENS))
