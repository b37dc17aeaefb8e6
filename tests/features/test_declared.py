"""How values that a request gives are read."""

import math
from typing import Any

import pytest

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Feature
from shelfrank.core.values import NumberSpelling
from shelfrank.features.declared import GivenNumbers


@pytest.mark.parametrize(
    ("words", "value", "is_missing"),
    [
        (None, "NA", True),
        (None, "-1", False),
        (["-1"], "-1", True),
        (["-1"], -1.0, True),
        (["-1"], " -1.00 ", True),
        (["-"], "-", True),
        ([], " ", True),
        ([], None, True),
        ([], 0, False),
    ],
)
def test_a_number_is_missing_by_the_features_own_words(words: Any, value: Any, is_missing: bool) -> None:
    feature = Feature.model_validate({"name": "x", "side": "context", "kind": "numerical", "null_words": words})
    assert math.isnan(GivenNumbers("x", NumberSpelling(feature.missing_words)).of(value)) == is_missing


@pytest.mark.parametrize("value", ["NA", "many", "inf", [], 10**400])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="'x' must be a number"):
        GivenNumbers("x", NumberSpelling(())).of(value)
