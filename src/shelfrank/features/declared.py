"""Declared features of a page: from the catalogue and the customers as encoded, or as the request gives them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from shelfrank.core.errors import UserError
from shelfrank.core.values import MAX_NUMBER, NumberSpelling
from shelfrank.data.prepared import map_array
from shelfrank.features.encoder import CategoricalEncoding, NumericalEncoding


class EntityTable:
    """The encoded values of one entity's features; row -1 is that of an unknown entity.

    Args:
        folder: The folder that `build_store` wrote.
        numerical: The encodings of its numerical features, in order.
        categorical: The encodings of its categorical features, in order.
        places: Index of each feature's first column among all numerical, or all categorical, columns.
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
        self._codes = {value: index + 1 for index, value in enumerate(encoding.values)}

    def find(self, value: Any) -> tuple[int, bool]:
        """The code of a value, the default's if it is missing, and whether it is an unknown category: code 0."""
        spelled = self._spelling.of(value)
        if spelled is None:
            return self._default, False
        code = self._codes.get(spelled, 0)
        return code, not code

    def is_missing(self, value: Any) -> bool:
        """Whether a value is read as missing."""
        return self._spelling.of(value) is None


class GivenNumbers:
    """Numbers that a request gives.

    Args:
        name: The feature, for the error.
        spelling: How its numbers are read.
        is_log1p: Whether `schema.yaml` declares log1p for it, so that the log holds nothing below 0.
    """

    def __init__(self, name: str, spelling: NumberSpelling, is_log1p: bool = False) -> None:
        self._name, self._spelling, self._is_log1p = name, spelling, is_log1p

    def of(self, value: Any) -> float:
        """A given number; NaN where it is missing or a word for missing.

        Args:
            value: A number or the text of one.

        Returns:
            The number.

        Raises:
            UserError: Where it is not a number, or one that the data contract refuses in a log.
        """
        try:
            found = self._spelling.of(value)
        except ValueError as error:
            raise self._refused("must be a number", value) from error
        if abs(found) >= MAX_NUMBER:
            raise self._refused(f"must be a number of a magnitude below {MAX_NUMBER:g}", value)
        if self._is_log1p and found < 0:
            raise self._refused("must be 0 or more, since schema.yaml declares log1p", value)
        return found

    def column(self, values: Sequence[Any]) -> Float64[np.ndarray, " rows"]:
        """Given numbers; see `of`."""
        return np.array([self.of(value) for value in values], np.float64)

    def _refused(self, must: str, value: Any) -> UserError:
        return UserError(
            f"the feature {self._name!r} {must}, but it is {value!r}; send the right number, or null where there is "
            "none"
        )
