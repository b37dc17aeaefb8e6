"""Comparisons: paired differences, what may be compared, and the file that the report reads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shelfrank.core.errors import UserError
from shelfrank.demo import compare_and_report
from shelfrank.evaluate.compare import compare, evaluation_names, share_of_possible
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.rankers import RANKERS
from shelfrank.rankers.run import train
from tiny import TINY_EVALUATION, tiny


@pytest.fixture(scope="module")
def evaluations(small_evaluations: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three of the small evaluations, and one of them once more."""
    again = tmp_path_factory.mktemp("evaluations") / "mmoe_again"
    shutil.copytree(small_evaluations["mmoe"], again)
    return {name: small_evaluations[name] for name in ("shown_order", "xgboost", "mmoe")} | {again.name: again}


@pytest.fixture(scope="module")
def compared(evaluations: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "comparison"
    assert compare([*evaluations.values()], out, "mmoe", no_page)
    return out


@pytest.fixture(scope="module")
def comparison(compared: Path) -> dict[str, Any]:
    return strict_json(compared / "comparison.json")


def no_page(comparison: Mapping[str, Any], file: Path) -> None:
    file.write_text(str(comparison["title"]))


def strict_json(file: Path) -> dict[str, Any]:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(file.read_text(), parse_constant=refuse)


def test_a_ranker_does_not_differ_from_itself(comparison: dict[str, Any]) -> None:
    same = comparison["differences"]["mmoe_again"]
    figures = [same[metric][k][task] for metric in ("mrr", "ndcg") for k in ("1", "5") for task in comparison["tasks"]]
    figures += [same["auc"][task] for task in comparison["tasks"]]
    assert len(figures) == 15
    for figure in figures:
        assert (figure["value"], figure["p"], figure["n_differing"]) == (0.0, 1.0, 0)
        # That no search differed does not show that none ever will; one search alone shows nothing.
        assert figure["low"] is None if figure["n"] < 2 else figure["low"] < 0 < figure["high"]


def test_a_difference_is_that_of_the_two_figures(comparison: dict[str, Any], evaluations: dict[str, Path]) -> None:
    mmoe, other = (Evaluation.open(evaluations[name]).report for name in ("mmoe", "shown_order"))
    assert set(comparison["differences"]) == set(evaluations) - {"mmoe"}
    for metric in ("mrr", "ndcg"):
        for task in comparison["tasks"]:
            figure = comparison["differences"]["shown_order"][metric]["5"][task]
            assert figure["value"] == pytest.approx(
                other[metric]["5"][task]["value"] - mmoe[metric]["5"][task]["value"]
            )
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert 0 < figure["p"] <= 1
    assert comparison["differences"]["shown_order"]["mrr"]["5"]["click"]["value"] != 0.0


def test_auc_is_compared_only_where_both_rankers_predict_the_task(comparison: dict[str, Any]) -> None:
    auc = comparison["differences"]["xgboost"]["auc"]
    assert auc["click"] is auc["purchase"] is None
    assert auc["add_to_cart"]["value"] != 0.0


def test_the_comparison_says_what_it_rests_on(comparison: dict[str, Any], evaluations: dict[str, Path]) -> None:
    assert comparison["baseline"] == "mmoe"
    assert (comparison["split"], comparison["ks"]) == ("test", [1, 5])
    assert {ranker["name"] for ranker in comparison["rankers"]} == set(evaluations)
    assert comparison["bounds"] is None
    assert comparison["network_against_lambdamart"] is None  # no LambdaMART was compared
    assert set(comparison["segments"]) == {"query_frequency", "customer", "product_coldness"}
    counts = comparison["counts"]
    for task in comparison["tasks"]:
        assert counts["with_positive"][task] + sum(counts["left_out"][task].values()) == counts["searches"]
        assert 0 < counts["with_positive"][task] < counts["searches"]
    steps = [step["name"] for step in comparison["steps"]]
    assert steps[:2] == ["import", "prepare"]
    assert {"train mmoe", "evaluate mmoe", "evaluate shown_order", "compare"} <= set(steps)
    assert "train shown_order" not in steps
    assert set(comparison["moves"]) == {"xgboost", "mmoe", "mmoe_again"}


def test_a_comparison_is_made_once(compared: Path, evaluations: dict[str, Path]) -> None:
    before = {file: file.read_bytes() for file in compared.iterdir()}
    assert not compare([*evaluations.values()], compared, "mmoe", no_page)
    assert {file: file.read_bytes() for file in compared.iterdir()} == before


@pytest.mark.parametrize("what", ["data", "split", "config"])
def test_only_like_evaluations_are_compared(
    what: str, evaluations: dict[str, Path], small_runs: dict[str, Path], click_only_prepared: Path, tmp_path: Path
) -> None:
    run, config, split = small_runs["shown_order"], TINY_EVALUATION, "test"
    if what == "data":
        run = tmp_path / "run"
        train(click_only_prepared, "shown_order", tiny("shown_order"), run)
    elif what == "split":
        split = "valid"
    else:
        config = TINY_EVALUATION.model_copy(update={"ks": (3,)})
    evaluate(run, tmp_path / "other", config, split)
    with pytest.raises(UserError, match=f"must share their {what}, but they differ( in \\w+)?: mmoe against other;"):
        compare([evaluations["mmoe"], tmp_path / "other"], tmp_path / "out", "mmoe", no_page)
    assert not (tmp_path / "out").exists()


def test_an_unknown_baseline_is_told(evaluations: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown baseline 'mmoee': choose one of mmoe, .*did you mean 'mmoe'"):
        compare([evaluations["mmoe"], evaluations["shown_order"]], tmp_path / "out", "mmoee", no_page)


def test_without_the_shown_order_the_runs_and_the_option_are_told(evaluations: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"shown_order, .*, is not among mmoe, xgboost; .* with --baseline") as told:
        compare([evaluations["mmoe"], evaluations["xgboost"]], tmp_path / "out", "shown_order", no_page)
    assert "evaluate a run of the ranker shown_order" in str(told.value)


@pytest.mark.parametrize("baseline", ["second/mmoe", "path"])
def test_evaluations_of_one_name_are_told_apart_by_the_folders_above(
    baseline: str, evaluations: dict[str, Path], tmp_path: Path
) -> None:
    one, other = (Path(shutil.copytree(evaluations["mmoe"], tmp_path / name / "mmoe")) for name in ("first", "second"))
    compare([one, other], tmp_path / "out", str(other) if baseline == "path" else baseline, no_page)
    comparison = strict_json(tmp_path / "out" / "comparison.json")
    assert [ranker["name"] for ranker in comparison["rankers"]] == ["first/mmoe", "second/mmoe"]
    assert comparison["baseline"] == "second/mmoe"
    assert set(comparison["differences"]) == {"first/mmoe"}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/mmoe", "/a/xgboost"], ["mmoe", "xgboost"]),
        (["/a/run", "/b/run", "/b/other"], ["a/run", "b/run", "other"]),
        (["/x/a/run", "/y/a/run", "/y/run"], ["x/a/run", "y/a/run", "y/run"]),
        (["/a/run/", "/a/../b/run"], ["a/run", "b/run"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths: list[str], names: list[str]) -> None:
    assert evaluation_names([Path(path) for path in paths]) == names


def test_an_evaluation_that_is_given_twice_is_refused(evaluations: dict[str, Path], tmp_path: Path) -> None:
    path = evaluations["mmoe"]
    with pytest.raises(UserError, match="must be given once"):
        compare([path, path.parent / "." / path.name], tmp_path / "out", "mmoe", no_page)


def test_a_page_that_fails_leaves_no_comparison(evaluations: dict[str, Path], tmp_path: Path) -> None:
    def failing(*_: object) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        compare([evaluations["mmoe"]], tmp_path / "out", "mmoe", failing)
    assert list(tmp_path.iterdir()) == []


def test_share_of_possible_is_the_part_of_the_way_that_was_gone() -> None:
    def report(click: float | None, purchase: float | None) -> dict[str, Any]:
        return {"mrr": {"5": {"click": {"value": click}, "purchase": {"value": purchase}}}}

    bounds = {"best": {"mrr": {"5": {"click": 0.8, "purchase": 0.5}}}}
    # From 0.4 to 0.5 of a possible 0.8: a quarter of the way. Where baseline and best are equal there is no way.
    shares = share_of_possible(report(0.5, 0.6), report(0.4, 0.5), bounds, TINY_EVALUATION)
    assert shares == {"click": pytest.approx(0.25), "purchase": None}
    assert share_of_possible(report(0.3, None), report(0.4, 0.2), bounds, TINY_EVALUATION) == {
        "click": pytest.approx(-0.25),
        "purchase": None,
    }
    assert share_of_possible(report(0.5, 0.6), report(0.4, 0.5), None, TINY_EVALUATION) is None


def test_a_log_of_clicks_only_is_compared_from_end_to_end(click_only_prepared: Path, tmp_path: Path) -> None:
    for name in RANKERS:
        train(click_only_prepared, name, tiny(name), tmp_path / "runs" / name)
        evaluate(tmp_path / "runs" / name, tmp_path / name, TINY_EVALUATION)
    comparison = compare_and_report([tmp_path / name for name in RANKERS], tmp_path / "out", "shown_order")
    assert comparison["tasks"] == ["click"]
    assert comparison == strict_json(tmp_path / "out" / "comparison.json")
    assert set(comparison["differences"]["mmoe"]["mrr"]["5"]) == {"click"}
    duel = comparison["network_against_lambdamart"]
    mrr = {ranker["name"]: ranker["mrr"]["5"]["click"]["value"] for ranker in comparison["rankers"]}
    # A blend is no network by itself.
    trees = {"xgboost", "lambdamart", "xgboost_ranking", "catboost"}
    networks = set(RANKERS) - {"shown_order", "popularity", "blend", *trees}
    assert (duel["lambdamart"], duel["n_networks"]) == ("lambdamart", len(networks))
    assert mrr[duel["network"]] == max(mrr[name] for name in networks)
    difference = duel["mrr"]["5"]["click"]
    assert difference["value"] == pytest.approx(mrr[duel["network"]] - mrr["lambdamart"])
    assert difference["low"] <= difference["value"] <= difference["high"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Against LambdaMART, " in page
    assert "nan" not in page.lower().split()


def test_a_name_leaves_the_root_out() -> None:
    assert evaluation_names([Path("/a/b/mmoe"), Path("/b/mmoe")]) == ["a/b/mmoe", "b/mmoe"]
