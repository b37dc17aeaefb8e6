"""The figures of the Home Depot benchmark against the library's own and against sums by hand."""

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shelfrank.metrics import ndcg

pytest.importorskip("scipy", reason="the extra `text` is not installed")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("semantic_homedepot")


@pytest.fixture
def bm25(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bm25")


def test_on_whole_grades_ndcg_is_the_librarys(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    offsets = np.array([0, 3, 15, 30, 31])
    grades, scores = rng.integers(1, 4, 31), rng.integers(0, 5, 31).astype(float)
    grades[:3] = 2
    keys = rng.permutation(31).astype(np.uint64)
    expected = ndcg(scores, grades, offsets, keys, benchmark.K)
    # Queries whose grades are all the same are left out here.
    expected[[0, 3]] = np.nan
    np.testing.assert_allclose(benchmark.ndcg_per_query(scores, grades.astype(float), offsets, keys), expected)


def test_spearman_averages_ties_and_is_zero_without_any_order(benchmark: ModuleType) -> None:
    # Ranks 1.5, 1.5, 3 against 1, 2, 3: the covariance is 0.75, the deviations sqrt(0.5 * 2 / 3).
    assert benchmark.spearman(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(math.sqrt(0.75))
    assert benchmark.spearman(np.zeros(3), np.arange(3.0)) == 0


def test_bm25_is_its_formula(bm25: ModuleType) -> None:
    model = bm25.Bm25(["red angle bracket", "blue paint"])
    idf, norm = math.log(1 + 1.5 / 1.5), 1.2 * (0.25 + 0.75 * 3 / 2.5)
    assert model.score("angles of brackets", "red angle bracket") == pytest.approx(2 * idf * 2.2 / (1 + norm))
    assert model.score("angles", "blue paint") == 0


@pytest.mark.parametrize(
    ("word", "stem"), [("batteries", "battery"), ("hinges", "hinge"), ("doors", "door"), ("glass", "glass")]
)
def test_plurals_lose_their_ending(bm25: ModuleType, word: str, stem: str) -> None:
    assert bm25.stem(word) == stem


def test_repeated_judgments_are_averaged(benchmark: ModuleType, tmp_path: Path) -> None:
    rows = ["id,product_uid,product_title,search_term,relevance"]
    rows += ["1,p1,Caf\xe9 Table, Table,3", "2,p1,Caf\xe9 Table,table,2", "3,p2,Lamp,lamp,1"]
    (tmp_path / "train.csv").write_text("\n".join(rows), encoding="latin-1")
    judgments, n_repeated = benchmark.read_judgments(tmp_path / "train.csv")
    assert (judgments.queries, judgments.titles, n_repeated) == (["lamp", "table"], ["Lamp", "Caf\xe9 Table"], 1)
    assert judgments.grades.tolist() == [1, 2.5]
    assert judgments.offsets().tolist() == [0, 1, 2]
