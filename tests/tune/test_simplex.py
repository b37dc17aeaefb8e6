"""The simplex grid and its Pareto front."""

import math
from fractions import Fraction
from itertools import product

import pytest

from shelfrank.core.errors import UserError
from shelfrank.tune.simplex import efficient, simplex, spread


def test_three_tasks_in_steps_of_a_tenth_have_66_weightings_that_sum_to_one() -> None:
    points = simplex(3, 10)
    assert len({point.parts for point in points}) == 66
    assert all(sum(Fraction(part, 10) for part in point.parts) == 1 for point in points)
    assert all(math.fsum(point.weights) == 1.0 for point in points)
    every = {parts for parts in product(range(11), repeat=3) if sum(parts) == 10}
    assert {point.parts for point in points} == every


def test_relevance_weights_stand_beside_every_point() -> None:
    points = simplex(2, 2, [0.0, 0.1])
    assert [point.id for point in points] == ["2-0-r0", "2-0-r0.1", "1-1-r0", "1-1-r0.1", "0-2-r0", "0-2-r0.1"]


def test_a_single_task_has_nothing_to_weigh() -> None:
    with pytest.raises(UserError, match="two tasks or more to be tuned, but the log has one"):
        simplex(1, 10)


def test_too_fine_a_grid_is_refused() -> None:
    with pytest.raises(UserError, match="at most 20,000 points"):
        simplex(3, 100, [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("figures", "front"),
    [
        pytest.param([(1.0, 1.0)], [0], id="alone"),
        pytest.param([(1.0, 2.0), (2.0, 1.0), (0.9, 2.0)], [0, 1], id="beaten in one, level in the other"),
        pytest.param([(1.0, 1.0), (1.0, 1.0)], [0, 1], id="equal ones stay both"),
        pytest.param([], [], id="none"),
    ],
)
def test_the_front_is_what_nothing_beats(figures: list[tuple[float, float]], front: list[int]) -> None:
    assert efficient(figures) == front


def test_spread_points_lie_as_far_apart_as_can_be() -> None:
    points = simplex(3, 2)
    corner = points[0]
    assert corner.parts == (2, 0, 0)
    found = spread(points, [corner], 3)
    assert [point.parts for point in found[:2]] == [(0, 2, 0), (0, 0, 2)]
    assert len(found) == 3
    assert set(spread(points, [corner], 99)) == set(points) - {corner}


def test_relevance_weights_count_in_the_distance() -> None:
    points = simplex(2, 1, [0.0, 0.5])
    assert [point.id for point in spread(points, points[:1], 1)] == ["0-1-r0.5"]
