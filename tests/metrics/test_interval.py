import json
import math

import numpy as np
import pytest

from shelfrank.metrics.interval import percentile_difference, percentile_interval

NAN = math.nan


def test_bounds_leave_equal_tails_outside() -> None:
    interval = percentile_interval(50.0, np.arange(101.0), n=7, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((5.0, 95.0))
    assert (interval.value, interval.n, interval.n_undefined) == (50.0, 7, 0)


def test_without_resamples_the_bounds_are_nan() -> None:
    interval = percentile_interval(0.5, np.empty(0), n=1, confidence=0.95)
    assert (interval.value, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_few_undefined_resamples_are_counted_and_more_than_a_tail_undo_the_bounds() -> None:
    replicates = np.arange(100.0)
    replicates[:4] = NAN
    kept = percentile_interval(0.5, replicates, n=9, confidence=0.9)
    assert kept.n_undefined == 4
    assert kept.low == pytest.approx(np.quantile(np.arange(4.0, 100.0), 0.05))
    replicates[4:6] = NAN
    undone = percentile_interval(0.5, replicates, n=9, confidence=0.9)
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
    p_value = percentile_difference(1.0, np.array(replicates, dtype=float), n=9, confidence=0.95).p_value
    assert p_value == pytest.approx(expected, nan_ok=True)


def test_plain_data_is_valid_json() -> None:
    difference = percentile_difference(0.5, np.empty(0), n=1, confidence=0.95)
    plain = json.loads(json.dumps(difference.as_dict(), allow_nan=False))
    assert plain == {"value": 0.5, "low": None, "high": None, "n": 1, "n_undefined": 0, "p_value": None}
    assert list(percentile_interval(0.5, np.empty(0), n=1, confidence=0.9).as_dict()) == [
        "value",
        "low",
        "high",
        "n",
        "n_undefined",
    ]
