"""Relevance labels measured against the truth of a simulated log; the only step that reads both."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its compute functions at import, where no static checker sees them.

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int, Int8, Int64

from shelfrank.config.relevance import AgreementConfig, RelevanceConfig
from shelfrank.core.artifact import is_current, publish, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.progress import measured, progress
from shelfrank.data.prepared import PreparedData
from shelfrank.logs.engine import open_engine, read_parquet
from shelfrank.logs.search_log import SearchLog
from shelfrank.metrics import mean_over_searches
from shelfrank.metrics.agreement import RankedPairs, confusions, quadratic_kappa
from shelfrank.metrics.interval import percentile_difference, percentile_interval
from shelfrank.prepare.pairs import POSITION_WEIGHTS, column, group_starts, min_max, pack, weighted_ctr
from shelfrank.prepare.relevance import PAIRS_FILE, VOTE, classes, combine, read_pairs

KIND = "relevance_agreement"
AGREEMENT_VERSION = 2
"""Part of every folder's inputs: raise it when the same data and config give other figures."""

BASELINE = "raw_ctr"
SEMANTIC = VOTE + "semantic"
N_GRADES = 4
"""The simulator's grades are 0 to 3."""

MEASURES = ("kappa", "spearman_within", "kendall_within", "spearman", "kendall")
"""`within` is the mean over queries, the others pool all pairs; kappa is of the classes, the rest of the scores."""

RESAMPLED_LEVELS = 1000


def relevance_agreement(
    prepared_path: Path,
    log_path: Path,
    out: Path,
    config: AgreementConfig,
    write_page: Callable[[dict[str, Any], Path], None],
) -> bool:
    """Measures relevance labels, and what they could be at other settings, against a simulated log's true grades.

    Args:
        prepared_path: A finished folder of prepared data with relevance labels.
        log_path: The simulated log that it was prepared from.
        out: Where `agreement.json` and `agreement.html` go.
        config: Which alphas to try, and the intervals.
        write_page: Writes the result as a page to the given file.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the log has no truth or is another one, or the prepared data has no relevance labels.
    """
    prepared, log = PreparedData.open(prepared_path), SearchLog.open(log_path)
    if prepared.manifest.inputs["log"] != log.manifest.fingerprint:
        raise UserError(f"{log_path} must be the log that {prepared_path} was prepared from, but it is another one")
    if not log.has("truth/impressions"):
        raise UserError(
            f"{log_path} must hold true grades under truth/impressions, but it does not; only a simulated log has them"
        )
    inputs = {
        "prepared": prepared.manifest.fingerprint,
        "config": config.model_dump(mode="json"),
        "version": AGREEMENT_VERSION,
    }
    if is_current(out, KIND, inputs):
        return False
    log.verify()
    verify_files(prepared_path, prepared.manifest)
    with publish(out, KIND, inputs) as draft, measured() as cost:
        table, about = read_pairs(prepared_path / PAIRS_FILE)
        labels = RelevanceConfig.model_validate(about["config"])
        grades, facts = true_grades(log, prepared, table)
        result = facts | {"labels": about, "confidence": config.confidence}
        result["scores"] = _measure_all("Measuring agreement", table, grades, labels, config)
        result["head"] = _measure_head(table, grades, labels, config)
        (draft.path / "agreement.json").write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
        write_page({**result, "title": log.schema.name}, draft.path / "agreement.html")
        draft.info.update(facts, cost=cost.stop().as_dict())
    return True


def true_grades(
    log: SearchLog, prepared: PreparedData, pairs: pa.Table
) -> tuple[Int8[np.ndarray, " pairs"], dict[str, Any]]:
    """Reads the true grade of each pair from a simulated log.

    A grade belongs to what is meant by a query. Where two meanings share one text, a pair's grade is the one that
    most impressions have, the lower one of two equally frequent.

    Args:
        log: A log with truth.
        prepared: What was prepared from it.
        pairs: `query_idx` and `product_idx`, ascending.

    Returns:
        The grades, -1 where the truth does not know the pair; and how many pairs there are of each kind.
    """
    with open_engine() as engine:
        shown = read_parquet(engine, log.files("impressions")).select("search_id", "product_id", "query")
        truth = read_parquet(engine, log.files("truth/impressions")).select("search_id", "product_id", "grade")
        counted = shown.inner_join(truth, ["search_id", "product_id"]).group_by("query", "product_id", "grade")
        found = engine.to_pyarrow(counted.aggregate(n=lambda rows: rows.count()))
    query = pc.index_in(found["query"], prepared.queries()["query"])
    product = pc.index_in(found["product_id"], prepared.products()["product_id"])
    keys = pack(*(each.fill_null(-1).combine_chunks().to_numpy().astype(np.int64) for each in (query, product)))
    grade, n = column(found, "grade", np.int8), column(found, "n", np.int64)
    order = np.lexsort((grade, -n, keys))
    keys, grade = keys[order], grade[order]
    starts = group_starts(keys)
    n_grades_of = np.diff(np.append(starts, len(keys)))
    keys, grade = keys[starts], grade[starts]
    wanted = pack(column(pairs, "query_idx", np.int64), column(pairs, "product_idx", np.int64))
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    known = keys[place] == wanted
    grades = np.where(known, grade[place], np.int8(-1))
    facts = {
        "pairs": len(wanted),
        "pairs_by_grade": np.bincount(grades[known], minlength=N_GRADES).tolist(),
        "pairs_without_a_grade": int((~known).sum()),
        "pairs_of_several_grades": int((n_grades_of[place] > 1)[known].sum()),
        "queries": len(group_starts(column(pairs, "query_idx", np.int64))),
    }
    return grades, facts


def _measure_head(
    table: pa.Table, grades: Int8[np.ndarray, " pairs"], labels: RelevanceConfig, config: AgreementConfig
) -> dict[str, Any]:
    """The same for the queries with many clicks, where clicks have more to say."""
    query_idx = column(table, "query_idx", np.int32)
    clicks = np.bincount(query_idx, column(table, "clicks", np.float64))
    head = clicks[query_idx] >= config.head_clicks
    facts = {"clicks": config.head_clicks, "queries": len(np.unique(query_idx[head])), "pairs": int(head.sum())}
    chosen = table.filter(pa.array(head))
    scores = _measure_all("Measuring the head", chosen, grades[head], labels, config) if head.any() else []
    return facts | {"scores": scores}


def _measure_all(
    title: str, table: pa.Table, grades: Int8[np.ndarray, " pairs"], labels: RelevanceConfig, config: AgreementConfig
) -> list[dict[str, Any]]:
    about: dict[str, dict[str, Any]] = {}

    def named() -> Iterator[tuple[str, np.ndarray]]:
        alphas = config.alphas if SEMANTIC in table.column_names else ()
        n_votes = sum(name.startswith(VOTE) and name != VOTE + "ctr" for name in table.column_names)
        n_scores = 2 + n_votes + len(POSITION_WEIGHTS) * (1 + len(alphas))
        with progress(title, n_scores, "scores") as advance:
            for name, what, score in _scores(table, config):
                about[name] = what
                yield name, score
                advance(1)

    figures = agreement(named(), column(table, "query_idx", np.int32), grades, labels, config)
    return [{"name": name, **about[name], **each} for name, each in figures.items()]


def _scores(table: pa.Table, config: AgreementConfig) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    """Each score to be measured, with the settings that make it; the baseline first."""
    query_idx = column(table, "query_idx", np.int32)
    impressions = column(table, "impressions", np.int64)
    yield BASELINE, {}, weighted_ctr(column(table, "clicks", np.float64), impressions)
    yield "labels", {}, column(table, "score", np.float64)
    for name in table.column_names:
        if name.startswith(VOTE) and name != VOTE + "ctr":
            yield name.removeprefix(VOTE), {"voter": name.removeprefix(VOTE)}, column(table, name, np.float64)
    for form in POSITION_WEIGHTS:
        clicks = column(table, f"weighted_clicks_{form}", np.float64)
        ctr = min_max(weighted_ctr(clicks, impressions), query_idx)
        yield f"ctr, {form}", {"voter": "ctr", "position_weight": form}, ctr
        for alpha in config.alphas if SEMANTIC in table.column_names else ():
            votes = {"ctr": ctr, "semantic": column(table, SEMANTIC, np.float64)}
            score = combine(votes, {"ctr": alpha, "semantic": 1 - alpha})
            yield f"alpha {alpha:g}, {form}", {"position_weight": form, "alpha": alpha}, score


@dataclass(frozen=True)
class _Agreement:
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
    first: _Agreement | None = None
    for name, score in scores:
        each = _measure(score, query_idx, grades, labels, config)
        first = first or each
        figures[name] = {
            "pairs": each.n_pairs,
            **_intervals(each, config),
            "difference": _differences(each, first, config),
        }
    return figures


def _intervals(measured: _Agreement, config: AgreementConfig) -> dict[str, Any]:
    return {
        name: percentile_interval(
            value, measured.resampled[name], measured.n_queries[name], config.confidence
        ).as_dict()
        for name, value in measured.values.items()
    }


def _differences(measured: _Agreement, first: _Agreement, config: AgreementConfig) -> dict[str, Any]:
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
) -> _Agreement:
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
    return _Agreement(values, resampled, n_queries, int(used.sum()))


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
