"""Ranks a page: scores and the engine's order become one order, with explanations."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from shelfrank.bundle.loaded import Bundle, ScoredPage
from shelfrank.bundle.scorers import Rows
from shelfrank.config import TaskWeights
from shelfrank.data.prepared import MISSING_SUFFIX
from shelfrank.features.request import PageRequest
from shelfrank.metrics.order import fuse

N_REASONS = 12
"""Features of an explanation."""
METHOD = "occlusion"
"""How explanations are computed: one feature or side at a time is replaced by its training mean."""
TEXT_MATCH = "text_match"
MIN_PROB = 1e-9
BLENDED_DIGITS = 12
"""Decimals of a blended place: places of 1000 candidates are further apart."""


@dataclass(frozen=True)
class RankOptions:
    """How to rank a page.

    Attributes:
        weight: Weight of the model's order against the engine's, from 0 to 1.
        task_weights: Weights that fuse the tasks' scores; None takes the bundle's.
        top_n: Maximum number of results; None returns all.
        explain: Number of results to explain, as far as the deadline allows.
    """

    weight: float = 1.0
    task_weights: Mapping[str, float] | None = None
    top_n: int | None = None
    explain: int = 0


@dataclass(frozen=True)
class RankResult:
    """A page in its new order, best first.

    Attributes:
        order: Each result's index in the request, from 0.
        engine_ranks: Each candidate's rank in the engine's order, from 1.
        scores: The sort key of each result; None if the engine's own order was returned.
        tasks: Each result's score by task; empty if the engine's own order was returned.
        explanations: Explanations of the first results, as in the API; fewer than requested if time ran out.
        bundle: The version that ranked.
        unknown: Counts of unknown products, customers, queries and categories.
        unknown_ids: Candidates that the catalogue lacks, each once, in the order of the request.
        missing_features: By feature that the score can depend on, for how many candidates the request left it out.
        unknown_features: By name, how often the request gave it where no feature is read from there.
        clipped_features: By feature, for how many candidates its number is clipped to what training saw.
        not_finite: Number of candidates without a finite score; they come last.
        reason: Why the engine's own order was returned; None if it was not.
        bounded: Whether the scores are between 0 and 1.
    """

    order: Sequence[int]
    engine_ranks: Sequence[int]
    scores: Sequence[float] | None
    tasks: Sequence[Mapping[str, float]] = ()
    explanations: Sequence[Mapping[str, Any]] = ()
    bundle: str | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)
    unknown_ids: Sequence[str] = ()
    missing_features: Mapping[str, int] = field(default_factory=dict)
    unknown_features: Mapping[str, int] = field(default_factory=dict)
    clipped_features: Mapping[str, int] = field(default_factory=dict)
    not_finite: int = 0
    reason: str | None = None
    bounded: bool = True


@dataclass(frozen=True)
class Contribution:
    """How far a feature, or all features of a side, move each task's logit of one row.

    Attributes:
        feature: The name of the feature or side.
        side: The side.
        logits: The change of each task's logit.
    """

    feature: str
    side: str
    logits: Float64[np.ndarray, " n_tasks"]


def rank_page(
    bundle: Bundle,
    page: PageRequest,
    options: RankOptions,
    due_s: float = math.inf,
    may_explain: Callable[[], bool] = lambda: True,
) -> RankResult:
    """Ranks a page with a bundle, in the caller's thread.

    Args:
        bundle: The bundle.
        page: The query, the customer and the candidates.
        options: How to rank them.
        due_s: When the page must be ready, by the monotonic clock; explanations that would take longer are left out.
        may_explain: Whether there is time for the next explanation apart from that, for example no other page waits.

    Returns:
        The new order.

    Raises:
        UserError: If the request is invalid for this bundle.
        ArithmeticError: If no score is finite.
    """
    engine = engine_positions(page)
    if not len(engine):
        # Invalid weights are an error on an empty page too.
        task_weights(bundle, options.task_weights)
        return RankResult([], [], [], bundle=bundle.name)
    started_s = time.monotonic()
    scored = bundle.score(page)
    scoring_s = time.monotonic() - started_s
    weights = task_weights(bundle, options.task_weights)
    fused = fused_scores(scored, weights)
    is_finite = np.isfinite(fused)
    if not is_finite.any():
        raise ArithmeticError("one score at least must be finite")
    order, values = blend(fused, engine, options.weight)
    task_scores = scored.scores
    if not np.isfinite(task_scores).all():
        order, values = _finite_first(order, values, is_finite)
        task_scores = _finite(task_scores)
    order = order[: options.top_n]
    explain = partial(explanations, bundle, scored.rows, weights=weights)
    return RankResult(
        order=order.tolist(),
        engine_ranks=engine.tolist(),
        scores=values[order].tolist(),
        tasks=[dict(zip(bundle.spec.tasks, row, strict=True)) for row in task_scores[order].tolist()],
        explanations=explained_in_time(
            explain, order[is_finite[order]][: options.explain], due_s, scoring_s, may_explain=may_explain
        ),
        bundle=bundle.name,
        unknown=scored.page.unknown,
        unknown_ids=scored.page.unknown_ids(page),
        missing_features=scored.page.missing_features,
        unknown_features=scored.page.unknown_features,
        clipped_features=scored.page.clipped_features,
        not_finite=int((~is_finite).sum()),
        bounded=bundle.spec.gives_probabilities or options.weight < 1,
    )


def engine_positions(page: PageRequest) -> Int64[np.ndarray, " rows"]:
    """Each candidate's position in the engine's order, from 1."""
    if page.positions is None:
        return np.arange(1, len(page.product_ids) + 1)
    return np.asarray(page.positions, np.int64)


def engine_ranks(scores: Sequence[float | None]) -> Int64[np.ndarray, " rows"]:
    """Ranks candidates by the engine's scores, from 1; equal and missing scores keep the order given.

    Args:
        scores: The engine's scores; candidates without one come last.

    Returns:
        The ranks.

    Example:
        >>> engine_ranks([1.0, 3.0, None, 3.0])
        array([3, 1, 4, 2])
    """
    known = np.array([-np.inf if score is None else score for score in scores], dtype=np.float64)
    order = np.argsort(-known, kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def task_weights(bundle: Bundle, weights: Mapping[str, float] | None) -> Float64[np.ndarray, " n_tasks"]:
    """Chooses the weights that fuse a bundle's tasks.

    Args:
        bundle: The bundle.
        weights: The request's weights; None takes the bundle's.

    Returns:
        A weight per task; they sum to 1.

    Raises:
        UserError: If every task of the bundle has weight 0.
    """
    tasks = bundle.spec.tasks
    chosen = bundle.spec.task_weights if weights is None else TaskWeights(tasks, weights)
    return np.array([chosen[task] for task in tasks])


def fused_scores(scored: ScoredPage, weights: Float64[np.ndarray, " n_tasks"]) -> Float32[np.ndarray, " rows"]:
    """Computes the weighted sum of the tasks' scores, rounded as offline, so that the same products tie."""
    return fuse(scored.scores, tuple(weights))


def blend(
    scores: Float[np.ndarray, " rows"],
    engine: Int64[np.ndarray, " rows"],
    weight: float,
) -> tuple[Int64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Orders a page by the model, by the engine, or by both.

    A model's probabilities and an engine's scores have no common scale, so places are blended: each order gives the
    first 1 and the last 0, evenly in between. A weight of 1 keeps the model's own scores, and 0 the engine's order.
    Ties keep the engine's order.

    Args:
        scores: The model's scores.
        engine: Each candidate's rank in the engine's order, from 1.
        weight: Weight of the model's order.

    Returns:
        The candidates in their new order, and each candidate's sort key.

    Example:
        >>> blend(np.array([0.1, 0.3, 0.2]), np.array([1, 2, 3]), 0.25)[0]
        array([0, 1, 2])
    """
    by_model = np.lexsort((engine, -scores))
    if weight == 1:
        return by_model, scores.astype(np.float64)
    place = np.empty(len(scores))
    place[by_model] = np.arange(len(scores))
    last = max(len(scores) - 1, 1)
    blended = weight * (1 - place / last) + (1 - weight) * (1 - (engine - 1) / last)
    # Numerics: orders that balance exactly may differ in the last digit of their sums.
    blended = np.round(blended, BLENDED_DIGITS)
    return np.lexsort((engine, -blended)), blended


def _finite_first(
    order: Int64[np.ndarray, " rows"], values: Float64[np.ndarray, " rows"], is_finite: Bool[np.ndarray, " rows"]
) -> tuple[Int64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Moves candidates without a finite score behind all others: one odd row must not cost a page its order."""
    behind = np.concatenate([order[is_finite[order]], order[~is_finite[order]]])
    return behind, np.where(is_finite, values, values[is_finite].min())


def _finite(scores: Float[np.ndarray, "rows n_tasks"]) -> Float[np.ndarray, "rows n_tasks"]:
    """The scores, with each task's lowest one, or 0 where it has none, in place of those that are not finite."""
    is_finite = np.isfinite(scores)
    lowest = np.min(scores, axis=0, where=is_finite, initial=np.inf)
    return np.where(is_finite, scores, np.where(np.isfinite(lowest), lowest, 0.0))


def explain_rows(
    bundle: Bundle, rows: Rows, chosen: Int64[np.ndarray, " chosen"]
) -> list[tuple[list[Contribution], list[Contribution]]]:
    """Computes occlusion: the change of the score when a feature, or a side, is replaced by its training mean.

    Cost: a row is scored once for each feature and side.

    Args:
        bundle: The bundle.
        rows: A page's rows.
        chosen: The rows to explain.

    Returns:
        For each chosen row, the contributions of all features and of all sides.
    """
    groups = _groups(bundle)
    n_variants = 1 + len(groups)
    source = np.repeat(chosen, n_variants)
    numerical, categorical = rows.numerical[source].copy(), rows.categorical[source].copy()
    products = None if rows.products is None else rows.products[source].copy()
    n_numerical = numerical.shape[1]
    means = [mean for _, _, mean in bundle.spec.columns]
    for variant, (_, _, columns) in enumerate(groups, start=1):
        some = slice(variant, None, n_variants)
        for column in columns:
            if column == len(means):
                assert products is not None
                assert bundle.product_vectors is not None
                products[some] = bundle.product_vectors[-1]
            elif column < n_numerical:
                numerical[some, column] = means[column]
            else:
                categorical[some, column - n_numerical] = round(means[column])
    varied = Rows(numerical, categorical, rows.position[source], rows.rates[source], rows.query, products)
    values = bundle.scorer.score(varied).astype(np.float64)
    if bundle.spec.gives_probabilities:
        inside = np.clip(values, MIN_PROB, 1 - MIN_PROB)
        values = np.log(inside) - np.log1p(-inside)
    n_tasks = values.shape[1]
    moved = values.reshape(len(chosen), n_variants, n_tasks)
    moved = moved[:, :1] - moved[:, 1:]
    explained = []
    for row in moved:
        contributions = [Contribution(name, side, row[i]) for i, (name, side, _) in enumerate(groups)]
        n_features = len(contributions) - len({side for _, side, _ in groups})
        explained.append((contributions[:n_features], contributions[n_features:]))
    return explained


def explanations(
    bundle: Bundle, rows: Rows, chosen: Int64[np.ndarray, " chosen"], weights: Float64[np.ndarray, " n_tasks"]
) -> list[dict[str, Any]]:
    """Explains the scores of some rows in the form of the API's `Explanation`; see `explain_rows` for the cost.

    Args:
        bundle: The bundle.
        rows: A page's rows.
        chosen: The rows to explain.
        weights: The weights that fuse the tasks.

    Returns:
        For each chosen row, the features that move its fused logit most, all sides, and the gates.
    """
    tasks = bundle.spec.tasks

    def plain(each: Contribution) -> dict[str, Any]:
        logits = dict(zip(tasks, each.logits.tolist(), strict=True))
        return {"feature": each.feature, "side": each.side, "fused": float(each.logits @ weights), "logits": logits}

    return [
        {
            "method": METHOD,
            "features": sorted(map(plain, features), key=lambda each: -abs(each["fused"]))[:N_REASONS],
            "sides": [plain(each) for each in sides],
            "gates": _gates(bundle, rows, int(row)),
        }
        for row, (features, sides) in zip(chosen, explain_rows(bundle, rows, chosen), strict=True)
    ]


def explained_in_time(
    explain: Callable[[Int64[np.ndarray, " 1"]], list[dict[str, Any]]],
    chosen: Int64[np.ndarray, " chosen"],
    due_s: float,
    longest_s: float,
    clock: Callable[[], float] = time.monotonic,
    may_explain: Callable[[], bool] = lambda: True,
) -> list[dict[str, Any]]:
    """Explains rows one after the other while there is time for twice the longest so far.

    Args:
        explain: Explains a row; see `explanations`.
        chosen: The rows, the most important first.
        due_s: When the page must be ready, by the clock.
        longest_s: Estimate for the first row, in seconds.
        clock: The clock.
        may_explain: Whether the next row may be explained.

    Returns:
        Explanations of the first rows, possibly none.
    """
    explained: list[dict[str, Any]] = []
    now_s = clock()
    for place in range(len(chosen)):
        if now_s + 2 * longest_s > due_s or not may_explain():
            break
        explained += explain(chosen[place : place + 1])
        before_s, now_s = now_s, clock()
        longest_s = max(longest_s, now_s - before_s)
    return explained


def _gates(bundle: Bundle, rows: Rows, row: int) -> dict[str, list[float]] | None:
    """The weight of each expert for each task on one row; None for a ranker without experts."""
    gates = bundle.scorer.gates(rows.only(slice(row, row + 1)))
    if gates is None:
        return None
    spec = bundle.spec
    tasks = spec.tasks if gates.shape[1] == len(spec.tasks) else spec.scored_tasks
    return dict(zip(tasks, gates[0].tolist(), strict=True))


def _groups(bundle: Bundle) -> list[tuple[str, str, list[int]]]:
    """Name, side and columns of each replacement: one per feature, then one per side."""
    columns = bundle.spec.columns
    features: dict[str, tuple[str, list[int]]] = {}
    for index, (name, side, _) in enumerate(columns):
        # The flag of a missing value belongs to its feature.
        features.setdefault(name.removesuffix(MISSING_SUFFIX), (side, []))[1].append(index)
    if bundle.matching is not None:
        features[TEXT_MATCH] = ("interaction", [len(columns)])
    sides: dict[str, list[int]] = {}
    for side, some in features.values():
        sides.setdefault(side, []).extend(some)
    return [
        *((name, side, some) for name, (side, some) in features.items()),
        *((side, side, some) for side, some in sides.items()),
    ]
