"""The shape that search engines call."""

import re
from pathlib import Path
from typing import Any

import pytest
from serving import body_of, golden_page
from starlette.testclient import TestClient


@pytest.mark.parametrize("named", ["documents", "input"])
def test_documents_are_ranked_by_their_ids(client: TestClient, bundle_path: Path, named: str) -> None:
    asked = golden_page(bundle_path)
    body = {"model": "any", "query": asked.query, named: list(asked.product_ids), "max_tokens_per_doc": 4096}
    answer = client.post("/v1/rerank", json=body).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert sorted(result["index"] for result in answer["results"]) == list(range(len(asked.product_ids)))
    ranked = client.post("/v1/rank", json={"query": asked.query, "candidates": list(asked.product_ids)}).json()
    assert [result["index"] for result in answer["results"]] == [result["index"] for result in ranked["results"]]
    assert answer["id"]
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


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"sku": "p002"}, "documents.1 must be a product id, or an object with one as id, product_id, text, .* 'sku'"),
        ({}, "its keys are none"),
        ({"ID": 4, "title": "sofa"}, "its keys are 'ID', 'title'"),
        ({"id": None}, "documents.1 must hold a product id, a text or a whole number, .* holds none there"),
        ({"product_id": " ", "text": ["p002"]}, "holds none there"),
        ({"id": 10**27}, "holds none there"),
        ({"id": -1e30}, "holds none there"),
    ],
)
def test_a_document_without_an_id_is_refused(client: TestClient, document: dict[str, Any], told: str) -> None:
    response = client.post("/v1/rerank", json={"query": "sofa", "documents": ["p001", document]})
    assert response.status_code == 422
    assert re.search(told, response.json()["detail"])
