"""UBI queries and events become searches, labels and history, each event with one fate."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.errors import UserError
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.ubi import import_ubi
from shelfrank.logs.ubi_rows import event_row, product_row, query_row, read_time
from shelfrank.logs.validate import validate

ASKED = datetime(2025, 3, 1, 10, tzinfo=UTC)
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
    {"_index": "ubi_queries", "_source": query("seen", timestamp=int(ASKED.timestamp() * 1000))},
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
    event("impression", "seen", "v", 0),
    event("impression", "hits", "b", 2),
    event("click", "seen", "x", timestamp="2025-03-01T09:59:59.999Z"),
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


def write_set(folder: Path, events: list[dict[str, Any]] = EVENTS, products: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "queries.jsonl", QUERIES)
    write_jsonl(folder / "events.ndjson.gz", events)
    if products:
        write_jsonl(folder / "products.json", PRODUCTS)
    return folder


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


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
        ("hits", "a", 1, 0, None, 1, "u1", "s1"),
        ("hits", "b", 2, 1, None, 0, "u1", "s1"),
        ("hits", "7", 5, 1, None, 0, "u1", "s1"),
        ("seen", "y", 1, 0, None, 0, "c1", None),
        ("seen", "x", 2, 0, None, 0, "c1", None),
    ]
    assert {(row["timestamp"], row["query"]) for row in rows_of(log, "impressions")} == {
        (ASKED, "words of hits"),
        (ASKED, "words of seen"),
    }
    assert {violation.severity for violation in validate(log)} == {"warning"}


def test_what_is_done_elsewhere_becomes_history(log: Path) -> None:
    names = ("action", "product_id", "customer_id", "session_id", "timestamp")
    later = datetime.fromisoformat(LATER)
    assert [tuple(row[name] for name in names) for row in rows_of(log, "events")] == [
        ("purchase", "x", "c9", None, datetime(2025, 2, 1, 10, tzinfo=UTC)),
        ("click", "q", "c1", None, later),
        ("click", "q", "c1", None, later),
        ("view", "a", "c9", None, later),
    ]
    assert [row["customer_id"] for row in rows_of(log, "customers")] == ["c1", "c9", "u1"]


def test_every_event_and_query_that_is_left_out_is_counted(log: Path) -> None:
    info = SearchLog.open(log).manifest.info
    assert info["left_out"] == {
        "queries without a query_id": 1,
        "queries without a user_query": 1,
        "queries without a readable timestamp": 1,
        "queries with the query_id of an earlier one": 1,
        "queries without a shown list": 1,
        "hits without an id": 1,
        "hits that stand in the same list again": 1,
        "events without an action_name or a readable timestamp": 1,
        "events on a product that name no object_id": 1,
        "events earlier than their query": 1,
        "events without a query's list, and of no user, client or session": 1,
        "impression events of queries that have a list, or that are unknown": 1,
        "impression events without an ordinal of 1 or more": 1,
        "impression events of a product or position that the query showed already": 2,
        "events on a product that is not in their query's list (kept as events)": 1,
        "events of a query that the log does not hold (kept as events)": 1,
        "event action 'filter'": 2,
        "rows of products without an id": 1,
        "rows of products with an id of an earlier row": 1,
        "titles of products that products.jsonl lacks": 4,
    }
    assert info["notes"]["timestamps of events without a time zone, read as UTC"] == 1


def test_products_get_what_the_catalogue_says(log: Path) -> None:
    products = {row["product_id"]: row for row in rows_of(log, "products")}
    assert products["a"] == {
        "product_id": "a", "title": "Lamp", "brand": "B", "category": "Home > Light", "price": None,
    }  # fmt: skip
    assert (products["7"]["title"], products["7"]["price"]) == ("Desk", 12.5)
    assert products["q"]["title"] is None
    assert [feature.name for feature in SearchLog.open(log).schema.features] == ["brand", "category", "price"]


def test_a_log_needs_neither_catalogue_nor_history(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", events=[event("click", "hits", "b")], products=False)
    import_ubi(folder, tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    assert not log.has("events")
    assert log.schema.features == ()
    assert [row["purchase"] for row in rows_of(tmp_path / "log", "impressions")] == [None] * 3
    assert log.manifest.info["left_out"]["titles of products that products.jsonl lacks"] == 3


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
    "bad line": (spoil_line, "queries.jsonl must hold one JSON object per line, but line 4 is none"),
    "truncated": (truncate, "events.ndjson.gz must be complete, but it cannot be read"),
    "another encoding": (
        lambda folder: (folder / "products.json").write_bytes('{"id": "1", "title": "Köln"}'.encode("latin-1")),
        "products.json must be text in UTF-8, but its line 1 is not",
    ),
    "no events": (lambda folder: (folder / "events.ndjson.gz").unlink(), "must hold events.jsonl or"),
    "no such keys": (
        lambda folder: (folder / "queries.jsonl").write_text('{"q": "tv"}\n'),
        "none is left .*1 queries without a query_id",
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-03-01T10:00:00.500Z", datetime(2025, 3, 1, 10, 0, 0, 500_000, UTC)),
        ("2025-03-01T12:00:00+02:00", ASKED),
        (1_740_823_200_000, ASKED),
        ("1740823200000", ASKED),
        (1_740_823_200_000.0, ASKED),
        (1_740_823_200, None),  # seconds: 1970
        ("2150-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("9" * 400, None),
        (10**400, None),
        (True, None),
        (None, None),
    ],
)
def test_times_are_iso_8601_or_milliseconds(value: object, expected: datetime | None) -> None:
    assert read_time(value) == (expected, False)
    assert read_time("2025-03-01T10:00:00") == (ASKED, True)


@pytest.mark.parametrize(
    ("position", "ordinal"),
    [
        ({"ordinal": 3}, 3),
        ({"ordinal": {"index": 3}}, 3),
        ({"index": 3}, 3),
        ({"ordinal": 3.0}, 3),
        ({"ordinal": 0}, None),
        ({"ordinal": 2.5}, None),
        ({"ordinal": "3"}, None),
        ({"ordinal": 10**12}, None),
        ("3", None),
    ],
)
def test_positions_of_all_versions_are_read(position: object, ordinal: int | None) -> None:
    row = event_row({"event_attributes": {"position": position}})
    assert (row["ordinal"], row["object_id"]) == (ordinal, None)


def test_ids_are_read_wherever_the_versions_put_them() -> None:
    named = {"object": {"object_id_field": "isbn", "isbn": "978"}}
    assert event_row({"event_attributes": named})["object_id"] == "978"
    assert [product_row({key: "p"})["product_id"] for key in ("product_id", "object_id", "id", "_id")] == ["p"] * 4
    assert query_row({"query_response_hit_ids": [None, ""]})["hits"] is None
