"""A figure with its interval, the difference of two rankers' figures, and the one rule for calling it shown.

Resampling few searches says little: of two differences of one sign every resample has that sign, though every second
pair of coin tosses does too. So an interval of few searches, and one whose searches nearly all agree, is computed
without resampling, and its p-value is an exact one.
"""

import dataclasses
import math
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float64

ROUNDING = 1e-12
"""Differences nearer to 0 than this are sums that cancel but for rounding, and count as 0."""

MIN_SEARCHES = 30
"""Searches below which no difference is called shown, and below which nothing is resampled.

The same number holds for the informative searches: those whose value is not the most frequent one, those on
which two rankers differ."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure and its bounds at the given confidence.

    Attributes:
        value: The figure on the searches as they are; NaN without any.
        low: Lower bound; NaN with fewer than two searches, and where no sound one is known.
        high: Upper bound, NaN where `low` is.
        n: Searches that the figure rests on. Of an AUC these are the searches with a positive row or those with a
            negative one, whichever are fewer.
        n_undefined: Resamples that have no figure: an AUC for which no positive or no negative row was drawn. Where
            they are more than one tail of the interval, resampling gives no bounds.
    """

    value: float
    low: float
    high: float
    n: int
    n_undefined: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON, with None for NaN."""
        plain = dataclasses.asdict(self)
        return {name: None if number is None or math.isnan(number) else number for name, number in plain.items()}


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """The difference of two rankers' figures on the same searches, first minus second.

    Attributes:
        p_value: Two-sided. With fewer than `MIN_SEARCHES` searches that differ it is exact, see `sign_flip_p_value`;
            with more it is 2 (1 + m) / (1 + resamples), at most 1, where m counts the resamples at or below 0 or
            those at or above 0, whichever are fewer; resamples without a figure count on both sides. The interval
            leaves 0 out only where p is below 1 - confidence. NaN with fewer than two searches.
        n_differing: Searches on which the rankers differ; None where that is not known.
    """

    p_value: float = dataclasses.field(kw_only=True)
    n_differing: int | None = dataclasses.field(default=None, kw_only=True)

    @property
    def sign(self) -> int | None:
        """Whether the difference is shown, by `shown_sign`."""
        unknown = math.isnan(self.low)
        return shown_sign(None if unknown else self.low, None if unknown else self.high, self.n)


def shown_sign(low: float | None, high: float | None, n: int | None) -> int | None:
    """Which ranker a paired difference shows to be ahead: the rule of every mark, verdict and choice.

    Args:
        low: Lower bound of the difference; None where not known.
        high: Upper bound; None where not known.
        n: Searches that the difference rests on; None where not known, which asks for no number.

    Returns:
        1 or -1 where the interval lies above or below 0 and at least `MIN_SEARCHES` searches count, 0 where it is not
        shown, None without an interval.

    Example:
        >>> shown_sign(0.01, 0.05, 400), shown_sign(0.01, 0.05, 12), shown_sign(-0.01, 0.05, 400)
        (1, 0, 0)
    """
    if low is None or high is None:
        return None
    return 0 if too_few(n) else int(low > 0) - int(high < 0)


def too_few(n: int | None) -> bool:
    """Whether fewer than `MIN_SEARCHES` searches count, so that no difference is called shown."""
    return n is not None and n < MIN_SEARCHES


def mean_interval(
    value: float,
    values: Float[np.ndarray, " searches"],
    replicates: Float64[np.ndarray, " resamples"],
    confidence: float,
    n: int | None = None,
    in_unit_range: bool = True,
    weights: Float64[np.ndarray, " searches"] | None = None,
) -> Interval:
    """Computes the interval of a figure that is a mean over searches, such as MRR, NDCG, PD or AUC.

    With at least `MIN_SEARCHES` searches whose value is not the most frequent one, the bounds are percentiles of the
    resamples. With fewer, and where the percentiles coincide or are not known, they are Wilson's: no values between 0
    and 1 vary more than zeros and ones of the same mean. A weighted mean is as informative as (sum w)^2 / sum w^2 equal
    searches do (Kish 1965); where these are fewer than two, Wilson's bounds are not sound and there are none.

    Args:
        value: The figure on the searches as they are.
        values: Each search's value, whose mean the figure is, weighted or not.
        replicates: The figure on each resample, NaN where it has none.
        confidence: Share of such intervals that are to hold the true figure.
        n: Searches that the figure rests on, where these are not all of `values`.
        in_unit_range: Whether the values lie between 0 and 1; others have no interval without resampling.
        weights: How much each search counts, where not all count equally.

    Returns:
        The figure with its bounds.

    Example:
        None of four searches has its product on top; still, it may be every third one.

        >>> found = mean_interval(0.0, np.zeros(4), np.zeros(1000), confidence=0.95)
        >>> found.low, round(found.high, 2)
        (0.0, 0.49)
    """
    n = len(values) if n is None else n
    n_undefined = _n_undefined(replicates)
    if n < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan, n, n_undefined)
    low, high = _percentiles(replicates, confidence)
    if min(n, _n_varying(values)) < MIN_SEARCHES or not low < high:
        n_equal = n if weights is None else float(weights.sum() ** 2 / (weights**2).sum())
        sound = in_unit_range and n_equal >= 2 - ROUNDING
        low, high = wilson_bounds(value, n_equal, confidence) if sound else (math.nan, math.nan)
    return Interval(value, low, high, n, n_undefined)


def difference_interval(
    value: float,
    differences: Float[np.ndarray, " searches"],
    replicates: Float64[np.ndarray, " resamples"],
    confidence: float,
    n: int | None = None,
) -> Difference:
    """Computes the interval and the p-value of a paired difference of two figures.

    With at least `MIN_SEARCHES` searches that differ both come from the resamples. With fewer, p is exact, and the
    interval is that of the mean with two more searches: one without a difference, and one that counts half as the
    largest difference there can be and half as its opposite (Agresti & Min 2005, who do so for paired shares). Where p
    does not fall below 1 - confidence, the interval reaches to 0.

    Args:
        value: The difference on the searches as they are.
        differences: Each search's share of it; their mean is the difference.
        replicates: The difference on each resample, NaN where it has none.
        confidence: Share of such intervals that are to hold the true difference.
        n: Searches that the difference rests on, where these are not all of `differences`.

    Returns:
        The difference with its bounds and its p-value.

    Example:
        Two searches of one sign: every second pair has one sign by chance.

        >>> found = difference_interval(0.5, np.array([0.5, 0.5]), np.full(1000, 0.5), confidence=0.95)
        >>> found.p_value, found.low < 0 < found.high, found.n_differing
        (0.5, True, 2)
    """
    n = len(differences) if n is None else n
    n_differing = int(np.count_nonzero(np.abs(differences) > ROUNDING))
    n_undefined = _n_undefined(replicates)
    if n < 2 or math.isnan(value):
        unknown = math.nan
        return Difference(value, unknown, unknown, n, n_undefined, p_value=unknown, n_differing=n_differing)
    low, high = _percentiles(replicates, confidence)
    few = n_differing < MIN_SEARCHES
    p_value = sign_flip_p_value(differences) if few else _resampled_p_value(replicates)
    if few or too_few(n) or not low < high:
        low, high = _widened_bounds(value, differences, confidence)
    if not p_value < 1 - confidence - ROUNDING:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(value, low, high, n, n_undefined, p_value=p_value, n_differing=n_differing)


def percentile_interval(
    value: float, replicates: Float64[np.ndarray, " resamples"], n: int, confidence: float
) -> Interval:
    """Computes the interval between the two percentiles of the resamples that leave equal tails outside.

    For figures that are no means over searches, such as pooled correlations.

    Args:
        value: The figure on the searches as they are.
        replicates: The figure on each resample, NaN where it has none; empty without anything to resample.
        n: Searches (or queries) that are resampled; fewer than `MIN_SEARCHES` give no bounds.
        confidence: Share of such intervals that are to hold the true figure.

    Returns:
        The figure with its bounds; NaN where the percentiles coincide.

    Example:
        >>> percentile_interval(1.0, np.arange(5.0), n=70, confidence=0.5)
        Interval(value=1.0, low=1.0, high=3.0, n=70, n_undefined=0)
    """
    low, high = (math.nan, math.nan) if too_few(n) else _percentiles(replicates, confidence)
    if not low < high:
        low, high = math.nan, math.nan
    return Interval(value, low, high, n, _n_undefined(replicates))


def percentile_difference(
    value: float, replicates: Float64[np.ndarray, " resamples"], n: int, confidence: float
) -> Difference:
    """Computes the interval and the p-value of a difference from its resamples alone.

    For figures that are no means over searches, such as pooled correlations.

    Args:
        value: The difference on the searches as they are.
        replicates: The difference on each resample, NaN where it has none; empty without anything to
            resample.
        n: Searches (or queries) that are resampled; fewer than `MIN_SEARCHES` give neither bounds nor p.
        confidence: Share of such intervals that are to hold the true difference.

    Returns:
        The difference with its bounds and its p-value.

    Example:
        Of 19 resamples, one lies at or below 0: p = 2 (1 + 1) / 20.

        >>> percentile_difference(1.0, np.arange(19.0), n=70, confidence=0.5).p_value
        0.2
    """
    plain = percentile_interval(value, replicates, n, confidence)
    p_value = math.nan if too_few(n) else _resampled_p_value(replicates)
    low, high = plain.low, plain.high
    if not p_value < 1 - confidence - ROUNDING:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(value, low, high, n, plain.n_undefined, p_value=p_value)


def wilson_bounds(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Computes Wilson's score interval of a share, which has a width where the share is 0 or 1 (Wilson 1927).

    Args:
        share: The share, or any mean of values between 0 and 1.
        n: Cases, at least 1; of cases that weigh unequally the equally informative number.
        confidence: Share of such intervals that are to hold the true share.

    Returns:
        Lower and upper bound.

    Example:
        >>> [round(bound, 3) for bound in wilson_bounds(0.5, 10, 0.95)]
        [0.237, 0.763]
    """
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    # Numerics: at 0 and 1 middle and half cancel but for rounding.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def sign_flip_p_value(differences: Float[np.ndarray, " searches"]) -> float:
    """Computes the exact two-sided p-value of a mean difference by flipping signs (Fisher 1935).

    Between equal rankers every search's difference is as likely to have the other sign: p is the share of all ways
    to give the differences signs whose sum is at least as far from 0. Searches without a difference change nothing.
    Cost: O(2^(m / 2)) for m searches that differ.

    Args:
        differences: Each search's difference, at most `MIN_SEARCHES` of them not 0.

    Returns:
        The p-value; 1 without a difference. It cannot fall below 2 / 2^m.

    Example:
        >>> sign_flip_p_value(np.array([0.5, 0.5])), sign_flip_p_value(np.array([1.0] * 6 + [0.0] * 200))
        (0.5, 0.03125)
    """
    sizes = np.abs(differences[np.abs(differences) > ROUNDING]).astype(np.float64)
    assert len(sizes) <= MIN_SEARCHES, "more searches are resampled"
    reached = abs(float(differences.sum()))
    # Numerics: a sum that equals the reached one but for rounding counts.
    slack = 1e-9 * max(1.0, float(sizes.sum()))
    if reached <= slack:
        return 1.0
    # All sums of one half of the differences meet all of the other half.
    one, other = _signed_sums(sizes[::2]), np.sort(_signed_sums(sizes[1::2]))
    n_as_far = (len(other) - np.searchsorted(other, reached - slack - one)).sum()
    return min(1.0, 2 * int(n_as_far) / 2 ** len(sizes))


def _signed_sums(sizes: Float64[np.ndarray, " sizes"]) -> Float64[np.ndarray, " sums"]:
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def _widened_bounds(
    value: float, differences: Float[np.ndarray, " searches"], confidence: float
) -> tuple[float, float]:
    n, total = len(differences) + 2, float(differences.sum())
    farthest = max(1.0, float(np.abs(differences).max()))
    variance = (float((differences**2).sum()) + farthest**2 - total**2 / n) / n**2
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return min(value, max(-farthest, total / n - half)), max(value, min(farthest, total / n + half))


def _n_varying(values: Float[np.ndarray, " searches"]) -> int:
    """Searches whose value is not the most frequent one; all of them where no value is repeated."""
    counts = np.unique(values, return_counts=True)[1]
    most = int(counts.max(initial=0))
    return len(values) - (most if most > 1 else 0)


def _resampled_p_value(replicates: Float64[np.ndarray, " resamples"]) -> float:
    # Written so that a resample without a figure, NaN, counts as at or below 0 and as at or above 0.
    fewer = min(np.count_nonzero(~(replicates > ROUNDING)), np.count_nonzero(~(replicates < -ROUNDING)))
    return min(1.0, 2 * (1 + int(fewer)) / (1 + len(replicates))) if len(replicates) else math.nan


def _percentiles(replicates: Float64[np.ndarray, " resamples"], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    defined = replicates[~np.isnan(replicates)]
    # A percentile beyond the most extreme resample is not known: 95 % take 39 of them.
    if tail * (len(defined) + 1) < 1 - ROUNDING or _n_undefined(replicates) > tail * len(replicates):
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _n_undefined(replicates: Float64[np.ndarray, " resamples"]) -> int:
    return int(np.count_nonzero(np.isnan(replicates)))
