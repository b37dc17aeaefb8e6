"""Shapley values between two customers, against numbers worked out by hand and against every order."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shelfrank.data.prepared import PreparedData
from shelfrank.explain.trees import shapley_between
from shelfrank.rankers.boosting import TreeRanker
from shelfrank.rankers.run import problem
from shelfrank.rankers.xgboost import XGBoost
from tiny import tiny


class Formula(XGBoost):
    """Its margin is a formula of the features instead of a sum over trees."""

    def __init__(self, prepared: PreparedData, formula: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(problem(prepared, tiny("xgboost")))
        self.formula = formula

    def margins(self, features: np.ndarray) -> np.ndarray:
        """Evaluates the formula."""
        return self.formula(features.astype(np.float64).T)[:, None]


@pytest.fixture
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


def between(ranker: TreeRanker, start: list[float], end: list[float], columns: list[int]) -> list[float]:
    rows = (np.array([values], dtype=np.float32) for values in (start, end))
    return shapley_between(ranker, *rows, np.array(columns, dtype=np.int64)).tolist()[0][0]


def test_two_features_share_what_they_do_together(prepared: PreparedData) -> None:
    # 2 * 3 is worth 3 to each of them, whichever comes first; the third feature adds 5 * 1 by itself.
    ranker = Formula(prepared, lambda x: x[0] * x[1] + 5 * x[2])
    assert between(ranker, [0, 0, 0, 7], [2, 3, 1, 7], [0, 1, 2]) == pytest.approx([3, 3, 5, 0])


def test_a_feature_that_does_not_change_has_nothing(prepared: PreparedData) -> None:
    ranker = Formula(prepared, lambda x: x[0] * x[1])
    assert between(ranker, [4, 1], [4, 3], [0, 1]) == pytest.approx([0, 8])
    assert between(ranker, [4, 1], [4, 1], []) == [0, 0]


def test_the_sample_of_orders_is_near_to_all_orders_and_adds_up(prepared: PreparedData) -> None:
    ranker = Formula(prepared, lambda x: np.maximum(x[0] * x[1] * x[2], x[3] - x[4]) + x[5] * x[0])
    start, end = [0.0] * 6, [1.0, 2.0, 1.5, 2.0, 1.0, 0.5]
    orders = list(itertools.permutations(range(6)))
    exact = np.zeros(6)
    for order in orders:
        values = np.array([start])
        for column in order:
            before = ranker.margins(values)[0, 0]
            values[0, column] = end[column]
            exact[column] += (ranker.margins(values)[0, 0] - before) / len(orders)
    found = between(ranker, start, end, list(range(6)))
    np.testing.assert_allclose(found, exact, atol=0.25)
    assert sum(found) == pytest.approx(ranker.margins(np.array([end]))[0, 0])
