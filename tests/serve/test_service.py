"""Events are taken in soon and in their order, but no page waits for many of them."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import PATIENCE_S, golden_page

from shelfrank.features.request import Event
from shelfrank.features.store import FeatureStore
from shelfrank.serve.service import TAKEN_IN, Service, Wanted

BULK = 10 * TAKEN_IN


def wanted_page(bundle: Path) -> Wanted:
    asked = golden_page(bundle)
    return Wanted(asked, [None] * len(asked.product_ids))


def bulk_events(bundle: Path, n: int = BULK) -> list[Event]:
    asked = golden_page(bundle)
    after_us = asked.ts_us + 365 * 86_400 * 1_000_000
    product, query = asked.product_ids[0], asked.query
    return [
        Event(product_id=product, action="click", ts_us=after_us + i, customer_id=f"c{i}", query=query)
        for i in range(n)
    ]


@pytest.fixture
def taken_in(monkeypatch: pytest.MonkeyPatch) -> list[list[Event]]:
    """The events that stores are given, each time."""
    calls: list[list[Event]] = []
    add = FeatureStore.add_events

    def record(self: FeatureStore, events: list[Event]) -> None:
        calls.append(list(events))
        add(self, events)

    monkeypatch.setattr(FeatureStore, "add_events", record)
    return calls


def test_a_page_waits_for_a_few_events_and_the_rest_stays_in_order(
    make_service: Callable[..., Service], bundle_path: Path, taken_in: list[list[Event]]
) -> None:
    service, events, wanted = make_service(), bulk_events(bundle_path), wanted_page(bundle_path)

    async def ask() -> None:
        await service.add_events(events)
        assert not taken_in
        for number in range(1, BULK // TAKEN_IN + 1):
            assert (await service.rank(wanted)).reason is None
            assert len(taken_in) == number
        await service.rank(wanted)

    asyncio.run(ask())
    assert [len(some) for some in taken_in] == [TAKEN_IN] * (BULK // TAKEN_IN)
    assert [event for some in taken_in for event in some] == events


def test_events_are_taken_in_without_a_page(
    make_service: Callable[..., Service], bundle_path: Path, taken_in: list[list[Event]]
) -> None:
    service, events = make_service(), bulk_events(bundle_path)

    async def wait() -> None:
        taking_in = asyncio.create_task(service.take_in_events())
        deadline = time.monotonic() + PATIENCE_S
        for some in (events[:-1], events[-1:]):
            await service.add_events(some)
            while sum(map(len, taken_in)) < events.index(some[-1]) + 1:
                assert time.monotonic() < deadline, "events were not taken in"
                await asyncio.sleep(0.01)
        taking_in.cancel()

    asyncio.run(wait())
    assert max(map(len, taken_in)) <= TAKEN_IN
    assert [event for some in taken_in for event in some] == events


def test_events_that_fail_once_do_not_end_the_taking_in(
    make_service: Callable[..., Service],
    bundle_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, (event,) = make_service(), bulk_events(bundle_path, 1)
    monkeypatch.setattr("shelfrank.serve.service.AFTER_FAILURE_S", 0.01)
    add, calls = FeatureStore.add_events, []

    def fail_once(self: FeatureStore, events: list[Event]) -> None:
        calls.append(events)
        if len(calls) == 1:
            raise OSError("a page of the tables is gone")
        add(self, events)

    monkeypatch.setattr(FeatureStore, "add_events", fail_once)

    async def wait() -> None:
        taking_in = asyncio.create_task(service.take_in_events())
        deadline = time.monotonic() + PATIENCE_S
        for number in (1, 2):
            await service.add_events([event])
            while len(calls) < number:
                assert time.monotonic() < deadline, "events were not taken in"
                await asyncio.sleep(0.01)
        taking_in.cancel()

    asyncio.run(wait())
    assert "a page of the tables is gone" in caplog.text


def test_a_bundle_that_loads_takes_in_all_at_once(
    make_service: Callable[..., Service], bundle_path: Path, taken_in: list[list[Event]]
) -> None:
    events = bulk_events(bundle_path)
    asyncio.run(make_service(load=False).add_events(events))
    make_service()
    assert taken_in == [events]


def test_events_are_looked_at_beside_the_loop(
    make_service: Callable[..., Service], bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, threads = make_service(), set[int]()
    monkeypatch.setattr(FeatureStore, "passed_over", lambda _, event: threads.add(threading.get_ident()) or "told")
    assert asyncio.run(service.add_events(bulk_events(bundle_path, 3))) == {"told": 3}
    assert threads
    assert threading.get_ident() not in threads
