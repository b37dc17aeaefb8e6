"""Events added to a store change later pages exactly as if the log had held them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_oracle import microseconds
from replay import assert_raw, pages
from shop import open_store

from random_log import Tables, one_thread, random_tables, write_log
from shelfrank.config import HistoryConfig, UnderstandingConfig
from shelfrank.core.schema import TASKS, Side, Spelling
from shelfrank.features.request import Event, PageRequest
from shelfrank.features.store import FeatureStore
from shelfrank.prepare.pipeline import raw_features


def events_of(tables: Tables) -> list[Event]:
    """What a service would be told of a log's rows."""
    events = []
    for row in tables["impressions"]:
        keys: dict[str, Any] = {name: row[name] for name in ("product_id", "customer_id", "session_id", "query")}
        keys |= {"ts_us": microseconds(row), "search_id": row["search_id"]}
        events.append(Event(action="impression", position=row["position"], price=row.get("price"), **keys))
        events += [Event(action=task, price=row.get("price"), **keys) for task in TASKS if row[task]]
    for row in tables["events"]:
        keys = {name: row[name] for name in ("product_id", "customer_id", "session_id", "action")}
        events.append(Event(ts_us=microseconds(row), **keys))
    return events


def cut(tables: Tables) -> tuple[Tables, Tables]:
    """The rows up to a moment, and those after it, of which some ask for what nobody asked for before."""
    moments = sorted({microseconds(row) for row in tables["impressions"]})
    until = moments[len(moments) // 2]
    early, late = dict(tables), dict(tables)
    for name in ("impressions", "events"):
        early[name] = [row for row in tables[name] if microseconds(row) <= until]
        late[name] = [row for row in tables[name] if microseconds(row) > until]
    for row in late["impressions"]:
        if int(row["search_id"][1:]) % 3 == 0:
            row.update(query="green thing 3", customer_id="c9", session_id="v9")
    return early, late


@pytest.mark.parametrize(
    ("options", "history"),
    [
        ({}, HistoryConfig()),
        ({"price_in_rows": True}, HistoryConfig(windows_days=(0.005, 0.02), outcome_delay_s=900)),
        ({"nulls_in_products": True}, HistoryConfig(outcome_delay_s=1200.5)),
    ],
    ids=["plain", "windows_late_outcomes_and_prices_in_rows", "nulls_and_late_outcomes"],
)
def test_added_events_are_as_good_as_logged_ones(
    options: dict[str, Any], history: HistoryConfig, tmp_path: Path
) -> None:
    tables = random_tables(seed=31, n_searches=44, n_moments=30, **options)
    early, late = cut(tables)
    assert all(some["events"] for some in (early, late))
    # What queries mean is learned when data is prepared, not from live events.
    understanding = UnderstandingConfig(log=False)
    config = one_thread(upstream_order=True, history=history, understanding=understanding)
    write_log(tmp_path / "full", tables)
    _, store = open_store(tmp_path, write_log(tmp_path / "log", early), config)
    events = events_of(late) + events_of(early)[:40]
    random.Random(0).shuffle(events)
    store.add_events(events[:70])
    store.add_events(events[70:])
    # What neither a customer nor a session did adds to no history, unless it came of a page.
    assert store.n_recent == sum(
        bool(each.search_id or each.customer_id or each.session_id) for each in events_of(late)
    )
    asked = dict(pages(tmp_path / "full"))
    late_ids = {row["search_id"] for row in late["impressions"]}
    assert len(late_ids) > 12
    assert_raw(store, {name: asked[name] for name in late_ids}, raw_features(tmp_path / "full", config))
    # What came later does not reach what was asked before.
    assert_raw(store, dict(pages(tmp_path / "log")), raw_features(tmp_path / "log", config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recent")
    open_store(folder, write_log(folder / "log", random_tables(seed=32)), one_thread())
    return folder / "store"


@pytest.fixture
def store(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder)


def changed(store: FeatureStore, asked: PageRequest, events: list[Event]) -> dict[str, Side]:
    """The columns of the next page that events change, with whom they describe."""
    before = store.page(asked)
    store.add_events(events)
    after = store.page(asked)
    names = np.flatnonzero((before.numerical != after.numerical).any(axis=0)).tolist()
    return {store.numerical_columns[name].name: store.numerical_columns[name].side for name in names}


def test_a_view_in_a_session_changes_that_visitors_next_page_only(store: FeatureStore) -> None:
    now_us = store.until_us + 60_000_000
    asked = PageRequest("red", ["p1", "p2"], session_id="today", ts_us=now_us)
    view = Event(product_id="p2", action="view", ts_us=now_us - 1, session_id="today")
    moved = changed(store, asked, [view])
    assert {"session_engaged", "session_product_recency"} <= moved.keys()
    assert set(moved.values()) == {Side.CUSTOMER}
    other = PageRequest("red", ["p1", "p2"], session_id="another", ts_us=now_us)
    assert not changed(store, other, [view])
    np.testing.assert_array_equal(
        store.page(other).numerical, store.page(PageRequest("red", ["p1", "p2"], ts_us=now_us)).numerical
    )


def test_a_click_on_a_page_moves_product_and_query_too(store: FeatureStore) -> None:
    now_us = store.until_us + 60_000_000
    click = Event(product_id="p1", action="click", ts_us=now_us - 5, customer_id="c1", query="red")
    moved = changed(store, PageRequest("red", ["p1", "p2"], "c1", ts_us=now_us), [click])
    assert {"product_clicks", "query_click_rate", "query_product_clicks_1d", "customer_engaged"} <= moved.keys()


@pytest.mark.parametrize(
    "event",
    [
        {"product_id": "nowhere"},
        {"ts_us": 0},
        {"action": "scroll", "query": "red"},
        {"customer_id": None},
    ],
    ids=["unknown_product", "already_in_the_log", "unknown_label", "nobody"],
)
def test_events_that_say_nothing_are_passed_over(event: dict[str, Any], store: FeatureStore) -> None:
    now_us = store.until_us + 60_000_000
    plain = {"product_id": "p1", "action": "view", "ts_us": now_us - 1, "customer_id": "c1"}
    store.add_events([Event(**{**plain, **event})])
    assert store.n_recent == 0


def test_a_word_for_nobody_is_the_logs_own(store: FeatureStore) -> None:
    store.spelling = Spelling(null_words=("guest",))
    told = [
        Event(product_id="p1", action="view", ts_us=store.until_us + i, customer_id=who)
        for i, who in ((1, "NA"), (2, "guest"))
    ]
    assert store.reasons(told) == [None, "no user, client or session"]


def test_words_for_no_product_and_no_action_are_the_logs_own(store: FeatureStore) -> None:
    store.spelling = Spelling(null_words=("p1", "none"))
    told = [
        Event(product_id=product, action=action, ts_us=store.until_us + 1, customer_id="c1")
        for product, action in (("p1", "view"), ("p2", "none"), ("p2", "view"), ("null", "view"))
    ]
    assert store.reasons(told) == ["no product", "no action or no readable time", None, "unknown product"]


def test_memory_is_bounded_and_the_latest_stay(folder: Path) -> None:
    small = FeatureStore.open(folder, max_recent=10)
    now_us = small.until_us + 10_000_000
    for number in range(57):
        event = Event(product_id="p1", action="view", ts_us=small.until_us + 1 + number, customer_id=f"n{number}")
        small.add_events([event])
        assert small.n_recent <= 10
    values = [
        small.computed(PageRequest("red", ["p1"], f"n{n}", ts_us=now_us))["customer_engaged"][0] for n in range(57)
    ]
    assert sum(values) == small.n_recent >= 5
    assert values[-5:] == [1] * 5
