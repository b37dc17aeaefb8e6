"""The encoder: from raw values to standardised numbers and category codes, fitted on the training split only."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64, Int32

from shelfrank.core.schema import Feature, Side
from shelfrank.core.values import CategorySpelling
from shelfrank.data.prepared import MISSING_SUFFIX, Column


@dataclass(frozen=True)
class NumericalEncoding:
    """How one numerical feature is encoded: fill, ln(1 + x) if heavy-tailed, standardise.

    Attributes:
        name: The feature.
        side: Whom it describes.
        log1p: Whether ln(1 + x) is taken, with the sign kept below 0.
        fill: Raw value that stands for a missing one; None fills with the training mean after the logarithm.
        mean: Training mean after the logarithm.
        std: Training standard deviation after the logarithm.
        flags_missing: Whether a column of its own says that the value is missing.
    """

    name: str
    side: Side
    log1p: bool
    fill: float | None
    mean: float
    std: float
    flags_missing: bool

    def transform(self, raw: Float64[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows n_columns"]:
        """The encoded column, followed by the missing flag where there is one."""
        missing = np.isnan(raw)
        if self.fill is not None:
            raw = np.where(missing, self.fill, raw)
        values = (squash(raw) if self.log1p else raw) - self.mean
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
        zero, missing = (float(self.transform(np.array([raw]))[0, 0]) for raw in (0.0, np.nan))
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
        widths = [2 if each.flags_missing else 1 for each in encodings]
        self._places = np.cumsum([0, *widths])[:-1]
        self.n_columns = sum(widths)

    def transform(self, raw: Float64[np.ndarray, "n_features rows"]) -> Float32[np.ndarray, "rows n_columns"]:
        """The encoded columns, each followed by its missing flag where it has one."""
        missing = np.isnan(raw)
        some_missing = bool(missing.any())
        if some_missing and len(self._filled):
            raw = raw.copy()
            raw[self._filled] = np.where(missing[self._filled], self._fill, raw[self._filled])
        values = raw - self._mean
        if len(self._squashed):
            values[self._squashed] = squash(raw[self._squashed]) - self._mean[self._squashed]
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


class Moments:
    """Count, missing count, mean and standard deviation of a stream of numbers."""

    def __init__(self) -> None:
        self.n = self.missing = self.mean = self._spread = 0.0

    def add(self, values: Float64[np.ndarray, " rows"], weights: Float64[np.ndarray, " rows"] | None = None) -> None:
        """Adds values, NaN meaning missing; a weight counts a value that many times."""
        real = ~np.isnan(values)
        n_rows = float(len(values) if weights is None else weights.sum())
        if not real.all():
            values, weights = values[real], None if weights is None else weights[real]
        n = float(len(values) if weights is None else weights.sum())
        self.missing += n_rows - n
        if not n:
            return
        # Numerics: measured from one of the values, a column of equal numbers has a spread of exactly 0.
        shift = float(values[0 if weights is None else np.flatnonzero(weights)[0]])
        centred = values - shift
        mean = float((centred if weights is None else centred * weights).sum()) / n
        squares = centred * centred
        spread = float((squares if weights is None else squares * weights).sum()) - n * mean * mean
        self._merge(n, shift + mean, max(spread, 0.0))

    def merge(self, other: "Moments") -> None:
        """Adds what another has counted."""
        self.missing += other.missing
        if other.n:
            self._merge(other.n, other.mean, other._spread)

    @property
    def std(self) -> float:
        """Standard deviation of the present values; 0 where they do not differ."""
        if not self.n:
            return 0.0
        variance = self._spread / self.n
        return float(np.sqrt(variance)) if variance > 1e-24 * self.mean * self.mean else 0.0

    def _merge(self, n: float, mean: float, spread: float) -> None:
        gap, together = mean - self.mean, self.n + n
        self.mean = mean if not self.n else self.mean + gap * n / together
        self._spread += spread + gap * gap * (self.n * n / together)
        self.n = together


def squash(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """ln(1 + |x|) with the sign of x."""
    return np.sign(values) * np.log1p(np.abs(values))


def fit_numerical(feature: Feature, moments: Moments, always_known: bool = False) -> NumericalEncoding | str:
    """Fits one numerical feature; the reason where it is left out.

    Args:
        feature: The feature.
        moments: Of its training values, after `squash` where it is heavy-tailed; missing ones not filled.
        always_known: Whether the feature is computed, so that no row can come without it. Any other has a missing flag
            even if no training row needs one: a request may leave it out.

    Returns:
        The encoding, or why there is none.
    """
    if not moments.n and not moments.missing:
        return "no training row"
    varies = moments.std > 0.0 or (moments.missing > 0 and moments.n > 0)
    if not varies:
        return "one value only in the training split" if moments.n else "missing in every training row"
    fill = float(feature.default) if feature.default is not None else None
    return NumericalEncoding(
        name=feature.name,
        side=feature.side,
        log1p=feature.log1p,
        fill=fill,
        mean=moments.mean,
        std=moments.std or 1.0,
        flags_missing=moments.n > 0 and (moments.missing > 0 or not always_known),
    )


def fit_categorical(
    feature: Feature, counts: Mapping[str, int], n_rows: float, min_count: int, max_categories: int
) -> CategoricalEncoding | str:
    """Fits one categorical feature; the reason where it is left out.

    Args:
        feature: The feature.
        counts: Training rows by category.
        n_rows: Training rows in all, those without a value included.
        min_count: Rows that a category needs.
        max_categories: Most categories; the most frequent stay, ties by name.

    Returns:
        The encoding with its categories by name, or why there is none.
    """
    frequent = [value for value, count in counts.items() if count >= min_count]
    kept = sorted(sorted(frequent, key=lambda value: (-counts[value], value))[:max_categories])
    if not kept:
        return f"no category with {min_count} training rows"
    if len(counts) == 1 and counts[kept[0]] == n_rows:
        return "one value only in the training split"
    spelled = feature.spelling.of(feature.default)
    return CategoricalEncoding(
        name=feature.name,
        side=feature.side,
        values=tuple(kept),
        default=kept.index(spelled) + 1 if spelled in kept else 0,
        null_words=feature.null_words,
        fold_case=feature.fold_case,
    )


def lost_defaults(features: Sequence[Feature], encoder: Encoder) -> dict[str, str]:
    """Declared defaults that are no category with a code, so that missing values have code 0.

    Args:
        features: The declared features.
        encoder: The fitted encoder.

    Returns:
        By feature, what became of its default.
    """
    declared = {feature.name: feature.default for feature in features if feature.default is not None}
    return {
        each.name: f"{declared[each.name]!r} is no category with a code, so a missing value counts as unknown"
        for each in encoder.categorical
        if each.name in declared and not each.default
    }


def numbers(column: pa.Array | pa.ChunkedArray) -> Float64[np.ndarray, " rows"]:
    """An Arrow column as floats, null as NaN."""
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)


def count_values(
    column: pa.Array | pa.ChunkedArray,
    weights: Float64[np.ndarray, " rows"] | None = None,
    spelling: CategorySpelling | None = None,
) -> dict[str, int]:
    """Rows (or summed weights) of each category, nulls left aside."""
    texts = (spelling or CategorySpelling()).column(column)
    if weights is None:
        counted = pc.value_counts(texts)
        pairs: Sequence[tuple[Any, Any]] = [(item["values"], item["counts"]) for item in counted.to_pylist()]
    else:
        table = pa.table({"value": texts, "weight": weights}).group_by("value").aggregate([("weight", "sum")])
        pairs = list(zip(table["value"].to_pylist(), table["weight_sum"].to_pylist(), strict=True))
    return {str(value): int(count) for value, count in pairs if value is not None and count > 0}


def _sided(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "side": Side(item["side"])}


def _tuples(item: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(item[name]) for name in names if item.get(name) is not None}
