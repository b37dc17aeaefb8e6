"""The routes."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.staticfiles import StaticFiles

from shelfrank import __version__
from shelfrank.core.errors import UserError
from shelfrank.serve import api
from shelfrank.serve.answers import EVENTS_REFUSED, as_json
from shelfrank.serve.events import read_events
from shelfrank.serve.limits import OVERLOADED, RANKING, Guard, Keys, is_json
from shelfrank.serve.pages import MAX_KEY, ranked_page, read_page
from shelfrank.serve.rerank_routes import rerank_routes
from shelfrank.serve.service import EventsRefusedError, NoShopError, OverloadError, Service
from shelfrank.serve.shop_routes import shop_routes

log = logging.getLogger("shelfrank.serve")
PAGE = Path(__file__).parent / "page"
MAX_BODY_BYTES = 2_000_000
NO_PLACES = frozenset(("body", api.OF_DOCUMENTS, api.OF_TEXTS))
"""Parts of a problem's location that are no part of the request."""
NO_OBJECT = frozenset(("model_attributes_type", "dict_type"))
"""Types of the problem that a body is no object, as one is that is not declared as JSON."""
FALLBACK = "fp32 serves in place of "
"""Start of a second line of `/readyz`, if the requested precision does not serve."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": api.Problem, "description": text}
    for status, text in {
        400: "The body is not JSON.",
        401: "The API key is missing or wrong.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is not declared as JSON, which routes that change something require.",
        421: "The Host header names none of the names that a service without a key answers.",
        422: "The request breaks a rule.",
        503: "The page cannot be ranked in time, or too much waits; `Retry-After` says when to try again.",
    }.items()
}


def create_app(
    service: Service,
    keys: Sequence[str] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    poll_s: float | None = 2.0,
    give_up: Callable[[UserError], None] | None = None,
    hosts: frozenset[str] | None = None,
) -> FastAPI:
    """Puts a service behind HTTP.

    Args:
        service: The service; it loads its bundle when the app starts.
        keys: API keys; without any, every request is accepted.
        max_body_bytes: Maximum size of a body.
        poll_s: Seconds between two reads of the bundle's pointer; None never reads it again.
        give_up: Called with the reason if no version can be opened at the start; without it the reason is logged, and
            the service waits for another version.
        hosts: Names in the `Host` header that are served; None serves every name.

    Returns:
        The app.
    """

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(_load(service, poll_s, give_up)),
            asyncio.create_task(service.apply_events()),
            asyncio.create_task(service.report()),
        ]
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
    routers = [(_ranking_routes(), REFUSALS), (rerank_routes(), REFUSALS), (_operating_routes(), None)]
    if service.has_page:
        routers.append((shop_routes(), REFUSALS))
    for router, responses in routers:
        app.include_router(router, responses=responses)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_refusal)
    app.add_exception_handler(UserError, _on_user_error)
    app.add_exception_handler(NoShopError, _on_no_shop)
    app.add_exception_handler(EventsRefusedError, _on_refused_events)
    app.add_exception_handler(OverloadError, _on_overload)
    # Not from the OpenAPI, which takes as long to write as all else here.
    paths = frozenset(route.path for router, _ in routers for route in router.routes if isinstance(route, APIRoute))
    app.state.pages = frozenset(path for path in paths if path.endswith(RANKING))
    if service.has_page:
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(
        Guard,
        keys=Keys(keys),
        max_bytes=max_body_bytes,
        metrics=service.metrics,
        routes=paths,
        hosts=hosts,
        refuses_page=service.refuses_page,
        forget_page=service.forget_page,
    )
    return app


def _ranking_routes() -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["ranking"])

    @router.post("/rank", response_model=api.RankResponse)
    async def rank(body: api.RankRequest, request: Request) -> Response:
        """Ranks candidates for a query and a customer."""
        started = time.perf_counter()
        page, options = read_page(body)
        result = await _service(request).rank(page, options)
        return as_json(ranked_page(result, page.product_ids, started))

    @router.post("/events", response_model=api.EventsResponse, status_code=202, responses=EVENTS_REFUSED)
    async def events(body: api.EventsRequest, request: Request) -> Response:
        """Accepts events of visitors; their next page reflects them."""
        service = _service(request)
        accepted, unused = read_events(body.events)
        passed_over = await service.add_events(accepted)
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
        """Describes the serving bundle and the features that a request must bring."""
        about = _service(request).about()
        return as_json(
            {"detail": "no bundle is loaded yet; try again once /readyz answers ok"} if about is None else about,
            200 if about else 503,
        )

    @router.post(
        "/admin/reload",
        response_model=api.ReloadResponse,
        responses={
            409: {"model": api.Problem, "description": "The version cannot be opened; the old one keeps serving."}
        },
    )
    async def reload(request: Request) -> Response:
        """Loads the version that the bundle's pointer names, checks it and swaps it in."""
        service = _service(request)
        try:
            changed = await service.reload()
        except UserError as error:
            return as_json({"detail": str(error)}, 409)
        serving = {"bundle": service.version, "precision": service.served_precision, "fallback": service.fallback}
        return as_json({**serving, "changed": changed})

    return router


def _operating_routes() -> APIRouter:
    router = APIRouter(tags=["operating"])

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> PlainTextResponse:
        """Liveness: the process answers."""
        return PlainTextResponse("ok\n")

    @router.get(
        "/readyz",
        response_class=PlainTextResponse,
        responses={
            503: {"description": "No bundle is loaded and checked yet, or the service is draining or saturated."}
        },
    )
    async def readyz(request: Request) -> PlainTextResponse:
        """Readiness: after load, golden check and warm-up, and not while draining or saturated.

        A second line gives the reason if float32 serves in place of 8-bit graphs.
        """
        service = _service(request)
        if service.is_ready:
            fallback = f"{FALLBACK}{service.precision}: {service.fallback}\n" if service.fallback else ""
            return PlainTextResponse(f"ok\n{fallback}")
        reason = "draining" if service.draining else "loading" if service.version is None else "saturated"
        return PlainTextResponse(f"{reason}\n", 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Metrics in the format of Prometheus."""
        service = _service(request)
        service.update_gauges()
        content = await asyncio.to_thread(service.metrics.text)
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


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if request.url.path.endswith(RANKING):
        # Its head was admitted, and no page follows.
        _service(request).forget_page()
    given = request.headers.get("content-type", "")
    if not is_json(given.encode("latin-1")) and any(each["type"] in NO_OBJECT for each in error.errors()):
        said = f"it is {given[:MAX_KEY]!r}" if given else "there is none"
        detail = f"Content-Type must be application/json, but {said}; send it with the body"
        return JSONResponse({"detail": detail}, 422)
    problems = []
    for each in error.errors()[:5]:
        place = ".".join(str(part)[:MAX_KEY] for part in each["loc"] if part not in NO_PLACES)
        problems.append(f"{place}: {each['msg']}" if place else str(each["msg"]))
    # The value is not repeated: it may be long, or not valid text.
    detail = "; ".join(problems).encode("utf-8", "replace").decode()
    status = 400 if any(each["type"] == "json_invalid" for each in error.errors()) else 422
    return JSONResponse({"detail": detail}, status)


async def _on_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": str(error.detail)}, error.status_code, headers=error.headers)


async def _on_user_error(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error).encode("utf-8", "replace").decode()}, 422)


async def _on_no_shop(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)


async def _on_overload(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, headers=OVERLOADED.headers)


async def _on_refused_events(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503)
