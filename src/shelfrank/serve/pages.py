"""Request bodies become page requests with options, and ranked pages become responses, over HTTP or not."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from shelfrank.features.request import PageRequest
from shelfrank.serve.api import RankRequest, SearchRequest, microseconds
from shelfrank.serve.ranking import RankOptions, RankResult, engine_ranks

MAX_KEY = 64
"""Characters of a key that an error repeats."""


def read_page(body: RankRequest | SearchRequest) -> tuple[PageRequest, RankOptions]:
    """Reads a validated body of `/v1/rank` or of a search of the page.

    Args:
        body: The body; without a timestamp the page is ranked as of now.

    Returns:
        The page to rank, and how. A search of the page has no candidates yet: the shop retrieves them.
    """
    if isinstance(body, SearchRequest):
        body = _of_search(body)
    candidates = body.candidates
    features = [{} if isinstance(each, str) else each.features for each in candidates]
    page = PageRequest(
        query=body.query,
        product_ids=[each if isinstance(each, str) else each.id for each in candidates],
        customer_id=body.customer_id,
        session_id=body.session_id,
        positions=engine_ranks([None if isinstance(each, str) else each.score for each in candidates]).tolist(),
        context=body.context,
        customer=body.customer,
        products=features if any(features) else (),
        ts_us=_or_now(body.timestamp),
    )
    weights = None if body.task_weights is None else {str(task): each for task, each in body.task_weights.items()}
    return page, RankOptions(body.weight, weights, body.top_n, body.explain)


def ranked_page(result: RankResult, ids: Sequence[str], started: float) -> dict[str, Any]:
    """Writes a ranked page in the form of `RankResponse`.

    Args:
        result: The ranked page.
        ids: The candidates, in the order of the request.
        started: When the request arrived, by the performance counter.

    Returns:
        Plain data.
    """
    results = []
    for place, index in enumerate(result.order):
        product: dict[str, Any] = {
            "id": ids[index],
            "index": index,
            "rank": place + 1,
            "engine_rank": result.engine_ranks[index],
            "score": None if result.scores is None else result.scores[place],
            "tasks": result.tasks[place] if result.tasks else {},
        }
        if place < len(result.explanations):
            product["explanation"] = result.explanations[place]
        results.append(product)
    return {
        "results": results,
        "degraded": result.reason is not None,
        "reason": result.reason,
        "bundle": result.bundle,
        **coverage(result),
        "took_ms": round((time.perf_counter() - started) * 1e3, 3),
    }


def coverage(result: RankResult) -> dict[str, Any]:
    """Lists what the bundle does not know of a request, and what the request left out."""
    return {
        "unknown": dict(result.unknown),
        "unknown_ids": list(result.unknown_ids),
        "missing_features": dict(result.missing_features),
        "unknown_features": dict(result.unknown_features),
    }


def _of_search(body: SearchRequest) -> RankRequest:
    """The same page as a `RankRequest`; its parts are valid already."""
    return RankRequest.model_construct(
        query=body.query,
        candidates=[],
        customer_id=body.customer_id,
        session_id=body.session_id,
        task_weights=body.task_weights,
        top_n=body.top_n,
    )


def _or_now(timestamp: dt.datetime | None) -> int:
    return time.time_ns() // 1000 if timestamp is None else microseconds(timestamp)
