"""Declared features of a page: from the catalogue and the customers as encoded, or as the request gives them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32, Int64

from shelfrank.data.prepared import map_array
from shelfrank.errors import UserError
from shelfrank.prepare.encode import CategoricalEncoding, NumericalEncoding

REMEMBERED = 100_000
"""Given categories whose codes are kept in memory, by feature."""


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
    """Codes of categories that a request gives.

    Args:
        encoding: How the feature is encoded.
        type_: The type of the log's column, which decides how a value is spelled.
    """

    def __init__(self, encoding: CategoricalEncoding, type_: pa.DataType) -> None:
        self._default, self._type = encoding.default, type_
        self._codes = {value: index + 1 for index, value in enumerate(encoding.values)}
        self._known: dict[tuple[type, Any], int] = {}

    def code(self, value: Any) -> int:
        """The code of a value: the default's where it is missing, 0 where it is unknown."""
        if value is None:
            return self._default
        if isinstance(value, str):
            return self._codes.get(value, 0)
        return self._codes.get(spelled(value, self._type) or "", 0)


def spelled(value: Any, type_: pa.DataType) -> str | None:
    """How preparing spells a value of a column of a type; None for what is no such value."""
    if isinstance(value, str) or value is None:
        return value
    try:
        return pa.array([value]).cast(type_).cast(pa.string())[0].as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None


def number(name: str, value: Any) -> float:
    """A given number; NaN where it is missing.

    Args:
        name: The feature, for the error.
        value: What was given.

    Returns:
        The number.

    Raises:
        UserError: Where it is none.
    """
    if value is None:
        return float("nan")
    if isinstance(value, int | float):
        return float(value)
    raise UserError(
        f"the feature {name!r} must be a number, but it is {value!r}; send a number, or null where there is none"
    )


def given_numbers(name: str, values: Sequence[Any]) -> Float64[np.ndarray, " rows"]:
    """Given numbers; see `number`."""
    return np.array([number(name, value) for value in values], np.float64)
