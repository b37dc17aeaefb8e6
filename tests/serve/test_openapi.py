"""The service does what its OpenAPI says."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from serving import shared_client
from starlette.testclient import TestClient

from shelfrank.serve import api

OPERATIONS = ["/v1/rank", "/v1/rerank", "/v2/rerank", "/rerank", "/v1/events"]
OF_THE_PAGE = ["/v1/shop/search", "/v1/shop/explain", "/v1/shop/actions"]


def test_every_route_is_described_with_an_example(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {*OPERATIONS, "/v1/bundle", "/v1/admin/reload", "/livez", "/readyz", "/metrics"}
    for name in ("RankRequest", "RankResponse", "RerankRequest", "RerankTextsRequest", "EventsRequest"):
        (example,) = schema["components"]["schemas"][name]["examples"]
        getattr(api, name).model_validate(example)


@pytest.mark.parametrize(("path", "model"), [("/v1/rank", api.RankRequest), ("/v1/rerank", api.RerankRequest)])
def test_examples_are_answered_in_the_shape_that_is_described(client: TestClient, path: str, model: Any) -> None:
    example = model.model_config["json_schema_extra"]["examples"][0]
    answer = client.post(path, json=example)
    assert answer.status_code == 200, answer.text
    shape = {"/v1/rank": api.RankResponse, "/v1/rerank": api.RerankResponse}[path]
    shape.model_validate(answer.json())


def without_lifespan(app: Any) -> Any:
    """The app as schemathesis may call it: it ends an app with each test, and this one has to serve them all."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    return call


@pytest.fixture(scope="module")
def operations(
    bundle_path: Path, shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What the schemas of two services, without and with the page, say of each route."""
    import schemathesis

    with contextlib.ExitStack() as stack:
        found = {}
        for bundle, paths in ((bundle_path, OPERATIONS), (shop_bundle, OF_THE_PAGE)):
            state, has_page = tmp_path_factory.mktemp("state"), paths is OF_THE_PAGE
            client = stack.enter_context(shared_client(bundle, state, has_page))
            schema = schemathesis.openapi.from_asgi("/openapi.json", without_lifespan(client.app))
            found.update({path: schema[path]["POST"] for path in paths})
        yield found


def numbers_of(value: Any) -> Iterator[int | float]:
    """The numbers in a body."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_of(each)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("path", [*OPERATIONS, *OF_THE_PAGE])
def test_requests_made_from_the_schema_get_what_it_says(operations: dict[str, Any], path: str, mode: str) -> None:
    from schemathesis import GenerationMode

    operation = operations[path]

    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode[mode]))
    def every_case(case: Any) -> None:
        weights = case.body.get("task_weights") if isinstance(case.body, dict) else None
        # A schema cannot say that one of them must be above 0.
        assume(not isinstance(weights, dict) or any(weights.values()))
        # Ids at the ends of 64 bits may have been rounded by up to 1,024, so that the service is more lenient there.
        assume(not any(2**63 - 1024 <= abs(number) <= 2**63 + 1024 for number in numbers_of(case.body)))
        case.call_and_validate()

    every_case()
