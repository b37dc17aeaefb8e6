"""Signatures are checked in every test run: plain types, axes that must agree, and the fields of data classes."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from shelfrank.core.schema import Side
from shelfrank.data.prepared import Column
from shelfrank.metrics.expected import expected_reciprocal_rank

KEYS, PAGE = np.arange(2, dtype=np.uint64), np.array([0, 2])


@pytest.mark.parametrize(
    ("scores", "k"),
    [
        pytest.param(np.zeros(3), 1, id="axes of one name that differ"),
        pytest.param(np.zeros((2, 1)), 1, id="an axis too many"),
        pytest.param(np.zeros(2, int), 1, id="another kind of number"),
        pytest.param(np.zeros(2), "1", id="another type beside the arrays"),
    ],
)
def test_a_wrong_argument_is_refused(scores: np.ndarray, k: int) -> None:
    expected_reciprocal_rank(np.zeros(2), np.zeros(2), PAGE, KEYS, 1)
    with pytest.raises(BeartypeCallHintViolation):
        expected_reciprocal_rank(scores, np.zeros(2), PAGE, KEYS, k)


def test_a_wrong_field_of_a_data_class_is_refused() -> None:
    Column("price", Side.PRODUCT, 0, 0.0, 1)
    with pytest.raises(BeartypeCallHintViolation):
        Column(1, Side.PRODUCT, 0, 0.0, 1.0)  # pyright: ignore[reportArgumentType]
