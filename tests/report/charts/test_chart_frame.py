import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfrank.report.charts import frame
from shelfrank.report.charts.frame import Scale, span, tick_labels, ticks


def test_the_examples_hold() -> None:
    assert doctest.testmod(frame) == (0, 2)


def test_a_scale_maps_ends_to_ends_and_may_run_downwards() -> None:
    down = Scale(0, 2, 100, 0)
    assert [down(value) for value in (0, 1, 2)] == [100, 50, 0]


@pytest.mark.parametrize(("values", "ends"), [([], (0.0, 1.0)), ([0.0], (-1.0, 1.0)), ([2.0, 2.0], (1.8, 2.2))])
def test_a_span_is_never_of_zero_width(values: list[float], ends: tuple[float, float]) -> None:
    assert span(values) == pytest.approx(ends)


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_ticks_are_few_distinct_and_within_the_range(low: float, width: float) -> None:
    high = low + width
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 7
    assert marks == sorted(set(marks))
    assert low - width * 1e-6 <= marks[0] < marks[-1] <= high + width * 1e-6
    assert len(set(tick_labels(marks))) == len(marks)
