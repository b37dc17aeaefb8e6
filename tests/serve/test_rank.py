"""Pages come back in the model's order, the engine's, or one in between."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import PATIENCE_S, body_of, golden_page, ready_client, wait_until
from starlette.testclient import TestClient

from shelfrank.bundle.loaded import Bundle, ScoredPage
from shelfrank.bundle.scorers import OnnxScorer, Rows
from shelfrank.bundle.store import BundleStore
from shelfrank.features.request import PageRequest
from shelfrank.serve.admission import ARRIVED_S
from shelfrank.serve.journal import Journal
from shelfrank.serve.metrics import MAX_NAMES, OTHER
from shelfrank.serve.ranking import RankOptions, RankResult, blend, engine_ranks, explained_in_time
from shelfrank.serve.service import OverloadError, Service

JSON = {"content-type": "application/json"}


def ids(answer: dict) -> list[str]:
    return [result["id"] for result in answer["results"]]


def rank(client: TestClient, body: dict) -> dict:
    response = client.post("/v1/rank", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_page_is_sorted_by_the_bundles_fused_scores(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    bundle = Bundle.open(BundleStore(bundle_path).open().path)
    scores = bundle.score(asked).scores.astype(float)
    weights = np.array([bundle.spec.task_weights[task] for task in bundle.spec.tasks])
    answer = rank(client, body_of(asked))
    assert ids(answer) == [asked.product_ids[i] for i in np.argsort(-(scores @ weights), kind="stable")]
    assert not answer["degraded"]
    assert answer["bundle"] == bundle.name
    for place, result in enumerate(answer["results"], start=1):
        index = list(asked.product_ids).index(result["id"])
        assert (result["index"], result["rank"], result["engine_rank"]) == (index, place, index + 1)
        np.testing.assert_allclose(list(result["tasks"].values()), scores[index], atol=1e-6)
        np.testing.assert_allclose(result["score"], scores[index] @ weights, atol=1e-6)


def test_task_weights_of_a_request_replace_the_bundles(client: TestClient, bundle_path: Path) -> None:
    body = body_of(golden_page(bundle_path))
    for task in ("click", "purchase"):
        answer = rank(client, {**body, "task_weights": {task: 2}})
        of_task = [result["tasks"][task] for result in answer["results"]]
        assert of_task == sorted(of_task, reverse=True)
        np.testing.assert_allclose([result["score"] for result in answer["results"]], of_task, atol=1e-6)
    response = client.post("/v1/rank", json={**body, "task_weights": {"click": 0}})
    assert response.status_code == 422
    assert "weights must be 0 or more with at least one above 0" in response.json()["detail"]


def test_weight_blends_with_the_engines_order(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    scores = [float(i % 4) for i in range(len(asked.product_ids))]
    candidates = [{"id": i, "score": score} for i, score in zip(asked.product_ids, scores, strict=True)]
    body = body_of(asked, candidates=candidates)
    engine = [asked.product_ids[i] for i in np.argsort(-np.array(scores), kind="stable")]
    model = ids(rank(client, body))
    assert ids(rank(client, {**body, "weight": 0})) == engine
    assert model != engine
    between = rank(client, {**body, "weight": 0.5})
    places = {product: (engine.index(product) + model.index(product)) for product in engine}
    assert [places[product] for product in ids(between)] == sorted(places.values())


@pytest.mark.parametrize(
    ("scores", "ranks"),
    [
        ([], []),
        ([None, None], [1, 2]),
        ([1.0, 3.0, None, 3.0], [3, 1, 4, 2]),
        ([-5.0, 0.0], [2, 1]),
    ],
)
def test_engine_ranks(scores: list[float | None], ranks: list[int]) -> None:
    assert engine_ranks(scores).tolist() == ranks


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
def test_equal_scores_keep_the_engines_order(weight: float) -> None:
    order, values = blend(np.full(3, 0.5), np.array([3, 1, 2]), weight)
    assert order.tolist() == [1, 2, 0]
    if weight == 1:
        assert values.tolist() == [0.5, 0.5, 0.5]


def test_where_both_orders_balance_the_engines_stands() -> None:
    # The model puts candidate 1 four places before candidate 0, the engine one place after it: 4 x 0.2 = 1 x 0.8.
    model = np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5])
    for n in range(6, 40):
        scores, engine = np.concatenate([model, np.zeros(n - 6)]), np.arange(1, n + 1)
        scores[0], scores[5] = 0.55, 0.1
        order, _ = blend(scores, engine, 0.2)
        assert order.tolist().index(0) < order.tolist().index(1)


@pytest.mark.parametrize("n", [2, 6, 17, 70, 1000])
def test_products_that_the_bundle_cannot_tell_apart_keep_the_engines_order(client: TestClient, n: int) -> None:
    scores = np.random.default_rng(n).permutation(n).astype(float).tolist()
    candidates = [{"id": f"new {i}", "score": score} for i, score in enumerate(scores)]
    for query in ("sofa", "never seen", ""):
        answer = rank(client, {"query": query, "candidates": candidates})
        assert len({result["score"] for result in answer["results"]}) == 1
        assert [result["engine_rank"] for result in answer["results"]] == list(range(1, n + 1))
    assert answer["unknown_ids"] == [candidate["id"] for candidate in candidates]


def test_known_products_stand_among_unknown_ones_by_their_scores(client: TestClient, bundle_path: Path) -> None:
    known = list(golden_page(bundle_path).product_ids)
    candidates = [each for i, product in enumerate(known) for each in (f"new {i}", product)]
    results = rank(client, {"query": "sofa", "candidates": candidates})["results"]
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 2
    unknown = [result for result in results if result["id"].startswith("new")]
    assert len({result["score"] for result in unknown}) == 1
    assert [result["id"] for result in unknown] == [f"new {i}" for i in range(len(known))]


def test_missing_and_unknown_features_are_counted(own_client: TestClient, bundle_path: Path) -> None:
    known = golden_page(bundle_path).product_ids[0]
    body = {
        "query": "sofa",
        "customer_id": "nobody",
        "context": {"Device": "phone", "brand": "acme"},
        "customer": {"agegroup": "old"},
        "candidates": [
            {"id": "new 1", "features": {"price": 3.0, "Price": 3.0}},
            {"id": known, "features": {"price": None}},
            {"id": known, "features": {"price": 5.0, "age_band": "old"}},
            "new 2",
            "new 2",
        ],
    }
    answer = rank(own_client, body)
    assert answer["missing_features"] == {"device": 5, "brand": 3, "price": 3, "age_band": 5}
    assert answer["unknown_features"] == {"Device": 1, "brand": 1, "agegroup": 1, "Price": 1, "age_band": 1}
    assert answer["unknown_ids"] == ["new 1", "new 2"]
    counted = own_client.get("/metrics").text
    assert 'shelfrank_missing_features_total{feature="price"} 3.0' in counted
    assert 'shelfrank_unknown_features_total{feature="Device"} 1.0' in counted
    whole = rank(own_client, {"query": "sofa", "context": {"device": "phone"}, "candidates": [known]})
    assert (whole["missing_features"], whole["unknown_features"], whole["unknown_ids"]) == ({}, {}, [])


def test_names_without_end_do_not_fill_the_metrics(own_client: TestClient) -> None:
    for start in range(0, 240, 80):
        context = {f"name {i}": 1 for i in range(start, start + 80)}
        assert rank(own_client, {"query": "sofa", "context": context, "candidates": ["p001"]})["unknown_features"]
    counted = own_client.get("/metrics").text
    assert counted.count("shelfrank_unknown_features_total{") == MAX_NAMES + 1
    assert f'shelfrank_unknown_features_total{{feature="{OTHER}"}} {240 - MAX_NAMES}.0' in counted


def test_the_bundle_lists_what_a_request_must_bring(client: TestClient) -> None:
    about = client.get("/v1/bundle").json()
    needed = {each["name"]: (each["place"], each["needed"]) for each in about["request_features"]}
    assert needed == {
        "device": ("context", "always"),
        "brand": ("candidates", "unknown product"),
        "price": ("candidates", "unknown product"),
        "age_band": ("customer", "unknown customer"),
    }
    assert about["tasks"] == ["click", "add_to_cart", "purchase"]


def test_whatever_is_unknown_is_cold(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    body = body_of(
        asked,
        query="☃ never seen",
        customer_id="nobody",
        context={"device": "fridge", "no_such_feature": 1},
        candidates=["nothing", {"id": asked.product_ids[0], "features": {"brand": "no such brand"}}, "nothing else"],
    )
    answer = rank(client, body)
    assert len(answer["results"]) == 3
    assert answer["unknown"].items() >= {"products": 2, "customer": 1, "query": 1}.items()
    assert answer["unknown"]["categories"] >= 2
    assert all(0 < result["score"] < 1 for result in answer["results"])


def test_features_of_a_request_count(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    product = asked.product_ids[0]
    before, after = (
        rank(client, body_of(asked, candidates=[{"id": product, "features": features}]))
        for features in ({}, {"price": 9999.0})
    )
    assert before["results"][0]["score"] != after["results"][0]["score"]
    young, old = (rank(client, body_of(asked, customer={"age_band": band})) for band in ("young", "old"))
    assert [r["tasks"] for r in young["results"]] != [r["tasks"] for r in old["results"]]
    response = client.post("/v1/rank", json=body_of(asked, candidates=[{"id": product, "features": {"price": "dear"}}]))
    assert response.status_code == 422
    assert "the feature 'price' must be a number" in response.json()["detail"]


def test_a_page_may_be_empty_or_cut(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    assert rank(client, body_of(asked, candidates=[]))["results"] == []
    assert client.post("/v1/rank", json=body_of(asked, candidates=[], task_weights={"click": 0})).status_code == 422
    whole = ids(rank(client, body_of(asked)))
    assert ids(rank(client, body_of(asked, top_n=2))) == whole[:2]
    twice = rank(client, body_of(asked, candidates=[*asked.product_ids, *asked.product_ids]))
    assert sorted(result["index"] for result in twice["results"]) == list(range(2 * len(asked.product_ids)))


def test_explanations_say_what_each_feature_and_side_did(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    answer = rank(client, body_of(asked, explain=2))
    explained = [result["explanation"] for result in answer["results"] if "explanation" in result]
    assert len(explained) == 2
    for explanation in explained:
        assert explanation["method"] == "occlusion"
        strengths = [abs(reason["fused"]) for reason in explanation["features"]]
        assert strengths == sorted(strengths, reverse=True)
        assert strengths[0] > 0
        assert {"customer", "product", "interaction"} <= {reason["feature"] for reason in explanation["sides"]}


@pytest.mark.parametrize(
    ("due_s", "longest_s", "n_explained"),
    [(100.0, 1.0, 4), (11.0, 1.0, 4), (10.9, 1.0, 3), (8.0, 0.0, 2), (2.0, 1.0, 1), (1.9, 1.0, 0), (-1.0, 0.0, 0)],
    ids=str,
)
def test_reasons_end_when_there_is_no_time_for_twice_the_longest(
    due_s: float, longest_s: float, n_explained: int
) -> None:
    now_s, takes_s = [0.0], [1.0, 3.0, 1.0, 1.0]

    def explain(row: np.ndarray) -> list[dict]:
        now_s[0] += takes_s[int(row[0]) - 10]
        return [{"row": int(row[0])}]

    found = explained_in_time(explain, np.arange(10, 14), due_s, longest_s, lambda: now_s[0])
    assert found == [{"row": row} for row in range(10, 10 + n_explained)]


def test_a_page_is_not_lost_to_its_reasons(
    make_service: Callable[..., Service], bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = golden_page(bundle_path)

    def slowly(bundle: Bundle, rows: object, chosen: np.ndarray, weights: object) -> list[dict]:
        time.sleep(1.2 * len(chosen))
        return [{"method": "occlusion", "features": [], "sides": [], "gates": None} for _ in chosen]

    monkeypatch.setattr("shelfrank.serve.ranking.explanations", slowly)
    with ready_client(make_service(deadline_s=3.0)) as client:
        answer = rank(client, body_of(asked, explain=6))
    assert not answer["degraded"]
    assert ["explanation" in result for result in answer["results"][:3]] == [True, False, False]


def test_what_a_customer_does_changes_their_next_page(own_client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    body = {**body_of(asked), "customer_id": "c03", "session_id": "new", "timestamp": "2025-02-01T12:00:00Z"}
    before = rank(own_client, body)
    event = {
        "action_name": "click",
        "timestamp": "2025-02-01T11:59:00Z",
        "user_id": "c03",
        "session_id": "new",
        "user_query": asked.query,
        "event_attributes": {"object": {"object_id": asked.product_ids[2]}, "position": {"ordinal": 3}},
    }
    response = own_client.post("/v1/events", json={"events": [event, {**event, "action_name": "impression"}]})
    assert (response.status_code, response.json()) == (202, {"accepted": 2, "passed_over": {}})
    after = rank(own_client, body)
    scores = [{r["id"]: r["tasks"] for r in answer["results"]} for answer in (before, after)]
    assert scores[0][asked.product_ids[2]] != scores[1][asked.product_ids[2]]
    earlier = {**body, "timestamp": "2025-02-01T11:58:00Z"}
    assert scores[0].keys() == {r["id"] for r in rank(own_client, earlier)["results"]}


def test_events_that_change_nothing_are_counted_by_reason(own_client: TestClient, bundle_path: Path) -> None:
    product = golden_page(bundle_path).product_ids[0]

    def event(product: str, action: str, timestamp: str, query: str | None = "sofa") -> dict:
        about = {"object": {"object_id": product}}
        when = {"timestamp": timestamp, "user_id": "c03"}
        return {"action_name": action, "user_query": query, "event_attributes": about, **when}

    after, before = "2025-02-01T12:00:00Z", "2024-02-01T12:00:00Z"
    told = [
        event(product, "click", after),
        event(product, "view", after, query=None),
        event("no such product", "click", after),
        event(product, "click", before),
        event(product, "admire", after),
        event(product, "admire", after),
    ]
    expected = {"unknown product": 1, "before the log's end": 1, "unknown action": 2}
    assert own_client.post("/v1/events", json={"events": told}).json() == {"accepted": 6, "passed_over": expected}
    counts = own_client.get("/metrics").text
    assert 'shelfrank_events_passed_over_total{reason="unknown action"} 2.0' in counts


def test_events_that_cannot_be_written_are_not_accepted(
    own_client: TestClient, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Journal, "append", full)
    about = {"object": {"object_id": golden_page(bundle_path).product_ids[0]}}
    click = {"action_name": "click", "user_query": "red sofa", "event_attributes": about}
    answer = own_client.post("/v1/events", json={"events": [click]})
    assert answer.status_code == 503
    assert "No space left on device; none of these 1 was accepted" in answer.json()["detail"]
    assert "shelfrank_events_total 0.0" in own_client.get("/metrics").text


def test_past_the_deadline_the_engines_own_order_comes_back(
    make_service: Callable[..., Service], bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = golden_page(bundle_path)
    n = len(asked.product_ids)
    candidates = [{"id": i, "score": float(n - k) if k else 0.0} for k, i in enumerate(asked.product_ids)]
    engine = [*asked.product_ids[1:], asked.product_ids[0]]
    with ready_client(make_service(deadline_s=0.2, overload="engine_order")) as client:
        assert rank(client, body_of(asked)) is not None
        score = Bundle.score
        monkeypatch.setattr(Bundle, "score", lambda self, asked: (time.sleep(0.6), score(self, asked))[1])
        answer = rank(client, body_of(asked, candidates=candidates))
        assert (answer["degraded"], answer["reason"]) == (True, "deadline")
        assert ids(answer) == engine
        assert {result["score"] for result in answer["results"]} == {None}
        reranked = client.post("/v1/rerank", json={"query": "x", "documents": ["b", "a", "c"]}).json()
        assert [result["index"] for result in reranked["results"]] == [0, 1, 2]
        # The page before it is still in work, so this one is not begun.
        assert (reranked["meta"]["degraded"], reranked["meta"]["reason"]) == (True, "overload")
        assert client.get("/livez").text == "ok\n"
        counts = client.get("/metrics").text
        assert all(f'shelfrank_degraded_total{{reason="{each}"}} 1.0' in counts for each in ("deadline", "overload"))
        monkeypatch.setattr(Bundle, "score", score)
        wait_until(lambda: not rank(client, body_of(asked))["degraded"])


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Pages for the query `block` are in work, which the first event says, until the second is set."""
    begun, go_on = threading.Event(), threading.Event()
    score = Bundle.score

    def wait(self: Bundle, asked: PageRequest) -> ScoredPage:
        if asked.query == "block":
            begun.set()
            assert go_on.wait(PATIENCE_S)
        return score(self, asked)

    monkeypatch.setattr(Bundle, "score", wait)
    yield begun, go_on
    go_on.set()


def test_a_page_that_cannot_be_ranked_in_time_is_refused_at_once(
    make_service: Callable[..., Service],
    bundle_path: Path,
    blocked: tuple[threading.Event, threading.Event],
) -> None:
    begun, go_on = blocked
    asked = golden_page(bundle_path)
    # A deadline that nobody waits for: what is refused is refused by what is ahead of it.
    with ready_client(make_service(deadline_s=3600.0)) as client, ThreadPoolExecutor(1) as pool:
        assert not rank(client, body_of(asked))["degraded"]
        page_times = client.app.state.service._scoring._lanes.page_times  # pyright: ignore
        for _ in range(100):
            page_times.observe(len(asked.product_ids), 3000.0)
        first = pool.submit(rank, client, body_of(asked, query="block"))
        assert begun.wait(PATIENCE_S)
        for path, body in (("/v1/rank", body_of(asked)), ("/v1/rerank", {"query": "x", "documents": ["a"]})):
            refused = client.post(path, json=body)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "more requests than it can answer" in refused.json()["detail"]
            # The head alone decides, so the body is not read.
            assert client.post(path, content=b"{", headers=JSON).status_code == 503
        counts = client.get("/metrics").text
        assert 'shelfrank_rejected_total{reason="overload"} 4.0' in counts
        assert "shelfrank_in_flight 2.0" in counts
        assert client.get("/livez").status_code == 200
        go_on.set()
        assert not first.result(PATIENCE_S)["degraded"]


def test_many_refused_pages_make_a_service_unready(own_client: TestClient, bundle_path: Path) -> None:
    service: Service = own_client.app.state.service  # pyright: ignore
    assert own_client.get("/readyz").text == "ok\n"
    for _ in range(20):
        assert service.refuses_page(arrived_s=time.monotonic() - 3600)
    assert (own_client.get("/readyz").status_code, own_client.get("/readyz").text) == (503, "saturated\n")
    assert "shelfrank_saturated 1.0" in own_client.get("/metrics").text
    # Who calls it nevertheless is answered.
    assert not rank(own_client, body_of(golden_page(bundle_path)))["degraded"]


def test_a_page_whose_deadline_has_passed_is_not_begun(make_service: Callable[..., Service], bundle_path: Path) -> None:
    page = golden_page(bundle_path)

    async def ask(service: Service) -> RankResult:
        ARRIVED_S.set(time.monotonic() - 3600)
        return await service.rank(page, RankOptions())

    with pytest.raises(OverloadError, match="send this one again"):
        asyncio.run(ask(make_service()))
    late = asyncio.run(ask(make_service(overload="engine_order")))
    assert (late.reason, late.order) == ("overload", list(range(len(page.product_ids))))


def test_explanations_end_when_another_page_waits() -> None:
    waits = iter([False, False, True])
    found = explained_in_time(
        lambda row: [{"row": int(row[0])}], np.arange(4), 1e9, 0.0, lambda: 0.0, lambda: not next(waits)
    )
    assert found == [{"row": 0}, {"row": 1}]


def test_an_error_of_the_model_is_no_error_of_the_page(
    own_client: TestClient, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Bundle, asked: PageRequest) -> None:
        raise RuntimeError("the graph is broken")

    monkeypatch.setattr(Bundle, "score", fail)
    asked = golden_page(bundle_path)
    answer = rank(own_client, body_of(asked))
    assert (answer["degraded"], answer["reason"]) == (True, "model_error")
    assert ids(answer) == list(asked.product_ids)
    assert 'shelfrank_degraded_total{reason="model_error"} 1.0' in own_client.get("/metrics").text
    assert "the graph is broken" in caplog.text


def test_before_a_bundle_is_loaded_pages_keep_the_engines_order(
    make_service: Callable[..., Service], bundle_path: Path, tmp_path: Path
) -> None:
    from shelfrank.serve.app import create_app

    service = make_service(BundleStore(tmp_path / "nothing"), load=False)
    asked = golden_page(bundle_path)
    with TestClient(create_app(service, poll_s=0.05)) as client:
        assert client.get("/livez").status_code == 200
        assert (client.get("/readyz").status_code, client.get("/readyz").text) == (503, "loading\n")
        assert client.get("/v1/bundle").status_code == 503
        answer = rank(client, body_of(asked))
        assert (answer["reason"], answer["bundle"]) == ("not_loaded", None)
        assert ids(answer) == list(asked.product_ids)


def test_draining_turns_requests_away_but_answers_them(own_client: TestClient, bundle_path: Path) -> None:
    own_client.app.state.service.draining = True  # pyright: ignore
    assert (own_client.get("/readyz").status_code, own_client.get("/readyz").text) == (503, "draining\n")
    assert not rank(own_client, body_of(golden_page(bundle_path)))["degraded"]


@pytest.mark.parametrize("number", [2**64, -(2**64), 1e300])
def test_a_number_beyond_64_bits_is_no_id(client: TestClient, number: float) -> None:
    assert client.post("/v1/rank", json={"query": "sofa", "candidates": [number]}).status_code == 422
    assert client.post("/v1/rank", json={"query": "sofa", "candidates": [2**63 - 1]}).status_code == 200


def test_an_outlier_is_ranked_within_what_training_saw_and_counted(own_client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)

    def ranked(given: float) -> list[tuple[str, float]]:
        body = body_of(asked)
        body["candidates"][0] = {"id": asked.product_ids[0], "features": {"price": given}}
        answer = rank(own_client, body)
        assert not answer["degraded"]
        return [(result["id"], result["score"]) for result in answer["results"]]

    def count() -> float:
        lines = own_client.get("/metrics").text.splitlines()
        name = 'shelfrank_clipped_features_total{feature="price"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    largest_price = 5.0 + 3 * 39
    ranked(largest_price)
    assert count() == 0
    assert ranked(1e9) == ranked(1e15) == ranked(9e19)
    assert count() == 3


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_a_row_without_a_finite_score_goes_last_alone(
    weight: float, own_client: TestClient, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = golden_page(bundle_path)
    body = body_of(asked, weight=weight, explain=10)
    whole = ids(rank(own_client, body))
    odd = [asked.product_ids.index(whole[0]), asked.product_ids.index(whole[2])]
    score = OnnxScorer.score

    def spoiled(values: float) -> None:
        def spoil(self: OnnxScorer, rows: Rows) -> np.ndarray:
            scores = np.array(score(self, rows))
            if len(rows) == len(asked.product_ids):
                scores[odd[0], 0], scores[odd[1]] = np.nan, values
            return scores

        monkeypatch.setattr(OnnxScorer, "score", spoil)

    spoiled(np.inf)
    answer = rank(own_client, body)
    assert not answer["degraded"]
    found = ids(answer)
    assert set(found[-2:]) == {whole[0], whole[2]}
    assert found[:-2] == [each for each in whole if each not in (whole[0], whole[2])] or weight < 1
    scores = [result["score"] for result in answer["results"]]
    assert scores[-1] == scores[-2] == min(scores)
    assert all(0 <= value <= 1 for result in answer["results"] for value in result["tasks"].values())
    explained = sum("explanation" in result for result in answer["results"])
    assert explained == min(10, len(found) - 2)
    assert "shelfrank_not_finite_total 2.0" in own_client.get("/metrics").text
    odd[:] = [slice(None)] * 2
    spoiled(np.nan)
    answer = rank(own_client, body)
    assert (answer["degraded"], answer["reason"]) == (True, "model_error")
