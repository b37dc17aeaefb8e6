"""Searches for weights: the planted optimum is found, whoever is killed, and the test split stays shut."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from planted import BEST, KnownRanker, planted_prepared
from typer.testing import CliRunner

from shelfrank.cli import app
from shelfrank.config import ExperimentConfig, TuneConfig, resolve
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.tune import trials, tuning
from shelfrank.tune.tuning import tune, tune_weights, work_folder
from tiny import add_relevance, tiny

TASKS = ("click", "add_to_cart", "purchase")
LEARNING = ("train.epochs=6", "train.batch_size=128", "train.learning_rate=1e-2", "train.patience=10")
CONFIG = tiny("mmoe", "relevance_weight=0")
FOR_PURCHASES: dict[str, Any] = {"objective": {"weights": {"purchase": 1}}, "n_resamples": 100}
TESTS = Path(__file__).parents[1]


def settings(**changes: Any) -> TuneConfig:
    return TuneConfig.model_validate(FOR_PURCHASES | changes)


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "trials.json").read_text())


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_prepared(tmp_path_factory.mktemp("planted") / "prepared")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> type[KnownRanker]:
    monkeypatch.setattr(trials, "NeuralRanker", KnownRanker)
    monkeypatch.setattr(KnownRanker, "fits", [])
    return KnownRanker


@pytest.mark.parametrize(("method", "step"), [("full", 0.2), ("cheap", 0.1)])
def test_the_planted_weighting_is_found(
    method: str, step: float, planted: Path, tmp_path: Path, known: type[KnownRanker]
) -> None:
    out = tmp_path / "tuned"
    found = tune_weights(planted, "mmoe", CONFIG, out, settings(method=method, step=step))
    assert found == dict(zip(TASKS, BEST, strict=True))
    cost = result(out)["cost"]
    if method == "full":
        assert cost["rows"] == cost["full_rows"] == 21 * 2 * 3000
    else:
        assert cost["full_rows"] == 66 * 2 * 3000
        assert cost["rows"] < cost["full_rows"] / 5
        assert cost["trainings"] == 1 + 66 + 3 + 5
    assert [file.name for file in tmp_path.iterdir()] == ["tuned"]


def test_a_finished_search_is_not_done_again(planted: Path, tmp_path: Path, known: type[KnownRanker]) -> None:
    out, chosen = tmp_path / "tuned", settings(step=0.5)
    assert tune(planted, "mmoe", CONFIG, out, chosen)
    n = len(known.fits)
    assert not tune(planted, "mmoe", CONFIG, out, chosen)
    assert len(known.fits) == n
    assert tune(planted, "mmoe", CONFIG.model_copy(update={"seed": 1}), out, chosen)
    assert len(known.fits) == 2 * n


def test_a_real_training_finds_the_planted_trade_off(planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    cheap = {"looks": [0.2], "keep": [0.5], "n_best": 3, "n_spread": 1}
    found = tune_weights(
        planted, "mmoe", tiny("mmoe", *LEARNING, "relevance_weight=0"), out, settings(step=0.2, cheap=cheap)
    )
    # What purchases follow is six parts click and four parts cart; their own tower saw no label.
    assert 0.4 <= found["click"] <= 0.8
    assert found["purchase"] <= 0.1
    chosen = next(point for point in result(out)["points"] if point["id"] == result(out)["chosen"])
    corners = [point for point in result(out)["points"] if 1.0 in point["weights"].values()]
    assert chosen["whole"]["objective"]["low"] > max(point["objective"] for point in corners)


def test_the_test_split_is_never_opened(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="must be a NumPy array"):
        PreparedData.open(planted).split("test")
    opened: list[str] = []
    split = PreparedData.split

    def counted(self: PreparedData, name: str) -> Any:
        opened.append(name)
        return split(self, name)

    monkeypatch.setattr(PreparedData, "split", counted)
    sizes = {"n_trials": 2, "d_embedding": [4], "expert_width": [8]}
    for search in ("weights", "sizes"):
        out = tmp_path / search
        tune(planted, "mmoe", CONFIG, out, settings(search=search, step=0.5, sizes=sizes))
    assert set(opened) == {"train", "valid"}


KILLED = """
import os, signal, sys
from pathlib import Path
from planted import KnownRanker
from shelfrank.config import ExperimentConfig, TuneConfig
from shelfrank.tune import trials
from shelfrank.tune.tuning import tune

prepared, out, config, settings, kill_at = sys.argv[1:]

def kill():
    if len(KnownRanker.fits) == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)

KnownRanker.before_fit = staticmethod(kill)
trials.NeuralRanker = KnownRanker
tune(Path(prepared), "mmoe", ExperimentConfig.model_validate_json(config), Path(out),
     TuneConfig.model_validate_json(settings))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS / 'tune'}"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_killed_search_goes_on_and_finds_the_same(planted: Path, tmp_path: Path, known: type[KnownRanker]) -> None:
    whole, out, chosen = tmp_path / "whole", tmp_path / "tuned", settings(step=0.25)
    tune(planted, "mmoe", CONFIG, whole, chosen)
    fits = list(known.fits)
    kill_at = 12
    arguments = (str(planted), str(out), CONFIG.model_dump_json(), chosen.model_dump_json(), str(kill_at))
    killed = start(KILLED, *arguments)
    _, error = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, error
    assert not out.exists()
    assert work_folder(out).is_dir()

    known.fits.clear()
    assert tune(planted, "mmoe", CONFIG, out, chosen)
    # Twelve trainings were finished; the thirteenth, under way when the process died, is done again.
    assert sorted(known.fits) == sorted(fits[kill_at:])
    assert untimed(result(out)) == untimed(result(whole))


def test_a_killed_searchs_trials_are_not_taken_for_those_of_another_config(
    planted: Path, tmp_path: Path, known: type[KnownRanker]
) -> None:
    out, chosen = tmp_path / "tuned", settings(step=0.5, method="full")

    def stop() -> None:
        if len(known.fits) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "before_fit", staticmethod(stop))
        with pytest.raises(KeyboardInterrupt):
            tune(planted, "mmoe", CONFIG, out, chosen)
    known.fits.clear()
    assert tune(planted, "mmoe", CONFIG.model_copy(update={"seed": 1}), out, chosen)
    assert len(known.fits) == 6


def untimed(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: untimed(value) for name, value in data.items() if name != "seconds"}
    return [untimed(value) for value in data] if isinstance(data, list) else data


WORKER = """
import json, sys, time
from pathlib import Path
from planted import KnownRanker
from shelfrank.config import ExperimentConfig, TuneConfig
from shelfrank.tune import trials, tuning

role, prepared, out, config, settings = sys.argv[1:]
met = Path(out).parent

def meet():
    # Each worker has begun a trial before either ends one.
    (met / f"met-{role}").touch()
    end = time.monotonic() + 60
    while len(list(met.glob("met-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)

KnownRanker.before_fit = staticmethod(meet)
trials.NeuralRanker = KnownRanker
given = Path(prepared), "mmoe", ExperimentConfig.model_validate_json(config)
if role == "tune":
    tuning.tune(*given, Path(out), TuneConfig.model_validate_json(settings))
else:
    tuning.join(*given, TuneConfig.model_validate_json(settings), Path(out))
(met / f"fits-{role}.json").write_text(json.dumps(KnownRanker.fits))
"""


def test_two_processes_share_the_trials_of_one_folder(planted: Path, tmp_path: Path) -> None:
    out, chosen = tmp_path / "tuned", settings(step=0.5, method="full")
    arguments = (str(planted), str(out), CONFIG.model_dump_json(), chosen.model_dump_json())
    workers = [start(WORKER, role, *arguments) for role in ("tune", "join")]
    for worker in workers:
        _, error = worker.communicate()
        assert worker.returncode == 0, error
    fits = [json.loads((tmp_path / f"fits-{role}.json").read_text()) for role in ("tune", "join")]
    assert all(fits)
    assert len(fits[0]) + len(fits[1]) == len({str(weights) for weights, _ in fits[0] + fits[1]}) == 6
    assert len(result(out)["points"]) == 6
    assert not work_folder(out).exists()


def test_workers_are_started_and_ended(planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    config = tiny("mmoe", "train.epochs=1", "relevance_weight=0")
    assert tune(planted, "mmoe", config, out, settings(step=0.5, method="full"), n_workers=2)
    assert len(result(out)["points"]) == 6


def test_relevance_weights_are_tried_beside_the_tasks(tmp_path: Path) -> None:
    plain = planted_prepared(tmp_path / "prepared", 60, 60, has_test=True)
    prepared, out = add_relevance(plain, tmp_path / "graded"), tmp_path / "tuned"
    chosen = TuneConfig.model_validate({"step": 1, "relevance_weights": [0.0, 0.5], "n_resamples": 50})
    tune(prepared, "mmoe", tiny("mmoe", "train.epochs=1"), out, chosen)
    found = result(out)
    assert [point["relevance_weight"] for point in found["points"]] == [0.0, 0.5] * 3
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert f"relevance_weight={best['relevance_weight']:g}" in found["set"]


def test_the_best_config_is_one_that_train_takes(planted: Path, tmp_path: Path, known: type[KnownRanker]) -> None:
    out = tmp_path / "tuned"
    told = CliRunner().invoke(
        app,
        [
            *("tune", str(planted), "--ranker", "mmoe", "--out", str(out), "--objective", "click=1, purchase=2"),
            *("--tune", "step=0.5", "--tune", "n_resamples=50", "--set", "train.threads=1", "--json"),
        ],
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    [assignment] = facts["set"]
    best = resolve(ExperimentConfig, out / "best.yaml")
    assert best == best.model_copy(update=yaml.safe_load("{" + assignment.replace("=", ": ", 1) + "}"))
    assert best.train.threads == 1
    assert result(out)["objective"]["weights"] == {"click": 1 / 3, "add_to_cart": 0.0, "purchase": 2 / 3}
    assert read_manifest(out, tuning.KIND).info["search"]["trainings"] == facts["search"]["trainings"]
    with np.load(out / "ranks.npz") as ranks:
        assert len(ranks.files) == 6


@pytest.mark.parametrize(
    ("ranker", "changes", "config", "message"),
    [
        (
            "xgboost",
            {},
            (),
            "needs a network that learns several tasks, such as mmoe_dcn_v2, .* but xgboost is neither",
        ),
        ("dcn_v2_single", {}, (), "but dcn_v2_single is neither"),
        ("mmoe", {}, ("score_weights={click: 1}",), "score_weights must not be set while loss weights are tuned"),
        ("mmoe", {"relevance_weights": [0.1]}, (), "need prepared data with relevance labels, but .* has none"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    ranker: str, changes: dict[str, Any], config: tuple[str, ...], message: str, planted: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        tune(planted, ranker, tiny(ranker, *config), tmp_path / "tuned", settings(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("step=0.3", "step must be 1 divided by a whole number"),
        ("cheap.keep=[0.5, 0.5]", "looks .1. and keep .2. must have the same length"),
        ("cheap.looks=[0]", "looks and keep must be above 0"),
        ("sizes.dropout=[0.5, 0.1]", "dropout must be a minimum and a maximum"),
        ("sizes.n_experts=[0]", "sizes.n_experts.0: Input should be greater than or equal to 1"),
        ("relevance_weights=[-1]", "relevance_weights.0: Input should be greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_told(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(TuneConfig, None, [assignment])
