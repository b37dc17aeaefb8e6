"""Events added to a store change later pages exactly as if the log had held them."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_oracle import microseconds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay import assert_raw, pages
from shop import open_store

from random_log import Tables, one_thread, random_tables, write_log
from shelfrank.config import HistoryConfig, PrepareConfig, UnderstandingConfig
from shelfrank.core.schema import TASKS, Side, Spelling
from shelfrank.features.history_stats import HistoryEvent, HistoryPlan, KeyPlan, key_plans
from shelfrank.features.page_features import computed_features
from shelfrank.features.recent_events import RecentEvents
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


HOUR_US = 3_600_000_000
"""Times that repeat, lie at the edges of windows and the delay of outcomes, and may come in any order."""
history_events = st.builds(
    HistoryEvent,
    ts_us=st.sampled_from(
        [1, HOUR_US // 4, HOUR_US // 4 + 1, HOUR_US, 24 * HOUR_US, 25 * HOUR_US, 4_070_908_800_000_000]
    ),
    kind=st.sampled_from(["impression", "click", "purchase", "event"]),
    product_idx=st.integers(0, 3),
    codes=st.fixed_dictionaries({name: st.integers(-1, 2) for name in ("brand", "color")}),
    query=st.sampled_from([None, "red", "blue"]),
    customer_id=st.sampled_from([None, "c1", "c2"]),
    session_id=st.sampled_from([None, "s1"]),
    position=st.sampled_from([None, 1, 9]),
    price=st.sampled_from([None, 0.5, 1e300]),
    levels=st.fixed_dictionaries({name: st.integers(-500, 500) for name in ("price",)}),
)


def plain_sums(
    plan: KeyPlan, events: list[HistoryEvent], name: str | None, rows: list[int], ts_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sums and latest times of `RecentEvents.add_to`, event by event."""
    side, _, feature = plan.key.partition("|")
    sums = np.zeros((len(plan.offsets_us) + 1, len(rows), len(plan.measures)), np.int64)
    latest_us = np.zeros((len(plan.latest), len(rows)), np.int64)
    for event in events:
        visitors = {"query": event.query, "customer": event.customer_id, "session": event.session_id}
        own = visitors.get(side.removesuffix("_product"))
        if side != "product" and (own is None or own != name):
            continue
        for row, wanted in enumerate(rows):
            of_event = event.codes[feature] if feature else event.product_idx if side.endswith("product") else wanted
            if of_event != wanted or wanted < 0:
                continue
            for place, offset_us in enumerate(plan.offsets_us):
                if event.ts_us < ts_us - offset_us:
                    sums[place, row] += [measure.of_event(event) for measure in plan.measures]
            for place, measure in enumerate(plan.latest):
                known_us = event.ts_us + plan.known_after_us(measure)
                if known_us < ts_us and measure.of_event(event) > 0:
                    latest_us[place, row] = max(latest_us[place, row], known_us)
    return sums, latest_us


def all_sums(
    plans: dict[str, KeyPlan], recent: RecentEvents, ts_us: int
) -> dict[tuple[str, str | None], tuple[np.ndarray, np.ndarray]]:
    """What recent events add to a page of every product or code, for every visitor and an unknown one."""
    added = {}
    for key, plan in plans.items():
        for name in ("red", "blue", "c1", "c2", "s1", "unknown", None):
            rows = [0] if key in ("query", "customer", "session") else [3, -1, 0, 1, 2, 0]
            sums = np.zeros((len(plan.offsets_us) + 1, len(rows), len(plan.measures)), np.int64)
            latest_us = np.zeros((len(plan.latest), len(rows)), np.int64)
            recent.add_to(key, ts_us, name, rows, sums, latest_us)
            added[key, name] = (sums, latest_us)
    return added


@pytest.fixture(scope="module")
def plans() -> dict[str, KeyPlan]:
    plan = HistoryPlan(TASKS, (), ("brand", "color"), True, True, True, ("price",), True)
    config = PrepareConfig(history=HistoryConfig(windows_days=(1,), outcome_delay_s=900))
    return key_plans((stat for each in computed_features(plan, config) for stat in each.stats), 900)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(history_events, max_size=40),
    cuts=st.lists(st.integers(1, 30), max_size=6),
    order=st.randoms(use_true_random=False),
    ts_us=st.sampled_from([1, HOUR_US, HOUR_US + 1, 25 * HOUR_US, 26 * HOUR_US, 4_070_908_800_000_001]),
)
def test_events_in_any_order_and_in_any_batches_add_up_as_one_by_one(
    events: list[HistoryEvent],
    cuts: list[int],
    order: random.Random,
    ts_us: int,
    plans: dict[str, KeyPlan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that few events fill tables, of which some are merged later.
    monkeypatch.setattr("shelfrank.features.recent_events.TAIL", 7)
    monkeypatch.setattr("shelfrank.features.recent_events.LARGE", 20)
    recent = RecentEvents(plans, 1000)
    shuffled = order.sample(events, len(events))
    start = 0
    for size in [*cuts, len(events)]:
        recent.add(shuffled[start : start + size])
        start += size
    assert recent.n_events == len(events)
    for (key, name), (sums, latest_us) in all_sums(plans, recent, ts_us).items():
        rows = [0] if key in ("query", "customer", "session") else [3, -1, 0, 1, 2, 0]
        expected = plain_sums(plans[key], events, name, rows, ts_us)
        np.testing.assert_array_equal(sums, expected[0])
        np.testing.assert_array_equal(latest_us, expected[1])


def test_tables_stay_few_however_events_come(plans: dict[str, KeyPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfrank.features.recent_events.TAIL", 4)
    monkeypatch.setattr("shelfrank.features.recent_events.LARGE", 64)
    recent = RecentEvents(plans, 10_000)
    for number in range(400):
        # The newest comes first.
        recent.add([HistoryEvent(400 - number, "click", 0, {}, "red", "c1", "s1")])
    tables = [each for generation in recent._generations for each in generation.tables.values() if each]
    assert len(tables) > 5
    assert max(map(len, tables)) <= 10


def test_events_of_a_start_are_sorted_once_and_before_a_page(
    plans: dict[str, KeyPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfrank.features.recent_events.TAIL", 4)
    monkeypatch.setattr("shelfrank.features.recent_events.LARGE", 20)
    events = [HistoryEvent(number + 1, "click", number % 3, {}, "red", "c1", "s1") for number in range(100)]
    sorted_once, asked = RecentEvents(plans, 1_000), RecentEvents(plans, 1_000)
    for recent in (sorted_once, asked):
        for start in range(0, len(events), 20):
            recent.add(events[start : start + 20])
        assert not any(recent._generations[-1].tables.values())
    sorted_once.add([])
    assert {len(each) for each in sorted_once._generations[-1].tables.values() if each} == {1}
    assert not len(sorted_once._tail)
    first, second = all_sums(plans, sorted_once, HOUR_US), all_sums(plans, asked, HOUR_US)
    assert not len(asked._tail)
    for key, sums in first.items():
        np.testing.assert_array_equal(sums[0], second[key][0])
        np.testing.assert_array_equal(sums[1], second[key][1])
    assert first["query", "red"][0].max() == 100
