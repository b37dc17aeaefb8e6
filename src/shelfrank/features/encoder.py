"""The encoder: from raw values to standardised numbers and category codes, fitted on the training split only."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64, Int32

from shelfrank.core.schema import Side
from shelfrank.core.values import CategorySpelling
from shelfrank.data.prepared import MISSING_SUFFIX, Column


@dataclass(frozen=True)
class NumericalEncoding:
    """How one numerical feature is encoded: fill, ln(1 + x) if heavy-tailed, clip, standardise.

    Clipping has no margin beyond the training rows: there it changes nothing in trees, which are constant beyond their
    outermost splits, and keeps a network from extrapolating.

    Attributes:
        name: The feature.
        side: Whom it describes.
        log1p: Whether ln(1 + x) is taken, with the sign kept below 0.
        fill: Raw value that stands for a missing one; None fills with the training mean after the logarithm.
        mean: Training mean after the logarithm.
        std: Training standard deviation after the logarithm.
        flags_missing: Whether a column of its own says that the value is missing.
        low: Smallest training value after the logarithm, below which values are clipped; None clips none.
        high: The largest.
    """

    name: str
    side: Side
    log1p: bool
    fill: float | None
    mean: float
    std: float
    flags_missing: bool
    low: float | None = None
    high: float | None = None

    def transform(self, raw: Float64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows n_columns"]:
        """The encoded column, followed by the missing flag where there is one."""
        return self._encode(raw, self.low, self.high)

    def is_clipped(self, raw: Float64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Which values `transform` clips."""
        if self.low is None or self.high is None:
            return np.zeros(len(raw), bool)
        values = squash(raw) if self.log1p else raw
        return (values < self.low) | (values > self.high)

    def _encode(
        self, raw: Float64[np.ndarray, " rows"], low: float | None, high: float | None
    ) -> Float32[np.ndarray, "rows n_columns"]:
        missing = np.isnan(raw)
        if self.fill is not None:
            raw = np.where(missing, self.fill, raw)
        values = squash(raw) if self.log1p else raw
        if low is not None:
            # A declared default may lie outside of what training saw.
            values = np.where(missing, values, np.clip(values, low, high))
        values = values - self.mean
        encoded = (np.where(np.isnan(values), 0.0, values) / self.std).astype(np.float32)
        return np.stack([encoded, missing.astype(np.float32)], axis=1) if self.flags_missing else encoded[:, None]

    def inverse(self, encoded: Float32[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
        """The raw values of an encoded column; of a missing one, what it was filled with."""
        values = encoded.astype(np.float64) * self.std + self.mean
        # Numerics: an encoded value has seven digits, so a raw 0 comes back as nearly 0.
        values[np.abs(values) < 1e-6 * self.std] = 0.0
        return np.sign(values) * np.expm1(np.abs(values)) if self.log1p else values

    def columns(self) -> list[Column]:
        """The columns that `transform` makes."""
        # Paper: Sec. 4.3 sets the raw value to 0 for the neutral customer, whatever training saw.
        zero, missing = (float(self._encode(np.array([raw]), None, None)[0, 0]) for raw in (0.0, np.nan))
        made = [Column(self.name, self.side, size=0, zero=zero, mean=0.0, missing=missing)]
        if self.flags_missing:
            made.append(Column(self.name + MISSING_SUFFIX, self.side, size=0, zero=0.0, mean=0.0, missing=1.0))
        return made


class NumericalBlock:
    """Several numerical features of the same rows at once: the values that `NumericalEncoding.transform` gives each.

    Args:
        encodings: How each feature is encoded.

    Attributes:
        n_columns: Columns that `transform` makes.
    """

    def __init__(self, encodings: Sequence[NumericalEncoding]) -> None:
        self._filled = np.array([i for i, each in enumerate(encodings) if each.fill is not None], np.intp)
        self._fill = np.array([[each.fill] for each in encodings if each.fill is not None], np.float64).reshape(-1, 1)
        self._squashed = np.array([i for i, each in enumerate(encodings) if each.log1p], np.intp)
        self._mean = np.array([each.mean for each in encodings], np.float64)[:, None]
        self._std = np.array([each.std for each in encodings], np.float64)[:, None]
        self._flagged = np.array([i for i, each in enumerate(encodings) if each.flags_missing], np.intp)
        clipped = [i for i, each in enumerate(encodings) if each.low is not None]
        self._clipped = np.array(clipped, np.intp)
        self._clipped_names = [encodings[i].name for i in clipped]
        self._low, self._high = (
            np.array([getattr(encodings[i], end) - encodings[i].mean for i in clipped], np.float64)[:, None]
            for end in ("low", "high")
        )
        widths = [2 if each.flags_missing else 1 for each in encodings]
        self._places = np.cumsum([0, *widths])[:-1]
        self.n_columns = sum(widths)

    def transform(
        self, raw: Float64[np.ndarray, "n_features rows"], clipped: dict[str, int] | None = None
    ) -> Float32[np.ndarray, "rows n_columns"]:
        """The encoded columns, each followed by its missing flag where it has one.

        Args:
            raw: The raw values.
            clipped: Takes in, by feature, the number of rows whose value is clipped.

        Returns:
            The columns.
        """
        missing = np.isnan(raw)
        some_missing = bool(missing.any())
        if some_missing and len(self._filled):
            raw = raw.copy()
            raw[self._filled] = np.where(missing[self._filled], self._fill, raw[self._filled])
        values = raw - self._mean
        if len(self._squashed):
            values[self._squashed] = squash(raw[self._squashed]) - self._mean[self._squashed]
        if len(self._clipped):
            some = values[self._clipped]
            outside = (some < self._low) | (some > self._high)
            if some_missing:
                outside &= ~missing[self._clipped]
            if outside.any():
                values[self._clipped] = np.where(outside, np.clip(some, self._low, self._high), some)
                if clipped is not None:
                    counts = zip(self._clipped_names, outside.sum(axis=1).tolist(), strict=True)
                    clipped.update({name: count for name, count in counts if count})
        if some_missing:
            values[np.isnan(values)] = 0.0
        values /= self._std
        encoded = np.empty((raw.shape[1], self.n_columns), np.float32)
        encoded[:, self._places] = values.T
        if len(self._flagged):
            encoded[:, self._places[self._flagged] + 1] = missing[self._flagged].T
        return encoded


@dataclass(frozen=True)
class CategoricalEncoding:
    """How one categorical feature is encoded.

    Attributes:
        name: The feature.
        side: Whom it describes.
        values: The known categories; `values[i]` has code i + 1. Code 0 is unknown, rare or missing.
        default: Code that stands for a missing value.
        null_words: Texts that mean a missing value; None takes the built-in ones.
        fold_case: Whether categories that differ by case only are one.
    """

    name: str
    side: Side
    values: tuple[str, ...]
    default: int
    null_words: tuple[str, ...] | None = None
    fold_case: bool = False

    @property
    def spelling(self) -> CategorySpelling:
        """How its categories are spelled."""
        return CategorySpelling(self.null_words, self.fold_case)

    def transform(self, raw: pa.Array | pa.ChunkedArray) -> Int32[np.ndarray, " rows"]:
        """The code of each value."""
        texts = self.spelling.column(raw)
        codes = pc.add(pc.index_in(texts, value_set=pa.array(self.values, pa.string()), skip_nulls=True), 1)
        known = pc.fill_null(codes, 0).to_numpy(zero_copy_only=False).astype(np.int32)
        if self.default:
            known[texts.is_null().to_numpy(zero_copy_only=False)] = self.default
        return known

    def inverse(self, codes: Int32[np.ndarray, " rows"]) -> list[str | None]:
        """The category of each code; None for unknown, rare or missing ones."""
        return [self.values[code - 1] if code else None for code in codes.tolist()]

    def column(self) -> Column:
        """The column that `transform` makes."""
        return Column(
            self.name, self.side, size=len(self.values) + 1, zero=self.default, mean=self.default, missing=self.default
        )


@dataclass(frozen=True)
class Encoder:
    """Every encoding, and what was left out by reason."""

    numerical: tuple[NumericalEncoding, ...]
    categorical: tuple[CategoricalEncoding, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the encoder as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Encoder":
        """Reads an encoder that `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            numerical=tuple(NumericalEncoding(**_sided(item)) for item in data["numerical"]),
            categorical=tuple(
                CategoricalEncoding(**{**_sided(item), **_tuples(item, "values", "null_words")})
                for item in data["categorical"]
            ),
            left_out=data["left_out"],
        )


def squash(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """ln(1 + |x|) with the sign of x."""
    return np.sign(values) * np.log1p(np.abs(values))


def encode_entities(encoding: NumericalEncoding | CategoricalEncoding, table: pa.Table) -> np.ndarray:
    """A feature of an entity's table, encoded, with a last row for an unknown entity, which index -1 finds."""
    column = table[encoding.name].combine_chunks()
    column = pa.concat_arrays([column, pa.nulls(1, column.type)])
    return encoding.transform(numbers(column) if isinstance(encoding, NumericalEncoding) else column)


def numbers(column: pa.Array | pa.ChunkedArray) -> Float64[np.ndarray, " rows"]:
    """An Arrow column as floats, null as NaN."""
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)


def _sided(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "side": Side(item["side"])}


def _tuples(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(item[name]) for name in names if item.get(name) is not None}
