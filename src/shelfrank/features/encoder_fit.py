"""Fits the encoder on counts and moments of the training rows."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind
from shelfrank.core.values import CategorySpelling
from shelfrank.features.encoder import CategoricalEncoding, Encoder, NumericalEncoding


class Moments:
    """Count, missing count, mean, standard deviation and range of a stream of numbers.

    Attributes:
        n: Present values.
        missing: Missing ones.
        mean: Their mean; 0 without any.
        low: The smallest; infinite without any.
        high: The largest; minus infinity without any.
    """

    def __init__(self) -> None:
        self.n = self.missing = self.mean = self._spread = 0.0
        self.low, self.high = np.inf, -np.inf

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
        counted = values if weights is None else values[weights > 0]
        self.low, self.high = min(self.low, float(counted.min())), max(self.high, float(counted.max()))
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
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
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


def fit_features(
    features: Sequence[Feature],
    moments: Mapping[str, Moments],
    counts: Mapping[str, Mapping[str, int]],
    n_rows: float,
    config: PrepareConfig,
    always_known: Collection[str] = (),
    clipped: Collection[str] = (),
) -> Encoder:
    """Fits every feature on what was counted of the training rows.

    Args:
        features: The features.
        moments: Of each numerical feature, after `squash` where it is heavy-tailed.
        counts: Rows by category of each categorical feature.
        n_rows: Rows in all.
        config: How rare a category may be.
        always_known: Numerical features without which no row can come.
        clipped: Numerical features whose values are clipped to those of the training rows.

    Returns:
        The encoder, with the features that it leaves out and why.
    """
    numerical: list[NumericalEncoding] = []
    categorical: list[CategoricalEncoding] = []
    left_out: dict[str, str] = {}
    for feature in features:
        if feature.kind is Kind.NUMERICAL:
            fitted = fit_numerical(
                feature, moments[feature.name], feature.name in always_known, feature.name in clipped
            )
        else:
            fitted = fit_categorical(feature, counts[feature.name], n_rows, config.min_count, config.max_categories)
        if isinstance(fitted, str):
            left_out[feature.name] = fitted
        elif isinstance(fitted, NumericalEncoding):
            numerical.append(fitted)
        else:
            categorical.append(fitted)
    return Encoder(tuple(numerical), tuple(categorical), left_out)


def fit_numerical(
    feature: Feature, moments: Moments, always_known: bool = False, is_clipped: bool = False
) -> NumericalEncoding | str:
    """Fits one numerical feature; the reason where it is left out.

    Args:
        feature: The feature.
        moments: Of its training values, after `squash` where it is heavy-tailed; missing ones not filled.
        always_known: Whether the feature is computed, so that no row can come without it. Any other has a missing flag
            even if no training row needs one: a request may leave it out.
        is_clipped: Whether its values are clipped to those of the training rows.

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
        low=moments.low if is_clipped else None,
        high=moments.high if is_clipped else None,
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
