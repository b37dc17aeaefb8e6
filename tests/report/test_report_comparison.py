import math
from typing import Any

import pytest

from shelfrank.core.errors import UserError
from shelfrank.report.comparison import read_comparison
from shelfrank.report.estimates import Estimate, Measure


def test_absent_null_and_nan_all_mean_unknown() -> None:
    parts = [
        {},
        {"title": None, "data": None, "confidence": None, "rankers": None},
        {"confidence": math.nan, "bounds": None},
    ]
    assert len({read_comparison(part).model_dump_json() for part in parts}) == 1


@pytest.mark.parametrize(
    ("low", "high", "sign"),
    [
        (0.1, 0.2, 1),
        (-0.2, -0.1, -1),
        (-0.1, 0.1, 0),
        (0.0, 0.1, 0),
        (-0.1, 0.0, 0),
        (None, 0.1, None),
        (0.1, None, None),
    ],
)
def test_the_sign_of_an_interval(low: float | None, high: float | None, sign: int | None) -> None:
    assert Estimate(value=0.0, low=low, high=high).sign == sign


@pytest.mark.parametrize(("n", "sign"), [(29, 0), (30, 1), (None, 1)])
def test_the_sign_needs_thirty_searches(n: int | None, sign: int) -> None:
    assert Estimate(value=0.2, low=0.1, high=0.3, n=n).sign == sign
    assert Estimate(value=0.2, low=0.1, high=0.3, n=n).too_few == (n == 29)


@pytest.mark.parametrize(
    ("rankers", "titles"),
    [
        pytest.param([("a", "MMoE"), ("b", "LambdaMART")], ["MMoE", "LambdaMART"], id="labels differ"),
        pytest.param([("a", "MMoE"), ("b", "MMoE"), ("c", "X")], ["MMoE (a)", "MMoE (b)", "X"], id="two alike"),
        pytest.param([("x/run", "MMoE"), ("y/run", "MMoE")], ["MMoE (x/run)", "MMoE (y/run)"], id="folders above"),
        pytest.param([("MMoE", None), ("b", "MMoE")], ["MMoE", "MMoE (b)"], id="a name like a label"),
        pytest.param([("a", None), ("b", None)], ["a", "b"], id="no labels"),
    ],
)
def test_titles_tell_rankers_apart(rankers: list[tuple[str, str | None]], titles: list[str]) -> None:
    data = {"rankers": [{"name": name, "label": label} for name, label in rankers]}
    assert [ranker.title for ranker in read_comparison(data).rankers] == titles


def test_cutoffs_may_be_numbers_as_well_as_text() -> None:
    ranker = {"name": "a", "mrr": {10: {"click": {"value": 0.5}}}}
    found = read_comparison({"rankers": [ranker]}).rankers[0].get(Measure("mrr", 10), "click")
    assert found is not None
    assert found.value == 0.5


def test_settings_keep_their_nulls() -> None:
    ranker = {"name": "a", "config": {"dropout": None, "layers": [1, None]}}
    assert read_comparison({"rankers": [ranker]}).rankers[0].config == {"dropout": None, "layers": [1, None]}


def test_an_unknown_key_is_no_error(full: dict[str, Any]) -> None:
    full["later_version"] = {"x": 1}
    assert read_comparison(full).title == "storefront"


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"tasks": "click"}, "tasks"),
        ({"ks": ["ten"]}, r"ks\.0"),
        ({"rankers": [{"label": "no name"}]}, r"rankers\.0\.name"),
    ],
)
def test_errors_name_their_place(part: dict[str, Any], place: str) -> None:
    with pytest.raises(UserError, match=f"^comparison: {place}"):
        read_comparison(part)
