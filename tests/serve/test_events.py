"""A batch of events is taken in event by event: none of them costs the others."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from serving import body_of, golden_page
from starlette.testclient import TestClient

from shelfrank.serve.api import MAX_EVENTS, MAX_ID
from shelfrank.serve.events import AHEAD_S, FROM_THE_FUTURE, UNUSABLE_TEXT, read_events

AFTER = "2025-02-01T12:00:00Z"


def event(product: object, **changes: Any) -> dict[str, Any]:
    about = {"object": {"object_id": product}, "position": {"ordinal": 2}}
    return {
        "action_name": "click",
        "user_id": "c03",
        "user_query": "sofa",
        "timestamp": AFTER,
        "event_attributes": about,
    } | changes


def test_one_odd_event_does_not_cost_the_batch(own_client: TestClient, bundle_path: Path) -> None:
    product = golden_page(bundle_path).product_ids[0]
    odd = [
        {"action_name": "page_exit", "user_id": "c03", "event_attributes": {}},
        {"action_name": "login"},
        {},
        event(None),
        event(product, timestamp="soon"),
        event(product, action_name="impression", event_attributes={"object": {"object_id": product}}),
        event(product, user_id=17, timestamp=1_738_411_200_000),
        event("x" * (MAX_ID + 1)),
        event("\ud800"),
    ]
    good = [event(product, user_id=f"u{number}") for number in range(MAX_EVENTS - len(odd))]
    # The test's own_client cannot send half a character as it is.
    body = json.dumps({"events": [*good, *odd]})
    answer = own_client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["accepted"]) == (202, MAX_EVENTS)
    expected = {
        "unknown action": 2,
        "no action or no readable time": 2,
        "no product": 1,
        "impression without an ordinal of 1 or more": 1,
        UNUSABLE_TEXT: 2,
    }
    assert answer.json()["passed_over"] == expected
    counts = own_client.get("/metrics").text
    assert f"shelfrank_events_total {MAX_EVENTS}.0" in counts
    for reason, count in expected.items():
        assert f'shelfrank_events_passed_over_total{{reason="{reason}"}} {count}.0' in counts


@pytest.mark.parametrize(
    "body",
    [{"events": [{}] * (MAX_EVENTS + 1)}, {"events": ["click"]}, {"events": {}}, {}, {"events": [], "more": 1}],
    ids=["too_many", "no_object", "no_list", "no_events", "another_key"],
)
def test_the_shape_of_a_batch_is_strict(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/events", json=body).status_code == 422


def test_what_is_done_outside_pages_is_history_and_nothing_else(own_client: TestClient, bundle_path: Path) -> None:
    product = golden_page(bundle_path).product_ids[0]
    told = [
        event(product, action_name="view"),
        event(product, action_name="watch", user_query=None),
        event(product, action_name="remove_from_cart", user_query=None),
        event(product, action_name="view", user_id=None),
    ]
    answer = own_client.post("/v1/events", json={"events": told}).json()
    assert answer["passed_over"] == {"unknown action": 1, "no user, client or session": 1}


def test_an_impression_above_the_first_position_tells_of_no_place(own_client: TestClient, bundle_path: Path) -> None:
    told = event(golden_page(bundle_path).product_ids[0], action_name="impression")
    told["event_attributes"]["position"] = {"ordinal": 0}
    answer = own_client.post("/v1/events", json={"events": [told]}).json()
    assert answer == {"accepted": 1, "passed_over": {"impression without an ordinal of 1 or more": 1}}


def test_events_are_read_as_the_store_takes_them() -> None:
    told = [
        event(17, action_name="click_through", user_id=None, client_id=3, session_id=4),
        event("p1", action_name="view", timestamp=1_738_411_200_000),
        event("p1", timestamp=None),
    ]
    (first, view, now), unused = read_events(told)
    assert not unused
    assert (first.product_id, first.action, first.customer_id, first.session_id) == ("17", "click", "3", "4")
    assert (first.query, first.ordinal, first.ts_us) == ("sofa", 2, 1_738_411_200_000_000)
    assert (view.query, view.ts_us) == (None, first.ts_us)
    assert abs(now.ts_us - time.time_ns() // 1000) < 60_000_000


@pytest.mark.parametrize("named", [{"query_id": "q1"}, {}], ids=["with_query_id", "without"])
@pytest.mark.parametrize("page_between", [True, False])
def test_a_batch_that_is_sent_again_changes_nothing(
    own_client: TestClient, bundle_path: Path, named: dict[str, str], page_between: bool
) -> None:
    asked = golden_page(bundle_path)
    page = {**body_of(asked), "customer_id": "c03", "timestamp": "2025-02-01T12:30:00Z"}
    click = event(asked.product_ids[1], user_query=asked.query, **named)
    batch = {"events": [{**click, "action_name": "impression"}, click, {**click, "action_name": "click_through"}]}
    assert own_client.post("/v1/events", json=batch).json() == {"accepted": 3, "passed_over": {"repeated": 1}}
    once = own_client.post("/v1/rank", json=page).json()["results"] if page_between else None
    assert own_client.post("/v1/events", json=batch).json() == {"accepted": 3, "passed_over": {"repeated": 3}}
    assert 'shelfrank_events_passed_over_total{reason="repeated"} 4.0' in own_client.get("/metrics").text
    twice = own_client.post("/v1/rank", json=page).json()["results"]
    if page_between:
        assert twice == once
    elsewhere = {"events": [{**click, "query_id": "q2"}]}
    assert own_client.post("/v1/events", json=elsewhere).json() == {"accepted": 1, "passed_over": {}}
    assert own_client.post("/v1/rank", json=page).json()["results"] != twice


def test_an_event_from_the_future_is_passed_over_and_counted(own_client: TestClient, bundle_path: Path) -> None:
    product = golden_page(bundle_path).product_ids[0]
    now_ms = time.time_ns() // 1_000_000
    allowed, far = (now_ms + (AHEAD_S + s) * 1000 for s in (-60, 60))
    told = [event(product, timestamp=each) for each in (allowed, far, 4_070_908_800_000)]
    answer = own_client.post("/v1/events", json={"events": told}).json()
    assert answer == {"accepted": 3, "passed_over": {FROM_THE_FUTURE: 2}}
    assert f'reason="{FROM_THE_FUTURE}"}} 2.0' in own_client.get("/metrics").text
