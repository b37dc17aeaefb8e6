"""What requests left out, and what they named in vain."""

from typing import Any

import numpy as np
import pytest

from shelfrank.features.request import PageRequest
from shelfrank.features.request_check import Home, RequestCheck, RequestFeature, read_by

HOMES: dict[str, Home] = {"device": "row", "discount": "row", "brand": "product", "age": "customer", "constant": "row"}
FEATURES = (
    RequestFeature("device", "categorical", "context", "context", "always"),
    RequestFeature("discount", "numerical", "interaction", "candidates", "always"),
    RequestFeature("brand", "categorical", "product", "candidates", "unknown product"),
    RequestFeature("age", "categorical", "customer", "customer", "unknown customer"),
)
CHECK = RequestCheck(FEATURES, HOMES, lambda name, value: value in (None, f"no {name}") or value != value)
WHOLE = [{"discount": 1}, {"discount": 0, "brand": "acme"}]


def asked(**more: Any) -> PageRequest:
    given = {"products": WHOLE, "context": {"device": "phone"}, **more}
    return PageRequest("q", ["known", "new"], ts_us=0, **given)


@pytest.mark.parametrize(
    ("more", "customer", "missing"),
    [
        ({}, -1, {}),
        ({"products": ()}, -1, {"discount": 2, "brand": 1}),
        ({"products": (), "context": {"discount": 1}}, -1, {"device": 2, "brand": 1}),
        ({"products": [{"discount": 1}, {"brand": None}], "context": {}}, -1, {"device": 2, "discount": 1, "brand": 1}),
        ({"products": [{"discount": float("nan"), "brand": None}, WHOLE[1]]}, -1, {"discount": 1, "brand": 1}),
        ({"customer_id": "nobody"}, -1, {"age": 2}),
        ({"customer_id": "nobody", "customer": {"age": "old"}}, -1, {}),
        ({"customer_id": "c1"}, 0, {}),
        ({"customer_id": "c1", "customer": {"age": None}}, 0, {"age": 2}),
        ({"customer": {"device": None}, "context": {}}, -1, {"device": 2}),
        ({"context": {"device": "no device"}}, -1, {"device": 2}),
        ({"customer": {"device": "phone"}, "context": {}}, -1, {}),
    ],
    ids=[
        "whole",
        "no_product_features",
        "with_the_page_for_all",
        "null_of_an_unknown_product",
        "nan_and_a_catalogues_value_set_to_null",
        "unknown_customer",
        "unknown_customer_described",
        "known_customer",
        "known_customers_value_set_to_null",
        "null_with_the_customer",
        "a_word_that_is_read_as_missing",
        "with_the_customer",
    ],
)
def test_missing_features_are_counted_in_candidates(
    more: dict[str, Any], customer: int, missing: dict[str, int]
) -> None:
    assert CHECK.missing(asked(**more), np.array([0, -1]), customer) == missing


@pytest.mark.parametrize(
    ("more", "unknown"),
    [
        ({}, {}),
        ({"context": {"Device": "phone", "device ": 1}}, {"Device": 1, "device ": 1}),
        ({"context": {"brand": "acme", "age": 1, "discount": 1}}, {"brand": 1, "age": 1}),
        ({"customer": {"brand": "acme", "age": 1, "device": "x"}}, {"brand": 1}),
        ({"products": [{"age": 1, "title": "x"}, {"title": "y", "brand": "acme"}]}, {"age": 1, "title": 2}),
        ({"context": {"constant": 1}}, {}),
    ],
    ids=["whole", "spelled_otherwise", "wrong_place", "of_customers", "of_products", "declared_but_left_out"],
)
def test_names_that_nothing_reads_are_counted(more: dict[str, Any], unknown: dict[str, int]) -> None:
    assert CHECK.unknown(asked(**more)) == unknown


def test_an_empty_page_lacks_nothing() -> None:
    assert CHECK.missing(PageRequest("q", [], ts_us=0), np.empty(0, np.int64), -1) == {}


def test_a_ranker_reads_what_its_computed_columns_are_made_of() -> None:
    def names(columns: list[str]) -> list[str]:
        made_of = {"customer_brand_share": frozenset({"brand"}), "query_device_rate": frozenset[str]()}
        return [each.name for each in read_by(FEATURES, columns, made_of)]

    assert names(["device", "product_click_rate"]) == ["device"]
    assert names(["customer_brand_share"]) == ["brand"]
    assert names(["query_device_rate"]) == []
    assert names([]) == []


def test_an_anonymous_visitor_lacks_no_customer_feature_that_the_rows_hold() -> None:
    features = (RequestFeature("tier", "categorical", "customer", "customer", "always"),)
    check = RequestCheck(features, {"tier": "row"}, lambda _name, value: value is None)

    def missing(**more: Any) -> dict[str, int]:
        return check.missing(PageRequest("q", ["a", "b"], ts_us=0, **more), np.array([0, 1]), -1)

    assert missing() == {}
    assert missing(customer_id="c1") == {"tier": 2}
    assert missing(customer={"tier": None}) == {"tier": 2}
    assert missing(products=[{"tier": None}, {"tier": "gold"}]) == {"tier": 1}
    assert missing(customer={"tier": "gold"}) == {}
