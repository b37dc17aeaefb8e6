"""The shape that search engines call."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from serving import body_of, golden_page
from starlette.testclient import TestClient

from shelfrank.bundle.spec import SHOP, SHOP_PRODUCTS
from shelfrank.serve.rerank_routes import PATHS
from shelfrank.serve.titles import Titles, folded


@pytest.mark.parametrize(
    ("path", "named", "others"),
    [
        ("/v1/rerank", "documents", {"model": "cohere", "max_chunks_per_doc": 10, "rank_fields": ["text"]}),
        ("/v2/rerank", "documents", {"model": "cohere", "max_tokens_per_doc": 4096, "priority": 3}),
        ("/v1/rerank", "documents", {"model": "jina", "return_documents": False, "truncation": True}),
        ("/rerank", "documents", {"model": "vllm", "truncate_prompt_tokens": 128, "user": "u"}),
        ("/rerank", "documents", {"model": "infinity", "return_documents": False, "raw_scores": False}),
        ("/v1/rerank", "input", {"top_n": None}),
    ],
)
def test_documents_are_ranked_by_their_ids(
    client: TestClient, bundle_path: Path, path: str, named: str, others: dict[str, Any]
) -> None:
    asked = golden_page(bundle_path)
    body = {"query": asked.query, named: list(asked.product_ids), **others}
    answer = client.post(path, json=body).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert sorted(result["index"] for result in answer["results"]) == list(range(len(asked.product_ids)))
    ranked = client.post("/v1/rank", json={"query": asked.query, "candidates": list(asked.product_ids)}).json()
    assert [result["index"] for result in answer["results"]] == [result["index"] for result in ranked["results"]]
    assert answer["id"]
    assert (answer["object"], answer["model"]) == ("rerank", ranked["bundle"])
    told = ("bundle", "degraded", "reason", "unknown", "unknown_ids", "missing_features", "unknown_features")
    assert answer["meta"] == {name: ranked[name] for name in told}


def test_unknown_ids_and_features_are_listed_here_too(client: TestClient) -> None:
    documents = [{"id": 7, "price": 3}, "new", {"id": 7}, "p001"]
    body = {"query": "sofa", "context": {"Device": "phone"}, "documents": documents}
    answer = client.post("/v1/rerank", json=body).json()
    unknown = [result["index"] for result in answer["results"] if result["index"] != 3]
    assert unknown == [0, 1, 2]
    meta = answer["meta"]
    assert (meta["unknown"]["products"], meta["unknown_ids"]) == (3, ["7", "new"])
    assert meta["missing_features"] == {"device": 4, "brand": 3, "price": 3}
    assert meta["unknown_features"] == {"Device": 1}


def test_texts_are_ranked_as_documents(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    ids = list(asked.product_ids)
    documents = client.post("/rerank", json={"query": asked.query, "documents": ids}).json()["results"]
    texts = client.post("/rerank", json={"query": asked.query, "texts": ids, "return_text": True, "truncate": True})
    assert texts.json() == [
        {"index": each["index"], "score": each["relevance_score"], "text": ids[each["index"]]} for each in documents
    ]


@pytest.mark.parametrize("path", PATHS)
def test_top_k_is_top_n_and_an_unknown_key_is_refused_by_name(client: TestClient, path: str) -> None:
    body = {"query": "sofa", "documents": ["p001", "p002", "p003"]}
    assert len(client.post(path, json={**body, "top_k": 2}).json()["results"]) == 2
    for wrong in ({"topn": 2}, {"top_n": 2, "top_k": 3}, {"texts": ["p001"]}):
        refused = client.post(path, json={**body, **wrong})
        assert refused.status_code == 422
        assert re.search(rf"({'|'.join((*wrong, 'documents'))}): Extra inputs", refused.json()["detail"])
    assert client.post(path, json={"query": "sofa"}).json()["detail"] == "documents: Field required"


def test_raw_scores_are_logits(client: TestClient) -> None:
    body = {"query": "sofa", "documents": ["p001", "p002", "p003"]}
    scores, raw = (
        [each["relevance_score"] for each in client.post("/rerank", json={**body, **more}).json()["results"]]
        for more in ({}, {"raw_scores": True})
    )
    assert raw == pytest.approx([np.log(score / (1 - score)) for score in scores], abs=1e-6)


def test_an_id_is_read_from_a_declared_field_first(client: TestClient) -> None:
    documents = [{"sku": "p003", "id": "other"}, {"sku": "p001"}, {"id": "p002"}]
    by_field, by_id = (
        client.post("/v2/rerank", json={"query": "chair", "documents": each, "rank_fields": ["sku"]}).json()
        for each in (documents, ["p003", "p001", "p002"])
    )
    assert by_field["results"] == by_id["results"]
    assert by_field["meta"]["unknown"]["products"] == 0


def test_titles_are_found_and_what_is_not_keeps_its_place(shop_client: TestClient) -> None:
    shown = shop_client.post("/v1/shop/search", json={"query": "sofa"}).json()
    titles = {product: each["title"] for product, each in shown["products"].items()}
    counts = Counter(map(folded, titles.values()))
    ids = [product for product, title in titles.items() if counts[folded(title)] == 1][:5]
    assert len(ids) == 5
    named = [f"  {titles[product].upper()}\n" for product in ids]
    answers = {
        name: shop_client.post("/v2/rerank", json={"query": "sofa", "documents": documents}).json()
        for name, documents in {
            "ids": ids,
            "titles": named,
            "some": [*named[:2], "a title that no product has", *named[2:], "x" * 9_000],
        }.items()
    }
    assert answers["titles"]["results"] == answers["ids"]["results"]
    some = answers["some"]["results"]
    assert [place for place, each in enumerate(some) if each["index"] in (2, 6)] == [2, 6]
    assert answers["some"]["meta"]["unknown"]["products"] == 2
    scores = [each["relevance_score"] for each in some]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] == scores[1]


def test_a_title_of_several_products_finds_none(tmp_path: Path) -> None:
    (tmp_path / SHOP).mkdir()
    titles = ["Red sofa", "red  SOFA", "Blue sofa", None, ""]
    products = pa.table({"product_id": list("abcde"), "title": titles, "document": ["", "", "Blue sofa acme", "", ""]})
    feather.write_feather(products, str(tmp_path / SHOP / SHOP_PRODUCTS), compression="uncompressed")
    found = Titles(tmp_path).find(["red sofa", "BLUE  sofa", "blue sofa acme", "", " ", "zz"])
    assert found == [None, "c", "c", None, None, None]
    feather.write_feather(products[:0], str(tmp_path / SHOP / SHOP_PRODUCTS), compression="uncompressed")
    assert Titles(tmp_path).find(["red sofa"]) == [None]


def test_top_n_and_documents_come_back(client: TestClient) -> None:
    documents = [
        {"id": "p001", "title": "acme chair"},
        {"product_id": 7},
        {"text": "p002"},
        "p003",
        {"id": "", "text": "new"},
    ]
    body = {"query": "chair", "documents": documents, "top_n": 4, "return_documents": True}
    results = client.post("/v1/rerank", json=body).json()["results"]
    assert len(results) == 4
    for result in results:
        document = documents[result["index"]]
        assert result["document"] == ({"text": document} if isinstance(document, str) else document)


def test_customers_count_here_too(client: TestClient, bundle_path: Path) -> None:
    asked = golden_page(bundle_path)
    body = {"query": asked.query, "documents": list(asked.product_ids)}
    known, nobody = (
        client.post("/v1/rerank", json={**body, "customer_id": customer}).json()["results"]
        for customer in ("c03", None)
    )
    assert known != nobody
    assert body_of(asked)["candidates"] == body["documents"]


def test_whatever_a_document_holds_comes_back(client: TestClient) -> None:
    body = (
        rb'{"query": "x", "documents": [{"id": "a", "b": "\ud800", "c": 1'
        + b"0" * 40
        + rb', "d": NaN}], "return_documents": true}'
    )
    (result,) = client.post("/v1/rerank", content=body, headers={"content-type": "application/json"}).json()["results"]
    assert result["document"] == {"id": "a", "b": "\ud800", "c": 10**40, "d": None}


def test_the_path_of_two_servers_returns_documents_as_neither_reads_them(client: TestClient) -> None:
    body = {"query": "chair", "documents": ["p001", {"id": "p002"}], "return_documents": True}
    for result in client.post("/rerank", json=body).json()["results"]:
        assert "document" not in result
        assert result["text"] == body["documents"][result["index"]]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"sku": "p002"}, "documents.1 must be a product id, or an object with one as id, product_id, text, .* 'sku'"),
        ({}, "its keys are none"),
        ({"ID": 4, "title": "sofa"}, "its keys are 'ID', 'title'"),
        ({"id": None}, "documents.1 must hold a product id, a text or a whole number, .* holds none there"),
        ({"product_id": " ", "text": ["p002"]}, "holds none there"),
        ({"id": 10**27}, "holds none there"),
        ({"id": "\ud800"}, "holds none there"),
        ({"id": -1e30}, "holds none there"),
        ({"id": "sofa \ud800"}, "holds none there"),
    ],
)
def test_a_document_without_an_id_is_refused(client: TestClient, document: dict[str, Any], told: str) -> None:
    content = json.dumps({"query": "sofa", "documents": ["p001", document]})
    response = client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert re.search(told, response.json()["detail"])
