"""The routes of the page: two orders of the same products, actions, explanations."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from serving import HOSTILE_QUERY, PATIENCE_S, body_of, golden_page, ready_client, wait_until
from starlette.testclient import TestClient

from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.shop import LATEST, MIN_CLICKS
from shelfrank.bundle.store import BundleStore
from shelfrank.features.request import PageRequest
from shelfrank.metrics import personalization_degree
from shelfrank.serve.ranking import RankOptions
from shelfrank.serve.scoring import MAX_CALLS_WAITING, Lane
from shelfrank.serve.service import Service
from shelfrank.serve.shop import Shop, kept_shift_us

QUERY = "sofa"
DAY_US = 86_400 * 1_000_000
HEAD_START_US = 2_000_000
"""How long a page's clock has run when something is clicked: longer than one that began at its process's load has."""


@pytest.fixture
def page(shop_client: TestClient) -> TestClient:
    return shop_client


@pytest.fixture
def own_page(make_service: Callable[..., Service], shop_bundle: Path) -> Iterator[TestClient]:
    with ready_client(make_service(BundleStore(shop_bundle), has_page=True)) as client:
        yield client


def search(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/shop/search", json={"query": QUERY, **body})
    assert response.status_code == 200, response.text
    return response.json()


def impressions(shop_bundle: Path) -> list[dict[str, Any]]:
    return ds.dataset(shop_bundle.parent / "log" / "impressions").to_table().to_pylist()


def test_the_orders_are_the_bundles_own(page: TestClient, shop_bundle: Path) -> None:
    found = search(page, customer_id="c03", top_n=40)
    bundle = Bundle.open(BundleStore(shop_bundle).open().path)
    ids = sorted(found["products"], key=lambda product: found["products"][product]["engine_rank"])
    assert len(ids) == found["candidates"] > 10
    asked = PageRequest(QUERY, ids, customer_id="c03", ts_us=found["now_us"])
    own = bundle.score(asked)
    neutral = bundle.score_neutrally(asked, own, "zero")
    weights = np.array([found["task_weights"][task] for task in bundle.spec.tasks])
    for name, scored in (("personalized", own), ("neutral", neutral)):
        fused = scored.scores.astype(float) @ weights
        assert found[name] == [ids[i] for i in np.argsort(-fused.astype(np.float32), kind="stable")]
        for row, product in enumerate(ids):
            told = found["products"][product][name]
            np.testing.assert_allclose(list(told["tasks"].values()), scored.scores[row], atol=1e-6)
            np.testing.assert_allclose(told["score"], fused[row], atol=1e-6)
            assert found[name][told["rank"] - 1] == product
    fused, neutrally = (each.scores.astype(float) @ weights for each in (own, neutral))
    (degree,) = personalization_degree(fused, neutrally, np.array([0, len(ids)]), own.page.tie_keys, 10)
    assert found["personalization_degree"] == degree


def test_the_neutral_order_is_everybodys(page: TestClient) -> None:
    found = [search(page, customer_id=f"c{i:02d}") for i in range(12)]
    assert len({tuple(each["neutral"]) for each in found}) == 1
    assert len({tuple(each["personalized"]) for each in found}) > 1


def test_task_weights_decide_the_order(page: TestClient) -> None:
    for task in ("click", "purchase"):
        found = search(page, customer_id="c03", task_weights={task: 0.5})
        values = [found["products"][product]["personalized"]["tasks"][task] for product in found["personalized"]]
        assert values == sorted(values, reverse=True)
        assert found["task_weights"][task] == 1
    refused = page.post("/v1/shop/search", json={"query": QUERY, "task_weights": {"click": 0}})
    assert (refused.status_code, "above 0" in refused.json()["detail"]) == (422, True)


def test_short_pages_have_no_degree_and_nothing_found_is_no_error(page: TestClient) -> None:
    for query in ("", "  ", "zzzzzz", "☃"):
        found = search(page, query=query)
        assert (found["candidates"], found["personalized"], found["personalization_degree"]) == (0, [], None)
    few = search(page, query="reversed")
    assert 0 < few["candidates"] <= 10
    assert few["personalization_degree"] is None


def test_unknown_customers_are_marked(page: TestClient) -> None:
    assert search(page, customer_id="nobody")["unknown_customer"]
    assert not search(page, customer_id="c03")["unknown_customer"]


def test_explanations_start_with_the_strongest_feature(page: TestClient) -> None:
    found = search(page, customer_id="c03")
    product = found["personalized"][0]
    body = {"query": QUERY, "customer_id": "c03", "product_id": product}
    told = page.post("/v1/shop/explain", json=body).json()
    assert told["method"] == "occlusion"
    strengths = [abs(reason["fused"]) for reason in told["features"]]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] > 0
    assert {"customer", "product", "query", "context"} <= {reason["side"] for reason in told["sides"]}
    weights = found["task_weights"]
    for reason in told["features"]:
        np.testing.assert_allclose(
            reason["fused"], sum(weights[task] * each for task, each in reason["logits"].items())
        )
    assert set(told["gates"]) == set(weights)
    for gates in told["gates"].values():
        np.testing.assert_allclose(sum(gates), 1, atol=1e-5)
    refused = page.post("/v1/shop/explain", json={**body, "product_id": "<b>"})
    assert refused.status_code == 404
    assert "one of the query's 40 candidates" in refused.json()["detail"]


def test_actions_change_the_next_page(own_page: TestClient) -> None:
    before = search(own_page, customer_id="c03", session_id="now")
    product = before["personalized"][4]
    body = {"query": QUERY, "product_id": product, "customer_id": "c03", "session_id": "now", "position": 5}
    answer = own_page.post("/v1/shop/actions", json={**body, "action": "purchase"})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 4, "passed_over": {}})
    after = search(own_page, customer_id="c03", session_id="now")
    tasks = [each["products"][product]["personalized"]["tasks"] for each in (before, after)]
    assert tasks[0] != tasks[1]
    assert own_page.post("/v1/shop/actions", json={**body, "action": "steal"}).status_code == 422


def test_an_old_log_is_shown_as_of_its_end(page: TestClient, shop_bundle: Path) -> None:
    about = page.get("/v1/shop").json()
    last = max(row["timestamp"] for row in impressions(shop_bundle))
    assert about["is_shifted"]
    assert 0 < about["now_us"] / 1e6 - last.timestamp() < 3600
    assert search(page)["now_us"] > about["now_us"]


def test_a_clock_is_decided_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now_us, old_us, fresh_us = 10**15, 10**15 - 30 * DAY_US, 10**15 - DAY_US
    shift_us = kept_shift_us(tmp_path, old_us, now_us)
    assert now_us - shift_us == old_us + 1_000_000
    assert kept_shift_us(tmp_path, old_us, now_us + DAY_US) == shift_us
    assert kept_shift_us(tmp_path, fresh_us, now_us) == kept_shift_us(tmp_path, fresh_us, now_us + 9 * DAY_US) == 0
    another_us = kept_shift_us(tmp_path, old_us + 1, now_us)
    assert another_us == shift_us - 1
    (tmp_path / f"clock-{old_us}").write_text("torn", encoding="ascii")
    for _ in range(2):
        assert kept_shift_us(tmp_path, old_us, now_us + DAY_US) == shift_us + DAY_US
    assert not caplog.text
    assert kept_shift_us(tmp_path / "missing", old_us, now_us) == shift_us
    assert "the page's clock is not shared" in caplog.text


def test_who_comes_later_sees_what_was_clicked(make_service: Callable[..., Service], shop_bundle: Path) -> None:
    first, later = (make_service(BundleStore(shop_bundle), load=False, has_page=True) for _ in range(2))
    with ready_client(first) as client:
        before = search(client, customer_id="c03")
        body = {"query": QUERY, "product_id": before["personalized"][4], "customer_id": "c03", "action": "purchase"}
        wait_until(lambda: client.get("/v1/shop").json()["now_us"] > before["now_us"] + HEAD_START_US)
        assert client.post("/v1/shop/actions", json=body).status_code == 202
        clicked_us = client.get("/v1/shop").json()["now_us"]
        asyncio.run(later.start())
        found = asyncio.run(later.with_shop(lambda shop: shop.search(PageRequest(QUERY, [], "c03"), RankOptions())))
    assert found["now_us"] > clicked_us


def test_shoppers_have_their_history(page: TestClient, shop_bundle: Path) -> None:
    rows = impressions(shop_bundle)
    shoppers = page.get("/v1/shop").json()["shoppers"]
    clicks = Counter(row["customer_id"] for row in rows if row["click"] and row["customer_id"])
    expected = sorted((each for each in clicks if clicks[each] >= MIN_CLICKS), key=lambda each: (-clicks[each], each))
    assert [shopper["id"] for shopper in shoppers] == expected
    for shopper in shoppers:
        own = [row for row in rows if row["customer_id"] == shopper["id"]]
        assert shopper["searches"] == len({row["search_id"] for row in own})
        for task in ("click", "add_to_cart", "purchase"):
            assert shopper[task] == sum(row[task] for row in own)
        assert (shopper["first"], shopper["last"]) == (
            min(row["timestamp"] for row in own).date().isoformat(),
            max(row["timestamp"] for row in own).date().isoformat(),
        )
        done = sorted((row for row in own if row["click"]), key=lambda row: (row["timestamp"], -row["position"]))
        assert [deed["query"] for deed in shopper["latest"]] == [row["query"] for row in done[::-1][:LATEST]]
        did = {0: "clicked", 1: "put into the cart", 2: "bought"}
        assert [deed["did"] for deed in shopper["latest"]] == [
            did[row["add_to_cart"] + row["purchase"]] for row in done[::-1][:LATEST]
        ]
        brands = Counter(("acme", "bolt", "cedar", "dune")[int(row["product_id"][1:]) % 4] for row in done)
        assert dict(shopper["favourites"]["brand"]).items() <= brands.items()
        assert shopper["favourites"]["brand"][0][1] == max(brands.values())
        prices = [5 + 3 * int(row["product_id"][1:]) for row in done]
        assert shopper["price"] == np.median(prices)


def test_suggestions_begin_as_typed_the_frequent_first(page: TestClient, shop_bundle: Path) -> None:
    searches = {(row["search_id"], row["query"]) for row in impressions(shop_bundle)}
    counts = Counter(query for _, query in searches)

    def suggested(typed: str) -> list[str]:
        return page.get("/v1/shop/suggest", params={"q": typed}).json()

    expected = sorted((query for query in counts if query.startswith("s")), key=lambda query: (-counts[query], query))
    assert suggested("S") == suggested(" s") == expected
    assert set(expected) == {"sofa", "shelf"}
    assert suggested("<IMG") == [HOSTILE_QUERY]
    assert suggested("zz") == suggested("") == suggested("☃") == []
    assert page.get("/v1/shop/suggest", params={"q": "a" * 513}).status_code == 422


def test_a_bundle_without_a_shop_says_so(make_service: Callable[..., Service], bundle_path: Path) -> None:
    import shutil

    store = BundleStore(bundle_path)
    copy = bundle_path.parent / "no_shop"
    if not copy.exists():
        from shelfrank.core.artifact import Draft

        def write(draft: Draft) -> None:
            skipped = shutil.ignore_patterns("manifest.json", "shop")
            shutil.copytree(store.open().path, draft.path, dirs_exist_ok=True, ignore=skipped)

        BundleStore(copy).publish({"shop": False}, write)
    with ready_client(make_service(BundleStore(copy), has_page=True)) as client:
        answer = client.get("/v1/shop")
        assert answer.status_code == 404
        assert "needs a bundle with a shop" in answer.json()["detail"]
        assert client.get("/").status_code == 200


def test_without_the_page_there_are_no_routes_for_it(client: TestClient) -> None:
    assert client.get("/").status_code == client.get("/v1/shop").status_code == 404


def test_explanations_are_bounded_and_pages_go_before_them(
    own_page: TestClient, shop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, order = threading.Event(), threading.Event(), list[str]()
    explain, score = Shop.explain, Bundle.score

    def wait(self: Shop, *asked: Any) -> dict[str, Any] | None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        order.append("explanation")
        return explain(self, *asked)

    def note(self: Bundle, asked: PageRequest) -> Any:
        if asked.query == "ranked":
            order.append("page")
        return score(self, asked)

    monkeypatch.setattr(Shop, "explain", wait)
    monkeypatch.setattr(Bundle, "score", note)
    service: Service = own_page.app.state.service  # pyright: ignore
    page = golden_page(shop_bundle)
    body = {"query": QUERY, "product_id": page.product_ids[0]}

    def ask(_: int) -> int:
        return own_page.post("/v1/shop/explain", json=body).status_code

    with ThreadPoolExecutor(MAX_CALLS_WAITING + 2) as pool:
        asked = [pool.submit(ask, 0)]
        assert begun.wait(PATIENCE_S)
        asked += [pool.submit(ask, number) for number in range(MAX_CALLS_WAITING)]
        wait_until(lambda: service._scoring.n_waiting(Lane.CALLS) == MAX_CALLS_WAITING)
        refused = own_page.post("/v1/shop/explain", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert 'shelfrank_rejected_total{reason="page_calls"} 1.0' in own_page.get("/metrics").text
        ranked = pool.submit(lambda: own_page.post("/v1/rank", json=body_of(page, query="ranked")))
        wait_until(lambda: service._scoring.n_waiting(Lane.PAGES) == 1)
        go_on.set()
        assert not ranked.result(PATIENCE_S).json()["degraded"]
        assert {each.result(PATIENCE_S) for each in asked} <= {200, 404}
    # One call may have its turn before the page, since it has waited for long.
    assert order.index("page") <= 2
    assert order.count("explanation") == MAX_CALLS_WAITING + 1
