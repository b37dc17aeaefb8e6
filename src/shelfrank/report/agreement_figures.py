"""Figures of how well scores and their classes agree with true grades, each with an interval over queries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int8, Int64

from shelfrank.config.relevance import AgreementConfig, RelevanceConfig
from shelfrank.metrics import mean_over_searches
from shelfrank.metrics.agreement import RankedPairs, confusions, quadratic_kappa
from shelfrank.metrics.interval import percentile_difference, percentile_interval
from shelfrank.prepare.relevance import classes

N_GRADES = 4
"""The simulator's grades are 0 to 3."""

MEASURES = ("kappa", "spearman_within", "kendall_within", "spearman", "kendall")
"""`within` is the mean over queries, the others pool all pairs; kappa is of the classes, the rest of the scores."""

RESAMPLED_LEVELS = 1000


@dataclass(frozen=True)
class _Measured:
    values: Mapping[str, float]
    resampled: Mapping[str, Float64[np.ndarray, " resamples"]]
    n_queries: Mapping[str, int]
    n_pairs: int


def agreement(
    scores: Iterable[tuple[str, np.ndarray]],
    query_idx: Int[np.ndarray, " pairs"],
    grades: Int8[np.ndarray, " pairs"],
    labels: RelevanceConfig,
    config: AgreementConfig,
) -> dict[str, dict[str, Any]]:
    """Computes how well several scores of the same pairs agree with their true grades.

    Every bootstrap draws whole queries, the same ones for all scores, so that differences are paired. A score's own
    pairs count: where it is NaN or the grade is not known, the pair is left out, and `pairs` says how many are left.

    Args:
        scores: Names and scores, one held at a time; the first is the one that the others are compared with.
        query_idx: The pairs' queries, ascending.
        grades: The true grades, -1 where not known.
        labels: How scores are cut into classes.
        config: The intervals.

    Returns:
        By name: `pairs`; each of `MEASURES` as an interval; and `difference`, the same minus the first one's. Kappa is
        absent where the classes are not as many as the grades.
    """
    figures: dict[str, dict[str, Any]] = {}
    first: _Measured | None = None
    for name, score in scores:
        each = _measure(score, query_idx, grades, labels, config)
        first = first or each
        figures[name] = {
            "pairs": each.n_pairs,
            **_intervals(each, config),
            "difference": _differences(each, first, config),
        }
    return figures


def _intervals(measured: _Measured, config: AgreementConfig) -> dict[str, Any]:
    return {
        name: percentile_interval(
            value, measured.resampled[name], measured.n_queries[name], config.confidence
        ).as_dict()
        for name, value in measured.values.items()
    }


def _differences(measured: _Measured, first: _Measured, config: AgreementConfig) -> dict[str, Any]:
    return {
        name: percentile_difference(
            value - first.values[name],
            measured.resampled[name] - first.resampled[name],
            measured.n_queries[name],
            config.confidence,
        ).as_dict()
        for name, value in measured.values.items()
    }


def _measure(
    score: Float64[np.ndarray, " pairs"],
    query_idx: Int[np.ndarray, " pairs"],
    grades: Int8[np.ndarray, " pairs"],
    labels: RelevanceConfig,
    config: AgreementConfig,
) -> _Measured:
    # Cut before pairs without a grade leave: the cuts must be those of the labels.
    decided = classes(score, query_idx, labels)
    used = ~np.isnan(score) & (grades >= 0)
    # Every query keeps its number, so that a draw means the same queries for every score.
    group = np.unique(query_idx, return_inverse=True)[1]
    n_groups = int(group[-1]) + 1 if len(group) else 0
    group, score, grade = group[used], score[used], grades[used]
    within_groups, dense = np.unique(group, return_inverse=True)
    within = {
        name: _by_query(values, within_groups, n_groups)
        for name, values in zip(
            ("spearman_within", "kendall_within"),
            RankedPairs.of(score, grade, dense, N_GRADES, by_group=True).correlations(),
            strict=True,
        )
    }
    pooled = RankedPairs.of(score, grade, group, N_GRADES, by_group=False).correlations()
    values = {name: mean_over_searches(by_query) for name, by_query in within.items()}
    values |= {name: _only(value) for name, value in zip(("spearman", "kendall"), pooled, strict=True)}
    # Numerics: the bounds of the pooled correlations rank the scores in so many levels, which moves them by less than
    # 0.001 and makes a resample a hundred times cheaper.
    coarse = RankedPairs.of(score, grade, group, N_GRADES, by_group=False, max_levels=RESAMPLED_LEVELS)
    counts = None
    if labels.n_classes == N_GRADES:
        counts = confusions(decided[used], grade, group, n_groups, N_GRADES)
        values = {"kappa": _only(quadratic_kappa(counts.sum(axis=0, keepdims=True)))} | values
    resampled = _resampled(within, coarse, counts, n_groups, config)
    n_queries = {
        name: int((~np.isnan(within[name])).sum()) if name in within else len(within_groups) for name in values
    }
    return _Measured(values, resampled, n_queries, int(used.sum()))


def _resampled(
    within: Mapping[str, np.ndarray],
    pooled: RankedPairs,
    counts: Int64[np.ndarray, "groups n_grades n_grades"] | None,
    n_groups: int,
    config: AgreementConfig,
) -> dict[str, Float64[np.ndarray, " resamples"]]:
    rng = np.random.default_rng(config.seed)
    found: dict[str, list[float]] = {}
    for _ in range(config.n_resamples if n_groups > 1 else 0):
        drawn = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)
        for name, by_query in within.items():
            known = ~np.isnan(by_query)
            weight = drawn[known].sum()
            mean = (drawn[known] * by_query[known]).sum() / weight if weight else np.nan
            found.setdefault(name, []).append(float(mean))
        for name, value in zip(("spearman", "kendall"), pooled.correlations(drawn), strict=True):
            found.setdefault(name, []).append(_only(value))
        if counts is not None:
            confusion = np.tensordot(drawn[None], counts, axes=1)
            found.setdefault("kappa", []).append(_only(quadratic_kappa(confusion)))
    names = (*within, "spearman", "kendall", "kappa")
    return {name: np.array(found.get(name, []), dtype=np.float64) for name in names}


def _by_query(
    values: Float64[np.ndarray, " known"], group: Int[np.ndarray, " known"], n_groups: int
) -> Float64[np.ndarray, " groups"]:
    by_query = np.full(n_groups, np.nan)
    by_query[group] = values
    return by_query


def _only(values: Float64[np.ndarray, " parts"]) -> float:
    return float(values[0]) if len(values) else float("nan")
