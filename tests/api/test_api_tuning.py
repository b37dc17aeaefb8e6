"""Tuning from Python: the same search as the command line's, and what its folder gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import shelfrank as sr
from shelfrank.cli import app
from shelfrank.core.artifact import publish
from shelfrank.tune import fusion, tuning


def finished(out: Path) -> bool:
    """Stands for a search: writes a result without one."""
    with publish(out, "tuning", {}) as draft:
        (draft.path / "trials.json").write_text(json.dumps({"set": ["task_weights={click: 1}"]}))
        draft.info.update(cost={"wall_s": 1.0, "peak_rss_mb": 1.0})
    return True


@pytest.mark.parametrize("join", [False, True])
def test_a_search_is_the_one_of_the_command_line(join: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []

    def tune(prepared: Path, ranker: str, config: Any, out: Path, settings: Any, workers: int) -> bool:
        given.append((prepared, ranker, config, out, settings, workers))
        return finished(out)

    monkeypatch.setattr(tuning, "tune", tune)
    monkeypatch.setattr(tuning, "join", lambda *arguments: given.append(arguments))
    found = sr.tune(
        "data",
        ranker="mmoe",
        out=tmp_path / "out",
        search="sizes",
        objective={"click": 1, "purchase": 3},
        trials=4,
        workers=2,
        join=join,
        seed=5,
        tuning={"sizes": {"n_unpruned": 2}},
        train={"epochs": 2},
    )
    words = ["--ranker", "mmoe", "--out", str(tmp_path / "out"), "--search", "sizes", "--trials", "4", "--workers", "2"]
    words += ["--objective", "click=1, purchase=3", "--seed", "5", "--tune", "sizes.n_unpruned=2"]
    told = CliRunner().invoke(app, ["tune", "data", *words, "--set", "train.epochs=2", *["--join"] * join])
    assert told.exit_code == 0, told.output
    assert len(given) == 2
    assert given[0] == given[1]
    if not join:
        assert found.report["set"] == ["task_weights={click: 1}"]
        assert f"config: {found.best}" in told.stdout


def test_a_search_for_fusion_weights_is_the_one_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []

    def tune_fusion(run: Path, out: Path, settings: Any) -> bool:
        given.append((run, out, settings))
        return finished(out)

    monkeypatch.setattr(fusion, "tune_fusion", tune_fusion)
    sr.tune_fusion("run", out=tmp_path / "out", objective="purchase", tuning={"objective": {"k": 5}, "step": 0.25})
    words = ["--objective", "purchase", "--tune", "objective.k=5", "--tune", "step=0.25"]
    told = CliRunner().invoke(app, ["tune-fusion", "run", "--out", str(tmp_path / "out"), *words])
    assert told.exit_code == 0, told.output
    assert given[0] == given[1]
    assert given[0][2].objective.weights == {"purchase": 1.0}
