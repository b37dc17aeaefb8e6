"""From a rank request to the page that it asks for, and from the ranked page to a response, over HTTP or not."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from shelfrank.features.request import PageRequest
from shelfrank.serve.api import RankRequest, microseconds
from shelfrank.serve.service import Answer, Wanted


def wanted_page(body: RankRequest) -> Wanted:
    """Reads a validated request; without a timestamp, the page is ranked as of now."""
    candidates = body.candidates
    given = [{} if isinstance(each, str) else each.features for each in candidates]
    asked = PageRequest(
        query=body.query,
        product_ids=[each if isinstance(each, str) else each.id for each in candidates],
        customer_id=body.customer_id,
        session_id=body.session_id,
        context=body.context,
        customer=body.customer,
        products=given if any(given) else (),
        ts_us=_moment(body.timestamp),
    )
    scores = [None if isinstance(each, str) else each.score for each in candidates]
    weights = None if body.task_weights is None else {str(task): each for task, each in body.task_weights.items()}
    return Wanted(asked, scores, body.weight, weights, body.top_n, body.explain)


def ranked_page(answer: Answer, ids: Sequence[str], started: float) -> dict[str, Any]:
    """Writes a ranked page as a `RankResponse` has it.

    Args:
        answer: The ranked page.
        ids: The candidates, in the order of the request.
        started: When the request came, by the performance counter.

    Returns:
        Plain data.
    """
    results = []
    for place, index in enumerate(answer.order):
        result: dict[str, Any] = {
            "id": ids[index],
            "index": index,
            "rank": place + 1,
            "engine_rank": answer.engine_ranks[index],
            "score": None if answer.scores is None else answer.scores[place],
            "tasks": answer.tasks[place] if answer.tasks else {},
        }
        if place < len(answer.explanations):
            result["explanation"] = answer.explanations[place]
        results.append(result)
    return {
        "results": results,
        "degraded": answer.reason is not None,
        "reason": answer.reason,
        "bundle": answer.bundle,
        **unfamiliar(answer),
        "took_ms": round((time.perf_counter() - started) * 1e3, 3),
    }


def unfamiliar(answer: Answer) -> dict[str, Any]:
    """What the request named that the bundle does not know, and what it left out."""
    return {
        "unknown": dict(answer.unknown),
        "unknown_ids": list(answer.unknown_ids),
        "missing_features": dict(answer.missing_features),
        "unknown_features": dict(answer.unknown_features),
    }


def _moment(timestamp: dt.datetime | None) -> int:
    return time.time_ns() // 1000 if timestamp is None else microseconds(timestamp)
