"""Bundles from Python."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_steps import Steps

import shelfrank as sr
from shelfrank.api import bundle_versions, rollback
from shelfrank.bundle.golden import load_requests
from shelfrank.bundle.store import BundleStore


def test_a_bundle_ranks_golden_pages_in_their_order(steps: Steps) -> None:
    bundle = sr.Bundle.open(steps.bundle)
    golden = load_requests(BundleStore(bundle.path).open().path)
    assert golden
    for request in golden:
        asked = request.page
        page = bundle.rank(
            query=asked.query,
            candidates=list(asked.product_ids),
            customer=asked.customer_id,
            session=asked.session_id,
            timestamp=asked.ts_us / 1e6,
            context=asked.context,
            customer_features=asked.customer,
        )
        # Each task counts alike.
        scores = np.array(request.expected["fp32"]).mean(axis=1)
        of_product = dict(zip(asked.product_ids, scores.tolist(), strict=True))
        in_order = [of_product[product.id] for product in page.results]
        # Products of one score may change places.
        assert in_order == pytest.approx(sorted(in_order, reverse=True), abs=1e-6)
        assert sorted(of_product) == sorted(product.id for product in page.results)
        np.testing.assert_allclose([product.score for product in page.results], -np.sort(-scores), atol=1e-4)


def test_a_bundle_answers_as_the_service_does(steps: Steps, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from shelfrank.serve.app import create_app
    from shelfrank.serve.journal import Journal
    from shelfrank.serve.service import Service

    body: dict[str, Any] = {
        "query": "sofa",
        "candidates": ["p001", {"id": "p006", "score": 2.0, "features": {"price": 3.0}}, "p011", "unknown", "p004"],
        "context": {"device": "phone"},
        "weight": 0.7,
        "task_weights": {"click": 1, "purchase": 3},
        "top_n": 4,
        "explain": 1,
    }
    customer = {"customer_id": "c03", "session_id": "v1", "timestamp": "2025-06-30T12:00:00Z"}
    service = Service(BundleStore(steps.bundle.path), Journal(tmp_path), deadline_s=30.0)
    with TestClient(create_app(service)) as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        expected = client.post("/v1/rank", json={**body, **customer}).json()
    service.close()
    found = steps.bundle.rank(
        **body, customer="c03", session="v1", timestamp=pd.Timestamp("2025-06-30T12:00:00Z")
    ).model_dump()
    for page in (found, expected):
        page.pop("took_ms")
    assert found["unknown_ids"] == ["unknown"]
    assert {name: found[name] for name in expected if name != "results"} == {
        name: expected[name] for name in expected if name != "results"
    }
    for own, theirs in zip(found["results"], expected["results"], strict=True):
        assert {name: own[name] for name in theirs} == theirs


@pytest.mark.parametrize("candidates", ["p001", {"id": "p001"}, pd.DataFrame({"id": ["p001"]})])
def test_what_is_no_list_of_products_is_refused(steps: Steps, candidates: Any) -> None:
    with pytest.raises(sr.UserError, match="candidates must be a list"):
        steps.bundle.rank(query="sofa", candidates=candidates)


def test_ids_of_arrays_are_candidates(steps: Steps) -> None:
    ids = pd.Series(["p001", "p002"])
    assert {each.id for each in steps.bundle.rank(query="sofa", candidates=ids.to_numpy()).results} == set(ids)
    assert steps.bundle.rank(query="sofa", candidates=np.arange(3)).unknown_ids == ["0", "1", "2"]
    assert steps.bundle.rank(query="sofa", candidates=[]).results == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weight": 2.0}, "rank: weight: "),
        ({"candidates": [None]}, "rank: candidates"),
        ({"task_weights": {"clicks": 1.0}}, "rank: task_weights.clicks"),
        ({"task_weights": {"click": 0.0}}, "weights must be 0 or more with at least one above 0"),
        ({"timestamp": "yesterday"}, "rank: timestamp: a time must be a date and time"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(wrong: dict[str, Any], said: str, steps: Steps) -> None:
    with pytest.raises(sr.UserError, match=said):
        steps.bundle.rank(**{"query": "sofa", "candidates": ["p001"], **wrong})


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match="must hold a complete bundle"):
        sr.Bundle.open(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": None},
        {"query": float("nan")},
        {"context": "phone"},
        {"context": ["phone"]},
        {"context": {"device": {"kind": "phone"}}},
        {"customer_features": 3},
        {"customer": ["c03"]},
        {"customer": True},
        {"timestamp": dt.date(2025, 1, 1)},
        {"weight": "1"},
        {"weight": float("nan")},
        {"task_weights": [1, 2, 3]},
        {"top_n": 1.5},
        {"top_n": 0},
        {"explain": "yes"},
        {"candidates": None},
        {"candidates": 3},
        {"candidates": [float("nan")]},
        {"candidates": [("p001", 2.0)]},
        {"candidates": [{"product_id": "p001"}]},
        {"candidates": [{"id": "p001", "features": "cheap"}]},
        {"candidates": range(1001)},
    ],
    ids=str,
)
def test_a_wrong_page_is_one_sentence(wrong: dict[str, Any], steps: Steps) -> None:
    with pytest.raises(sr.UserError, match=rf"Bundle\.rank: {next(iter(wrong))}") as error:
        steps.bundle.rank(**{"query": "sofa", "candidates": ["p001"], **wrong})
    assert "\n" not in str(error.value)
    assert "function-before" not in str(error.value)


@pytest.mark.parametrize("missing", [float("nan"), np.nan, pd.NA, pd.NaT, None], ids=repr)
def test_the_missing_values_of_pandas_are_an_anonymous_visitor(missing: Any, steps: Steps) -> None:
    asked: dict[str, Any] = {"query": "sofa", "candidates": ["p001", "p006"], "timestamp": 1.75e9}
    page = steps.bundle.rank(**asked, customer=missing, session=missing, context={"device": missing})
    plain = steps.bundle.rank(**asked, context={"device": None})
    assert page.unknown["customer"] == 0
    assert [each.score for each in page.results] == [each.score for each in plain.results]
    assert steps.bundle.rank(**asked, customer="nobody").unknown["customer"] == 1


def test_numbers_of_numpy_are_taken(steps: Steps) -> None:
    candidates = [{"id": np.int64(3), "score": np.float32(2), "features": {"price": np.float64(3)}}, np.str_("p001")]
    page = steps.bundle.rank(query="sofa", candidates=candidates, top_n=np.int64(1), customer=np.int64(7))
    assert (page.unknown_ids, len(page.results)) == (["3"], 1)


def test_a_bundle_says_what_it_is(steps: Steps) -> None:
    opened = sr.Bundle.open(steps.bundle)
    assert (opened.version, opened.folder) == (steps.bundle.version, steps.bundle.folder)
    assert opened.info["label"] == "LambdaMART"
    assert (
        opened.n_bytes
        == sum(file.stat().st_size for file in opened.folder.rglob("*") if file.is_file())
        - (opened.folder / "manifest.json").stat().st_size
    )


def test_versions_are_listed_and_rolled_back(steps: Steps, tmp_path: Path) -> None:
    first, second = (
        sr.export(steps.runs[name], out=tmp_path / "bundle", int8=False, replayed=0, compared=0)
        for name in ("shown_order", "lambdamart")
    )
    assert [(each.version, each.current) for each in bundle_versions(first)] == [
        (first.version, False),
        (second.version, True),
    ]
    assert rollback(second) == first.version
    assert [each.current for each in bundle_versions(second)] == [True, False]
    with pytest.raises(sr.UserError, match="a rollback must be to a version"):
        rollback(second, to="latest")
