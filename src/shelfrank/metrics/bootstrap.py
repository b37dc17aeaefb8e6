"""How sure a figure is: percentile bootstrap over whole searches, as rows of one page are not independent.

Where too few searches are informative, `interval` computes bounds and p-values without the resamples.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from shelfrank.core.errors import UserError
from shelfrank.metrics.auc import SortedRows, sort_by_score
from shelfrank.metrics.expected import Expected
from shelfrank.metrics.interval import Difference, Interval, difference_interval, mean_interval
from shelfrank.metrics.pages import mean_over_searches, require_pages

N_RESAMPLES = 1000
CONFIDENCE = 0.95

MAX_BLOCK_DRAWS = 1 << 22
"""Draws held at a time, which bounds the memory whatever the number of resamples."""


def bootstrap_mean(
    values: Float[np.ndarray, " searches"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Computes the mean of per-search values with its interval, see `mean_interval`.

    Every resample draws as many searches as are used, each equally likely, with replacement. The same
    arguments give the same bits. Cost: O(searches) per resample, or O(distinct values) where these are few,
    as for MRR@K.

    Args:
        values: One value per search, NaN where the search is left out.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true mean.

    Returns:
        The mean over the searches that are not left out, their number, and the bounds.

    Raises:
        UserError: Where a value is infinite, or the number of resamples or the confidence makes no sense.

    Example:
        Two searches agree, which every third pair does by chance where three of five searches have this value.

        >>> found = bootstrap_mean(np.array([1.0, np.nan, 1.0]))
        >>> found.value, round(found.low, 2), found.high, found.n
        (1.0, 0.34, 1.0, 2)
    """
    _require_options(n_resamples, confidence)
    used = _used(values)
    means = _resampled_means(used, n_resamples, seed)
    in_unit_range = bool(((used >= 0) & (used <= 1)).all())
    return mean_interval(mean_over_searches(used), used, means, confidence, in_unit_range=in_unit_range)


def bootstrap_difference(
    a: Float[np.ndarray, " searches"],
    b: Float[np.ndarray, " searches"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Computes the mean of a - b over the same searches with its interval and p-value, see `difference_interval`.

    Both rankers see the same draws, so what makes a search hard for both cancels.

    Args:
        a: One value per search, NaN where the search is left out.
        b: The other ranker's values on the same searches; a search counts only where both have a value.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true difference.

    Returns:
        The mean difference, the number of searches where both have a value, the bounds and the p-value.

    Raises:
        UserError: Where lengths differ, a value is infinite, or an option makes no sense.

    Example:
        >>> difference = bootstrap_difference(np.array([1.0, 0.5, np.nan]), np.array([0.5, 0.0, 1.0]))
        >>> difference.value, difference.n, difference.p_value
        (0.5, 2, 0.5)
    """
    if a.shape != b.shape:
        raise UserError(
            f"two rankers must have one value each for the same searches, but theirs have shapes {a.shape} "
            f"and {b.shape}; score both on the same split"
        )
    _require_options(n_resamples, confidence)
    both = ~(np.isnan(a) | np.isnan(b))
    used = _used(a[both]) - _used(b[both])
    means = _resampled_means(used, n_resamples, seed)
    return difference_interval(mean_over_searches(used), used, means, confidence)


def bootstrap_auc(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Computes AUC-ROC with its interval over whole searches, see `mean_interval`.

    AUC is the mean over the positive rows of the share of negative rows below each. It rests on the searches with a
    positive row, or on those with a negative one where these are fewer.

    Rows are sorted once; a resample then weighs each row by how often its search was drawn, in O(rows).

    Args:
        scores: The ranker's score of each row.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true AUC.

    Returns:
        AUC over all rows with a label, the number of searches that it rests on, and the bounds.

    Raises:
        UserError: Where shapes do not fit, a page is empty, a score is not finite, a label is unknown, or an
            option makes no sense.

    Example:
        >>> labels = np.array([1, 0, 1, 0], dtype=np.int8)
        >>> found = bootstrap_auc(np.array([0.9, 0.2, 0.8, 0.1]), labels, np.array([0, 2, 4]))
        >>> found.value, round(found.low, 2), found.high, found.n
        (1.0, 0.34, 1.0, 2)
    """
    return bootstrap_mean_auc([scores], labels, search_offsets, n_resamples, seed, confidence)


def bootstrap_mean_auc(
    scores: Sequence[Float[np.ndarray, " rows"]],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Computes the mean AUC-ROC of several rankers, such as one from several seeds, with its interval over searches.

    All rankers see the same draws, as in `bootstrap_auc`; the interval says nothing of other seeds.

    Args:
        scores: Each ranker's score of each row.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true mean.

    Returns:
        The mean of the rankers' AUCs, the number of searches that it rests on, and the bounds.

    Raises:
        UserError: As for `bootstrap_auc`.
    """
    _require_options(n_resamples, confidence)
    for each in scores:
        require_pages(search_offsets, scores=each, labels=labels)
    groups, n_searches = _labelled_searches(labels, search_offsets)
    rankers = tuple(sort_by_score(each, labels, groups) for each in scores)
    everyone = np.ones(n_searches, dtype=np.uint8)
    value = float(np.mean([rows.auc(everyone) for rows in rankers]))
    aucs = _resampled_aucs(rankers, n_searches, n_resamples, seed).mean(axis=1)
    parts = [rows.auc_by_group(n_searches) for rows in rankers]
    by_search = np.mean([each.mean for each in parts], axis=0)
    # Rankers share the labels, and so the weights.
    return mean_interval(value, by_search, aucs, confidence, weights=parts[0].weight)


def bootstrap_auc_difference(
    scores_a: Float[np.ndarray, " rows"],
    scores_b: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Computes AUC(a) - AUC(b) on the same rows with its interval and p-value, see `difference_interval`.

    Whole searches are drawn, the same ones for both rankers, as in `bootstrap_auc`.

    Args:
        scores_a: The first ranker's score of each row.
        scores_b: The second ranker's score of each row.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true difference.

    Returns:
        The difference, the number of searches that an AUC rests on, the bounds and the p-value.

    Raises:
        UserError: As for `bootstrap_auc`.
    """
    _require_options(n_resamples, confidence)
    require_pages(search_offsets, scores_a=scores_a, scores_b=scores_b, labels=labels)
    groups, n_searches = _labelled_searches(labels, search_offsets)
    rows = tuple(sort_by_score(scores, labels, groups) for scores in (scores_a, scores_b))
    aucs = _resampled_aucs(rows, n_searches, n_resamples, seed)
    once = np.ones(n_searches, dtype=np.uint8)
    value = rows[0].auc(once) - rows[1].auc(once)
    parts = [each.auc_by_group(n_searches) for each in rows]
    by_search = parts[0].mean * parts[0].weight - parts[1].mean * parts[1].weight
    return difference_interval(value, by_search, aucs[:, 0] - aucs[:, 1], confidence)


def bootstrap_expected(
    expected: Expected, n_resamples: int = N_RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Computes an expected figure, `sum(total) / sum(weight)`, with its interval over searches, see `mean_interval`.

    Args:
        expected: Each search's expected value and its chance to count.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true figure.

    Returns:
        The figure, the number of searches that can count, and the bounds.

    Raises:
        UserError: Where an option makes no sense.

    Example:
        >>> found = bootstrap_expected(Expected(np.array([0.2, 0.1]), np.array([0.4, 0.1])))
        >>> round(found.value, 3), found.n
        (0.6, 2)
    """
    _require_options(n_resamples, confidence)
    total, weight = _countable(expected)
    ratios = _resampled_ratios(total, weight, n_resamples, seed)
    value = _ratio(total, weight)
    return mean_interval(value, total / weight, ratios, confidence, weights=weight)


def bootstrap_expected_difference(
    a: Expected, b: Expected, n_resamples: int = N_RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
) -> Difference:
    """Computes the difference of two rankers' expected figures with its interval and p-value.

    Both rankers order the same pages, so each search has the same chance to count for both.

    Args:
        a: The first ranker's expected values.
        b: The second ranker's on the same searches.
        n_resamples: How many resamples.
        seed: Seed of the draws.
        confidence: Share of such intervals that are to hold the true difference.

    Returns:
        The difference, the number of searches that can count, the bounds and the p-value.

    Raises:
        UserError: Where the searches differ, or an option makes no sense.

    Example:
        >>> first, second = (Expected(np.array(total), np.array([0.5, 0.5])) for total in ([0.5, 0.4], [0.4, 0.4]))
        >>> round(bootstrap_expected_difference(first, second).value, 3)
        0.1
    """
    _require_options(n_resamples, confidence)
    # The product of the same chances in another order may differ in its last bits.
    if a.weight.shape != b.weight.shape or not np.allclose(a.weight, b.weight, rtol=1e-9, atol=1e-12):
        raise UserError(
            "two rankers must order the same pages, but their searches have other chances to count; evaluate both on "
            "the same split"
        )
    total, weight = _countable(Expected(a.total - b.total, b.weight))
    ratios = _resampled_ratios(total, weight, n_resamples, seed)
    by_search = total / weight.mean() if len(weight) else total
    return difference_interval(_ratio(total, weight), by_search, ratios, confidence)


def _resampled_means(
    used: Float64[np.ndarray, " used"], n_resamples: int, seed: int
) -> Float64[np.ndarray, " resamples"]:
    n = len(used)
    if n < 2:
        return np.empty(0)
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(used, return_counts=True)
    means = []
    # A resample's mean depends only on how often each distinct value was drawn, and those counts are
    # multinomial: the same distribution as drawing searches, at the cost of the few values. One multinomial
    # count costs about as much as a dozen drawn searches.
    if 12 * len(distinct) <= n:
        for size in _blocks(n_resamples, len(distinct)):
            means.append(rng.multinomial(n, counts / n, size=size) @ distinct / n)
    else:
        for size in _blocks(n_resamples, n):
            means.append(used[rng.integers(0, n, size=(size, n))].mean(axis=1))
    return np.concatenate(means)


def _countable(expected: Expected) -> Expected:
    can = expected.weight > 0
    return Expected(expected.total[can], expected.weight[can])


def _ratio(total: Float64[np.ndarray, " searches"], weight: Float64[np.ndarray, " searches"]) -> float:
    return float(total.sum() / weight.sum()) if len(weight) else float("nan")


def _resampled_ratios(
    total: Float64[np.ndarray, " searches"], weight: Float64[np.ndarray, " searches"], n_resamples: int, seed: int
) -> Float64[np.ndarray, " resamples"]:
    n = len(total)
    if n < 2:
        return np.empty(0)
    rng = np.random.default_rng(seed)
    ratios = []
    for size in _blocks(n_resamples, n):
        drawn = rng.integers(0, n, size=(size, n))
        ratios.append(total[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    return np.concatenate(ratios)


def _resampled_aucs(
    rankers: tuple[SortedRows, ...], n_searches: int, n_resamples: int, seed: int
) -> Float64[np.ndarray, "resamples rankers"]:
    if n_searches < 2:
        return np.empty((0, len(rankers)))
    rng = np.random.default_rng(seed)
    aucs = np.empty((n_resamples, len(rankers)))
    for resample in range(n_resamples):
        drawn = np.bincount(rng.integers(0, n_searches, size=n_searches), minlength=n_searches)
        # Nearly always one byte per search, which keeps the weights in the processor's cache.
        weights = drawn.astype(np.min_scalar_type(drawn.max()))
        aucs[resample] = [rows.auc(weights) for rows in rankers]
    return aucs


def _labelled_searches(
    labels: Int[np.ndarray, " rows"], search_offsets: Int[np.ndarray, " offsets"]
) -> tuple[Int64[np.ndarray, " rows"], int]:
    labelled = np.maximum.reduceat(labels, search_offsets[:-1]) >= 0
    # Rows of a search without labels get a number that is not theirs; sorting leaves them out.
    number = np.cumsum(labelled) - 1
    return np.repeat(number, np.diff(search_offsets)), int(np.count_nonzero(labelled))


def _blocks(n_resamples: int, draws_each: int) -> Iterator[int]:
    step = max(1, MAX_BLOCK_DRAWS // draws_each)
    for done in range(0, n_resamples, step):
        yield min(step, n_resamples - done)


def _used(values: Float[np.ndarray, " searches"]) -> Float64[np.ndarray, " used"]:
    used = values[~np.isnan(values)].astype(np.float64)
    n_infinite = np.count_nonzero(np.isinf(used))
    if n_infinite:
        raise UserError(
            f"per-search values must be finite, or NaN where left out, but {n_infinite:,} of {len(values):,} "
            "are infinite; look for a division by zero"
        )
    return used


def _require_options(n_resamples: int, confidence: float) -> None:
    if n_resamples < 1:
        raise UserError(f"n_resamples must be at least 1, not {n_resamples}; a thousand is a good number")
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1, not {confidence}; give 0.95 for 95 %")
