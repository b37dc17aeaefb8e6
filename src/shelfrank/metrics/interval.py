"""A figure with the interval that its resamples span, and the difference of two rankers' figures."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float64

ROUNDING = 1e-12
"""Differences nearer to 0 than this are sums that cancel but for rounding, and count as 0."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure and the bounds between which it lies with the asked confidence.

    Attributes:
        value: The figure on the searches as they are; NaN without any.
        low: Lower bound; NaN with fewer than two searches, and where too many resamples are undefined.
        high: Upper bound, NaN where `low` is.
        n: Searches used.
        n_undefined: Resamples that the bounds leave out because they have no figure: an AUC for which no
            positive or no negative row was drawn. Where they are more than one tail of the interval, the
            bounds are NaN.
    """

    value: float
    low: float
    high: float
    n: int
    n_undefined: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON, with None for NaN."""
        plain = dataclasses.asdict(self)
        return {name: None if math.isnan(number) else number for name, number in plain.items()}


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """The difference of two rankers' figures on the same searches, first minus second.

    Attributes:
        p_value: Two-sided: 2 (1 + m) / (1 + resamples), at most 1, where m counts the resamples at or below 0
            or those at or above 0, whichever are fewer; resamples without a figure count on both sides. It
            falls below 1 - confidence about where the interval leaves 0 out. NaN with fewer than two
            searches.
    """

    p_value: float = dataclasses.field(kw_only=True)


def percentile_interval(
    value: float, replicates: Float64[np.ndarray, " resamples"], n: int, confidence: float
) -> Interval:
    """Computes the interval between the two percentiles of the resamples that leave equal tails outside.

    Args:
        value: The figure on the searches as they are.
        replicates: The figure on each resample, NaN where it has none; empty without anything to resample.
        n: Searches used.
        confidence: Share of such intervals that are to hold the true figure.

    Returns:
        The figure with its bounds.

    Example:
        >>> percentile_interval(1.0, np.arange(5.0), n=7, confidence=0.5)
        Interval(value=1.0, low=1.0, high=3.0, n=7, n_undefined=0)
    """
    return Interval(value, *_bounds(replicates, confidence), n, _n_undefined(replicates))


def percentile_difference(
    value: float, replicates: Float64[np.ndarray, " resamples"], n: int, confidence: float
) -> Difference:
    """Computes the interval and the p-value of a difference from its resamples.

    Args:
        value: The difference on the searches as they are.
        replicates: The difference on each resample, NaN where it has none; empty without anything to
            resample.
        n: Searches used.
        confidence: Share of such intervals that are to hold the true difference.

    Returns:
        The difference with its bounds and its p-value.

    Example:
        Of 19 resamples, one lies at or below 0: p = 2 (1 + 1) / 20.

        >>> percentile_difference(1.0, np.arange(19.0), n=7, confidence=0.5).p_value
        0.2
    """
    # Written so that a resample without a figure, NaN, counts as at or below 0 and as at or above 0.
    fewer = min(np.count_nonzero(~(replicates > ROUNDING)), np.count_nonzero(~(replicates < -ROUNDING)))
    p_value = min(1.0, 2 * (1 + int(fewer)) / (1 + len(replicates))) if len(replicates) else math.nan
    low, high = _bounds(replicates, confidence)
    return Difference(value, low, high, n, _n_undefined(replicates), p_value=p_value)


def _bounds(replicates: Float64[np.ndarray, " resamples"], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    defined = replicates[~np.isnan(replicates)]
    if not len(defined) or _n_undefined(replicates) > tail * len(replicates):
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _n_undefined(replicates: Float64[np.ndarray, " resamples"]) -> int:
    return int(np.count_nonzero(np.isnan(replicates)))
