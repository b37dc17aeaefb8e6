"""Levels: how high a product's price, or another of its numbers, is among the prices of its category.

What a price means depends on the category. Levels of all categories are comparable, so that a visitor's past with one
category says something about another.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from shelfrank.core.schema import Feature, Kind
from shelfrank.core.values import CategorySpelling
from shelfrank.data.prepared import map_array
from shelfrank.features.encoder import numbers

CATEGORY = "category"
THOUSANDTHS = 1_000


@dataclass(frozen=True)
class _Scale:
    """The sorted known values of one feature in each category, one category after the other."""

    values: Float64[np.ndarray, " known"]
    starts: Int64[np.ndarray, " categories_plus_1"]


class Levels:
    """The levels of a catalogue's numerical features.

    A level is the share of the category's known values that are below, ties counted half, minus 1/2, in thousandths:
    -500 to 500. It is NaN where the value is missing or nothing of its category has one. Products without a category
    are a category of their own, and so are all products where the catalogue has none.

    Args:
        names: The features.
        categories: The categories, the missing one among them.
        scales: The known values of each feature.

    Attributes:
        names: The features.
        categories: The categories.
    """

    def __init__(self, names: Sequence[str], categories: Sequence[str | None], scales: Sequence[_Scale]) -> None:
        self.names, self.categories = tuple(names), tuple(categories)
        self._code_of = {category: code for code, category in enumerate(categories)}
        self._scales = dict(zip(self.names, scales, strict=True))

    @classmethod
    def of_catalogue(cls, products: pa.Table, names: Sequence[str], features: Sequence[Feature]) -> "Levels":
        """Learns the scales of some numerical features.

        Args:
            products: The catalogue.
            names: The features.
            features: The declared features of the products, for the spelling of categories.

        Returns:
            The scales.
        """
        categories = catalogue_categories(products, features)
        known = sorted({category for category in categories if category is not None})
        order: list[str | None] = [*known, None]
        code_of = {category: code for code, category in enumerate(order)}
        codes = np.array([code_of[category] for category in categories], np.int64)
        scales = []
        for name in names:
            values = numbers(products[name])
            found = np.isfinite(values)
            by_category = np.lexsort((values[found], codes[found]))
            starts = np.searchsorted(codes[found][by_category], np.arange(len(order) + 1))
            scales.append(_Scale(values[found][by_category], starts.astype(np.int64)))
        return cls(names, order, scales)

    def of(
        self, name: str, values: Float64[np.ndarray, " n"], categories: Sequence[str | None]
    ) -> Float64[np.ndarray, " n"]:
        """The levels of some values of a feature.

        Args:
            name: The feature.
            values: NaN where missing.
            categories: The category of each; None where it is missing.

        Returns:
            The levels in thousandths.
        """
        scale = self._scales[name]
        codes = np.array([self._code_of.get(category, -1) for category in categories], np.int64)
        levels = np.full(len(values), np.nan)
        usable = np.isfinite(values) & (codes >= 0)
        for code in np.unique(codes[usable]):
            some = np.flatnonzero(usable & (codes == code))
            own = scale.values[scale.starts[code] : scale.starts[code + 1]]
            if len(own):
                below = np.searchsorted(own, values[some], "left") + np.searchsorted(own, values[some], "right")
                levels[some] = np.round(THOUSANDTHS * (below / (2 * len(own)) - 0.5))
        return levels

    def of_products(self, products: pa.Table, features: Sequence[Feature]) -> dict[str, Float64[np.ndarray, " n"]]:
        """The levels of the catalogue's own products, by `level_column`."""
        categories = catalogue_categories(products, features)
        return {level_column(name): self.of(name, numbers(products[name]), categories) for name in self.names}

    def save(self, folder: Path, products: pa.Table, features: Sequence[Feature]) -> None:
        """Writes the scales, and the catalogue's numbers, categories and levels, the last row for an unknown product.

        Args:
            folder: Where to; it is made.
            products: The catalogue.
            features: The declared features of the products.
        """
        folder.mkdir(parents=True)
        (folder / "categories.json").write_text(json.dumps(list(self._code_of), ensure_ascii=False), encoding="utf-8")
        arrays = {}
        for i, scale in enumerate(self._scales.values()):
            arrays |= {f"{i}.values": scale.values, f"{i}.starts": scale.starts}
        np.savez(folder / "scales.npz", **arrays)
        unknown = np.full((1, len(self.names)), np.nan)
        levels = list(self.of_products(products, features).values())
        raw = [numbers(products[name]) for name in self.names]
        np.save(folder / "levels.npy", np.append(np.stack(levels, axis=1), unknown, axis=0))
        np.save(folder / "numbers.npy", np.append(np.stack(raw, axis=1), unknown, axis=0))
        codes = [self._code_of[category] for category in (*catalogue_categories(products, features), None)]
        np.save(folder / "codes.npy", np.array(codes, np.int32))

    @classmethod
    def load(cls, folder: Path, names: Sequence[str]) -> "Levels":
        """Reads the scales that `save` wrote."""
        categories = json.loads((folder / "categories.json").read_text(encoding="utf-8"))
        with np.load(folder / "scales.npz", allow_pickle=False) as arrays:
            scales = [_Scale(arrays[f"{i}.values"], arrays[f"{i}.starts"]) for i in range(len(names))]
        return cls(names, categories, scales)


class ProductLevels:
    """The levels of a store's products, mapped into memory.

    Args:
        folder: What `Levels.save` wrote.
        names: The features.
        spelling: How the log spells categories; None where levels are not by category.
        read: Reads a given number of a feature; NaN where it is missing.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        spelling: CategorySpelling | None,
        read: Mapping[str, Callable[[Any], float]],
    ) -> None:
        self._scales, self._spelling, self._read = Levels.load(folder, names), spelling, read
        self._categories = self._scales.categories
        self._levels, self._numbers, self._codes = (
            np.asarray(map_array(folder / f"{name}.npy")) for name in ("levels", "numbers", "codes")
        )

    def of_page(
        self, products: Int64[np.ndarray, " rows"], given: Sequence[Mapping[str, Any]]
    ) -> dict[str, Float64[np.ndarray, " rows"]]:
        """The levels of candidates by `level_column`.

        Args:
            products: Rows of the products; -1 for an unknown one.
            given: For each candidate the features that a request gives instead of the catalogue's; empty for none.

        Returns:
            The levels in thousandths; NaN where one is unknown.
        """
        levels = self._levels[products]
        for row, features in enumerate(given):
            if features.keys() & {*self._scales.names, CATEGORY}:
                levels[row] = self._given(int(products[row]), features)
        return {level_column(name): levels[:, i] for i, name in enumerate(self._scales.names)}

    def of_event(self, product: int) -> dict[str, int]:
        """The known levels of a product by feature."""
        own = zip(self._scales.names, self._levels[product].tolist(), strict=True)
        return {name: int(level) for name, level in own if not math.isnan(level)}

    def _given(self, product: int, given: Mapping[str, Any]) -> list[float]:
        category = self._categories[self._codes[product]]
        if CATEGORY in given and self._spelling is not None:
            category = self._spelling.of(given[CATEGORY])
        own = dict(zip(self._scales.names, self._numbers[product].tolist(), strict=True))
        own |= {name: self._read[name](given[name]) for name in own.keys() & given.keys()}
        return [float(self._scales.of(name, np.array([number]), [category])[0]) for name, number in own.items()]


def level_column(name: str) -> str:
    """The column of a feature's level in a batch of rows."""
    return f"{name}_level"


def catalogue_categories(products: pa.Table, features: Sequence[Feature]) -> list[str | None]:
    """The category of each product as the log spells it; None where the catalogue has none."""
    declared = {each.name: each.spelling for each in features if each.kind is Kind.CATEGORICAL}
    if CATEGORY not in declared or CATEGORY not in products.column_names:
        return [None] * products.num_rows
    return category_spelling(features).column(products[CATEGORY]).to_pylist()


def category_spelling(features: Sequence[Feature]) -> CategorySpelling:
    """How the log spells categories."""
    return next((each.spelling for each in features if each.name == CATEGORY), CategorySpelling())
