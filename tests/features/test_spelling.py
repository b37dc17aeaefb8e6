import json
from pathlib import Path
from typing import Literal

import pytest

from shelfrank.core.errors import UserError
from shelfrank.core.schema import AS_WRITTEN, Spelling
from shelfrank.features.request import Event, PageRequest
from shelfrank.features.spelling import spell_event, spell_page
from shelfrank.features.store import STORE_FILE, STORE_VERSION, FeatureStore

LOG = Spelling(whole_number_ids=("customer_id",))


def test_a_page_is_spelled_as_the_log_is() -> None:
    asked = PageRequest(query=" RED\u00a0shoe", product_ids=["1", " 1 ", "1.0"], customer_id="412.0", session_id="NULL")
    spelled = spell_page(asked, LOG)
    assert spelled.query == "red shoe"
    assert spelled.product_ids == ["1", "1", "1.0"]
    assert (spelled.customer_id, spelled.session_id) == ("412", None)
    assert spell_page(spelled, LOG) == spelled


def test_a_pages_search_is_spelled_as_an_events_is() -> None:
    asked = PageRequest(query="q", product_ids=["1"], search_id=" s1 ")
    event = Event(product_id="1", action="click", ts_us=1, search_id=" s1 ")
    assert spell_page(asked, LOG).search_id == spell_event(event, LOG).search_id == "s1"


def test_an_event_is_spelled_as_the_log_is() -> None:
    event = Event(product_id=" p1", action="click", ts_us=1, customer_id=" ", query="Red Shoe")
    spelled = spell_event(event, LOG)
    assert (spelled.product_id, spelled.customer_id, spelled.query) == ("p1", None, "red shoe")
    assert spell_event(spelled, LOG) == spelled


WORDS = Spelling(null_words=("guest",), null_words_of={"product_id": ("-",), "action": ()})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"product_id": "NA"}, {"product_id": "NA"}),
        ({"product_id": " - "}, {"product_id": ""}),
        ({"product_id": "guest"}, {"product_id": "guest"}),
        ({"search_id": "null"}, {"search_id": "null"}),
        ({"search_id": "guest"}, {"search_id": None}),
        ({"action": "guest"}, {"action": "guest"}),
        ({"customer_id": "NA"}, {"customer_id": "NA"}),
        ({"customer_id": "guest"}, {"customer_id": None}),
        ({"customer_id": "guest", "client_id": "c1"}, {"customer_id": "c1"}),
        ({"customer_id": "u1", "client_id": "c1"}, {"customer_id": "u1"}),
        ({"client_id": "guest"}, {"customer_id": None}),
        ({"session_id": "guest"}, {"session_id": None}),
    ],
)
def test_every_id_has_the_null_words_that_the_log_declares(given: dict[str, str], expected: dict[str, str]) -> None:
    event = Event(**{"product_id": "p1", "action": "click", "ts_us": 1, **given})
    spelled = spell_event(event, WORDS)
    assert {name: getattr(spelled, name) for name in expected} == expected
    assert spelled.client_id is None
    page = spell_page(PageRequest(query="q", product_ids=[event.product_id], search_id=event.search_id), WORDS)
    assert (page.product_ids, page.search_id) == ([spelled.product_id], spelled.search_id)


def test_an_action_that_the_log_reads_as_missing_is_empty() -> None:
    event = Event(product_id="p1", action="none", ts_us=1)
    assert spell_event(event, Spelling(null_words=("none",))).action == ""


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("ids", ["normalised", "as_written"])
def test_ordinals_count_from_where_the_logs_lists_begin(first: Literal[0, 1], ids: Literal["normalised", "as_written"]):
    log = Spelling(ids=ids, first_ordinal=first)
    event = Event(product_id="p1", action="impression", ts_us=1, query="red", ordinal=first)
    spelled = spell_event(event, log)
    assert (spelled.position, spelled.ordinal) == (1, None)
    assert spell_event(spelled, log) == spelled


@pytest.mark.parametrize("customer", [" c1", "NA"])
def test_a_log_that_declares_nothing_is_asked_as_written(customer: str) -> None:
    asked = PageRequest(query="Red ", product_ids=[" 1"], customer_id=customer)
    event = Event(product_id=" 1", action="click", ts_us=1, query="Red ", customer_id=customer)
    assert spell_page(asked, AS_WRITTEN) is asked
    assert spell_event(event, AS_WRITTEN) is event


def test_features_whose_ids_were_spelled_by_older_rules_are_exported_again(tmp_path: Path) -> None:
    facts = {"version": 3, "spelling": Spelling(null_words=("NA",)).model_dump(mode="json")}
    (tmp_path / STORE_FILE).write_text(json.dumps(facts))
    with pytest.raises(UserError, match=rf"version {STORE_VERSION}, but it is of 3; export again$"):
        FeatureStore.open(tmp_path)
