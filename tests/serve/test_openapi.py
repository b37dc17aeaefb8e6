"""The service does what its OpenAPI says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from starlette.testclient import TestClient

from shelfrank.bundle.store import BundleStore
from shelfrank.serve import api
from shelfrank.serve.app import create_app
from shelfrank.serve.service import Service

OPERATIONS = ["/v1/rank", "/v1/rerank", "/v1/events"]
OF_THE_PAGE = ["/v1/shop/search", "/v1/shop/explain", "/v1/shop/actions"]


def test_every_route_is_described_with_an_example(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {*OPERATIONS, "/v1/bundle", "/v1/admin/reload", "/livez", "/readyz", "/metrics"}
    for name in ("RankRequest", "RankResponse", "RerankRequest", "EventsRequest"):
        (example,) = schema["components"]["schemas"][name]["examples"]
        getattr(api, name).model_validate(example)


@pytest.mark.parametrize(("path", "model"), [("/v1/rank", api.RankRequest), ("/v1/rerank", api.RerankRequest)])
def test_examples_are_answered_in_the_shape_that_is_described(client: TestClient, path: str, model: Any) -> None:
    example = model.model_config["json_schema_extra"]["examples"][0]
    answer = client.post(path, json=example)
    assert answer.status_code == 200, answer.text
    shape = {"/v1/rank": api.RankResponse, "/v1/rerank": api.RerankResponse}[path]
    shape.model_validate(answer.json())


@pytest.mark.usefixtures("only_pages_apply_events")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("path", [*OPERATIONS, *OF_THE_PAGE])
def test_requests_made_from_the_schema_get_what_it_says(
    make_service: Callable[..., Service], shop_bundle: Path, path: str, mode: str
) -> None:
    import schemathesis
    from schemathesis import GenerationMode

    has_page = path in OF_THE_PAGE
    app = create_app(make_service(BundleStore(shop_bundle) if has_page else None, has_page=has_page), poll_s=None)
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path]["POST"]

    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode[mode]))
    def every_case(case: Any) -> None:
        weights = case.body.get("task_weights") if isinstance(case.body, dict) else None
        # A schema cannot say that one of them must be above 0.
        assume(not isinstance(weights, dict) or any(weights.values()))
        case.call_and_validate()

    every_case()
