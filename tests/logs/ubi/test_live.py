"""An event means the same live as in a file, whatever it lacks or misspells."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.ubi.documents import event_row
from shelfrank.logs.ubi.importer import import_ubi
from shelfrank.logs.ubi.live import (
    NO_ORDINAL,
    NO_PRODUCT,
    NO_QUERY,
    NO_VISITOR,
    UNKNOWN_ACTION,
    UNREADABLE,
    is_history,
    live_row,
    why_unused,
)

QUERIED, LATER = "2025-03-01T10:00:00Z", "2025-03-01T10:01:00Z"
LABEL, HISTORY, SHOWN = "label", "history", "shown"

# Name: how it differs from a click on product 17 of a results page; what it becomes.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "click": ({}, LABEL),
    "click_through": ({"action_name": "click_through"}, LABEL),
    "milliseconds": ({"timestamp": 1_740_823_260_000}, LABEL),
    "milliseconds_as_text": ({"timestamp": "1740823260000"}, LABEL),
    "without_a_zone": ({"timestamp": "2025-03-01T10:01:00"}, LABEL),
    "text_id": ({"object": {"object_id": "17"}}, LABEL),
    "id_under_another_key": ({"object": {"object_id_field": "sku", "sku": "17"}}, LABEL),
    "id_under_another_key_beside_null": (
        {"object": {"object_id": "null", "object_id_field": "sku", "sku": "17"}},
        LABEL,
    ),
    "null_beside_null": ({"object": {"object_id": " ", "object_id_field": "sku", "sku": " "}}, NO_PRODUCT),
    "comma_before_exponent": ({"timestamp": "1,740823260123E+12"}, LABEL),
    "ordinal_0": ({"position": {"ordinal": 0}}, LABEL),
    "ordinal_text": ({"position": "top"}, LABEL),
    "scroll_export": ({"wrapped": True}, LABEL),
    "of_nobody": ({"user_id": None}, LABEL),
    "impression": ({"action_name": "impression", "object": {"object_id": "new"}}, SHOWN),
    "nested_ordinal": (
        {"action_name": "impression", "object": {"object_id": "new"}, "position": {"ordinal": {"index": 2}}},
        SHOWN,
    ),
    "view_on_a_page": ({"action_name": "view"}, HISTORY),
    "watch_on_a_page": ({"action_name": "watch"}, HISTORY),
    "click_elsewhere": ({"user_query": None}, HISTORY),
    "numeric_user": ({"user_query": None, "user_id": 5}, HISTORY),
    "view_of_nobody": ({"action_name": "view", "user_query": None, "user_id": None}, NO_VISITOR),
    "user_without_text": ({"action_name": "view", "user_query": None, "user_id": {"id": 5}}, NO_VISITOR),
    "impression_elsewhere": ({"action_name": "impression", "user_query": None}, NO_QUERY),
    "impression_without_ordinal": ({"action_name": "impression", "position": {"ordinal": "top"}}, NO_ORDINAL),
    "seconds": ({"timestamp": 1_740_823_260}, LABEL),
    "text_ordinal": (
        {"action_name": "impression", "object": {"object_id": "new"}, "position": {"ordinal": "2"}},
        SHOWN,
    ),
    "slow_clock": ({"timestamp": "2025-03-01T09:59:00Z"}, LABEL),
    "minutes": ({"timestamp": 29_013_721}, UNREADABLE),
    "no_time": ({"timestamp": "yesterday"}, UNREADABLE),
    "no_action": ({"action_name": None}, UNREADABLE),
    "null_action": ({"action_name": "null"}, UNREADABLE),
    "blank_action": ({"action_name": " "}, UNREADABLE),
    "remove_from_cart": ({"action_name": "remove_from_cart"}, UNKNOWN_ACTION),
    "page_exit": ({"action_name": "page_exit", "user_query": None, "event_attributes": {}}, UNKNOWN_ACTION),
    "login": ({"action_name": "login", "event_attributes": None}, UNKNOWN_ACTION),
    "no_object": ({"object": None}, NO_PRODUCT),
    "object_without_id": ({"object": {"object_id": 1.5}}, NO_PRODUCT),
}


def event(case: str) -> dict[str, Any]:
    """The event, as a client sends it live."""
    changes = dict(CASES[case][0])
    wrapped = changes.pop("wrapped", False)
    about = {"object": changes.pop("object", {"object_id": 17}), "position": changes.pop("position", {"ordinal": 2})}
    made = {
        "action_name": "click",
        "user_id": f"user of {case}",
        "user_query": "desk",
        "timestamp": LATER,
        "event_attributes": about,
    } | changes
    return {"_index": "ubi_events", "_source": made} if wrapped else made


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What the import makes of each event on a page of its own; None where it leaves it out."""
    folder = tmp_path_factory.mktemp("live")
    queries, events = [], []
    for case in CASES:
        queries.append({"query_id": case, "client_id": None, "user_query": "desk", "timestamp": QUERIED})
        about = {"object": {"object_id": "17"}, "position": {"ordinal": 1}}
        shown = {"action_name": "impression", "query_id": case, "timestamp": QUERIED, "event_attributes": about}
        record = event(case)
        document = record.get("_source", record)
        if document["user_query"] is not None:
            document["query_id"] = case
        events += [shown, record]
    for name, rows in (("queries", queries), ("events", events)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_ubi(folder, folder / "log")
    labelled = {row["search_id"] for row in rows_of(folder / "log", "impressions") if row["click"]}
    showing = {row["search_id"] for row in rows_of(folder / "log", "impressions") if row["product_id"] == "new"}
    customers = {row["customer_id"] for row in rows_of(folder / "log", "events")}
    assert None not in customers

    def fate(case: str) -> str | None:
        record = event(case)
        if case in labelled:
            return LABEL
        if case in showing:
            return SHOWN
        return HISTORY if str(record.get("_source", record)["user_id"]) in customers else None

    return {case: fate(case) for case in CASES}


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("case", CASES)
def test_an_event_means_the_same_live_as_in_a_file(case: str, imported: dict[str, str | None]) -> None:
    row = live_row(event(case))
    reason = why_unused(row)
    live = reason or (HISTORY if is_history(row) else SHOWN if row["action"] == "impression" else LABEL)
    assert live == CASES[case][1]
    assert imported[case] == (None if reason else live)


def test_an_event_without_a_time_is_now() -> None:
    record = {name: value for name, value in event("click").items() if name != "timestamp"}
    for given in (record, {**record, "timestamp": None}):
        assert live_row(given)["is_now"]
        assert why_unused(live_row(given)) is None
    assert not live_row(event("no_time"))["is_now"]


@pytest.mark.parametrize("word", [None, " ", "null", "NA"])
def test_a_word_for_missing_gives_way_to_the_id_that_object_id_field_names(word: str | None) -> None:
    shown = {"object_id": word, "object_id_field": "sku", "sku": "p1"}
    record = {**event("click"), "event_attributes": {"object": shown}}
    assert live_row(record)["object_id"] == event_row(record)["object_id"] == "p1"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1.74082E+12", UNREADABLE),
        ("1,74082E+12", UNREADABLE),
        ("1.7408E+09", UNREADABLE),
        ("1.740823260E+12", None),
        ("1.74082E12", None),
        ("1740823000000", None),
        (1.74082e12, None),
    ],
)
def test_a_time_that_may_have_been_rounded_is_none(time: object, expected: str | None) -> None:
    row = live_row({**event("click"), "timestamp": time})
    assert why_unused(row) == expected
    assert not row["is_now"]


@pytest.mark.parametrize(
    ("user", "client", "expected"),
    [("NA", None, ("NA", None)), ("u1", "c1", ("u1", "c1")), (" ", "null", (None, "null")), (" ", None, (None, None))],
)
def test_words_for_missing_ids_are_left_to_the_bundles_log(
    user: str, client: str | None, expected: tuple[str | None, str | None]
) -> None:
    row = live_row(
        {"action_name": "click", "user_id": user, "client_id": client, "session_id": "guest", "query_id": "null",
         "event_attributes": {"object": {"object_id": "NA"}}}
    )  # fmt: skip
    assert (row["user_id"], row["client_id"]) == expected
    assert (row["session_id"], row["query_id"], row["object_id"]) == ("guest", "null", "NA")
