"""Cosines by the caller's indices, checked against plain dot products."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.text import scores
from shelfrank.text.scores import KIND, SemanticScores, cosines_of_query, row_cosines, widened

RNG = np.random.default_rng(0)
QUERIES, PRODUCTS = RNG.normal(size=(4, 6)).astype(np.float16), RNG.normal(size=(5, 6)).astype(np.float16)

SPLIT = {"by": "time", "train": 0.8, "valid": 0.1}
INPUTS = {"log": "this log", "tuned_on": {"log": "this log", "split": SPLIT}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with publish(tmp_path / "scores", KIND, INPUTS) as draft:
        pq.write_table(pa.table({"query": ["a", "b", "c", "d"]}), draft.path / scores.QUERIES)
        ids = ["p0", "p1", "p2", "p3", "p4"]
        pq.write_table(pa.table({"product_id": ids, "document": ids}), draft.path / scores.PRODUCTS)
        np.save(draft.path / scores.QUERY_EMBEDDINGS, QUERIES)
        np.save(draft.path / scores.PRODUCT_EMBEDDINGS, PRODUCTS)
    return tmp_path / "scores"


def plain_cosine(query: np.ndarray, product: np.ndarray) -> float:
    one, other = query.astype(float), product.astype(float)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_cosines_follow_the_callers_own_order(folder: Path, chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "CHUNK_ROWS", chunk_rows)
    aligned = SemanticScores.open(folder).align(["d", "a", "c"], ["p4", "p0"])
    query_idx, product_idx = np.array([0, 1, 2, 0], dtype=np.int32), np.array([0, 0, 1, 1], dtype=np.int32)
    stored = [(3, 4), (0, 4), (2, 0), (3, 0)]
    expected = [plain_cosine(QUERIES[q], PRODUCTS[p]) for q, p in stored]
    np.testing.assert_allclose(aligned.cosine(query_idx, product_idx), expected, atol=1e-6)


def test_no_rows_are_no_cosines(folder: Path) -> None:
    none = np.empty(0, dtype=np.int32)
    assert SemanticScores.open(folder).align([], []).cosine(none, none).shape == (0,)


@pytest.mark.parametrize(
    ("queries", "products", "told"),
    [(["a", "zz"], ["p0"], "every query, but it lacks 1 of them, such as 'zz'"), (["a"], ["p9"], "'p9'")],
)
def test_missing_embeddings_are_refused(folder: Path, queries: list[str], products: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        SemanticScores.open(folder).align(queries, products)


def test_a_product_without_text_has_no_cosine() -> None:
    products = PRODUCTS.copy()
    products[1] = np.nan
    cosines = row_cosines(QUERIES, products, np.array([0, 0]), np.array([0, 1]))
    assert np.isnan(cosines).tolist() == [False, True]


def test_halves_are_widened_to_the_bits_of_astype() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert (widened(halves).view(np.uint32) == halves.astype(np.float32).view(np.uint32)).all()
    transposed = halves.reshape(256, 256).T
    assert (widened(transposed).view(np.uint32) == transposed.astype(np.float32).view(np.uint32)).all()


def test_one_query_has_the_bits_of_many() -> None:
    rng = np.random.default_rng(0)
    queries, products = (rng.normal(size=(n, 384)).astype(np.float16) for n in (3, 200))
    expected = row_cosines(queries, products, np.ones(200, np.int64), np.arange(200))
    assert (cosines_of_query(queries[1], products) == expected).all()
    exact = products.astype(np.float64) @ queries[1].astype(np.float64)
    exact /= np.linalg.norm(products.astype(np.float64), axis=1) * np.linalg.norm(queries[1].astype(np.float64))
    assert np.abs(expected - exact).max() < 1e-6


def test_a_truncated_folder_is_refused(folder: Path) -> None:
    file = folder / scores.PRODUCT_EMBEDDINGS
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match="must have"):
        SemanticScores.open(folder)


def test_scores_belong_to_one_log_and_to_one_split(folder: Path) -> None:
    found = SemanticScores.open(folder)
    found.check("this log", SPLIT)
    with pytest.raises(UserError, match="must be the scores of this log, but they are of another"):
        found.check("another log", SPLIT)
    with pytest.raises(UserError, match="must be tuned on the training searches of the same split"):
        found.check("this log", SPLIT | {"train": 0.5})


def test_changed_embeddings_are_refused(folder: Path) -> None:
    file = folder / scores.QUERY_EMBEDDINGS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="its bytes have changed"):
        SemanticScores.open(folder).check("this log", SPLIT)
