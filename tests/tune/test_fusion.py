"""Fusion weights of a finished run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import planted_prepared

from shelfrank.config import EvaluateConfig, TuneConfig
from shelfrank.core.errors import UserError
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.metrics import mrr_at_k
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import Run, train
from shelfrank.tune.fusion import RUN_FOLDER, tune_fusion
from tiny import tiny

LEARNING = ("train.epochs=6", "train.batch_size=128", "train.learning_rate=1e-2", "train.patience=10")
SETTINGS = TuneConfig.model_validate({"objective": {"weights": {"purchase": 1}}, "n_resamples": 100})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    planted_prepared(folder / "prepared")
    train(folder / "prepared", "mmoe", tiny("mmoe", *LEARNING), folder / "run")
    return folder / "run"


def test_the_best_fusion_is_that_of_a_search_by_hand(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Run.open(run)
    prepared = opened.prepared()
    valid = prepared.split("valid")
    scores = opened.ranker(prepared).score(valid).astype(np.float64)
    labels = np.ascontiguousarray(valid.labels[:, 2])
    by_hand = {}
    for click in range(11):
        for cart in range(11 - click):
            weights = np.array([click, cart, 10 - click - cart]) / 10
            fused = (scores @ weights).astype(np.float32)
            found = mrr_at_k(fused, labels, valid.search_offsets, valid.tie_keys, 10)
            by_hand[f"{click}-{cart}-{10 - click - cart}"] = found
    scored: list[str] = []
    score = NeuralRanker.score

    def counted(self: NeuralRanker, rows: Any) -> Any:
        scored.append(rows.name)
        return score(self, rows)

    monkeypatch.setattr(NeuralRanker, "score", counted)
    assert tune_fusion(run, tmp_path / "fused", SETTINGS)
    assert scored == ["valid"]
    result = json.loads((tmp_path / "fused" / "trials.json").read_text())
    assert {point["id"]: point["objective"] for point in result["points"]} == pytest.approx(by_hand)
    assert by_hand[result["chosen"]] == max(by_hand.values())
    assert not tune_fusion(run, tmp_path / "fused", SETTINGS)


def test_the_run_with_the_found_weights_is_the_one_that_train_would_give(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused"
    tune_fusion(run, out, SETTINGS)
    fused = Run.open(out / RUN_FOLDER)
    best = json.loads((out / "trials.json").read_text())
    weights = next(point["weights"] for point in best["points"] if point["id"] == best["chosen"])
    assert fused.config.score_weights == weights
    assert fused.config.model_copy(update={"score_weights": None}) == Run.open(run).config
    # `train` takes it for its own: nothing is left to do.
    prepared = Path(Run.open(run).manifest.info["prepared"])
    assert not train(prepared, "mmoe", fused.config, out / RUN_FOLDER)
    evaluate(out / RUN_FOLDER, tmp_path / "evaluation", EvaluateConfig(n_resamples=10, n_resamples_auc=10), "valid")
    measured = Evaluation.open(tmp_path / "evaluation").report["mrr"]["10"]["purchase"]["value"]
    chosen = next(point for point in best["points"] if point["id"] == best["chosen"])
    assert measured == pytest.approx(chosen["objective"])


def test_a_task_that_was_not_learned_gets_no_weight(run: Path, tmp_path: Path) -> None:
    prepared = Path(Run.open(run).manifest.info["prepared"])
    config = tiny("mmoe", "train.epochs=1", "task_weights={click: 1, add_to_cart: 1}")
    train(prepared, "mmoe", config, tmp_path / "run")
    tune_fusion(tmp_path / "run", tmp_path / "fused", SETTINGS)
    points = json.loads((tmp_path / "fused" / "trials.json").read_text())["points"]
    assert len(points) == 11
    assert {point["weights"]["purchase"] for point in points} == {0.0}


def test_a_run_that_scores_one_task_is_refused(run: Path, tmp_path: Path) -> None:
    prepared = Path(Run.open(run).manifest.info["prepared"])
    train(prepared, "dcn_v2_single", tiny("dcn_v2_single", "train.epochs=1"), tmp_path / "run")
    with pytest.raises(UserError, match=r"must score several tasks .* but dcn_v2_single scores add_to_cart alone"):
        tune_fusion(tmp_path / "run", tmp_path / "fused", SETTINGS)
    assert not (tmp_path / "fused").exists()
