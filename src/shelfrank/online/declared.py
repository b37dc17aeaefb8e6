"""Declared features of a page: from the catalogue and the customers as encoded, or as the request gives them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from shelfrank.data.prepared import map_array
from shelfrank.errors import UserError
from shelfrank.prepare.encode import CategoricalEncoding, NumericalEncoding
from shelfrank.values import MAX_NUMBER, NULL_WORDS, IdSpelling

_NUMBER = IdSpelling(NULL_WORDS)
"""How a number in a text is read."""


class EntityTable:
    """The encoded values of one entity's features; row -1 is of one who is not in the table.

    Args:
        folder: What `build` wrote.
        numerical: The encodings of its numerical features, in order.
        categorical: The encodings of its categorical features, in order.
        places: Where each feature's first column is among all numerical, or all categorical, columns.
    """

    def __init__(
        self,
        folder: Path,
        numerical: Sequence[NumericalEncoding],
        categorical: Sequence[CategoricalEncoding],
        places: Mapping[str, int],
    ) -> None:
        self._tables: list[tuple[str, np.ndarray, Int64[np.ndarray, " columns"]]] = []
        for kind, encodings in (("numerical", numerical), ("categorical", categorical)):
            if encodings:
                widths = [2 if isinstance(each, NumericalEncoding) and each.flags_missing else 1 for each in encodings]
                columns = [
                    places[each.name] + i for each, width in zip(encodings, widths, strict=True) for i in range(width)
                ]
                table = np.asarray(map_array(folder / f"{kind}.npy"))
                self._tables.append((kind, table, np.array(columns, np.int64)))

    def put(
        self,
        rows: Int64[np.ndarray, " rows"],
        numerical: Float32[np.ndarray, "page n_num"],
        categorical: Int32[np.ndarray, "page n_cat"],
    ) -> None:
        """Sets the entity's columns; one row stands for all of the page's."""
        for kind, table, columns in self._tables:
            (numerical if kind == "numerical" else categorical)[:, columns] = table[rows]


class GivenCategories:
    """Codes of categories that a request gives, in any spelling of them.

    Args:
        encoding: How the feature is encoded.
    """

    def __init__(self, encoding: CategoricalEncoding) -> None:
        self._default, self._spelling = encoding.default, encoding.spelling
        self._codes: dict[str | None, int] = {}
        for index, value in enumerate(encoding.values):
            # An older encoder may hold 1.0 where 1 is asked for.
            self._codes.setdefault(self._spelling.of(value), index + 1)

    def find(self, value: Any) -> tuple[int, bool]:
        """The code of a value, the default's where it is missing, and whether one is given that has none: 0."""
        spelled = self._spelling.of(value)
        if spelled is None:
            return self._default, False
        code = self._codes.get(spelled, 0)
        return code, not code


def number(name: str, value: Any, is_log1p: bool = False) -> float:
    """A given number; NaN where it is missing, also in a word.

    Args:
        name: The feature, for the error.
        value: What was given: a number, or a text of one.
        is_log1p: Whether `schema.yaml` declares log1p for the feature, so that the log holds nothing below 0.

    Returns:
        The number.

    Raises:
        UserError: Where it is none, or one that the data contract refuses in a log.
    """
    found = _parsed(value)
    if found is None:
        raise UserError(
            f"the feature {name!r} must be a number, but it is {value!r}; send a number, or null where there is none"
        )
    if math.isinf(found) or abs(found) >= MAX_NUMBER:
        raise UserError(
            f"the feature {name!r} must be a number of a magnitude below {MAX_NUMBER:g}, but it is {value!r}; send the "
            "right number, or null where there is none"
        )
    if is_log1p and found < 0:
        raise UserError(
            f"the feature {name!r} must be 0 or more, since schema.yaml declares log1p, but it is {value!r}; send the "
            "right number, or null where there is none"
        )
    return found


def given_numbers(name: str, values: Sequence[Any], is_log1p: bool = False) -> Float64[np.ndarray, " rows"]:
    """Given numbers; see `number`."""
    return np.array([number(name, value, is_log1p) for value in values], np.float64)


def _parsed(value: Any) -> float | None:
    if value is None:
        return float("nan")
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        text = _NUMBER.of(value)
        if text is None:
            return float("nan")
        with contextlib.suppress(ValueError):
            if math.isfinite(found := float(text)):
                return found
    return None
