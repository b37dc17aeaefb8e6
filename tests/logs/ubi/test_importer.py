"""UBI queries and events become searches, labels and history, each event with one fate."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.ubi.importer import import_ubi
from shelfrank.logs.validate import validate

QUERIED = datetime(2025, 3, 1, 10, tzinfo=UTC)
LATER = "2025-03-01T10:01:00Z"


def query(query_id: str | None, hits: list[Any] | None = None, **changes: object) -> dict[str, Any]:
    record = {"query_id": query_id, "client_id": "c1", "user_query": f"words of {query_id}",
              "timestamp": "2025-03-01T10:00:00Z", "query_response_hit_ids": hits}  # fmt: skip
    return record | changes


def event(
    action: str, query_id: str | None = None, item: object = None, ordinal: object = None, **changes: object
) -> dict[str, Any]:
    attributes = {"object": {"object_id": item}, "position": {"ordinal": ordinal}}
    return {"action_name": action, "timestamp": LATER, "query_id": query_id, "event_attributes": attributes} | changes


QUERIES = [
    query("hits", ["a", "b", "a", None, 7]),
    {"_index": "ubi_queries", "_source": query("seen", timestamp=int(QUERIED.timestamp() * 1000))},
    query("nothing", []),
    query("hits", ["z"]),
    query(None, ["a"]),
    query("no words", ["a"], user_query=None),
    query("no time", ["a"], timestamp="today"),
]
EVENTS = [
    event("click", "hits", "b", user_id="u1", session_id="s1"),
    event("click_through", "hits", 7, user_id="u2"),
    event("purchase", "hits", "a"),
    event("impression", "seen", "x", 2),
    event("impression", "seen", "y", {"index": 1}),
    event("impression", "seen", "x", 3),
    event("impression", "seen", "w", 2),
    event("impression", "seen", "v", -1),
    event("impression", "hits", "b", 2),
    event("click", "seen", "x", timestamp="2025-02-28T09:59:59.999Z"),
    event("click", "seen", "q", client_id="c1"),
    event("click", "nothing", "q", client_id="c1"),
    event("purchase", None, "x", client_id="c9", timestamp="2025-02-01T10:00:00"),
    event("view", "hits", "a", client_id="c9"),
    event("click", None, "x"),
    event("click", "hits"),
    event("click", "hits", "a", timestamp=None),
    event("filter", "hits"),
    event("filter", "hits"),
]
PRODUCTS = [
    {"_id": "a", "_source": {"name": "Lamp", "brand": "B", "category": ["Home", "Light"], "price": -1}},
    {"product_id": 7, "title": "Desk", "price": 12.5},
    {"product_id": 7, "title": "Desk again"},
    {"title": "nothing"},
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    content = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_set(
    folder: Path,
    events: list[dict[str, Any]] = EVENTS,
    products: bool = True,
    queries: list[dict[str, Any]] = QUERIES,
) -> Path:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "queries.jsonl", queries)
    write_jsonl(folder / "events.ndjson.gz", events)
    if products:
        write_jsonl(folder / "products.json", PRODUCTS)
    return folder


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


def import_rows(
    folder: Path, queries: list[dict[str, Any]], events: list[dict[str, Any]], first_ordinal: int | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The impressions, the events and the notes of a log."""
    folder.mkdir()
    import_ubi(write_set(folder / "set", events, products=False, queries=queries), folder / "log", first_ordinal)
    log = SearchLog.open(folder / "log")
    history = rows_of(folder / "log", "events") if log.has("events") else []
    return rows_of(folder / "log", "impressions"), history, log.manifest.info["notes"]


def of_searches(impressions: list[dict[str, Any]], column: str) -> dict[str, Any]:
    values = {(row["search_id"], row[column]) for row in impressions}
    assert len(values) == len({search for search, _ in values})
    return dict(values)


def at(time: str) -> dict[str, str]:
    return {"timestamp": f"2025-03-01T{time}Z"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ubi")
    assert import_ubi(write_set(folder / "set"), folder / "log")
    assert import_ubi(folder / "set", folder / "log") is False
    return folder / "log"


def test_queries_with_a_list_become_searches_with_labels(log: Path) -> None:
    names = ("search_id", "product_id", "position", "click", "add_to_cart", "purchase", "customer_id", "session_id")
    assert [tuple(row[name] for name in names) for row in rows_of(log, "impressions")] == [
        # A cart is no signal of this file; a purchase sets no click; the hit without an id keeps its place.
        ("hits", "a", 1, 0, None, 1, "c1", "c1#0"),
        ("hits", "b", 2, 1, None, 0, "c1", "c1#0"),
        ("hits", "7", 5, 1, None, 0, "c1", "c1#0"),
        ("seen", "y", 1, 0, None, 0, "c1", "c1#0"),
        ("seen", "x", 2, 0, None, 0, "c1", "c1#0"),
    ]
    assert {(row["timestamp"], row["query"]) for row in rows_of(log, "impressions")} == {
        (QUERIED, "words of hits"),
        (QUERIED, "words of seen"),
    }
    assert {violation.severity for violation in validate(log)} == {"warning"}


def test_what_is_done_elsewhere_becomes_history(log: Path) -> None:
    names = ("action", "product_id", "customer_id", "session_id", "timestamp")
    later = datetime.fromisoformat(LATER)
    assert [tuple(row[name] for name in names) for row in rows_of(log, "events")] == [
        ("purchase", "x", "c9", None, datetime(2025, 2, 1, 10, tzinfo=UTC)),
        ("click", "q", "c1", "c1#0", later),
        ("click", "q", "c1", "c1#0", later),
        ("view", "a", "c9", "c1#0", later),
    ]
    assert [row["customer_id"] for row in rows_of(log, "customers")] == ["c1", "c9"]


def test_every_event_and_query_that_is_left_out_is_counted(log: Path) -> None:
    info = SearchLog.open(log).manifest.info
    assert info["left_out"] == {
        "queries without a query_id": 1,
        "queries without a user_query": 1,
        "queries without a readable timestamp": 1,
        "queries that repeat an earlier query_id": 1,
        "queries without a results list": 1,
        "hits without an id": 1,
        "hits that repeat a product of their list": 1,
        "events without an action_name or a readable timestamp": 1,
        "events without an object_id": 1,
        "events more than a day earlier than their query": 1,
        "events outside any results list, without a user, client or session": 1,
        "impression events of queries that have a list or are unknown": 1,
        "impression events without an ordinal of 1 or more": 1,
        "impression events that repeat a product or position of their query": 2,
        "events on a product outside their query's list (kept as events)": 1,
        "events of a query that is not in the log (kept as events)": 1,
        "carts and purchases without a query_id (kept as events)": 1,
        "event action 'filter'": 2,
        "product rows without an id": 1,
        "product rows that repeat an earlier id": 1,
        "products without a title in products.jsonl": 4,
    }
    assert info["notes"]["timestamps of events without a time zone, read as UTC"] == 1
    assert info["notes"]["clients with several users, each kept as a customer of its own"] == 1


def test_products_get_what_the_catalogue_says(log: Path) -> None:
    products = {row["product_id"]: row for row in rows_of(log, "products")}
    assert products["a"] == {
        "product_id": "a", "title": "Lamp", "brand": "B", "category": "Home > Light", "price": None,
    }  # fmt: skip
    assert (products["7"]["title"], products["7"]["price"]) == ("Desk", 12.5)
    assert products["q"]["title"] is None
    assert [feature.name for feature in SearchLog.open(log).schema.features] == ["brand", "category", "price"]


# Only clicks carry a user and a session; each client is known by the clicks of two searches.
CLICKED_QUERIES = [
    query("q1", ["a", "b"], **at("10:00:00")),
    query("q2", ["a", "b"], **at("10:20:00")),
    query("q3", ["a", "b"], **at("11:00:00")),
    query("q4", ["a", "b"], client_id="c2", **at("10:00:00")),
    query("q5", ["a", "b"], client_id="c2", **at("10:05:00")),
]
CLICKS = [
    event("click", "q1", "a", client_id="c1", user_id="u1", session_id="s1", **at("10:01:00")),
    event("click", "q3", "b", client_id="c1", user_id="u1", session_id="s2", **at("11:01:00")),
    event("click", "q4", "a", user_id="u2", session_id="s3", **at("10:01:00")),
    event("click", "q5", "a", user_id="u2", session_id="s4", **at("10:06:00")),
]


@pytest.fixture(scope="module")
def clicked_and_not(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """The impressions of all clicks, and those without the clicks of one search, for each."""
    folder = tmp_path_factory.mktemp("clicked")
    whole, _, _ = import_rows(folder / "whole", CLICKED_QUERIES, CLICKS)
    without = []
    for search in ("q1", "q3", "q4", "q5"):
        left = [click for click in CLICKS if click["query_id"] != search]
        rows, _, _ = import_rows(folder / search, CLICKED_QUERIES, left)
        assert not any(row["click"] for row in rows if row["search_id"] == search)
        without.append(rows)
    return [whole, *without]


def test_the_customer_of_a_search_does_not_depend_on_its_clicks(
    clicked_and_not: list[list[dict[str, Any]]],
) -> None:
    users = {"q1": "u1", "q2": "u1", "q3": "u1", "q4": "u2", "q5": "u2"}
    assert [of_searches(rows, "customer_id") for rows in clicked_and_not] == [users] * 5


def test_the_session_of_a_search_does_not_depend_on_its_clicks(
    clicked_and_not: list[list[dict[str, Any]]],
) -> None:
    sessions = {"q1": "c1#0", "q2": "c1#0", "q3": "c1#1", "q4": "c2#0", "q5": "c2#0"}
    assert [of_searches(rows, "session_id") for rows in clicked_and_not] == [sessions] * 5


def test_a_client_of_one_user_is_that_user_and_one_of_several_stays_a_client(tmp_path: Path) -> None:
    queries = [query(f"of {client}", ["a"], client_id=client) for client in ("one", "two", "none")]
    events = [
        event("click", "of one", "a", client_id="one"),
        event("view", None, "x", client_id="one", user_id="u1"),
        event("view", None, "y", client_id="two", user_id="u1"),
        event("view", None, "z", client_id="two", user_id="u2"),
        event("view", None, "w", client_id="one"),
        event("view", None, "v", user_id="u9"),
    ]
    impressions, history, notes = import_rows(tmp_path / "log", queries, events)
    assert of_searches(impressions, "customer_id") == {"of one": "u1", "of two": "two", "of none": "none"}
    assert {row["product_id"]: row["customer_id"] for row in history} == {
        "x": "u1", "y": "two", "z": "two", "w": "u1", "v": "u9",
    }  # fmt: skip
    assert notes["clients with several users, each kept as a customer of its own"] == 1


def test_queries_without_a_client_have_their_users_only_where_all_have_one(tmp_path: Path) -> None:
    queries = [query(name, ["a"], client_id=None) for name in ("q1", "q2")]
    # Of two users of one query the earlier event's counts, not the earlier line's.
    events = [
        event("click", "q1", "a", user_id="u3", **at("10:02:00")),
        event("click", "q1", "a", user_id="u1", **at("10:01:00")),
        event("impression", "q2", "a", 1, user_id="u2"),
    ]
    known, _, notes = import_rows(tmp_path / "known", queries, events)
    assert of_searches(known, "customer_id") == {"q1": "u1", "q2": "u2"}
    assert of_searches(known, "session_id") == {"q1": "u1#0", "q2": "u2#0"}
    anonymous = "queries without a client_id, left anonymous since not all of them have events with a user_id"
    assert anonymous not in notes
    unknown, _, notes = import_rows(tmp_path / "unknown", queries, events[:2])
    assert of_searches(unknown, "customer_id") == {"q1": None, "q2": None}
    assert of_searches(unknown, "session_id") == {"q1": None, "q2": None}
    assert notes[anonymous] == 2


SESSION_QUERIES = [
    query("first", ["a"], **at("10:00:00")),
    query("in time", ["a"], **at("10:30:00")),
    query("too late", ["a"], **at("11:00:00.000001")),
    query("of another", ["a"], client_id="c2", **at("10:45:00")),
]
SESSION_EVENTS = [
    event("click", "first", "a", **at("10:00:01")),
    event("click", "first", "late", **at("23:00:00")),
    event("view", None, "before", client_id="c1", **at("09:59:59")),
    event("view", None, "at once", client_id="c1", **at("10:00:00")),
    event("view", "unknown", "soon", client_id="c1", **at("11:00:00")),
    event("view", None, "after", client_id="c1", **at("11:30:00.000001")),
    event("view", None, "too late", client_id="c1", **at("11:30:00.000002")),
    event("view", None, "no visitor's", user_id="c9", **at("10:00:00")),
]


def test_queries_soon_after_each_other_are_a_session_which_events_join(tmp_path: Path) -> None:
    impressions, history, _ = import_rows(tmp_path / "log", SESSION_QUERIES, SESSION_EVENTS)
    assert of_searches(impressions, "session_id") == {
        "first": "c1#0", "in time": "c1#0", "too late": "c1#1", "of another": "c2#0",
    }  # fmt: skip
    assert {row["product_id"]: row["session_id"] for row in history} == {
        "late": "c1#0",
        "before": None,
        "at once": "c1#0",
        "soon": "c1#0",
        "after": "c1#1",
        "too late": None,
        "no visitor's": None,
    }


def test_neither_the_order_of_lines_nor_later_queries_change_sessions_and_customers(tmp_path: Path) -> None:
    names = ("search_id", "product_id", "customer_id", "session_id")
    again = query("first", ["b"], **at("10:10:00"))
    queries, clicks = [*SESSION_QUERIES, *CLICKED_QUERIES[3:], again], [*SESSION_EVENTS, *CLICKS[2:]]
    expected, history, _ = import_rows(tmp_path / "given", queries, clicks)
    rows, events, _ = import_rows(tmp_path / "turned", queries[::-1], clicks[::-1])
    assert {tuple(map(row.get, names)) for row in rows} == {tuple(map(row.get, names)) for row in expected}
    assert {tuple(row.items()) for row in events} == {tuple(row.items()) for row in history}
    later = query("later", ["a"], **at("12:00:00"))
    rows, _, _ = import_rows(tmp_path / "later", [later, *queries], clicks)
    assert of_searches(rows, "session_id") == of_searches(expected, "session_id") | {"later": "c1#2"}


def test_a_log_needs_neither_catalogue_nor_history(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", events=[event("click", "hits", "b")], products=False)
    import_ubi(folder, tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    assert not log.has("events")
    assert log.schema.features == ()
    assert [row["purchase"] for row in rows_of(tmp_path / "log", "impressions")] == [None] * 3
    assert log.manifest.info["left_out"]["products without a title in products.jsonl"] == 3


def test_a_log_without_any_signal_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", events=[event("impression", "hits", "b", 1)])
    with pytest.raises(UserError, match="must have labels"):
        import_ubi(folder, tmp_path / "log")


def spoil_line(folder: Path) -> None:
    write_jsonl(folder / "queries.jsonl", QUERIES[:2])
    with (folder / "queries.jsonl").open("a") as file:
        file.write('\n\n{"query_id": nothing}\n')


def truncate(folder: Path) -> None:
    file = folder / "events.ndjson.gz"
    file.write_bytes(file.read_bytes()[:-20])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "bad line": (spoil_line, "queries.jsonl must hold one JSON object per line, but line 4 is not one"),
    "truncated": (truncate, "events.ndjson.gz must be complete, but it cannot be read"),
    "another encoding": (
        lambda folder: (folder / "products.json").write_bytes('{"id": "1", "title": "Köln"}'.encode("latin-1")),
        "products.json must be text in UTF-8, but its line 1 is not",
    ),
    "no events": (lambda folder: (folder / "events.ndjson.gz").unlink(), "must hold events.jsonl or"),
    "no such keys": (
        lambda folder: (folder / "queries.jsonl").write_text('{"q": "tv"}\n'),
        "no search is left .*1 queries without a query_id",
    ),
    "empty": (lambda folder: (folder / "queries.jsonl").write_bytes(b""), "the file is empty"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_set_is_refused(what: str, tmp_path: Path) -> None:
    spoil, expected = BROKEN[what]
    folder = write_set(tmp_path / "set")
    spoil(folder)
    with pytest.raises(UserError, match=expected):
        import_ubi(folder, tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_label_is_one_whatever_the_clients_clock_says(tmp_path: Path) -> None:
    queries = [query(f"q{n}", ["a", "b"], client_id=f"c{n}") for n in range(4)]
    events = [
        event("click", "q0", "a", **at("09:59:30.000")),
        event("purchase", "q1", "b", timestamp="2025-02-28T10:00:00Z"),
        event("click", "q2", "a", timestamp="2025-02-28T09:59:59Z"),
        event("click", "q3", "b", timestamp="2027-01-01T00:00:00Z"),
        # Of the client that is 30 seconds slow: by its clock before the search, in truth perhaps after it.
        event("view", None, "b", client_id="c0", **at("09:59:50.000")),
        event("view", None, "b", client_id="c3", **at("09:59:50.000")),
        event("view", None, "b", client_id="c3", timestamp="2026-01-01T00:00:00Z"),
    ]
    impressions, history, notes = import_rows(tmp_path / "slow", queries, events)
    labels = {(row["search_id"], row["product_id"]) for row in impressions if row["click"] or row["purchase"]}
    assert labels == {("q0", "a"), ("q1", "b"), ("q3", "b")}
    assert {row["timestamp"] for row in impressions} == {QUERIED}
    of_slow, of_right = (datetime(2025, 3, 1, 10, 0, 20, tzinfo=UTC), datetime(2025, 3, 1, 9, 59, 50, tzinfo=UTC))
    assert {(row["customer_id"], row["timestamp"]) for row in history} == {("c0", of_slow), ("c3", of_right)}
    assert notes["labels earlier than their query by the client's clock, kept as labels of that query"] == 2
    assert [n for note, n in notes.items() if note.startswith("history events of clients whose clock")] == [1]
    info = SearchLog.open(tmp_path / "slow" / "log").manifest.info
    assert info["left_out"]["events more than a day earlier than their query"] == 1
    assert info["left_out"]["events more than 30 days after the last query of the file"] == 1
    assert info["warnings"][0]["must"] == (
        "should hold nearly all click labels of the source, but 1 of 3 (33%) are lost, most of them as: events more "
        "than a day earlier than their query (1)"
    )


@pytest.mark.parametrize(("n_without", "is_warned"), [(1, False), (2, True)])
@pytest.mark.parametrize("action", ["add_to_cart", "purchase"])
def test_carts_and_purchases_without_a_query_are_history_and_many_of_them_a_warning(
    tmp_path: Path, action: str, n_without: int, is_warned: bool
) -> None:
    queries = [query(f"q{n}", ["a", "b"], client_id=f"c{n}") for n in range(9)]
    events = [event(action, f"q{n}", "a") for n in range(9)]
    events += [event(action, None, "a", client_id="c1") for _ in range(n_without)]
    events += [event("click", None, "a", client_id="c1") for _ in range(9)] + [event("click", "q1", "a")]
    impressions, history, _ = import_rows(tmp_path / "set", queries, events)
    assert sum(row[action] for row in impressions) == 9
    assert [row["action"] for row in history].count(action) == n_without
    warnings = [each["must"] for each in SearchLog.open(tmp_path / "set" / "log").manifest.info["warnings"]]
    expected = (
        f"should hold nearly all {action} labels of the source, but 2 of 11 (18%) are lost, most of them as: carts and "
        "purchases without a query_id (kept as events) (2)"
    )
    assert [each for each in warnings if "nearly all" in each] == [expected] * is_warned


def shown_from(first: int, query_id: str) -> list[dict[str, Any]]:
    return [event("impression", query_id, item, first + place) for place, item in enumerate("abc")]


def test_ordinals_from_0_are_recognised_where_all_lists_begin_there(tmp_path: Path) -> None:
    queries, clicks = [query("q1"), query("q2")], [event("click", "q1", "a")]
    both = [*shown_from(0, "q1"), *shown_from(0, "q2"), *clicks]
    impressions, _, notes = import_rows(tmp_path / "zero", queries, both)
    assert [(row["product_id"], row["position"], row["click"]) for row in impressions[:3]] == [
        ("a", 1, 1),
        ("b", 2, 0),
        ("c", 3, 0),
    ]
    assert (
        notes["ordinals of impression events"] == "counted from 0, since every list of impression events begins there"
    )
    spelling = SearchLog.open(tmp_path / "zero" / "log").schema.spelling
    assert spelling is not None
    assert spelling.first_ordinal == 0
    mixed = [*shown_from(0, "q1"), *shown_from(1, "q2"), *clicks]
    with pytest.raises(UserError, match=r"ordinals .* but 1 of 2 lists begin at 0 .*`first_ordinal` 0"):
        import_rows(tmp_path / "mixed", queries, mixed)
    # The top of the second list was not seen.
    impressions, _, notes = import_rows(tmp_path / "declared", queries, mixed, first_ordinal=0)
    assert [(row["product_id"], row["position"]) for row in impressions] == [
        *zip("abc", (1, 2, 3), strict=True),
        *zip("abc", (2, 3, 4), strict=True),
    ]
    assert notes["ordinals of impression events"] == "counted from 0, as declared"
    with pytest.raises(UserError, match=r"`first_ordinal` 1 says, but every list begins at 0"):
        import_rows(tmp_path / "denied", queries, both, first_ordinal=1)


@pytest.mark.parametrize("declared", [None, 1])
def test_the_few_lists_that_begin_at_0_are_left_out_as_a_whole(tmp_path: Path, declared: int | None) -> None:
    n = 12 if declared is None else 2
    queries = [query(f"q{i}", client_id=f"c{i}") for i in range(n)]
    events = [each for i in range(n) for each in (*shown_from(min(i, 1), f"q{i}"), event("click", f"q{i}", "b"))]
    impressions, history, _ = import_rows(tmp_path / "set", queries, events, first_ordinal=declared)
    assert {row["search_id"] for row in impressions} == {f"q{i}" for i in range(1, n)}
    assert {(row["product_id"], row["position"]) for row in impressions} == {("a", 1), ("b", 2), ("c", 3)}
    assert [row["customer_id"] for row in history] == ["c0"]
    left_out = SearchLog.open(tmp_path / "set" / "log").manifest.info["left_out"]
    assert {reason: n for reason, n in left_out.items() if "ordinal" in reason or "kept" in reason} == {
        "queries whose list begins at ordinal 0, while the first ordinal is 1": 1,
        "impression events of lists that begin at ordinal 0, while the first ordinal is 1": 3,
        "events of a query that is not in the log (kept as events)": 1,
    }


def test_times_in_other_units_are_noted(tmp_path: Path) -> None:
    queried = int(QUERIED.timestamp())
    queries, events = (
        [query("q", ["a"], timestamp=queried)],
        [event("click", "q", "a", timestamp=(queried + 1) * 10**9)],
    )
    impressions, _, notes = import_rows(tmp_path / "units", queries, events)
    assert [(row["timestamp"], row["click"]) for row in impressions] == [(QUERIED, 1)]
    assert notes["timestamps of queries read as s since 1970, as their size indicates"] == 1
    assert notes["timestamps of events read as ns since 1970, as their size indicates"] == 1


def test_rows_appended_later_change_no_earlier_row(tmp_path: Path) -> None:
    queries = [query("q0", ["a", "b"]), query("q1", ["a", "b"], client_id="c2", **at("10:20:00"))]
    events = [
        # 30 seconds slow: what follows within the hour moves with it, and nothing else.
        event("view", None, "a", client_id="c1", **at("09:59:10")),
        event("click", "q0", "a", **at("09:59:30")),
        event("view", None, "b", client_id="c1", **at("09:59:40")),
        event("view", None, "b", client_id="c1", **at("12:30:00")),
        event("view", None, "a", client_id="c2", **at("10:25:00")),
    ]
    before, history, _ = import_rows(tmp_path / "before", queries, events)
    moments = [row["timestamp"].strftime("%H:%M:%S") for row in history]
    assert moments == ["09:59:10", "10:00:10", "10:25:00", "12:30:00"]
    days = {"q2": "2025-03-01T13:00:00Z", "q3": "2025-03-02T10:00:00Z", "q4": "2025-04-01T10:00:00Z"}
    more = [query(name, ["a", "b"], timestamp=time) for name, time in days.items()]
    late = [
        event("click", "q2", "a", timestamp="2025-03-01T12:59:00Z"),
        event("view", "q3", "a", timestamp="2025-03-01T14:00:00Z"),
        event("click", "q4", "b", timestamp="2025-03-31T14:00:00Z"),
        event("view", None, "b", client_id="c1", timestamp="2025-03-31T14:05:00Z"),
    ]
    after, longer, _ = import_rows(tmp_path / "after", queries + more, events + late)
    assert after[: len(before)] == before
    assert longer[: len(history)] == history
    # A click that is held back for most of a day says nothing of its client's clock.
    assert longer[-1]["timestamp"] == datetime(2025, 3, 31, 14, 5, tzinfo=UTC)


def test_ids_that_a_table_of_floats_wrote_are_whole_numbers_in_all_files(tmp_path: Path) -> None:
    queries = [query("1", ["412.0", "413.0", "414"], client_id="7.0")]
    events = [event("click", "1.0", 412), event("click", "1", "413", client_id="7"), event("view", None, "412.0")]
    events[2]["client_id"] = 7
    impressions, history, notes = import_rows(tmp_path / "set", queries, events)
    assert [(row["product_id"], row["click"], row["customer_id"]) for row in impressions] == [
        ("412", 1, "7"),
        ("413", 1, "7"),
        ("414", 0, "7"),
    ]
    assert [(row["product_id"], row["customer_id"], row["session_id"]) for row in history] == [("412", "7", "7#0")]
    assert notes["product_id, whole numbers written as floats"] == "3 (412.0 is read as 412)"
    spelling = SearchLog.open(tmp_path / "set" / "log").schema.spelling
    assert spelling is not None
    assert spelling.whole_number_ids == ("customer_id", "product_id", "search_id")


def test_an_id_that_is_no_number_keeps_those_that_end_in_0(tmp_path: Path) -> None:
    queries = [query("q", ["412.0", "A9"])]
    impressions, _, notes = import_rows(tmp_path / "set", queries, [event("click", "q", "412.0")])
    assert [(row["product_id"], row["click"]) for row in impressions] == [("412.0", 1), ("A9", 0)]
    assert notes["product_id, ids that end in .0"].startswith("2, kept as they are")
