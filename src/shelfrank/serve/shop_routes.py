"""The routes behind the page."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from shelfrank.features.request import Event
from shelfrank.serve.answers import EVENTS_REFUSED, as_json
from shelfrank.serve.api import MOST_TEXT, AsWhole, EventsResponse, Id, Problem, Task, TaskWeights, Text
from shelfrank.serve.service import Service
from shelfrank.serve.shop import N_CANDIDATES, Shop, ShopQuery

DEEDS: tuple[Task, ...] = ("click", "add_to_cart", "purchase")
"""What a shopper can do to a product, each after those before it."""
NO_SHOP: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "The bundle that serves has no shop."}
}


class SearchRequest(BaseModel):
    """A search on the page.

    Attributes:
        query: What was typed.
        customer_id: The shopper; left out, nobody known.
        session_id: The visit.
        task_weights: What fuses the tasks' scores; left out, what the bundle says.
        n_shown: Products that each order lists.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "red sofa", "customer_id": "c00017", "task_weights": {"purchase": 1}}]
        },
    )

    query: Text
    customer_id: Id | None = None
    session_id: Id | None = None
    task_weights: TaskWeights | None = None
    n_shown: Annotated[int, Field(strict=True, ge=1, le=N_CANDIDATES), AsWhole] = 20

    def asked(self) -> ShopQuery:
        """The same for the shop."""
        weights = None if self.task_weights is None else {str(task): each for task, each in self.task_weights.items()}
        return ShopQuery(self.query, self.customer_id, self.session_id, weights, self.n_shown)


class ExplainRequest(SearchRequest):
    """A product of a search, to be explained.

    Attributes:
        product_id: The product.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "red sofa", "customer_id": "c00017", "product_id": "p00845"}]},
    )

    product_id: Id


class DeedRequest(BaseModel):
    """Something that the page's shopper does.

    Attributes:
        query: The query of the results.
        product_id: The product.
        action: The last of what is done: who buys has clicked.
        position: Where the product stood, from 1.
        customer_id: The shopper; left out, nobody known.
        session_id: The visit.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "red sofa", "product_id": "p00845", "action": "click", "customer_id": "c00017"}]
        },
    )

    query: Text
    product_id: Id
    action: Literal["click", "add_to_cart", "purchase"]
    position: Annotated[int, Field(strict=True, ge=1, le=N_CANDIDATES), AsWhole] = 1
    customer_id: Id | None = None
    session_id: Id | None = None


class Answer(BaseModel):
    """An answer to the page, whose parts `serve/shop.py` describes."""

    model_config = ConfigDict(extra="allow")


def shop_routes() -> APIRouter:
    """The routes under `/v1/shop`."""
    router = APIRouter(prefix="/v1/shop", tags=["page"], responses=NO_SHOP)

    @router.get("", response_model=Answer)
    async def about(request: Request) -> Response:
        """What the page shows before anything is asked: tasks, shoppers, examples."""
        return as_json(await _service(request).of_shop(Shop.about))

    @router.get("/suggest", response_model=list[str])
    async def suggest(request: Request, q: Annotated[str, Query(max_length=MOST_TEXT)] = "") -> Response:
        """Queries of the log that begin so, the most frequent first."""
        return as_json(await _service(request).of_shop(lambda shop: shop.suggest(q)))

    @router.post("/search", response_model=Answer)
    async def search(body: SearchRequest, request: Request) -> Response:
        """A query's products in the order for a neutral customer and in the order for the shopper."""
        asked = body.asked()
        return as_json(await _service(request).of_shop(lambda shop: shop.search(asked)))

    @router.post("/explain", response_model=Answer)
    async def explain(body: ExplainRequest, request: Request) -> Response:
        """Why a product of a search stands where it does."""
        asked = body.asked()
        found = await _service(request).of_shop(lambda shop: shop.explain(asked, body.product_id))
        if found is None:
            return as_json({"detail": f"product_id must be one of the query's {N_CANDIDATES} candidates"}, 404)
        return as_json(found)

    @router.post("/deeds", response_model=EventsResponse, status_code=202, responses=EVENTS_REFUSED)
    async def deeds(body: DeedRequest, request: Request) -> Response:
        """Takes in what the page's shopper does, at the page's time."""
        service = _service(request)
        ts_us = await service.of_shop(Shop.now_us)
        actions = ["impression", *DEEDS[: DEEDS.index(body.action) + 1]]
        told = [
            Event(
                product_id=body.product_id,
                action=action,
                ts_us=ts_us,
                customer_id=body.customer_id,
                session_id=body.session_id,
                query=body.query,
                position=body.position,
            )
            for action in actions
        ]
        passed_over = await service.add_events(told)
        return as_json({"accepted": len(told), "passed_over": passed_over}, 202)

    return router


def _service(request: Request) -> Service:
    return request.app.state.service
