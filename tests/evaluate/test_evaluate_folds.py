"""One figure over several test windows: the searches of all folds, each scored once by the ranker of its fold."""

import json
from pathlib import Path

import numpy as np
import pytest

from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import Evaluation, evaluate, is_evaluated
from shelfrank.evaluate.segmentations import query_frequencies, segmentations
from shelfrank.evaluate.tables import per_search_columns
from shelfrank.metrics import bootstrap_mean
from shelfrank.report.page import render, write_report
from shelfrank.report.terminal import conclusion_lines, evaluation_lines
from tiny import TINY_EVALUATION

NAMES = ["fold-1", "fold-2", "fold-3"]


@pytest.fixture(scope="module")
def evaluations(small_folds: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evaluation]:
    """By name, that of all folds under the ranker's, those of single folds of LambdaMART under the fold's."""
    out = tmp_path_factory.mktemp("evaluations")
    for ranker in ("shown_order", "lambdamart"):
        assert evaluate(small_folds / "runs" / ranker, out / ranker, TINY_EVALUATION)
    for name in NAMES:
        assert evaluate(small_folds / "runs" / "lambdamart" / name, out / name, TINY_EVALUATION)
    return {path.name: Evaluation.open(path) for path in out.iterdir()}


@pytest.fixture(scope="module")
def compared(evaluations: dict[str, Evaluation]) -> Path:
    paths = [evaluations[name].path for name in ("shown_order", "lambdamart")]
    out = paths[0].parent.parent / "comparison"
    assert compare(paths, out, "shown_order", write_report)
    return out


def test_scores_are_those_of_each_fold_one_after_another(evaluations: dict[str, Evaluation]) -> None:
    for array in ("tasks", "fused"):
        apart = np.concatenate([evaluations[name].array(array) for name in NAMES])
        np.testing.assert_array_equal(evaluations["lambdamart"].array(array), apart)


def test_the_figure_is_the_mean_over_all_searches(evaluations: dict[str, Evaluation]) -> None:
    pooled = evaluations["lambdamart"]
    for index, task in enumerate(pooled.prepared().tasks):
        ranks: list[float] = []
        for name in NAMES:
            split, fused = evaluations[name].prepared().split("test"), evaluations[name].array("fused")
            for first, end in zip(split.search_offsets[:-1].tolist(), split.search_offsets[1:].tolist(), strict=True):
                order = sorted(range(first, end), key=lambda row: (-fused[row], split.tie_keys[row]))
                found = [place for place, row in enumerate(order, start=1) if split.labels[row, index] == 1]
                ranks.append((1 / found[0] if found[0] <= 5 else 0.0) if found else np.nan)
        figure = pooled.report["mrr"]["5"][task]
        assert figure["value"] == pytest.approx(np.nanmean(ranks), rel=1e-12)
        assert figure["n"] == np.count_nonzero(~np.isnan(ranks))
        config = TINY_EVALUATION
        interval = bootstrap_mean(np.array(ranks), config.n_resamples, config.seed, config.confidence)
        assert figure == pytest.approx(interval.as_dict())


def test_each_fold_has_its_figure_too(evaluations: dict[str, Evaluation]) -> None:
    report = evaluations["lambdamart"].report
    assert list(report["folds"]) == NAMES
    for name in NAMES:
        alone, fold = evaluations[name], report["folds"][name]
        assert fold["mrr"] == alone.report["mrr"]
        times = alone.prepared().searches("test")["timestamp"].to_pylist()
        assert (fold["searches"], fold["first"]) == (len(times), times[0].isoformat())
        assert "folds" not in alone.report
    sizes = [fold["searches"] for fold in report["folds"].values()]
    total = sum(sizes)
    assert report["evaluated"] == {"searches": total, "of": total, "only": None, "folds": sizes}
    lines = evaluation_lines(report)
    assert lines[0] == f"evaluated on {total} searches in 3 test windows"
    assert "; fold-1 0." in lines[1]
    assert evaluation_lines(evaluations["fold-1"].report) == []


def test_personalization_degree_is_of_all_folds(evaluations: dict[str, Evaluation]) -> None:
    pooled = evaluations["lambdamart"]
    for array in ("pd_fused", "pd_neutral"):
        apart = np.concatenate([evaluations[name].array(array) for name in NAMES])
        np.testing.assert_array_equal(pooled.array(array), apart)
    assert pooled.report["pd"]["5"]["n"] == sum(evaluations[name].report["pd"]["5"]["n"] for name in NAMES)
    assert pooled.array("pd_searches").tolist() == list(range(pooled.prepared().split("test").n_searches))


def test_a_second_evaluation_does_nothing(small_folds: Path, evaluations: dict[str, Evaluation]) -> None:
    run, out = small_folds / "runs" / "lambdamart", evaluations["lambdamart"].path
    assert is_evaluated(run, out, TINY_EVALUATION)
    assert not evaluate(run, out, TINY_EVALUATION)


def test_only_the_test_split_of_folds_is_evaluated(small_folds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"but the split is valid; evaluate one fold, such as .*shown_order/fold-1"):
        evaluate(small_folds / "runs" / "shown_order", tmp_path / "out", TINY_EVALUATION, "valid")


def test_values_by_search_are_of_every_fold(evaluations: dict[str, Evaluation]) -> None:
    columns = per_search_columns(evaluations["lambdamart"])
    apart = [per_search_columns(evaluations[name]) for name in NAMES]
    assert columns["search_id"].to_pylist() == [id_ for each in apart for id_ in each["search_id"].to_pylist()]
    assert columns["query"].to_pylist() == [query for each in apart for query in each["query"].to_pylist()]
    np.testing.assert_array_equal(columns["mrr@5_click"], np.concatenate([each["mrr@5_click"] for each in apart]))


def test_segments_are_judged_by_the_training_searches_of_their_fold(small_folds: Path) -> None:
    data = PreparedData.open_folds(small_folds / "prepared")
    found = segmentations(small_folds / "log", data, "test")
    by_fold = [query_frequencies(fold.split("test"), fold.split("train")) for fold in data.folds]
    for name in ("head", "unseen"):
        np.testing.assert_array_equal(found["query_frequency"][name], np.concatenate([each[name] for each in by_fold]))
    assert list(found["fold"]) == NAMES
    assert sum(chosen.astype(int) for chosen in found["fold"].values()).tolist() == [1] * data.split("test").n_searches


def test_a_comparison_says_what_its_figures_are_on(evaluations: dict[str, Evaluation], compared: Path) -> None:
    comparison = json.loads((compared / "comparison.json").read_text())
    total = evaluations["lambdamart"].report["evaluated"]["searches"]
    assert comparison["counts"]["searches"] == total
    for name in NAMES:
        segment = comparison["segments"]["fold"][name]
        figure = segment["rankers"]["lambdamart"]["mrr"]["5"]
        # A segment's resamples are those of a split that holds only it.
        assert figure == evaluations[name].report["mrr"]["5"]
    difference = comparison["differences"]["lambdamart"]["mrr"]["5"]["click"]
    own, base = (evaluations[name].report["mrr"]["5"]["click"]["value"] for name in ("lambdamart", "shown_order"))
    assert difference["value"] == pytest.approx(own - base)
    assert f"Evaluated on {total} searches in 3 test windows." in conclusion_lines(comparison)
    page = render(comparison)
    assert f"evaluated on {total} searches in 3 test windows" in page
    assert "3 forward folds: every test search is ranked by a ranker that was trained on earlier searches alone" in page
    assert "Test window" in page


def test_a_fold_is_not_compared_with_all(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must share their data, but they differ"):
        compare([evaluations["lambdamart"].path, evaluations["fold-3"].path], tmp_path / "out", "fold-3", write_report)
