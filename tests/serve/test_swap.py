"""Bundles are swapped under load: none that is bad, and no page is lost."""

import asyncio
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE_S, body_of, golden_page, publish_again, publish_aged, ready_client, wait_until
from starlette.testclient import TestClient

from damaged_graph import damage_scales
from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.loaded import Bundle, ScoredPage
from shelfrank.bundle.store import CURRENT, BundleStore
from shelfrank.core.artifact import Draft, write_atomic
from shelfrank.core.errors import UserError
from shelfrank.features.request import PageRequest
from shelfrank.rankers.run import train
from shelfrank.serve.ranking import RankOptions, RankResult
from shelfrank.serve.service import Service
from tiny import tiny

SWAPS, EVERY = 6, 3


def corrupt(store: BundleStore, name: str) -> None:
    """Changes a byte of a graph, and points at the version all the same."""
    file = store.path / "versions" / name / "onnx" / "ranker.fp32.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    write_atomic(store.path / CURRENT, f"{name}\n".encode())


def test_swaps_under_load_lose_no_page(make_service: Callable[..., Service], own_bundle: BundleStore) -> None:
    service = make_service(own_bundle)
    asked = golden_page(own_bundle.path)
    body = body_of(asked)
    answers: list[tuple[int, bool, str]] = []
    ended = threading.Event()

    def load(client: TestClient) -> None:
        while not ended.is_set():
            answer = client.post("/v1/rank", json=body)
            found = answer.json()
            answers.append((answer.status_code, found["degraded"], found["bundle"]))

    with ready_client(service) as client:
        first = service.version
        assert first is not None
        callers = [threading.Thread(target=load, args=(client,)) for _ in range(2)]
        for caller in callers:
            caller.start()
        try:
            good, refused = {first}, 0
            for number in range(1, SWAPS + 1):
                name = publish_again(own_bundle, number)
                if number % EVERY == 0:
                    corrupt(own_bundle, name)
                    refused += 1
                    wait_until(lambda n=refused: _count(client, "refused") >= n)
                else:
                    good.add(name)
                    wait_until(lambda wanted=name: service.version == wanted)
        finally:
            ended.set()
            for caller in callers:
                caller.join()
        assert {status for status, _, _ in answers} == {200}
        assert not any(degraded for _, degraded, _ in answers)
        assert {name for _, _, name in answers} <= good
        assert len(answers) > SWAPS


def _count(client: TestClient, result: str) -> float:
    (line,) = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(f'shelfrank_bundle_loads_total{{result="{result}"}}')
    ]
    return float(line.split()[-1])


def test_a_bundle_that_breaks_its_golden_pages_is_refused(
    make_service: Callable[..., Service], own_bundle: BundleStore
) -> None:
    service = make_service(own_bundle)
    fp32 = {"precision": "fp32", "fallback": None}
    with TestClient(create(service)) as client:
        wait_until(lambda: service.is_ready)
        before = service.version
        publish_again(own_bundle, 1, is_wrong=True)
        answer = client.post("/v1/admin/reload", json={})
        assert answer.status_code == 409
        assert "must answer its golden pages" in answer.json()["detail"]
        assert service.version == before
        assert own_bundle.rollback() == before
        assert client.post("/v1/admin/reload", json={}).json() == {**fp32, "bundle": before, "changed": False}
        good = publish_again(own_bundle, 2)
        assert client.post("/v1/admin/reload", json={}).json() == {**fp32, "bundle": good, "changed": True}


@pytest.mark.parametrize("pointer", ["", "no version", None])
def test_a_pointer_that_names_no_version_changes_nothing(
    make_service: Callable[..., Service], own_bundle: BundleStore, pointer: str | None
) -> None:
    publish_again(own_bundle, 1)
    before = own_bundle.rollback()
    service = make_service(own_bundle)
    if pointer is None:
        (own_bundle.path / CURRENT).unlink()
    else:
        (own_bundle.path / CURRENT).write_text(pointer)
    with pytest.raises(UserError, match=f"current must name the version to serve, .*; {before} serves on"):
        asyncio.run(service.reload())
    assert service.version == before


def test_an_old_bundle_goes_with_the_last_page_that_it_ranks(
    make_service: Callable[..., Service], own_bundle: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(own_bundle)
    asked = golden_page(own_bundle.path)
    begun, swapped = threading.Event(), threading.Event()
    old: list[weakref.ref[Any]] = []
    score = Bundle.score

    def held(bundle: Bundle, asked: PageRequest) -> ScoredPage:
        if not old:
            old.extend(weakref.ref(part) for part in (bundle, bundle.features, bundle.scorer, bundle.matching))
            begun.set()
            assert swapped.wait(PATIENCE_S)
        return score(bundle, asked)

    async def swap() -> RankResult:
        page = asyncio.create_task(service.rank(asked, RankOptions()))
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        publish_again(own_bundle, 1)
        assert await service.reload()
        swapped.set()
        return await page

    monkeypatch.setattr(Bundle, "score", held)
    first = service.version
    assert asyncio.run(swap()).bundle == first != service.version
    wait_until(lambda: all(part() is None for part in old))


def create(service: Service) -> object:
    from shelfrank.serve.app import create_app

    return create_app(service, poll_s=None)


def test_a_bad_pointer_at_the_start_leaves_the_newest_good_version(
    make_service: Callable[..., Service], own_bundle: BundleStore
) -> None:
    good = publish_again(own_bundle, 1)
    publish_again(own_bundle, 2, is_wrong=True)
    assert make_service(own_bundle).version == good


def test_where_no_version_opens_the_pointers_reason_is_given(
    make_service: Callable[..., Service], bundle_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="must hold a complete bundle, but it has none; run `shelfrank export"):
        make_service(BundleStore(tmp_path / "nothing"))
    store = BundleStore(tmp_path / "aged")
    first = publish_aged(BundleStore(bundle_path), store.path)
    with pytest.raises(UserError, match=r"must hold online features of version \d+, but it is of \d+; export again$"):
        make_service(store)
    publish_again(store, 1)
    store.point(first)
    with pytest.raises(UserError, match=rf"{first}/features must .*; no other version can be opened either"):
        make_service(store)
    assert not caplog.records


def test_a_new_bundle_knows_what_visitors_did_before(
    make_service: Callable[..., Service], own_bundle: BundleStore
) -> None:
    service = make_service(own_bundle)
    asked = golden_page(own_bundle.path)
    body = {**body_of(asked), "customer_id": "c03", "timestamp": "2025-02-01T12:00:00Z"}
    event = {
        "action_name": "click_through",
        "timestamp": "2025-02-01T11:59:00Z",
        "user_id": "c03",
        "user_query": asked.query,
        "event_attributes": {"object": {"object_id": asked.product_ids[1]}},
    }
    with ready_client(service) as client:
        before = client.post("/v1/rank", json=body).json()["results"]
        client.post("/v1/events", json={"events": [event]})
        after = client.post("/v1/rank", json=body).json()["results"]
        assert after != before
        name = publish_again(own_bundle, 1)
        wait_until(lambda: service.version == name)
        assert client.post("/v1/rank", json=body).json()["results"] == after


@pytest.mark.parametrize("missing", ["online", "bundle.json"])
def test_a_half_bundle_is_refused(own_bundle: BundleStore, make_service: Callable[..., Service], missing: str) -> None:
    service = make_service(own_bundle)
    name = publish_again(own_bundle, 1)
    path: Path = own_bundle.path / "versions" / name / ("features" if missing == "online" else missing)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with TestClient(create(service)) as client:
        wait_until(lambda: service.is_ready)
        assert client.post("/v1/admin/reload", json={}).status_code == 409


def test_float32_serves_where_eight_bits_are_wrong(
    make_service: Callable[..., Service],
    small_prepared: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(small_prepared, "mmoe", tiny("mmoe"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=3, replayed=0))
    store = BundleStore(tmp_path / "bundle")
    good, source = store.current(), store.open().path
    service = make_service(store, precision="int8")

    def write(draft: Draft) -> None:
        shutil.copytree(source, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        damage_scales(draft.path / "onnx" / "ranker.int8.onnx")

    def counts() -> tuple[str, str, str]:
        names = ('fallbacks_total{precision="int8"}', 'info{precision="fp32"}', 'info{precision="int8"}')
        lines = client.get("/metrics").text.splitlines()
        one, two, three = (next(line for line in lines if line.startswith(f"shelfrank_precision_{n}")) for n in names)
        return one.split()[-1], two.split()[-1], three.split()[-1]

    with TestClient(create(service)) as client:
        wait_until(lambda: service.is_ready)
        assert client.get("/readyz").text == "ok\n"
        assert counts() == ("0.0", "0.0", "1.0")
        wrong, _ = store.publish({"number": "wrong"}, write)
        answer = client.post("/v1/admin/reload", json={}).json()
        assert (answer["bundle"], answer["precision"]) == (wrong, "fp32")
        assert "must answer its golden pages to 0.05 in int8" in answer["fallback"]
        assert client.get("/readyz").text == f"ok\nfp32 serves in place of int8: {answer['fallback']}\n"
        assert counts() == ("1.0", "1.0", "0.0")
        assert any("serves fp32 in place of int8" in record.message for record in caplog.records)
        page = client.post("/v1/rank", json=body_of(golden_page(store.path))).json()
        assert (page["degraded"], page["bundle"]) == (False, wrong)
        store.rollback()
        again = client.post("/v1/admin/reload", json={}).json()
        assert again == {"bundle": good, "changed": True, "precision": "int8", "fallback": None}
        assert client.get("/readyz").text == "ok\n"
        assert counts() == ("1.0", "0.0", "1.0")
