import math

import numpy as np
import pytest

from shelfrank.core.errors import UserError
from shelfrank.metrics.pages import mean_over_searches, require_labels, require_pages, require_scores

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        pytest.param(np.array([], dtype=np.int64), "give \\[0\\] for no search", id="no entry"),
        pytest.param(np.array([[0, 3]]), "flat array", id="two dimensions"),
        pytest.param(np.array([0.0, 3.0]), "type float64", id="no integers"),
        pytest.param(np.array([0, 3], dtype=np.uint64), "type uint64", id="unsigned"),
        pytest.param(np.array([1, 3]), "begin with 0, not 1", id="begins late"),
        pytest.param(np.array([0, 3, 2, 3]), "1 do, the first after entry 1", id="falls"),
        pytest.param(np.array([0, 1, 1, 3, 3]), "2 hold none, the first is search 1", id="empty pages"),
        pytest.param(np.array([0, 2]), "hold the 2 rows .* shape \\(3,\\)", id="ends early"),
        pytest.param(np.array([0, 4]), "hold the 4 rows .* shape \\(3,\\)", id="ends late"),
    ],
)
def test_refuses_offsets(offsets: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_pages(offsets, scores=np.zeros(3))


def test_accepts_sound_pages_and_none_at_all() -> None:
    require_pages(np.array([0, 1, 3]), scores=np.zeros(3), labels=np.zeros(3, dtype=np.int8))
    require_pages(np.array([0], dtype=np.int32), scores=np.zeros(0))


def test_scores_whose_sum_overflows_are_finite() -> None:
    require_scores(np.full(3, 3e38, dtype=np.float32))
    with pytest.raises(UserError, match="1 of 4 are not, the first in row 3"):
        require_scores(np.array([3e38, 3e38, 1, -np.inf], dtype=np.float32))


def test_refuses_types_that_would_change_the_comparison() -> None:
    with pytest.raises(UserError, match="type is int64"):
        require_scores(np.array([1, 2]))
    with pytest.raises(UserError, match="type is uint8"):
        require_labels(np.array([1, 255], dtype=np.uint8), highest=1)


def test_the_mean_is_over_searches_that_count() -> None:
    assert mean_over_searches(np.array([0.0, math.nan, 1.0])) == 0.5
    assert math.isnan(mean_over_searches(np.array([math.nan])))
    assert math.isnan(mean_over_searches(np.array([])))
