"""Results on disk: opened as what they are, and never stale."""

import shutil
from pathlib import Path

import pytest
from small_steps import FAST, Steps

import shelfrank as sr


@pytest.mark.parametrize("kind", ["SearchLog", "PreparedData", "Run", "Evaluation", "Comparison"])
def test_a_result_opens_as_what_it_is_alone(kind: str, steps: Steps) -> None:
    folders = {
        "SearchLog": steps.log,
        "PreparedData": steps.data,
        "Run": steps.runs["lambdamart"],
        "Evaluation": steps.evaluations["lambdamart"],
        "Comparison": steps.comparison,
    }
    opened = getattr(sr, kind).open(folders[kind])
    assert (opened.path, opened.changed) == (Path(folders[kind]), False)
    for other in set(folders) - {kind}:
        with pytest.raises(sr.UserError, match=r"must be (a |an |prepared data)"):
            getattr(sr, kind).open(folders[other])


def test_a_result_shows_what_its_folder_holds_now(steps: Steps, tmp_path: Path) -> None:
    run = steps.runs["shown_order"]
    evaluation = sr.evaluate(run, out=tmp_path / "evaluation", **FAST, ks=[1, 5])
    assert set(evaluation.report["mrr"]) == {"1", "5"}
    sr.evaluate(run, out=evaluation, **FAST, ks=[2])
    assert set(evaluation.report["mrr"]) == {"2"}
    assert set(evaluation.table()["k"].dropna()) == {2}
    assert evaluation.manifest.inputs["config"]["ks"] == [2]


def test_a_result_whose_folder_is_gone_says_so(steps: Steps, tmp_path: Path) -> None:
    evaluation = sr.evaluate(steps.runs["shown_order"], out=tmp_path / "evaluation", **FAST)
    shutil.rmtree(evaluation)
    for read in (evaluation.table, evaluation.per_search, lambda: evaluation.info, evaluation._repr_html_):
        with pytest.raises(sr.UserError, match="must be a finished evaluation, but it does not exist"):
            read()
