"""Events are applied soon and in their order, but no page waits for many of them."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import PATIENCE_S, golden_page

from shelfrank.features.request import Event
from shelfrank.features.store import FeatureStore
from shelfrank.serve.ranking import RankOptions
from shelfrank.serve.service import EVENTS_PER_PAGE, Service

BULK = 10 * EVENTS_PER_PAGE


def bulk_events(bundle: Path, n: int = BULK) -> list[Event]:
    asked = golden_page(bundle)
    after_us = asked.ts_us + 365 * 86_400 * 1_000_000
    product, query = asked.product_ids[0], asked.query
    return [
        Event(product_id=product, action="click", ts_us=after_us + i, customer_id=f"c{i}", query=query)
        for i in range(n)
    ]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[list[Event]]:
    """The events that stores are given, each time."""
    calls: list[list[Event]] = []
    add = FeatureStore.add_events

    def record(self: FeatureStore, events: list[Event]) -> None:
        calls.append(list(events))
        add(self, events)

    monkeypatch.setattr(FeatureStore, "add_events", record)
    return calls


def test_a_page_waits_for_a_few_events_and_the_rest_stays_in_order(
    make_service: Callable[..., Service], bundle_path: Path, applied: list[list[Event]]
) -> None:
    service, events, page = make_service(), bulk_events(bundle_path), golden_page(bundle_path)

    async def ask() -> None:
        await service.add_events(events)
        assert not applied
        for number in range(1, BULK // EVENTS_PER_PAGE + 1):
            assert (await service.rank(page, RankOptions())).reason is None
            assert len(applied) == number
        await service.rank(page, RankOptions())

    asyncio.run(ask())
    assert [len(some) for some in applied] == [EVENTS_PER_PAGE] * (BULK // EVENTS_PER_PAGE)
    assert [event for some in applied for event in some] == events


def test_a_page_waits_for_fewer_events_where_they_take_long(
    make_service: Callable[..., Service],
    bundle_path: Path,
    applied: list[list[Event]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, events, page = make_service(), bulk_events(bundle_path), golden_page(bundle_path)
    # Each look at the clock is a second later; then it stands still.
    ticking, standing = itertools.count(), itertools.repeat(0)
    clock = itertools.chain(itertools.islice(ticking, 2 * 3), standing)
    monkeypatch.setattr("shelfrank.serve.service.time.thread_time", lambda: next(clock))

    async def ask() -> None:
        await service.add_events(events)
        for _ in range(7):
            assert (await service.rank(page, RankOptions())).reason is None

    asyncio.run(ask())
    assert [len(some) for some in applied] == [EVENTS_PER_PAGE // n for n in (1, 2, 4, 8, 4, 2, 1)]
    assert [event for some in applied for event in some] == events[: sum(map(len, applied))]


def test_events_are_applied_without_a_page(
    make_service: Callable[..., Service], bundle_path: Path, applied: list[list[Event]]
) -> None:
    service, events = make_service(), bulk_events(bundle_path)

    async def wait() -> None:
        applying = asyncio.create_task(service.apply_events())
        deadline = time.monotonic() + PATIENCE_S
        for some in (events[:-1], events[-1:]):
            await service.add_events(some)
            while sum(map(len, applied)) < events.index(some[-1]) + 1:
                assert time.monotonic() < deadline, "events were not applied"
                await asyncio.sleep(0.01)
        applying.cancel()

    asyncio.run(wait())
    assert max(map(len, applied)) <= EVENTS_PER_PAGE
    assert [event for some in applied for event in some] == events


def test_events_that_fail_once_are_tried_again(
    make_service: Callable[..., Service],
    bundle_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, (event,) = make_service(), bulk_events(bundle_path, 1)
    monkeypatch.setattr("shelfrank.serve.service.RETRY_EVENTS_S", 0.01)
    add, calls = FeatureStore.add_events, []

    def fail_once(self: FeatureStore, events: list[Event]) -> None:
        calls.append(events)
        if len(calls) == 1:
            raise OSError("a page of the tables is gone")
        add(self, events)

    monkeypatch.setattr(FeatureStore, "add_events", fail_once)

    async def wait() -> None:
        applying = asyncio.create_task(service.apply_events())
        deadline = time.monotonic() + PATIENCE_S
        for number in (1, 2):
            await service.add_events([event])
            while len(calls) < number:
                assert time.monotonic() < deadline, "events were not applied"
                await asyncio.sleep(0.01)
        applying.cancel()

    asyncio.run(wait())
    assert "a page of the tables is gone" in caplog.text


def test_pages_fall_behind_while_the_journal_cannot_be_read(make_service: Callable[..., Service]) -> None:
    service = make_service()
    serving = service._serving
    assert serving is not None
    first_s = serving.caught_up_s
    serving.catch_up()
    second_s = serving.caught_up_s
    assert second_s > first_s
    with contextlib.closing(sqlite3.connect(service.journal.file)) as connection:
        connection.execute("DROP TABLE events")
    serving.catch_up()
    assert serving.caught_up_s == second_s


def test_a_bundle_that_loads_applies_all_at_once(
    make_service: Callable[..., Service], bundle_path: Path, applied: list[list[Event]]
) -> None:
    events = bulk_events(bundle_path)
    asyncio.run(make_service(load=False).add_events(events))
    make_service()
    assert applied == [events]


def test_events_are_looked_at_beside_the_loop(
    make_service: Callable[..., Service], bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, threads = make_service(), set[int]()
    monkeypatch.setattr(FeatureStore, "_reason", lambda *_: threads.add(threading.get_ident()) or "unknown")
    assert asyncio.run(service.add_events(bulk_events(bundle_path, 3))) == {"unknown": 3}
    assert threads
    assert threading.get_ident() not in threads
