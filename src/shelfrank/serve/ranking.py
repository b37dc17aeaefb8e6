"""From scores and the engine's order to one order."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from shelfrank.bundle.loaded import Bundle, Scored
from shelfrank.bundle.scorers import Rows
from shelfrank.config import TaskWeights
from shelfrank.data.prepared import MISSING_SUFFIX
from shelfrank.metrics.order import fuse

N_REASONS = 12
"""Features of an explanation."""
TEXT_MATCH = "text_match"
LEAST = 1e-9
BLENDED_DIGITS = 12
"""Decimals of a blended place: places of 1000 candidates are further apart."""


@dataclass(frozen=True)
class Contribution:
    """How far a feature, or all of a side, moves each task's logit of one row.

    Attributes:
        feature: Its name.
        side: Whom it describes.
        logits: One per task.
    """

    feature: str
    side: str
    logits: Float64[np.ndarray, " n_tasks"]


def engine_ranks(scores: Sequence[float | None]) -> Int64[np.ndarray, " rows"]:
    """Each candidate's place in the engine's order, from 1: by its score, equal or missing ones as they were given.

    Args:
        scores: The engine's scores; those without one come last.

    Returns:
        The places.

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
    """What fuses a bundle's tasks.

    Args:
        bundle: Whose tasks.
        weights: The request's weights; None takes the bundle's.

    Returns:
        A weight per task; they sum to 1.

    Raises:
        UserError: Where none of the bundle's tasks has weight.
    """
    tasks = bundle.spec.tasks
    chosen = bundle.spec.task_weights if weights is None else TaskWeights(tasks, weights)
    return np.array([chosen[task] for task in tasks])


def fused_scores(scored: Scored, weights: Float64[np.ndarray, " n_tasks"]) -> Float32[np.ndarray, " rows"]:
    """The weighted sum of the tasks' scores, rounded as offline, so that the same products tie; see `task_weights`."""
    return fuse(scored.scores, tuple(weights))


def blend(
    scores: Float[np.ndarray, " rows"],
    engine: Int64[np.ndarray, " rows"],
    weight: float,
) -> tuple[Int64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Orders a page by the model, by the engine, or by both.

    A model's probabilities and an engine's scores have no common scale, so places are blended: each order gives the
    first 1 and the last 0, evenly in between. A weight of 1 keeps the model's own scores, and 0 the engine's order.
    Where the model's scores are equal, and where both orders balance, the engine's order stands.

    Args:
        scores: The model's.
        engine: Each candidate's place in the engine's order, from 1.
        weight: How much the model counts.

    Returns:
        The candidates in their new order, and what each is sorted by.

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


def explain_rows(
    bundle: Bundle, rows: Rows, chosen: Int64[np.ndarray, " chosen"]
) -> list[tuple[list[Contribution], list[Contribution]]]:
    """What each feature, and each side, does to some rows: the score's change when it is at its training mean.

    Cost: a row is scored once for every feature and side.

    Args:
        bundle: The bundle.
        rows: A page's rows.
        chosen: The rows to explain.

    Returns:
        For each chosen row, all features and all sides.
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
        inside = np.clip(values, LEAST, 1 - LEAST)
        values = np.log(inside) - np.log1p(-inside)
    n_tasks = values.shape[1]
    moved = values.reshape(len(chosen), n_variants, n_tasks)
    moved = moved[:, :1] - moved[:, 1:]
    explained = []
    for row in moved:
        found = [Contribution(name, side, row[i]) for i, (name, side, _) in enumerate(groups)]
        n_sides = len({side for _, side, _ in groups})
        n_features = len(found) - n_sides
        explained.append((found[:n_features], found[n_features:]))
    return explained


def explanations(
    bundle: Bundle, rows: Rows, chosen: Int64[np.ndarray, " chosen"], weights: Float64[np.ndarray, " n_tasks"]
) -> list[dict[str, Any]]:
    """Why some rows have their scores, as the API has it; see `explain_rows` for its cost.

    Args:
        bundle: The bundle.
        rows: A page's rows.
        chosen: The rows to explain.
        weights: What fuses the tasks.

    Returns:
        For each chosen row, the features that move its fused logit most, all sides, and the gates.
    """
    tasks = bundle.spec.tasks

    def plain(each: Contribution) -> dict[str, Any]:
        logits = dict(zip(tasks, each.logits.tolist(), strict=True))
        return {"feature": each.feature, "side": each.side, "fused": float(each.logits @ weights), "logits": logits}

    return [
        {
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
) -> list[dict[str, Any]]:
    """Explains rows one after the other while there is time for twice the longest so far.

    Args:
        explain: Explains a row; see `explanations`.
        chosen: The rows, the most wanted first.
        due_s: When the page must be there, by the clock.
        longest_s: Seconds that the first is taken to need.
        clock: The clock.

    Returns:
        Explanations of the first rows, perhaps of none.
    """
    explained: list[dict[str, Any]] = []
    now_s = clock()
    for place in range(len(chosen)):
        if now_s + 2 * longest_s > due_s:
            break
        explained += explain(chosen[place : place + 1])
        before_s, now_s = now_s, clock()
        longest_s = max(longest_s, now_s - before_s)
    return explained


def _gates(bundle: Bundle, rows: Rows, row: int) -> dict[str, list[float]] | None:
    """The weight of each expert for each task on one row; None where there is no mixture of experts."""
    gates = bundle.scorer.gates(rows.only(slice(row, row + 1)))
    if gates is None:
        return None
    spec = bundle.spec
    tasks = spec.tasks if gates.shape[1] == len(spec.tasks) else spec.scored_tasks
    return dict(zip(tasks, gates[0].tolist(), strict=True))


def _groups(bundle: Bundle) -> list[tuple[str, str, list[int]]]:
    """Name, side and columns of what is replaced at a time: each feature, then each side."""
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
