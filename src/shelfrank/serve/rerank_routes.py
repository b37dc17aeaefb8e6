"""The forms that rerank clients send: Cohere's, Jina's, vLLM's, Infinity's and text-embeddings-inference's.

One handler is behind all of their paths, and one answer holds what each of them reads.
"""

import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from shelfrank.core.errors import UserError
from shelfrank.core.values import IdSpelling
from shelfrank.serve import api
from shelfrank.serve.answers import as_json
from shelfrank.serve.events import is_text
from shelfrank.serve.pages import MAX_KEY, coverage, read_page
from shelfrank.serve.ranking import MIN_PROB, RankResult
from shelfrank.serve.service import Service

SHARED_PATH = "/rerank"
"""vLLM's and Infinity's. For the same request, clients of one read a result's `document` as an object and those of the
other as a text, and fail on what is neither; both do without, so that documents return as `text` there."""
PATHS = ("/v1/rerank", "/v2/rerank", SHARED_PATH)
"""Cohere's first version and Jina; Cohere's second; the others."""


def rerank_routes() -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["ranking"])

    async def rerank(body: api.AnyRerankRequest, request: Request) -> Response:
        """Ranks in the forms that search engines and rerank clients send."""
        service: Service = request.app.state.service
        try:
            texts = [document_text(place, each, body.rank_fields or ()) for place, each in enumerate(body.given)]
        except UserError:
            # Its head was admitted, and no page follows.
            service.forget_page()
            raise
        found = service.find_products(texts)
        page, options = read_page(
            api.RankRequest.model_construct(
                query=body.query,
                candidates=[
                    text[: api.MAX_TEXT] if product is None else product
                    for text, product in zip(texts, found, strict=True)
                ],
                customer_id=body.customer_id,
                session_id=body.session_id,
                context=body.context,
            )
        )
        result = await service.rank(page, options)
        ranked = placed(result, [product is not None for product in found])[: body.top_n]
        if body.raw_scores:
            ranked = [(index, logit(score)) for index, score in ranked]
        if isinstance(body, api.RerankTextsRequest):
            return as_json([_text(body, index, score) for index, score in ranked])
        meta = {
            "bundle": result.bundle,
            "degraded": result.reason is not None,
            "reason": result.reason,
            **coverage(result),
        }
        return as_json(
            {
                "id": str(uuid.uuid4()),
                "object": "rerank",
                "created": int(time.time()),
                "model": result.bundle or "",
                "results": [_document(body, index, score, request.url.path) for index, score in ranked],
                "usage": {"prompt_tokens": 0, "total_tokens": 0},
                "meta": meta,
            }
        )

    for path in PATHS:
        router.add_api_route(path, rerank, methods=["POST"], response_model=api.RerankResponse | list[api.RerankedText])
    return router


def document_text(place: int, document: str | dict[str, Any], fields: Sequence[str]) -> str:
    """The text of a document that is a product's id or title.

    Args:
        place: Its index in the request.
        document: The document.
        fields: Keys that are read first.

    Returns:
        The text.

    Raises:
        UserError: If an object has none.
    """
    if isinstance(document, str):
        return document
    keys = (*fields, *api.DOCUMENT_KEYS)
    for name in keys:
        value = document.get(name)
        if isinstance(value, int | float) and abs(value) > api.MAX_NUMBER_ID:
            continue
        with contextlib.suppress(ValueError):
            if (spelled := IdSpelling().of(value)) is not None and is_text(spelled):
                return spelled[: api.MAX_DOCUMENT]
    given = ", ".join(repr(str(key)[:MAX_KEY]) for key in itertools.islice(document, 5)) or "none"
    listed = ", ".join(key[:MAX_KEY] for key in keys[:8])
    raise UserError(
        f"documents.{place} must be a product id, or an object with one as {listed}, but its keys are {given}; send "
        "the id in one of these, or name its key in rank_fields"
        if not document.keys() & set(keys)
        else f"documents.{place} must hold a product id, a text or a whole number, as {listed}, but it holds none there"
    )


def placed(result: RankResult, is_known: Sequence[bool]) -> list[tuple[int, float]]:
    """Puts the known documents in their new order into the places that the unknown ones leave.

    Args:
        result: The page with every document ranked.
        is_known: For each document, whether the bundle knows it.

    Returns:
        Each document's index and score, best first. One that keeps its place has the score of the one before it or,
        without one, of the first known one.

    Example:
        >>> placed(RankResult([2, 0, 1], [1, 2, 3], [0.9, 0.5, 0.1]), [True, False, True])
        [(2, 0.9), (1, 0.9), (0, 0.5)]
    """
    scores = dict(zip(result.order, relevance(result), strict=True))
    known = iter([index for index in result.order if is_known[index]])
    order = [next(known) if is_known[place] else place for place in range(len(is_known))]
    last = next((scores[index] for index in order if is_known[index]), None)
    if last is None:
        return list(zip(order, falling(len(order)), strict=True))
    scored = []
    for index in order:
        last = scores[index] if is_known[index] else last
        scored.append((index, last))
    return scored


def relevance(result: RankResult) -> list[float]:
    """Sort keys from 0 to 1; in a degraded response they fall evenly along the engine's order."""
    if result.scores is None:
        return falling(len(result.order))
    if result.bounded:
        return list(result.scores)
    # Numerics: the sigmoid without an overflow, since trees that rank give scores of any size.
    return np.exp(-np.logaddexp(0.0, -np.array(result.scores))).tolist()


def falling(n: int) -> list[float]:
    """Scores that fall evenly from 1."""
    return [1 - place / n for place in range(n)]


def logit(score: float) -> float:
    """The logit of a score, kept finite."""
    inside = min(max(score, MIN_PROB), 1 - MIN_PROB)
    return math.log(inside) - math.log1p(-inside)


def _document(body: api.RerankRequest, index: int, score: float, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"index": index, "relevance_score": score}
    if body.return_documents:
        document = body.documents[index]
        if path == SHARED_PATH:
            found["text"] = document
        else:
            found["document"] = {"text": document} if isinstance(document, str) else document
    return found


def _text(body: api.RerankTextsRequest, index: int, score: float) -> dict[str, Any]:
    return {"index": index, "score": score, **({"text": body.texts[index]} if body.return_documents else {})}
