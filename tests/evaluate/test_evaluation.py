"""An evaluation's figures are the metrics of its kept scores, and its parts are right by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfrank.config import EvaluateConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.evaluation import Evaluation, calibration, evaluate, knows_customers, sample_searches
from shelfrank.metrics import (
    auc_roc,
    left_out_pages,
    left_out_searches,
    mrr_at_k,
    ndcg_at_k,
    personalization_degree_at_k,
)
from shelfrank.metrics.order import fuse
from shelfrank.rankers import RANKERS
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import train
from tiny import TINY_EVALUATION, tiny

every_ranker = pytest.mark.parametrize("name", RANKERS)
NETWORKS = {name for name, spec in RANKERS.items() if spec.build is NeuralRanker}
SINGLE = {"xgboost", "dcn_v2_single", "ftt_single"}


@pytest.fixture
def evaluation(name: str, small_evaluations: dict[str, Path]) -> Evaluation:
    return Evaluation.open(small_evaluations[name])


@pytest.fixture
def split(small_prepared: Path) -> Split:
    return PreparedData.open(small_prepared).split("test")


def strict_json(file: Path) -> object:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(file.read_text(), parse_constant=refuse)


@every_ranker
def test_figures_are_the_metrics_of_the_kept_scores(name: str, evaluation: Evaluation, split: Split) -> None:
    report, fused, tasks = evaluation.report, evaluation.array("fused"), evaluation.array("tasks")
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[:, index])
        page = (fused, labels, split.search_offsets, split.tie_keys)
        n_used = split.n_searches - sum(left_out_searches(labels, split.search_offsets).values())
        for k in TINY_EVALUATION.ks:
            figure = report["mrr"][str(k)][task]
            assert figure["value"] == pytest.approx(mrr_at_k(*page, k))
            assert figure["n"] == n_used
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert report["ndcg"][str(k)][task]["value"] == pytest.approx(ndcg_at_k(*page, k))
        auc = report["auc"][task]
        if task in ({"add_to_cart"} if name in SINGLE else split.tasks):
            assert auc["value"] == pytest.approx(auc_roc(np.ascontiguousarray(tasks[:, index]), labels))
        else:
            assert auc is None


@every_ranker
def test_personalization_compares_with_the_neutral_customer(name: str, evaluation: Evaluation, split: Split) -> None:
    if name in {"shown_order", "popularity"}:
        assert evaluation.report["pd"] is None
        return
    own, neutral = evaluation.array("pd_fused"), evaluation.array("pd_neutral")
    figure = evaluation.report["pd"]["5"]
    expected = personalization_degree_at_k(own, neutral, split.search_offsets, split.tie_keys, 5)
    assert figure["value"] == pytest.approx(expected)
    assert figure["left_out"] == sum(left_out_pages(split.search_offsets, 5).values()) > 0
    assert np.array_equal(own, evaluation.array("fused"))
    if name in NETWORKS and name not in SINGLE:
        assert not np.array_equal(own, neutral)


@every_ranker
def test_the_report_says_what_was_measured(name: str, evaluation: Evaluation, split: Split) -> None:
    report = evaluation.report
    assert strict_json(evaluation.path / "report.json") == report
    assert (report["name"], report["ranker"], report["label"]) == (name, name, RANKERS[name].label_for(tiny(name)))
    assert report["cost"]["score"]["rows"] == split.n_rows
    learned = name not in {"shown_order", "popularity"}
    per_task = (NETWORKS - set(SINGLE)) | {"lambdamart", "xgboost_ranking", "catboost", "blend"}
    assert (report["task_weights"] is not None) == (name in per_task)
    assert (report["cost"]["train"] is not None) == learned
    assert (report["calibration"] is not None) == (name in NETWORKS | per_task | {"xgboost"})
    assert (report["params"] is not None) == (name in NETWORKS | {"blend"})
    assert (report["shares"] is not None) == (name == "blend")
    assert (report["gates"] is not None) == name.startswith("mmoe")
    if name in NETWORKS:
        assert (report["params"]["total"] > report["params"]["trainable"]) == ("text" in name)


def test_an_evaluation_is_made_once(small_runs: dict[str, Path], small_evaluations: dict[str, Path]) -> None:
    before = {file: file.read_bytes() for file in small_evaluations["mmoe"].iterdir()}
    assert not evaluate(small_runs["mmoe"], small_evaluations["mmoe"], TINY_EVALUATION)
    assert {file: file.read_bytes() for file in small_evaluations["mmoe"].iterdir()} == before


def test_a_run_is_named_without_what_it_could_not_see(small_prepared: Path, tmp_path: Path) -> None:
    train(small_prepared, "mmoe", tiny("mmoe", "exclude_sides=[customer]"), tmp_path / "run")
    evaluate(tmp_path / "run", tmp_path / "evaluation", TINY_EVALUATION)
    report = Evaluation.open(tmp_path / "evaluation").report
    assert report["label"] == "MMoE without customer features"
    # Nothing of the customer seen: that no order differs says nothing of personalization.
    assert report["pd"] is None
    assert not (tmp_path / "evaluation" / "pd_neutral.npy").exists()


def test_nobody_is_known_without_customers_and_without_their_features(split: Split) -> None:
    assert knows_customers(split)
    numerical, categorical = np.array(split.numerical), np.array(split.categorical)
    for values, columns in ((numerical, split.numerical_columns), (categorical, split.categorical_columns)):
        for index, column in enumerate(columns):
            if column.side is Side.CUSTOMER:
                values[:, index] = values[0, index]
    alike = replace(split, numerical=numerical, categorical=categorical)
    # A known customer may be like all others; an anonymous one is told apart by features such as those of sessions.
    assert knows_customers(alike)
    nobody = np.full_like(split.customer_idx, -1)
    assert knows_customers(replace(split, customer_idx=nobody))
    assert not knows_customers(replace(alike, customer_idx=nobody))
    assert not knows_customers(split.searches(np.empty(0, dtype=np.int64)))


def test_score_weights_fuse_in_place_of_the_losss(small_prepared: Path, tmp_path: Path, split: Split) -> None:
    config = tiny("mmoe", "task_weights={click: 1, add_to_cart: 1}", "score_weights={click: 3, add_to_cart: 1}")
    train(small_prepared, "mmoe", config, tmp_path / "run")
    evaluate(tmp_path / "run", tmp_path / "evaluation", TINY_EVALUATION)
    evaluation = Evaluation.open(tmp_path / "evaluation")
    tasks = evaluation.array("tasks").astype(np.float64)
    np.testing.assert_allclose(evaluation.array("fused"), 0.75 * tasks[:, 0] + 0.25 * tasks[:, 1], rtol=1e-6)
    assert evaluation.report["task_weights"] == {"click": 0.5, "add_to_cart": 0.5, "purchase": 0.0}
    assert evaluation.report["score_weights"] == {"click": 0.75, "add_to_cart": 0.25, "purchase": 0.0}
    # A task without weight in the loss was never learned: its probabilities mean nothing.
    assert evaluation.report["auc"]["purchase"] is None
    assert set(evaluation.report["calibration"]) == {"click", "add_to_cart"}


@pytest.mark.parametrize("file", ["report.json", "fused.npy", "manifest.json"])
def test_a_damaged_evaluation_is_told(file: str, small_evaluations: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_evaluations["mmoe"], tmp_path / "mmoe"))
    (copy / file).write_bytes(b"x" * (copy / file).stat().st_size)
    with pytest.raises(UserError, match=f"{file} must"):
        Evaluation.open(copy)


def test_fuse_is_the_weighted_sum() -> None:
    scores = np.array([[0.5, 0.25, 0.0], [0.0, 1.0, 1.0]], dtype=np.float32)
    assert fuse(scores, (0.5, 0.25, 0.25)).tolist() == [0.3125, 0.5]


def test_calibration_bins_hold_equally_many_rows_by_rising_prediction() -> None:
    # 24 rows in 12 bins of two; both rows of bin i are predicted i / 12, and from bin 6 on one of them is positive.
    probs = np.repeat(np.arange(12) / 12, 2).astype(np.float32)
    labels = np.array([int(row % 2 == 0 and row >= 12) for row in range(24)], dtype=np.int8)
    shuffled = np.random.default_rng(0).permutation(24)
    bins = calibration(probs[shuffled], labels[shuffled])
    assert [found["rows"] for found in bins] == [2] * 12
    assert [found["predicted"] for found in bins] == pytest.approx([i / 12 for i in range(12)])
    assert [found["observed"] for found in bins] == [0.0] * 6 + [0.5] * 6


@pytest.mark.parametrize(
    ("probs", "rows"),
    [
        pytest.param([0.1] * 700 + [0.3] * 300, [700, 300], id="two predictions: two bins"),
        pytest.param([0.2] * 50, [50], id="one prediction: one bin"),
        pytest.param([0.0] * 990 + [i / 100 for i in range(1, 11)], [990, 10], id="nearly all alike"),
        pytest.param([0.1] * 3 + [0.2] * 3 + [0.3] * 3 + [0.4] * 3, [3, 3, 3, 3], id="fewer values than bins"),
    ],
)
def test_rows_of_equal_prediction_share_a_bin_whatever_their_order(probs: list[float], rows: list[int]) -> None:
    rng = np.random.default_rng(1)
    predicted = np.array(probs, dtype=np.float32)
    # Positives come late, as a change over time makes them.
    labels = (np.arange(len(probs)) > 0.6 * len(probs)).astype(np.int8)
    bins = calibration(predicted, labels)
    assert [found["rows"] for found in bins] == rows
    for _ in range(5):
        order = rng.permutation(len(probs))
        assert calibration(predicted[order], labels[order]) == bins


def test_calibration_leaves_out_rows_without_a_label() -> None:
    probs, labels = np.array([0.1, 0.9, 0.5], dtype=np.float32), np.array([0, -1, 1], dtype=np.int8)
    assert calibration(probs, labels) == [
        {"predicted": pytest.approx(0.1), "observed": 0.0, "rows": 1},
        {"predicted": pytest.approx(0.5), "observed": 1.0, "rows": 1},
    ]
    assert calibration(probs, np.full(3, -1, dtype=np.int8)) == []


def test_few_searches_are_all_sampled_and_many_are_drawn_without_repetition() -> None:
    assert sample_searches(5, EvaluateConfig(pd_searches=5)).tolist() == [0, 1, 2, 3, 4]
    drawn = sample_searches(1000, EvaluateConfig(pd_searches=50, seed=3))
    assert len(set(drawn.tolist())) == 50
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == sample_searches(1000, EvaluateConfig(pd_searches=50, seed=3)).tolist()
    assert drawn.tolist() != sample_searches(1000, EvaluateConfig(pd_searches=50, seed=4)).tolist()
