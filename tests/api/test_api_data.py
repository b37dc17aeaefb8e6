"""Semantic scores and the agreement of relevance labels from Python: the same as from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import shelfrank as sr
from shelfrank.cli import app
from shelfrank.core.artifact import publish
from shelfrank.evaluate import agreement
from shelfrank.prepare import semantic


def folder(out: Path, kind: str, file: str) -> bool:
    """Stands for a step: writes a result without one."""
    with publish(out, kind, {}) as draft:
        (draft.path / file).write_text(json.dumps({"figures": 1}))
        draft.info.update(cost={"wall_s": 1.0, "peak_rss_mb": 1.0})
    return True


def same_as_the_command(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, kind: str, call: Any, words: list[str], out: Path
) -> Any:
    """Calls a step from Python and by its command; both must give the step below the same arguments."""
    given: list[tuple[Any, ...]] = []

    def step(*arguments: Any) -> bool:
        given.append(arguments)
        return folder(out, kind, "agreement.json")

    monkeypatch.setattr(module, name, step)
    result = call(out)
    told = CliRunner().invoke(app, [*words, "--out", str(out), "--json"])
    assert told.exit_code == 0, told.output
    assert given[0] == given[1]
    assert json.loads(told.stdout)["fingerprint"] == result.manifest.fingerprint
    return result


def test_a_text_model_is_trained_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = same_as_the_command(
        monkeypatch, semantic, "train_semantic", "semantic_model",
        lambda out: sr.train_semantic("log", out=out, model="packaged", epochs=2),
        ["semantic", "train", "log", "--set", "model=packaged", "--set", "epochs=2"],
        tmp_path / "model",
    )  # fmt: skip
    assert isinstance(model, sr.SemanticModel)


def test_pairs_are_scored_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = same_as_the_command(
        monkeypatch, semantic, "score_semantic", "semantic_scores",
        lambda out: sr.score_semantic("log", out=out, cache="cache", model=sr.SemanticModel(Path("model"))),
        ["semantic", "score", "log", "--set", "model=model", "--cache", "cache"],
        tmp_path / "scores",
    )  # fmt: skip
    assert isinstance(scores, sr.SemanticScores)


def test_labels_are_measured_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = same_as_the_command(
        monkeypatch, agreement, "relevance_agreement", "relevance_agreement",
        lambda out: sr.relevance_agreement("prepared", "log", out=out, n_resamples=20),
        ["relevance", "prepared", "--log", "log", "--set", "n_resamples=20"],
        tmp_path / "agreement",
    )  # fmt: skip
    assert measured.report == {"figures": 1}
    assert measured.page == tmp_path / "agreement" / "agreement.html"
