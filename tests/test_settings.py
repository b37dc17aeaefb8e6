"""The settings of a step, printed: what is printed is what the step takes, and the page is up to date."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from shelfrank import cli
from shelfrank.cli.rankers import ranker_names
from shelfrank.config import ExperimentConfig, TuneConfig, resolve
from shelfrank.config.rankers import DEFAULT_RANKER
from shelfrank.rankers import RANKERS, read_settings
from shelfrank.rankers.run import resolve_experiment
from shelfrank.settings import PAGE_COMMAND, STEPS, settings_page, step_settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shelfrank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process and gives its exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shelfrank", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, " ".join(captured.err.split())

    return run


@pytest.mark.parametrize("step", [step for step in STEPS if step != "train"])
def test_what_is_printed_for_a_step_is_its_default_config(step: str, shelfrank: Run, tmp_path: Path) -> None:
    code, out, _ = shelfrank("config", *step.split())
    assert code == 0
    file = tmp_path / "config.yaml"
    file.write_text(out)
    assert resolve(STEPS[step], file) == STEPS[step]()


def test_what_is_printed_for_train_is_what_it_trains_without_a_name(shelfrank: Run, tmp_path: Path) -> None:
    _, out, _ = shelfrank("config", "train")
    file = tmp_path / "config.yaml"
    file.write_text(out)
    assert resolve_experiment(DEFAULT_RANKER, file, [], None) == resolve_experiment(DEFAULT_RANKER, None, [], None)


@pytest.mark.parametrize("name", RANKERS)
def test_what_is_printed_for_a_ranker_is_what_it_reads(name: str, shelfrank: Run, tmp_path: Path) -> None:
    _, out, _ = shelfrank("config", "train", "--ranker", name)
    config = resolve_experiment(name, None, [], None)
    assert yaml.safe_load(out) == read_settings(name, config)
    file = tmp_path / "config.yaml"
    file.write_text(out)
    assert resolve_experiment(name, file, [], None) == config


def test_a_network_prints_no_settings_of_trees_and_its_sizes_follow_the_preset(shelfrank: Run) -> None:
    _, out, _ = shelfrank("config", "train", "--ranker", "mmoe", "--preset", "paper")
    printed = yaml.safe_load(out)
    assert printed.keys().isdisjoint({"xgboost", "lambdamart"})
    assert printed["neural"]["mmoe"]["expert_layers"] == [64, 32]
    assert "\n    # Widths of an expert's layers.\n    expert_layers: [64, 32]  # list (not empty): " in out


def test_a_section_that_is_null_can_be_switched_on(shelfrank: Run, tmp_path: Path) -> None:
    _, out, _ = shelfrank("config", "prepare")
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("sampling: null"))
    lines[start] = "sampling:"
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("#   "))
    lines[start + 1 : end] = [line.removeprefix("# ") for line in lines[start + 1 : end]]
    file = tmp_path / "config.yaml"
    file.write_text("\n".join(lines))
    sampling = resolve(STEPS["prepare"], file).model_dump()["sampling"]
    assert (sampling["alpha"], sampling["unit"]) == (0.5, "impression")


def test_the_settings_of_the_search_are_comments_for_they_are_passed_one_by_one(shelfrank: Run) -> None:
    _, out, _ = shelfrank("config", "tune", "--ranker", "mmoe")
    shown, _, search = out.partition("# Settings of the search itself.")
    assert yaml.safe_load(shown) == read_settings("mmoe", resolve_experiment("mmoe", None, [], None))
    lines = [line.removeprefix("# ") for line in search.splitlines()[1:]]
    assert yaml.safe_load("\n".join(lines)) == TuneConfig().model_dump(mode="json")


def test_machines_get_every_setting_with_its_option(shelfrank: Run) -> None:
    _, out, _ = shelfrank("config", "tune", "--ranker", "mmoe", "--json")
    found = {(entry["option"], entry["key"]): entry for entry in json.loads(out)}
    assert found["--set", "train.epochs"] == {
        "key": "train.epochs",
        "option": "--set",
        "default": 10,
        "type": "whole number from 1 to 100000",
        "meaning": "Maximum passes over the training split.",
    }
    assert found["--tune", "step"]["default"] == 0.1
    assert ("--set", "xgboost.n_rounds") not in found
    _, out, _ = shelfrank("config", "prepare", "--json")
    keys = {entry["key"]: entry["default"] for entry in json.loads(out)}
    assert (keys["sampling"], keys["sampling.alpha"], "history" in keys) == (None, 0.5, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a step must be named: choose one of simulate, semantic train, "),
        (("trian",), "unknown step 'trian': choose one of describe, .*; did you mean 'train'"),
        (("train", "--ranker", "mmo"), "unknown ranker 'mmo'"),
        (("prepare", "--ranker", "mmoe"), "need the step train or describe or tune, but the step is prepare"),
        (("train", "--preset", "paper"), "--preset paper needs --ranker"),
        (("train", "--ranker", "xgboost", "--preset", "paper"), "the preset paper needs a network"),
        (("train", "--markdown"), "--markdown .* must be the only argument"),
    ],
)
def test_a_wrong_argument_is_one_sentence(words: tuple[str, ...], message: str, shelfrank: Run) -> None:
    code, _, error = shelfrank("config", *words)
    assert code == 2
    assert re.search(f"^error: .*{message}", error)


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_command_that_takes_a_config_file_is_a_step() -> None:
    takers = {
        name for name, command in commands(get_command(cli.app)) if any("--config" in p.opts for p in command.params)
    }
    assert takers == set(STEPS)


def test_the_page_is_up_to_date(shelfrank: Run) -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert PAGE_COMMAND in "".join(written.splitlines(keepends=True)[:5])
    assert settings_page() == written, f"run: {PAGE_COMMAND}"
    assert shelfrank(*PAGE_COMMAND.partition(" > ")[0].split()[1:])[1] == written


def test_the_page_has_every_setting() -> None:
    page = settings_page()
    for step in STEPS:
        rows = step_settings(step)
        for row in [*rows.rows, *rows.search_rows]:
            assert f"| `{row.setting.path}` |" in page
    assert {line.count(" | ") for line in page.splitlines() if line.startswith("| `train.")} == {3}
    assert ExperimentConfig.model_fields.keys() <= set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))


def test_the_shell_can_complete_commands(shelfrank: Run) -> None:
    _, out, _ = shelfrank("--help")
    assert "--install-completion" in out
    assert "--show-completion" in out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("shelfrank conf", {"config"}),
        ("shelfrank train prepared --ranker mmoe_f", {name for name in RANKERS if name.startswith("mmoe_f")}),
        ("shelfrank config train --ranker xg", {"xgboost", "xgboost_ranking"}),
        ("shelfrank config sem", {"semantic"}),
        ("shelfrank describe pop", {"popularity"}),
    ],
)
def test_the_shell_completes_commands_steps_and_rankers(
    typed: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_SHELFRANK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit):
        cli.app(prog_name="shelfrank")
    assert set(capsys.readouterr().out.split()) == expected


def test_the_completed_rankers_are_all_rankers() -> None:
    assert ranker_names() == list(RANKERS)
