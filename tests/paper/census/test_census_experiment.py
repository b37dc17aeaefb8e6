"""The comparison on Census-Income: what is trained, what is measured, what is not done twice, the command."""

import json
from pathlib import Path
from typing import Any

import pytest
from census_files import random_people, write_census
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from shelfrank.cli import app
from shelfrank.core.errors import UserError
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.paper.census.columns import GROUPS
from shelfrank.paper.census.experiment import MODELS, SETTINGS, compare_census, comparison_folder, summarise
from shelfrank.rankers.run import Run, resolve_experiment
from shelfrank.train import trainer
from tiny import TINY

FEW_NETWORKS = [*TINY, "train.epochs=1", "neural.tower_layers=[3]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_census(tmp_path_factory.mktemp("census") / "raw", 200, 121)


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Any]:
    """Both groups compared once, from two seeds, in the folder `out` beside the files."""
    return compare_census(folder, folder.parent / "out", 2, FEW_NETWORKS)


def test_every_group_model_seed_and_single_task_is_a_run(figures: dict[str, Any], folder: Path) -> None:
    for group, tasks in GROUPS.items():
        expected = {f"{model}-seed{seed}" for model in ("mmoe", "shared_bottom") for seed in (0, 1)}
        expected |= {f"single_task-{task}-seed{seed}" for task in tasks for seed in (0, 1)}
        assert {run.name for run in (folder.parent / "out" / group / "runs").iterdir()} == expected
    assert len(figures["runs"]) == 2 * 8


def test_the_models_are_what_they_are_called(folder: Path, figures: dict[str, Any]) -> None:
    runs = folder.parent / "out" / "education" / "runs"
    mmoe, shared, single = (
        Run.open(runs / name) for name in ("mmoe-seed1", "shared_bottom-seed1", "single_task-education-seed1")
    )
    assert {run.config.seed for run in (mmoe, shared, single)} == {1}
    assert (mmoe.config.neural.bottom, mmoe.config.neural.head, mmoe.config.neural.single_task) == (
        "none",
        "mmoe",
        None,
    )
    assert (shared.config.neural.bottom, shared.config.neural.head) == ("mlp", "none")
    assert single.config.neural == shared.config.neural.model_copy(update={"single_task": "education"})
    assert shared.config.neural.single_task is None
    assert single.ranker(single.prepared()).scored_tasks == ("education",)


def test_each_auc_is_that_of_the_runs_scores_on_the_test_split(folder: Path, figures: dict[str, Any]) -> None:
    for record in figures["runs"]:
        single = record["model"] == "single_task"
        assert list(record["auc"]) == (list(record["auc"])[:1] if single else list(GROUPS[record["group"]]))
        task_part = f"-{next(iter(record['auc']))}" if single else ""
        run = Run.open(
            folder.parent / "out" / record["group"] / "runs" / f"{record['model']}{task_part}-seed{record['seed']}"
        )
        prepared = run.prepared()
        split = prepared.split("test")
        scores = run.ranker(prepared).score(split)
        for task, interval in record["auc"].items():
            index = prepared.tasks.index(task)
            assert interval["value"] == pytest.approx(roc_auc_score(split.labels[:, index], scores[:, index]))
            assert interval["low"] <= interval["value"] <= interval["high"]
        assert record["config"] == run.manifest.inputs["config"]
        assert record["parameters"]["towers"] > 0


def test_what_is_finished_is_not_done_again_and_a_further_seed_trains_its_own(
    folder: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder.parent / "out"
    steps: list[object] = []
    fit = trainer.ShuffledBatches.epoch
    monkeypatch.setattr(trainer.ShuffledBatches, "epoch", lambda *args, **more: steps.append(1) or fit(*args, **more))
    before = (comparison_folder(out, "test") / "census.json").read_bytes()
    assert compare_census(folder, out, 2, FEW_NETWORKS) == figures
    assert (comparison_folder(out, "test") / "census.json").read_bytes() == before
    assert not steps
    again = compare_census(folder, out, 3, FEW_NETWORKS)
    assert len(steps) == 2 * 4
    assert [record for record in again["runs"] if record["seed"] < 2] == figures["runs"]


def test_validation_figures_lie_beside_those_of_the_test_split(folder: Path, figures: dict[str, Any]) -> None:
    out = folder.parent / "out"
    valid = compare_census(folder, out, 1, FEW_NETWORKS, group="income", split="valid")
    assert {record["group"] for record in valid["runs"]} == {"income"}
    assert (valid["split"], figures["split"]) == ("valid", "test")
    assert valid["runs"][0]["auc"] != figures["runs"][0]["auc"]
    assert (comparison_folder(out, "test") / "census.json").is_file()


def test_the_summary_is_mean_and_range_over_the_seeds() -> None:
    records = [
        {
            "group": "income",
            "model": model,
            "seed": seed,
            "auc": {task: {"value": value} for task, value in aucs.items()},
            "parameters": {"head": 5, "towers": 2},
        }
        for model, seed, aucs in (
            ("single_task", 0, {"never_married": 0.5}),
            ("single_task", 0, {"income": 0.4}),
            ("mmoe", 0, {"income": 0.6, "never_married": 0.9}),
            ("mmoe", 1, {"income": 0.7, "never_married": 0.7}),
        )
    ]
    lines = [(s["task"], s["model"], round(s["mean"], 9), s["min"], s["max"], s["n_seeds"]) for s in summarise(records)]
    assert lines == [
        ("income", "mmoe", 0.65, 0.6, 0.7, 2),
        ("income", "single_task", 0.4, 0.4, 0.4, 1),
        ("never_married", "mmoe", 0.8, 0.7, 0.9, 2),
        ("never_married", "single_task", 0.5, 0.5, 0.5, 1),
    ]
    assert {line["parameters"] for line in summarise(records)} == {7}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"group": "incme"}, r"unknown group 'incme': choose one of education, income", id="group"),
        pytest.param({"split": "tests"}, r"unknown split 'tests': choose one of test, train, valid", id="split"),
        pytest.param({"overrides": ["neural.depth=3"]}, r"neural\.depth: unknown key", id="setting"),
    ],
)
def test_a_name_that_is_none_is_told_before_anything_is_trained(
    changes: dict[str, Any], sentence: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        compare_census(folder, tmp_path / "out", 1, **changes)
    assert not list((tmp_path / "out").glob("*/runs/*"))


@pytest.mark.parametrize("n_categorical", [pytest.param(32, id="income"), pytest.param(31, id="education")])
def test_every_network_has_as_many_parameters_as_the_others_within_one_per_cent(n_categorical: int) -> None:
    sizes = []
    for model in MODELS.values():
        config = resolve_experiment("mmoe", None, [*SETTINGS, *model.settings], seed=0)
        network = MultiTaskRanker(7, [10] * n_categorical, 1 if model.per_task else 2, config.neural)
        sizes.append(sum(network.parameter_counts().values()))
    assert max(sizes) < 1.01 * min(sizes), sizes


def test_the_command_prints_a_line_per_task_and_model(folder: Path, figures: dict[str, Any]) -> None:
    settings = [word for setting in FEW_NETWORKS for word in ("--set", setting)]
    words = ["census", str(folder), "--out", str(folder.parent / "out"), "--seeds", "2", *settings]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert told.exit_code == 0, told.output
    for line in figures["summary"]:
        assert f"{line['mean']:.4f} ({line['min']:.4f}-{line['max']:.4f})" in told.stdout
    assert "census.json" in told.stdout
    plain = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(plain.stdout) == figures


def test_the_command_tells_who_was_prepared_and_what_is_no_feature(folder: Path, tmp_path: Path) -> None:
    settings = [word for setting in FEW_NETWORKS for word in ("--set", setting)]
    words = ["census", str(folder), "--out", str(tmp_path / "out"), "--seeds", "1", "--group", "education", *settings]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    people = random_people(200, 0)
    n_college = sum(person["education"] != "High school graduate" for person in people)
    n_never_married = sum(person["marital_status"] == "Never married" for person in people)
    assert f"train: 200 people, {n_college} education, {n_never_married} never_married" in told.stderr
    for name in ("instance_weight", "income", "education", "marital_status"):
        assert f"no feature: {name}: " in told.stderr
