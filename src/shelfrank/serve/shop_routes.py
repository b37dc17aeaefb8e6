"""The routes of the page."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from shelfrank.core.schema import TASKS
from shelfrank.features.request import Event
from shelfrank.serve import api
from shelfrank.serve.answers import EVENTS_REFUSED, as_json
from shelfrank.serve.pages import read_page
from shelfrank.serve.service import Service
from shelfrank.serve.shop import Shop

NO_SHOP: dict[int | str, dict[str, Any]] = {
    404: {"model": api.Problem, "description": "The serving bundle has no shop."}
}


def shop_routes() -> APIRouter:
    """The routes under `/v1/shop`."""
    router = APIRouter(prefix="/v1/shop", tags=["page"], responses=NO_SHOP)

    @router.get("", response_model=api.ShopResponse)
    async def about(request: Request) -> Response:
        """Describes the shop: tasks, shoppers, examples of queries."""
        return as_json(await _service(request).with_shop(Shop.about))

    @router.get("/suggest", response_model=list[str])
    async def suggest(request: Request, q: Annotated[str, Query(max_length=api.MAX_TEXT)] = "") -> Response:
        """Completes a query with queries of the log, the most frequent first."""
        return as_json(await _service(request).with_shop(lambda shop: shop.suggest(q)))

    @router.post("/search", response_model=api.ShopResponse)
    async def search(body: api.SearchRequest, request: Request) -> Response:
        """Ranks a query's products for a neutral customer and for the shopper."""
        page, options = read_page(body)
        return as_json(await _service(request).with_shop(lambda shop: shop.search(page, options)))

    @router.post("/explain", response_model=api.ShopResponse)
    async def explain(body: api.ExplainRequest, request: Request) -> Response:
        """Explains the place of a product in a search."""
        page, options = read_page(body)
        explained = await _service(request).with_shop(lambda shop: shop.explain(page, options, body.product_id))
        if explained is None:
            return as_json({"detail": f"product_id must be one of the query's {api.N_CANDIDATES} candidates"}, 404)
        return as_json(explained)

    @router.post("/actions", response_model=api.EventsResponse, status_code=202, responses=EVENTS_REFUSED)
    async def actions(body: api.ActionRequest, request: Request) -> Response:
        """Accepts an action of the page's shopper, at the page's time."""
        service = _service(request)
        ts_us = await service.with_shop(Shop.now_us)
        # A task includes those before it.
        events = [
            Event(
                product_id=body.product_id,
                action=action,
                ts_us=ts_us,
                customer_id=body.customer_id,
                session_id=body.session_id,
                query=body.query,
                position=body.position,
            )
            for action in ("impression", *TASKS[: TASKS.index(body.action) + 1])
        ]
        passed_over = await service.add_events(events)
        return as_json({"accepted": len(events), "passed_over": passed_over}, 202)

    return router


def _service(request: Request) -> Service:
    return request.app.state.service
