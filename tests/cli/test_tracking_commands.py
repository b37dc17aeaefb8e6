"""The commands around a finished run: what they print, and that tracking comes after the result is safe."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shelfrank import tracking
from shelfrank.cli import app
from shelfrank.core.errors import UserError
from shelfrank.rankers.run import Run

RESAMPLES = ["--set", "n_resamples=20", "--set", "n_resamples_auc=5"]


def run(*words: object, fails: bool = False) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    if fails:
        assert isinstance(result.exception, UserError)
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_train_and_evaluate_track_what_they_wrote(
    small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked: list[tuple[Path, list[Path]]] = []

    def track(run: Path, evaluations: list[Path], uri: str | None, experiment: str | None) -> str:
        tracked.append((run, evaluations))
        return "id7"

    monkeypatch.setattr(tracking, "track", track)
    trained, evaluated = tmp_path / "run", tmp_path / "evaluation"
    run("train", small_prepared, "--ranker", "shown_order", "--out", trained)
    assert tracked == []
    run("train", small_prepared, "--ranker", "shown_order", "--out", trained, "--mlflow")
    run("evaluate", trained, "--out", evaluated, *RESAMPLES, "--mlflow")
    assert tracked == [(trained, []), (trained, [evaluated])]


def test_a_failed_tracking_leaves_the_run(
    small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ("train", small_prepared, "--ranker", "shown_order", "--out", tmp_path / "run", "--mlflow")
    assert "MLFLOW_TRACKING_URI" in run(*words, fails=True)
    assert Run.open(tmp_path / "run").name == "shown_order"


def test_track_tells_the_id(small_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def fake(*arguments: object) -> str:
        given.extend(arguments)
        return "id7"

    monkeypatch.setattr(tracking, "track", fake)
    told = run("track", small_runs["mmoe"], "ev", "--uri", "mlruns", "--experiment", "mine", "--json")
    assert json.loads(told)["mlflow_run_id"] == "id7"
    assert given == [small_runs["mmoe"], [Path("ev")], "mlruns", "mine"]


def test_a_card_is_made_by_command(small_runs: dict[str, Path], tmp_path: Path) -> None:
    run("evaluate", small_runs["shown_order"], "--out", tmp_path / "evaluation", *RESAMPLES)
    words = ("card", small_runs["shown_order"], tmp_path / "evaluation", "--out", tmp_path / "card")
    assert "model_card.html" in run(*words, "--license", "mit")
    assert "license: mit" in (tmp_path / "card" / "model_card.md").read_text()
    assert json.loads(run(*words, "--license", "mit", "--json"))["changed"] is False
