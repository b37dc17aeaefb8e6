"""What is refused before anything reads it, and what must never break the service."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import body_of, golden_page, ready_client
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from shelfrank.core.errors import UserError
from shelfrank.serve.app import create_app
from shelfrank.serve.limits import ADMITTED, Guard, Keys, is_loopback, served_hosts
from shelfrank.serve.service import Service
from shelfrank.serve.worker import ServeSettings, serve

HOSTILE = [
    "",
    " ",
    "\x00",
    "\u202e\u200b\ufeff",
    "'; DROP TABLE products; --",
    "<script>alert(1)</script>",
    "{{7*7}} ${jndi:ldap://x} %s %n",
    "../../../etc/passwd",
    "👩‍👩‍👧‍👦" * 60,
    "a" * 512,
    "ﷺ" * 512,
    "e\u0301" * 256,
    "\U0010ffff",
    "[MASK] [SEP] [CLS] [PAD]",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_texts(client: TestClient, bundle_path: Path, text: str) -> None:
    asked = golden_page(bundle_path)
    features = {"brand": text, (text or "x")[:256]: text}
    candidates = [{"id": asked.product_ids[0], "features": features}, {"id": (text or "x")[:256]}]
    body = body_of(asked, query=text, candidates=candidates, customer_id=(text or "x")[:256], context={"device": text})
    answer = client.post("/v1/rank", json=body)
    assert answer.status_code == 200, answer.text
    assert not answer.json()["degraded"]
    # A blank text is no product's id.
    reranked = client.post("/v1/rerank", json={"query": text, "documents": [text, {"text": text}]})
    assert reranked.status_code == (200 if text.strip() else 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"\\ud800"', 422),
        (b'{"query": "\\ud800", "candidates": []}', 422),
        (b'{"query": "\\udfff\\ud800", "candidates": ["\\ud800"], "\\ud800": 1}', 422),
        (b'{"query": "a", "candidates": [{"id": "b", "score": NaN}]}', 422),
        (b'{"query": "a", "candidates": [{"id": "b", "score": 1e999}]}', 422),
        (b'{"query": "a", "candidates": [{"id": "b", "features": {"price": -Infinity}}]}', 422),
        (b'{"query": "a", "candidates": ["b"], "customer": {"x": ' + b"9" * 400 + b"}}", 422),
        (b'{"query": "a", "candidates": ["b"], "customer": {"x": ' + b"9" * 5000 + b"}}", 400),
        (b'{"query": "a", "candidates": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"query": "a", "candidates": ["b"], "timestamp": 1e300}', 422),
        (b'{"query": "a", "candidates": ["b"], "weight": 1.5}', 422),
        (b'{"query": "a", "candidates": ["b"], "weights": 1}', 422),
        (b'{"query": "a", "candidates": ["b"], "task_weights": {"love": 1}}', 422),
        (b"\xff\xfe\x00", 400),
    ],
)
def test_what_is_no_request_is_told_so(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/v1/rank", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "more",
    [
        {"query": "a" * 513},
        {"candidates": ["p"] * 1001},
        {"candidates": ["p" * 257]},
        {"candidates": [{"id": "p", "features": {str(i): i for i in range(101)}}]},
        {"context": {"device": "a" * 513}},
        {"explain": 11},
    ],
)
def test_pages_have_limits(client: TestClient, bundle_path: Path, more: dict[str, Any]) -> None:
    assert client.post("/v1/rank", json=body_of(golden_page(bundle_path), **more)).status_code == 422


@pytest.mark.parametrize("timestamp", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", -1, "2025-01-01"])
def test_wrong_clocks_are_no_reason_to_refuse_a_page(client: TestClient, bundle_path: Path, timestamp: object) -> None:
    answer = client.post("/v1/rank", json=body_of(golden_page(bundle_path), timestamp=timestamp))
    assert answer.status_code == 200
    assert not answer.json()["degraded"]


def test_a_thousand_candidates_are_a_page(client: TestClient, bundle_path: Path) -> None:
    candidates = [f"q{i}" for i in range(1000)]
    answer = client.post("/v1/rank", json=body_of(golden_page(bundle_path), candidates=candidates))
    assert len(answer.json()["results"]) == 1000


def test_large_bodies_are_refused_however_they_come(make_service: Callable[..., Service], bundle_path: Path) -> None:
    body = json.dumps(body_of(golden_page(bundle_path))).encode()
    kind = {"content-type": "application/json"}

    def pieces(padding: int) -> Iterator[bytes]:
        yield b" " * padding
        yield body

    with ready_client(make_service(), max_body_bytes=len(body) + 10) as client:
        assert client.post("/v1/rank", content=body, headers=kind).status_code == 200
        assert client.post("/v1/rank", content=pieces(10), headers=kind).status_code == 200
        assert client.post("/v1/rank", content=b" " * 11 + body, headers=kind).status_code == 413
        assert client.post("/v1/rank", content=pieces(11), headers=kind).status_code == 413
        answer = client.post("/v1/rank", content=body, headers={**kind, "content-length": "-1"})
        assert answer.status_code == 400
        assert 'shelfrank_requests_total{route="/v1/rank",status="413"} 2.0' in client.get("/metrics").text


def test_a_key_is_needed_where_there_are_keys(make_service: Callable[..., Service], bundle_path: Path) -> None:
    body = body_of(golden_page(bundle_path))
    with ready_client(make_service(), keys=["first", "second"]) as client:
        for headers in ({}, {"x-api-key": "third"}, {"authorization": "Bearer"}, {"authorization": "Basic first"}):
            answer = client.post("/v1/rank", json=body, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.post("/v1/rank", json=body, headers={"authorization": "bearer first"}).status_code == 200
        assert client.post("/v1/rank", json=body, headers={"x-api-key": "second"}).status_code == 200
        documented = client.get("/openapi.json", headers={"x-api-key": "second"}).json()["paths"]
        guarded = {(path, method) for path, methods in documented.items() for method in methods} - OPEN
        assert {("/v2/rerank", "post"), ("/rerank", "post"), ("/metrics", "get")} < guarded
        for path, method in guarded:
            assert client.request(method, path).status_code == 401, path
        assert client.get("/openapi.json").status_code == client.get("/v1/unknown").status_code == 401
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        ("/v1/rank", "no", {"query": "a", "candidates": ["p001"]}, 401),
        ("/v1/rank", "first", {}, 422),
        ("/v2/rerank", "first", {"query": "a", "documents": [{"price": 3}]}, 422),
    ],
)
def test_a_page_that_is_refused_takes_no_time_of_others(
    make_service: Callable[..., Service], path: str, key: str, body: dict[str, Any], status: int
) -> None:
    service = make_service(deadline_s=3600.0)
    # One such page has time, and two have not.
    service._scoring._lanes.page_times.observe(1, 3000.0)
    app = create_app(service, keys=["first"])

    async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
        assert not service.refuses_page(time.monotonic())
        await app({**scope, "state": {ADMITTED: True}}, receive, send)

    client = TestClient(admitted)
    for _ in range(3):
        assert client.post(path, json=body, headers={"x-api-key": key}).status_code == status


OPEN = {("/livez", "get"), ("/readyz", "get")}
LOCAL = served_hosts("127.0.0.5", ["shop.internal"])


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("127.0.0.5", True),
        ("shop.internal:80", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil", False),
        ("", False),
        ("127.0.0.2", False),
        ("localhost:8000@evil.example", False),
    ],
)
def test_a_service_without_a_key_answers_to_its_own_names_alone(
    make_service: Callable[..., Service], bundle_path: Path, host: str, is_served: bool
) -> None:
    body = body_of(golden_page(bundle_path))
    with ready_client(make_service(), hosts=LOCAL) as client:
        told = client.post("/v1/rank", json=body, headers={"host": host})
        assert told.status_code == (200 if is_served else 421)
        for path in ("/v1/bundle", "/metrics", "/openapi.json"):
            assert client.get(path, headers={"host": host}).status_code == (200 if is_served else 421)
        # Health checks come by any name, and read nothing.
        assert client.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost")])
def test_each_of_several_hosts_must_be_served(make_service: Callable[..., Service], hosts: tuple[str, str]) -> None:
    with ready_client(make_service(), hosts=LOCAL) as client:
        assert client.get("/v1/bundle", headers=[("host", host) for host in hosts]).status_code == 421
        assert client.get("/v1/bundle", headers=[("host", "localhost")] * 2).status_code == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/admin/reload"])
def test_what_changes_something_must_be_declared_as_json(client: TestClient, path: str, kind: str | None) -> None:
    told = client.post(path, content=b'{"events": []}', headers={} if kind is None else {"content-type": kind})
    assert (told.status_code, told.json()) == (415, {"detail": "Content-Type must be application/json"})
    declared = {"content-type": "application/json; charset=utf-8"}
    assert client.post(path, content=b'{"events": []}', headers=declared).status_code in (200, 202)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/v1/rank", "/v2/rerank"])
def test_a_page_that_is_not_declared_as_json_is_told_so(client: TestClient, path: str, kind: str | None) -> None:
    body = b'{"query": "a", "candidates": ["p001"]}'
    told = client.post(path, content=body, headers={} if kind is None else {"content-type": kind})
    said = f"it is {kind!r}" if kind else "there is none"
    detail = f"Content-Type must be application/json, but {said}; send it with the body"
    assert (told.status_code, told.json()) == (422, {"detail": detail})


def test_bodies_are_bounded_together(make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfrank.serve.limits.MAX_BODIES_BYTES", 1000)
    sent = json.dumps({"query": "a", "candidates": ["p001"]}).encode()

    async def ask() -> tuple[list[int], int]:
        guard = Guard(read, Keys([]), 1000, make_service(load=False).metrics)
        statuses = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/v1/rank", "headers": []}
        pending = [asyncio.Event() for _ in range(3)]

        def receive(go_on: asyncio.Event) -> Receive:
            parts = [{"type": "http.request", "body": b" " * 600, "more_body": True}]

            async def receive() -> Message:
                if parts:
                    return parts.pop()
                await go_on.wait()
                return {"type": "http.request", "body": sent, "more_body": False}

            return receive

        first = asyncio.create_task(guard(scope, receive(pending[0]), send))
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="more requests"):
            await guard(scope, receive(pending[1]), send)
        pending[0].set()
        await first
        pending[2].set()
        await guard(scope, receive(pending[2]), send)
        return statuses, guard._held_bytes

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert asyncio.run(ask()) == ([200, 200], 0)


def test_keys_of_any_bytes_can_be_given() -> None:
    keys = Keys(["geheim☃"])
    assert keys.accept("geheim☃".encode())
    assert not keys.accept(b"\xff\xfe")
    assert not keys.accept(None)
    assert Keys([]).accept(None)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_which_addresses_others_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_no_address_that_others_can_reach_without_a_key(bundle_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.0\.0\.0 must have an API key"):
        serve(ServeSettings(bundle_path, host="0.0.0.0"))


def test_answers_forbid_what_a_browser_could_be_made_to_run(client: TestClient) -> None:
    headers = client.get("/livez").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
plain = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
pages = st.fixed_dictionaries(
    {
        "query": st.text(max_size=40) | plain,
        "candidates": st.lists(
            st.sampled_from(["p001", "p002", "p030"])
            | st.text(max_size=12)
            | st.fixed_dictionaries({"id": st.text(max_size=8)}, optional={"score": values, "features": plain}),
            max_size=12,
        )
        | plain,
    },
    optional={
        "customer_id": st.sampled_from(["c01", None]) | plain,
        "session_id": plain,
        "timestamp": st.datetimes().map(str) | plain,
        "customer": st.dictionaries(st.sampled_from(["age_band", "x"]), values, max_size=2) | plain,
        "context": st.dictionaries(st.sampled_from(["device", "price"]), values, max_size=2) | plain,
        "weight": st.floats(0, 1) | plain,
        "task_weights": st.dictionaries(st.sampled_from(["click", "purchase"]), st.floats(0, 2)) | plain,
        "top_n": st.integers(1, 5) | plain,
        "explain": st.integers(0, 3) | plain,
    },
)


def test_no_request_is_an_error_of_the_service(client: TestClient) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(page=pages)
    def every_page(page: dict[str, Any]) -> None:
        answer = client.post(
            "/v1/rank", content=json.dumps(page).encode(), headers={"content-type": "application/json"}
        )
        assert answer.status_code in (200, 400, 422), answer.text
        if answer.status_code == 200:
            found = answer.json()
            assert not found["degraded"]
            n = len(page["candidates"])
            assert len(found["results"]) == min(n, page.get("top_n") or n)

    every_page()
