"""The routes."""

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.staticfiles import StaticFiles

from shelfrank import __version__
from shelfrank.core.errors import UserError
from shelfrank.core.values import IdSpelling
from shelfrank.online import Asked
from shelfrank.serve import api
from shelfrank.serve.answers import EVENTS_REFUSED, as_json
from shelfrank.serve.events import read_events
from shelfrank.serve.limits import Guard, Keys
from shelfrank.serve.pages import ranked_page, unfamiliar, wanted_page
from shelfrank.serve.service import Answer, EventsRefusedError, NoShopError, Service, Wanted
from shelfrank.serve.shop_routes import shop_routes

log = logging.getLogger("shelfrank.serve")
PAGE = Path(__file__).parent / "page"
MOST_BODY_BYTES = 2_000_000
FALLBACK = "fp32 serves in place of "
"""How a second line of `/readyz` begins where the asked precision does not serve."""
MOST_PART = 64
"""Characters of a key that an error repeats."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": api.Problem, "description": text}
    for status, text in {
        400: "The body is no JSON.",
        401: "The API key is missing or wrong.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        422: "The request breaks a rule.",
    }.items()
}


def create_app(
    service: Service,
    keys: Sequence[str] = (),
    most_body_bytes: int = MOST_BODY_BYTES,
    poll_s: float | None = 2.0,
    give_up: Callable[[UserError], None] | None = None,
) -> FastAPI:
    """Puts a service behind HTTP.

    Args:
        service: The service; it loads its bundle when the app starts.
        keys: API keys; none lets everybody in.
        most_body_bytes: Bytes of a body.
        poll_s: Seconds between two looks at the bundle's pointer; None never looks.
        give_up: Called with the reason where no version can be opened at the start; without it the reason is logged,
            and the service waits for another version.

    Returns:
        The app.
    """

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_load(service, poll_s, give_up)), asyncio.create_task(service.take_in_events())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="shelfrank",
        version=__version__,
        summary="Ranks a page of products for a query and a customer.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(_ranking_routes(), prefix="/v1", responses=REFUSALS)
    app.include_router(_operating_routes())
    if service.has_page:
        app.include_router(shop_routes(), responses=REFUSALS)
    app.add_exception_handler(RequestValidationError, _tell_rules)
    app.add_exception_handler(HTTPException, _tell_refusal)
    app.add_exception_handler(UserError, _tell_user_error)
    app.add_exception_handler(NoShopError, _tell_no_shop)
    app.add_exception_handler(EventsRefusedError, _tell_events_refused)
    paths = frozenset(app.openapi()["paths"])
    if service.has_page:
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(Guard, keys=Keys(keys), most_bytes=most_body_bytes, metrics=service.metrics, routes=paths)
    return app


def _ranking_routes() -> APIRouter:
    router = APIRouter(tags=["ranking"])

    @router.post("/rank", response_model=api.RankResponse)
    async def rank(body: api.RankRequest, request: Request) -> Response:
        """Ranks candidates for a query and a customer."""
        started = time.perf_counter()
        wanted = wanted_page(body)
        answer = await _service(request).rank(wanted)
        return as_json(ranked_page(answer, wanted.asked.product_ids, started))

    @router.post("/rerank", response_model=api.RerankResponse)
    async def rerank(body: api.RerankRequest, request: Request) -> Response:
        """The same in the shape that search engines call: Cohere's `rerank`."""
        asked = Asked(
            query=body.query,
            product_ids=[_document_id(place, document) for place, document in enumerate(body.documents)],
            customer_id=body.customer_id,
            session_id=body.session_id,
            context=body.context,
        )
        wanted = Wanted(asked, [None] * len(body.documents), top_n=body.top_n)
        answer = await _service(request).rank(wanted)
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score}
            for index, score in zip(answer.order, _relevance(answer), strict=True)
        ]
        if body.return_documents:
            for result in results:
                document = body.documents[result["index"]]
                result["document"] = {"text": document} if isinstance(document, str) else document
        meta = {
            "bundle": answer.bundle,
            "degraded": answer.reason is not None,
            "reason": answer.reason,
            **unfamiliar(answer),
        }
        return as_json({"id": str(uuid.uuid4()), "results": results, "meta": meta})

    @router.post("/events", response_model=api.EventsResponse, status_code=202, responses=EVENTS_REFUSED)
    async def events(body: api.EventsRequest, request: Request) -> Response:
        """Takes in what visitors do; their next page sees it."""
        service = _service(request)
        told, unused = read_events(body.events)
        passed_over = await service.add_events(told)
        service.metrics.events.inc(unused.total())
        for reason, count in unused.items():
            service.metrics.passed_over.labels(reason).inc(count)
        return as_json({"accepted": len(body.events), "passed_over": dict(unused + Counter(passed_over))}, 202)

    @router.get(
        "/bundle",
        response_model=api.BundleResponse,
        responses={503: {"model": api.Problem, "description": "No bundle is loaded and checked yet."}},
    )
    async def bundle(request: Request) -> Response:
        """What serves, and which features a request must bring."""
        about = _service(request).about()
        return as_json(
            {"detail": "no bundle is loaded yet; ask again once /readyz says ok"} if about is None else about,
            200 if about else 503,
        )

    @router.post(
        "/admin/reload",
        response_model=api.ReloadResponse,
        responses={409: {"model": api.Problem, "description": "The version is bad: the old one serves on."}},
    )
    async def reload(request: Request) -> Response:
        """Loads the version that the bundle's pointer names, checks it and swaps it in."""
        service = _service(request)
        try:
            changed = await service.reload()
        except UserError as error:
            return as_json({"detail": str(error)}, 409)
        answer = {"bundle": service.version, "changed": changed}
        return as_json({**answer, "precision": service.served_precision, "fallback": service.fallback})

    return router


def _operating_routes() -> APIRouter:
    router = APIRouter(tags=["operating"])

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> PlainTextResponse:
        """Whether the process answers."""
        return PlainTextResponse("ok\n")

    @router.get(
        "/readyz",
        response_class=PlainTextResponse,
        responses={503: {"description": "No bundle is loaded and checked yet, or the service is about to end."}},
    )
    async def readyz(request: Request) -> PlainTextResponse:
        """Whether requests are wanted: only after load, golden check and warm-up, and not while draining.

        A second line says why float32 serves where 8-bit graphs were asked for.
        """
        service = _service(request)
        if service.is_ready:
            told = f"{FALLBACK}{service.precision}: {service.fallback}\n" if service.fallback else ""
            return PlainTextResponse(f"ok\n{told}")
        return PlainTextResponse("draining\n" if service.draining else "loading\n", 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Counts in the format of Prometheus."""
        content = await asyncio.to_thread(_service(request).metrics.text)
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _load(service: Service, poll_s: float | None, give_up: Callable[[UserError], None] | None) -> None:
    if service.version is None:
        try:
            await service.start()
        except UserError as error:
            if give_up is not None:
                give_up(error)
                return
            log.error("no bundle is loaded: %s", error)
    if poll_s is not None:
        await service.follow(poll_s)


def _service(request: Request) -> Service:
    return request.app.state.service


def _relevance(answer: Answer) -> list[float]:
    """What a caller sorts by, from 0 to 1; in a degraded answer it falls evenly along the engine's order."""
    if answer.scores is None:
        n = len(answer.order)
        return [1 - place / n for place in range(n)]
    if answer.bounded:
        return list(answer.scores)
    # Numerics: the sigmoid without an overflow, since trees that rank give scores of any size.
    return np.exp(-np.logaddexp(0.0, -np.array(answer.scores))).tolist()


def _document_id(place: int, document: str | dict[str, Any]) -> str:
    if isinstance(document, str):
        return document
    for name in api.DOCUMENT_KEYS:
        value = document.get(name)
        with contextlib.suppress(ValueError):
            if (found := IdSpelling().of(value)) is not None:
                return found[: api.MOST_TEXT]
    given = ", ".join(repr(str(key)[:MOST_PART]) for key in itertools.islice(document, 5)) or "none"
    raise UserError(
        f"documents.{place} must be a product id, or an object with one as {', '.join(api.DOCUMENT_KEYS)}, but its "
        f"keys are {given}; send the id in one of these"
        if not document.keys() & set(api.DOCUMENT_KEYS)
        else f"documents.{place} must hold a product id, a text or a whole number, as {', '.join(api.DOCUMENT_KEYS)}, "
        "but it holds none there"
    )


async def _tell_rules(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = []
    for each in error.errors()[:5]:
        place = ".".join(str(part)[:MOST_PART] for part in each["loc"] if part != "body")
        problems.append(f"{place}: {each['msg']}" if place else str(each["msg"]))
    # What was given is not repeated: it may be long, or no valid text.
    told = "; ".join(problems).encode("utf-8", "replace").decode()
    status = 400 if any(each["type"] == "json_invalid" for each in error.errors()) else 422
    return JSONResponse({"detail": told}, status)


async def _tell_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": str(error.detail)}, error.status_code, headers=error.headers)


async def _tell_user_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error).encode("utf-8", "replace").decode()}, 422)


async def _tell_no_shop(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)


async def _tell_events_refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503)
