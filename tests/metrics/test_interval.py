import itertools
import json
import math

import numpy as np
import pytest

from shelfrank.metrics.interval import (
    MIN_SEARCHES,
    percentile_difference,
    percentile_interval,
    shown_sign,
    sign_flip_p_value,
    wilson_bounds,
)

NAN = math.nan


def test_bounds_leave_equal_tails_outside() -> None:
    interval = percentile_interval(50.0, np.arange(101.0), n=70, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((5.0, 95.0))
    assert (interval.value, interval.n, interval.n_undefined) == (50.0, 70, 0)


def test_without_resamples_the_bounds_are_nan() -> None:
    interval = percentile_interval(0.5, np.empty(0), n=1, confidence=0.95)
    assert (interval.value, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_few_undefined_resamples_are_counted_and_more_than_a_tail_undo_the_bounds() -> None:
    replicates = np.arange(100.0)
    replicates[:4] = NAN
    kept = percentile_interval(0.5, replicates, n=90, confidence=0.9)
    assert kept.n_undefined == 4
    assert kept.low == pytest.approx(np.quantile(np.arange(4.0, 100.0), 0.05))
    replicates[4:6] = NAN
    undone = percentile_interval(0.5, replicates, n=90, confidence=0.9)
    assert undone.n_undefined == 6
    assert math.isnan(undone.low)
    assert math.isnan(undone.high)


@pytest.mark.parametrize(
    ("replicates", "expected"),
    [
        pytest.param([1.0] * 99, 2 / 100, id="all above 0 -> 2 / 100"),
        pytest.param([-1.0] * 99, 2 / 100, id="all below 0 -> 2 / 100"),
        pytest.param([1.0] * 95 + [-1.0] * 4, 10 / 100, id="four of 99 on the other side -> 10 / 100"),
        pytest.param([1.0] * 97 + [0.0] * 2, 6 / 100, id="two of 99 at 0 -> 6 / 100"),
        pytest.param([1.0] * 97 + [1e-17, -1e-17], 6 / 100, id="rounding counts as 0 -> 6 / 100"),
        pytest.param([1.0] * 97 + [NAN] * 2, 6 / 100, id="no figure counts on both sides -> 6 / 100"),
        pytest.param([0.0] * 99, 1.0, id="all 0 -> 1"),
        pytest.param([], NAN, id="no resample -> NaN"),
    ],
)
def test_p_value(replicates: list[float], expected: float) -> None:
    p_value = percentile_difference(1.0, np.array(replicates, dtype=float), n=90, confidence=0.95).p_value
    assert p_value == pytest.approx(expected, nan_ok=True)


def test_plain_data_is_valid_json() -> None:
    difference = percentile_difference(0.5, np.empty(0), n=1, confidence=0.95)
    plain = json.loads(json.dumps(difference.as_dict(), allow_nan=False))
    assert plain == {
        "value": 0.5,
        "low": None,
        "high": None,
        "n": 1,
        "n_undefined": 0,
        "p_value": None,
        "n_differing": None,
    }
    assert list(percentile_interval(0.5, np.empty(0), n=1, confidence=0.9).as_dict()) == [
        "value",
        "low",
        "high",
        "n",
        "n_undefined",
    ]


@pytest.mark.parametrize("n", [1, 29])
def test_fewer_queries_than_thirty_are_not_resampled(n: int) -> None:
    interval = percentile_interval(0.5, np.arange(100.0), n=n, confidence=0.95)
    difference = percentile_difference(0.5, np.arange(1.0, 101.0), n=n, confidence=0.95)
    assert all(map(math.isnan, (interval.low, interval.high, difference.low, difference.high, difference.p_value)))
    assert difference.sign is None


def test_resamples_without_width_give_no_bounds() -> None:
    interval = percentile_interval(0.5, np.full(100, 0.5), n=90, confidence=0.95)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize(
    ("low", "high", "n", "sign"),
    [
        (0.01, 0.03, MIN_SEARCHES, 1),
        (-0.03, -0.01, MIN_SEARCHES, -1),
        (0.01, 0.03, MIN_SEARCHES - 1, 0),
        (-0.03, -0.01, 2, 0),
        (0.0, 0.03, 1000, 0),
        (-0.01, 0.01, 1000, 0),
        (0.01, 0.03, None, 1),
        (None, 0.03, 1000, None),
    ],
)
def test_a_difference_is_shown_by_its_interval_and_its_searches(
    low: float | None, high: float | None, n: int | None, sign: int | None
) -> None:
    assert shown_sign(low, high, n) == sign


@pytest.mark.parametrize("n_differing", [1, 2, 5, 9])
def test_flipped_signs_are_counted_one_by_one(n_differing: int) -> None:
    rng = np.random.default_rng(n_differing)
    for _ in range(20):
        differences = rng.choice([-1.0, -0.5, 1 / 3, 0.5, 1.0], n_differing)
        reached = abs(differences.sum())
        sums = [abs((np.array(signs) * differences).sum()) for signs in itertools.product([1, -1], repeat=n_differing)]
        expected = np.mean([each >= reached - 1e-9 for each in sums])
        assert sign_flip_p_value(np.append(differences, [0.0, 0.0])) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "n"), [(0.0, 4), (1.0, 4), (0.3, 10)])
def test_wilson_bounds_solve_their_equation(share: float, n: int) -> None:
    low, high = wilson_bounds(share, n, 0.95)
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if bound not in (0, 1):
            assert abs(share - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), rel=1e-5)
