"""What is told twice of a results page counts as often as in the log that an import makes of it."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from replay import assert_raw, pages
from shop import open_store

from random_log import START, one_thread
from shelfrank.features.deduplication import EventDeduplicator
from shelfrank.features.request import Event
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.ubi.importer import import_ubi
from shelfrank.prepare.pipeline import raw_features
from shelfrank.serve.events import read_events

Rows = list[dict[str, Any]]
N_EARLY, N_SEARCHES = 20, 28


def asked_at(number: int) -> dt.datetime:
    return START + dt.timedelta(minutes=7 * number)


def query(number: int) -> dict[str, Any]:
    return {
        "query_id": f"q{number}",
        "client_id": f"c{number % 4}",
        "user_query": ("red", "blue")[number // 3 % 2],
        "timestamp": asked_at(number).isoformat(),
    }


def event(number: int, action: str, product: int, ordinal: int | None = None, after_s: float = 0) -> dict[str, Any]:
    about = {"object": {"object_id": f"p{product % 5}"}, "position": {"ordinal": ordinal}}
    when = (asked_at(number) + dt.timedelta(seconds=after_s)).isoformat()
    return {**query(number), "action_name": action, "timestamp": when, "event_attributes": about}


def events_of(number: int) -> Rows:
    shown = [event(number, "impression", number + place, place) for place in (1, 2, 3)]
    return [*shown, event(number, "click", number + 2)]


def repeats_of(number: int) -> Rows:
    return [
        event(number, "click", number + 2),
        event(number, "click_through", number + 2, after_s=0.3),
        event(number, "impression", number + 1, 4, after_s=1),
        event(number, "impression", number + 4, 2, after_s=2),
        event(number, "impression", number + 4, 5, after_s=3),
    ]


def view_of(number: int) -> dict[str, Any]:
    told = event(number, "view", number + 1, after_s=5)
    return {name: value for name, value in told.items() if name not in ("query_id", "user_query")}


def import_set(folder: Path, queries: Rows, events: Rows) -> Path:
    folder.mkdir()
    products = [{"product_id": f"p{i}", "title": f"thing {i}", "brand": "AB"[i % 2], "price": 3 + i} for i in range(5)]
    for name, rows in (("queries", queries), ("events", events), ("products", products)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_ubi(folder, folder / "log")
    return folder / "log"


def test_a_batch_that_is_told_twice_is_what_the_import_and_preparing_say_of_it(tmp_path: Path) -> None:
    early, late = range(N_EARLY), range(N_EARLY, N_SEARCHES)
    logged = [told for number in early for told in (*events_of(number), view_of(number))]
    live = [told for number in late for told in (*events_of(number), *repeats_of(number), view_of(number))]
    full = import_set(tmp_path / "full", [query(n) for n in (*early, *late)], [*logged, *live, *live])
    part = import_set(tmp_path / "part", [query(n) for n in early], logged)
    config = one_thread(upstream_order=True)
    _, store = open_store(tmp_path, part, config)
    shown = [row for file in SearchLog.open(full).files("impressions") for row in pq.read_table(file).to_pylist()]
    sessions = {row["timestamp"]: row["session_id"] for row in shown}
    for told in live:
        # The import makes sessions of the queries; live the client tells them.
        moments = [asked for asked in sessions if asked <= dt.datetime.fromisoformat(told["timestamp"])]
        told["session_id"] = sessions[max(moments)]
    events, unused = read_events([*live, *live])
    assert not unused
    n_late = len(late)
    # Of each page 3 impressions and a click, and both times its view.
    n_new = n_late * (4 + 2)
    assert store.reasons(events).count("repeated") == len(events) - n_new
    # Asking tells nothing.
    assert store.reasons(events).count(None) == n_new
    store.announce(events)
    again = store.reasons(events)
    assert (again.count("repeated"), again.count(None)) == (len(events) - 2 * n_late, 2 * n_late)
    store.add_events(events)
    assert store.n_recent == n_new
    asked = {name: page for name, page in pages(full) if int(name[1:]) >= N_EARLY}
    assert len(asked) == n_late
    assert_raw(store, asked, raw_features(full, config))


CLICK = Event(product_id="p1", action="click", ts_us=5, customer_id="c1", session_id="s", query="red", search_id="q1")
SHOWN = replace(CLICK, action="impression", position=2)
NAMELESS = replace(CLICK, search_id=None)

# Name: what is told first, what then; whether that is new.
CASES = {
    "double_click": (CLICK, replace(CLICK, ts_us=9), False),
    "another_label": (CLICK, replace(CLICK, action="purchase"), True),
    "another_product": (CLICK, replace(CLICK, product_id="p2"), True),
    "another_page_of_the_query": (CLICK, replace(CLICK, search_id="q2"), True),
    "the_label_of_what_was_shown": (SHOWN, CLICK, True),
    "shown_at_two_positions": (SHOWN, replace(SHOWN, position=3), False),
    "two_products_at_one_position": (SHOWN, replace(SHOWN, product_id="p2"), False),
    "two_products_without_a_position": (
        replace(SHOWN, position=None),
        replace(SHOWN, position=None, product_id="p2"),
        True,
    ),
    "the_same_without_a_page_id": (NAMELESS, NAMELESS, False),
    "another_moment_without_a_page_id": (NAMELESS, replace(NAMELESS, ts_us=6), True),
    "another_visitor_without_a_page_id": (NAMELESS, replace(NAMELESS, customer_id="c2"), True),
    "a_view_again": (replace(CLICK, query=None, action="view"), replace(CLICK, query=None, action="view"), True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_told_once(case: str) -> None:
    first, second, is_new = CASES[case]
    repeats = EventDeduplicator(100)
    assert repeats.is_new(first)
    assert repeats.is_new(second) == is_new


def test_memory_is_bounded_and_the_latest_stay() -> None:
    repeats = EventDeduplicator(10)
    clicks = [replace(CLICK, search_id=f"q{number}") for number in range(57)]
    for click in clicks:
        assert repeats.is_new(click)
        assert len(repeats) <= 10
    assert not any(repeats.is_new(click) for click in clicks[-5:])
    assert repeats.is_new(clicks[0])
