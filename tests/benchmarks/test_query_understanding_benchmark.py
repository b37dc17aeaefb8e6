"""Agreement of the benchmark of query understanding, against pairs counted by hand."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_agreement_of_pairs_with_different_grades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = importlib.import_module("query_understanding")
    search = np.array([1, 0, 1, 0, 1])
    grades = np.array([2, 3, 0, 3, 1])
    # Search 0 has one grade only. In search 1, 2 > 0 is right, 2 > 1 is a tie, 1 > 0 is right.
    assert benchmark.agreement(np.array([5.0, 1.0, 1.0, 2.0, 5.0]), grades, search) == round(2.5 / 3, 4)
    assert benchmark.agreement(np.array([0.0, 1.0, 1.0, 2.0, 5.0]), grades, search) == round(1 / 3, 4)
