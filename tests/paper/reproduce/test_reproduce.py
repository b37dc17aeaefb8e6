"""The experiments from end to end at the size of `smoke`, and what is not done twice."""

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from html_checks import StrictPage
from shelfrank.cli import commands as cli
from shelfrank.config import EvaluateConfig, ExperimentConfig, TuneConfig
from shelfrank.core.errors import UserError
from shelfrank.paper.reproduce import pipeline, runs
from shelfrank.paper.reproduce.budgets import BUDGETS
from shelfrank.paper.reproduce.pipeline import keep_results, reproduce
from shelfrank.paper.reproduce.rows import BY_NAME, ROWS
from shelfrank.paper.reproduce.runs import plan, pure_report, run_all
from tiny import tiny_bert

TINY = replace(
    BUDGETS["smoke"],
    settings=("train.epochs=1", "neural.d_embedding=4", "xgboost.n_rounds=3"),
    evaluate=EvaluateConfig(ks=(1, 10), n_resamples=20, n_resamples_auc=5, pd_searches=20, pd_k=3),
    n_resamples=50,
)
SMOKE = replace(BUDGETS["smoke"], searches=600)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`shelfrank reproduce all --budget smoke`, as a user runs it, but with an encoder that takes no time."""
    out = tmp_path_factory.mktemp("smoke")
    command = ["shelfrank", "reproduce", "all", "--budget", "smoke", "--out", str(out), "--results", str(out / "kept")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, "--text-model", str(tiny_bert()), "--workers", "1"])
        patch.setitem(BUDGETS, "smoke", SMOKE)
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    assert "Of the paper's claims" in printed.getvalue()
    return out


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains in this process, as a worker would: another one takes longer to load its libraries than to train."""

    class Here(contextlib.nullcontext[Any]):
        def __init__(self, n: int, work: Callable[..., None], arguments: tuple[Any, ...], environment: object) -> None:
            super().__init__(self)
            work(*arguments)

        def check(self) -> None: ...

    monkeypatch.setattr(runs, "Workers", Here)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smoke_makes_every_row_table_and_claim(smoke: Path) -> None:
    summary = json.loads((smoke / "results" / "all" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["rows"]) == {row.name for row in ROWS}
    assert summary["left_out"] == {}
    assert {row["n_seeds"] for name, row in summary["rows"].items() if name != "shown_order"} == {2}
    page = StrictPage((smoke / "results" / "all" / "reproduction.html").read_text(encoding="utf-8"))
    for word in ("C1", "C8", "Table 1", "Table 5", "MMoE with shared bottom FT-T"):
        assert word in page.text
    kept = {file.stem for file in (smoke / "kept" / "runs").glob("*.json")}
    assert len(kept) == 2 * (len(ROWS) - 1) + 1
    assert not (smoke / "kept" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_finished_is_not_run_again(smoke: Path) -> None:
    folders = [folder for folder in (smoke / "runs").iterdir() if folder.suffix != ".lock"]
    before = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in folders}
    assert len(before) == 2 * (len(ROWS) - 1) + 1
    budget = replace(SMOKE, text_model=str(tiny_bert()))
    assert reproduce("all", smoke, budget) == smoke / "results" / "all"
    assert {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in folders} == before


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_process")
def test_a_row_run_again_gives_its_report_bit_for_bit(smoke: Path, tmp_path: Path) -> None:
    budget, prepared = replace(SMOKE, text_model=str(tiny_bert())), smoke / "prepared"
    rows = [BY_NAME["mmoe_dcn_v2_tinybert_cross"], BY_NAME["xgboost"], BY_NAME["tabnet"]]
    again = [training for training in plan(rows, budget, tmp_path, {}) if training.seed == 1]
    assert len(run_all(again, prepared, budget.evaluate, 2)) == 3
    for training in again:
        kept = json.loads((smoke / "kept" / "runs" / f"{training.name}.json").read_text(encoding="utf-8"))
        assert json.loads(json.dumps(pure_report(training))) == kept


@pytest.mark.usefixtures("one_process")
def test_a_changed_config_is_trained_anew(small_prepared: Path, tmp_path: Path) -> None:
    (first, *_) = plan([BY_NAME["mmoe"]], TINY, tmp_path, {})
    (changed, *_) = plan([BY_NAME["mmoe"]], TINY, tmp_path, {}, ["train.learning_rate=0.01"])
    assert run_all([first], small_prepared, TINY.evaluate, 1) == [first]
    old = pure_report(first)
    assert run_all([first], small_prepared, TINY.evaluate, 1) == []
    assert run_all([changed], small_prepared, TINY.evaluate, 1) == [changed]
    assert pure_report(changed)["auc"] != old["auc"]
    assert pure_report(changed)["config"]["train"]["learning_rate"] == 0.01


@pytest.mark.usefixtures("one_process")
def test_a_failing_row_does_not_stop_the_others(small_prepared: Path, tmp_path: Path) -> None:
    trainings = plan([BY_NAME["mmoe"], BY_NAME["xgboost"]], TINY, tmp_path, {}, ["neural.single_task=view"])
    with pytest.raises(UserError, match=r"2 of 4 trainings failed, mmoe-seed\d first: single_task must be a task"):
        run_all(trainings, small_prepared, TINY.evaluate, 1)
    assert {path.name for path in (tmp_path / "evaluations").iterdir()} == {"xgboost-seed0", "xgboost-seed1"}
    assert (tmp_path / "logs" / "mmoe-seed0.log").exists()


@pytest.mark.usefixtures("one_process")
def test_a_log_of_clicks_alone_gives_what_it_can(click_only_prepared: Path, tmp_path: Path) -> None:
    folder = reproduce("table5", tmp_path, replace(TINY, n_seeds=1), click_only_prepared, n_workers=1)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["tasks"] == ["click"]
    assert set(summary["rows"]) == {"mmoe_dcn_v2"}
    assert summary["left_out"] == {"mmoe_dcn_v2-relevance": "the data has no relevance labels"}
    assert "MMoE + DCN-V2 with relevance task is left out" in (folder / "tables.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("one_process")
def test_tuned_weights_train_a_row_and_those_set_against_it(
    small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned: list[str] = []

    def fake(
        prepared: Path, ranker: str, config: ExperimentConfig, out: Path, settings: TuneConfig
    ) -> dict[str, float]:
        assert prepared == small_prepared
        tuned.append(ranker)
        return {"click": 0.7, "add_to_cart": 0.2, "purchase": 0.1}

    monkeypatch.setattr(pipeline, "tune_weights", fake)
    budget = replace(TINY, n_seeds=1, weights="tuned")
    folder = reproduce("table5", tmp_path, budget, small_prepared, n_workers=1)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert tuned == ["mmoe_dcn_v2"]
    assert summary["rows"]["mmoe_dcn_v2"]["weights"] == pytest.approx(
        {"click": 0.7, "add_to_cart": 0.2, "purchase": 0.1}
    )


def test_results_are_not_copied_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="must be new or hold an earlier reproduction"):
        keep_results(tmp_path, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "table": (["table9"], "unknown table 'table9'"),
        "budget": (["all", "--budget", "huge"], "unknown budget 'huge'"),
        "data": (["table2", "--prepared", "nowhere"], "nowhere must be finished prepared data"),
    }.values(),
)
def test_bad_input_is_told_in_one_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["shelfrank", "reproduce", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
