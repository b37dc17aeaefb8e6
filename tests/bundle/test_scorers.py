"""Equal rows have equal scores, whatever library computes them and wherever they stand."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.golden import GoldenRows
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.scorers import OnnxScorer, Rows
from shelfrank.bundle.spec import GOLDEN
from shelfrank.bundle.store import BundleStore
from shelfrank.rankers.run import train
from tiny import tiny


def rows_of(numerical: list[float], products: list[float] | None = None) -> Rows:
    n = len(numerical)
    return Rows(
        numerical=np.array(numerical, np.float32).reshape(n, 1),
        categorical=np.empty((n, 0), np.int32),
        position=np.arange(1, n + 1),
        rates=np.empty((n, 0), np.float32),
        query=None if products is None else np.zeros((1, 1), np.float32),
        products=None if products is None else np.array(products, np.float32).reshape(n, 1),
    )


def test_equal_rows_are_found() -> None:
    first, of_row = rows_of([2, 1, 2, 3, 1]).distinct()
    assert (first.tolist(), of_row.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])
    first, of_row = rows_of([2, 2, 2], [5, 6, 5]).distinct()
    assert (first.tolist(), of_row.tolist()) == ([0, 1], [0, 1, 0])
    first, of_row = rows_of([]).distinct()
    assert (len(first), len(of_row)) == (0, 0)


def test_rows_without_columns_are_all_equal() -> None:
    rows = Rows(np.empty((3, 0), np.float32), np.empty((3, 0), np.int32), np.arange(1, 4), np.empty((3, 0), np.float32))
    assert rows.distinct()[1].tolist() == [0, 0, 0]


def test_a_library_that_rounds_by_place_cannot_break_ties() -> None:
    def run(_: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        x = given["numerical"]
        return [x + np.arange(len(x), dtype=np.float32)[:, None] * np.float32(1e-3)]

    scorer = object.__new__(OnnxScorer)
    scorer.n_tasks, scorer.session, scorer.inputs = 1, SimpleNamespace(run=run), {"numerical"}
    scores = scorer.score(rows_of([0.5, 0.7, 0.5, 0.5, 0.7]))[:, 0]
    assert scores[0] == scores[2] == scores[3]
    assert scores[1] == scores[4] > scores[0]


@pytest.mark.parametrize("ranker", ["xgboost", "lambdamart", "xgboost_ranking", "catboost", "blend"])
def test_trees_score_as_offline_without_the_training_stack(small_prepared: Path, tmp_path: Path, ranker: str) -> None:
    train(small_prepared, ranker, tiny(ranker), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=3, replayed=0))
    version = BundleStore(tmp_path / "bundle").open().path
    golden = GoldenRows.load(version / GOLDEN)
    scores = golden.scores(Bundle.open(version))
    # Trees to the last bit; a blend's network is another library's.
    np.testing.assert_allclose(scores, golden.expected, rtol=1e-5 if ranker == "blend" else 0)
    assert len(np.unique(scores[:, 0])) > 3
    code = (
        "import sys, shelfrank.serve.app\n"
        "from pathlib import Path\n"
        "from shelfrank.bundle.golden import open_checked\n"
        "open_checked(Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'transformers', 'ibis', 'duckdb') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", code, str(version)], capture_output=True, text=True, check=True, env=env
    )
    assert told.stdout.strip() == "[]"
