"""Runs: trained once, killed and resumed to the same bits, and refused where they do not fit."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from shelfrank.config import EvaluateConfig, ExperimentConfig, PrepareConfig
from shelfrank.core.artifact import MANIFEST, fingerprint, publish, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers import read_settings
from shelfrank.rankers.neural import WEIGHTS
from shelfrank.rankers.run import KIND, Run, problem, train
from shelfrank.train.checkpoint import CURVE, FILE
from shelfrank.train.trainer import Trainer
from small_log import small_tables, write_small_log
from tiny import add_relevance, tiny

# Eight steps an epoch, a checkpoint after each, and dropout, so that the state of the random numbers matters.
DROPPING = ("neural.dropout=0.3", "train.checkpoint_every_s=1e-9", "train.epochs=3", "train.patience=10")
STEPS_AN_EPOCH = 8

KILLED = """
import os, pathlib, signal, sys
from shelfrank.config import ExperimentConfig
from shelfrank.rankers.run import train
from shelfrank.train import checkpoint
from shelfrank.train.trainer import Trainer

kill_at, inside_a_write, prepared, out, config = sys.argv[1:]
steps = 0
step, write = Trainer.step, pathlib.Path.replace

def counted(*args):
    global steps
    steps += 1
    if steps == int(kill_at) and inside_a_write == "no":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)

def replace(self, target):
    if steps == int(kill_at) and target.name == checkpoint.FILE:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, target)

Trainer.step, pathlib.Path.replace = counted, replace
train(pathlib.Path(prepared), "mmoe_dcn_v2", ExperimentConfig.model_validate_json(config), pathlib.Path(out))
"""
"""A training that kills itself before a step, or while the checkpoint after that step is being written."""


# Tests that run in the background may be deaf to Ctrl-C, and children inherit that.
HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from shelfrank.cli import main
main()
"""


def start_training(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)


def checkpoint_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoint") / FILE


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / WEIGHTS)


def assert_same_bits(a: Path, b: Path) -> None:
    assert (a / WEIGHTS).read_bytes() == (b / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(small_prepared, "mmoe_dcn_v2", tiny("mmoe_dcn_v2", *DROPPING), out)
    return out


@pytest.mark.parametrize(
    ("kill_at", "inside_a_write"),
    [
        pytest.param(STEPS_AN_EPOCH + 5, "no", id="between two steps of the second epoch"),
        pytest.param(STEPS_AN_EPOCH + 3, "yes", id="while a checkpoint is written"),
    ],
)
def test_killed_and_resumed_is_bit_for_bit_uninterrupted(
    kill_at: int, inside_a_write: str, small_prepared: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out, config = tmp_path / "run", tiny("mmoe_dcn_v2", *DROPPING)
    arguments = [str(kill_at), inside_a_write, str(small_prepared), str(out), config.model_dump_json()]
    killed = start_training("-c", KILLED, *arguments)
    assert killed.wait() == -signal.SIGKILL, killed.stderr and killed.stderr.read()
    killed.communicate()
    assert checkpoint_of(out).is_file()
    (first_epoch,) = checkpoint_of(out).with_name(CURVE).read_text().splitlines()
    assert json.loads(first_epoch)["epoch"] == 1
    with pytest.raises(UserError, match="must be a finished run"):
        Run.open(out)

    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        count_steps(patch, steps)
        assert train(small_prepared, "mmoe_dcn_v2", config, out, resume=True)

    assert_same_bits(out, uninterrupted)
    assert len(steps) == 3 * STEPS_AN_EPOCH - (kill_at - 1)
    # Nothing of the killed process is left beside the run.
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def count_steps(patch: pytest.MonkeyPatch, steps: list[int]) -> None:
    step = Trainer.step

    def counted(*args: object) -> float:
        steps.append(1)
        return step(*args)  # pyright: ignore[reportArgumentType]

    patch.setattr(Trainer, "step", counted)


def test_interrupted_by_hand_leaves_the_checkpoint_and_no_run(small_prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [*DROPPING, "train.epochs=100000", "train.patience=100000", "train.threads=1", "neural.d_embedding=2"]
    assignments = [word for setting in settings for word in ("--set", setting)]
    command = ["-c", HEARING, "train", str(small_prepared), "--ranker", "mmoe", "--out", str(out)]
    running = start_training(*command, *assignments)
    while not checkpoint_of(out).is_file() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate()

    assert running.returncode == 130
    assert "Traceback" not in told
    assert [file.name for file in tmp_path.iterdir()] == [".run.checkpoint"]
    assert {file.name for file in checkpoint_of(out).parent.iterdir()} - {CURVE} == {FILE}


def test_a_run_is_trained_once(uninterrupted: Path, small_prepared: Path) -> None:
    before = {file: file.read_bytes() for file in uninterrupted.iterdir()}
    assert not train(small_prepared, "mmoe_dcn_v2", tiny("mmoe_dcn_v2", *DROPPING), uninterrupted)
    assert {file: file.read_bytes() for file in uninterrupted.iterdir()} == before


def test_a_run_of_another_ranker_or_of_other_data_is_not_replaced(small_prepared: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "prepared", tmp_path / "run"
    shutil.copytree(small_prepared, data)
    train(data, "shown_order", tiny("shown_order"), out)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(
        UserError, match=r"run must be new or a run of popularity on .*, but it is one of shown_order; "
    ):
        train(data, "popularity", tiny("popularity"), out)
    other = tmp_path / "other"
    _with_another_fingerprint(shutil.copytree(data, other))
    with pytest.raises(
        UserError, match=r"must be new or a run of shown_order on .*other, but it was trained on .*prep"
    ):
        train(other, "shown_order", tiny("shown_order"), out)
    assert (out / "manifest.json").read_bytes() == before
    # Other settings of the same ranker, and data that was prepared anew in its place, are what a run is replaced for.
    assert train(data, "shown_order", tiny("shown_order", "seed=1"), out)
    _with_another_fingerprint(data)
    assert train(data, "shown_order", tiny("shown_order"), out)
    assert train(data, "popularity", tiny("popularity"), out, ignore_foreign=True)


def _with_another_fingerprint(prepared: Path) -> None:
    file = prepared / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"fingerprint": "0" * 64}))


def test_a_run_says_what_made_it(uninterrupted: Path, small_prepared: Path) -> None:
    run = Run.open(uninterrupted)
    assert run.name == "mmoe_dcn_v2"
    assert run.config == tiny("mmoe_dcn_v2", *DROPPING)
    assert run.prepared().path == small_prepared
    info = run.manifest.info
    curve = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert curve == info["fitted"]["curve"]
    assert [record["epoch"] for record in curve] == [1, 2, 3]
    assert "batch 256: as configured" in info["fitted"]["choices"]
    ranker_parameters = sum(tensor.numel() for name, tensor in weights(uninterrupted).items() if "running" not in name)
    n_norms = sum(name.endswith("num_batches_tracked") for name in weights(uninterrupted))
    assert sum(info["fitted"]["parameters"].values()) == ranker_parameters - n_norms
    assert info["rows"] == PreparedData.open(small_prepared).split("train").n_rows


def test_resuming_another_configs_checkpoint_is_refused(small_prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stop_training(small_prepared, tiny("mmoe", *DROPPING), out)
    before = checkpoint_of(out).read_bytes()
    with pytest.raises(UserError, match=r"same data and config to be resumed, .* train without resuming"):
        train(small_prepared, "mmoe", tiny("mmoe", *DROPPING, seed=1), out, resume=True)
    assert checkpoint_of(out).read_bytes() == before
    assert not out.exists()


def test_damaged_arrays_are_not_trained_on(small_prepared: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "prepared"
    shutil.copytree(small_prepared, damaged)
    file = damaged / "train" / "numerical.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"numerical\.npy must have the sha256 its manifest says"):
        train(damaged, "mmoe", tiny("mmoe"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_configs_checkpoint_can_be_passed_over(small_prepared: Path, tmp_path: Path) -> None:
    out, fresh = tmp_path / "run", tmp_path / "fresh"
    stop_training(small_prepared, tiny("mmoe", *DROPPING), out)
    train(small_prepared, "mmoe", tiny("mmoe", *DROPPING, seed=1), out, resume=True, ignore_foreign=True)
    train(small_prepared, "mmoe", tiny("mmoe", *DROPPING, seed=1), fresh)
    assert_same_bits(out, fresh)


def test_without_resume_a_checkpoint_is_forgotten(small_prepared: Path, tmp_path: Path) -> None:
    out, fresh = tmp_path / "run", tmp_path / "fresh"
    stop_training(small_prepared, tiny("mmoe", *DROPPING), out)
    train(small_prepared, "mmoe", tiny("mmoe", *DROPPING, seed=1), out)
    train(small_prepared, "mmoe", tiny("mmoe", *DROPPING, seed=1), fresh)
    assert_same_bits(out, fresh)
    assert not checkpoint_of(out).exists()


def test_a_second_training_leaves_the_checkpoint_of_the_one_under_way(small_prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stop_training(small_prepared, tiny("mmoe", *DROPPING), out)
    before = checkpoint_of(out).read_bytes()
    with publish(out, KIND, {}), pytest.raises(UserError, match="only one process may write"):
        train(small_prepared, "mmoe", tiny("mmoe", *DROPPING), out)
    assert checkpoint_of(out).read_bytes() == before


def stop_training(prepared: Path, config: ExperimentConfig, out: Path) -> None:
    """Leaves a checkpoint as an interrupted training does."""

    def no_evaluation(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "validate", no_evaluation)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, "mmoe", config, out)
    assert checkpoint_of(out).is_file()


def test_excluded_sides_and_features_leave_the_problem(small_prepared: Path) -> None:
    prepared = PreparedData.open(small_prepared)
    config = tiny("mmoe", "exclude_sides=[customer]", "exclude_features=[price]")
    left = problem(prepared, config).columns
    everything = (*prepared.numerical_columns, *prepared.categorical_columns)
    assert set(left) == {c.name for c in everything if c.side.value != "customer" and c.name != "price"}
    assert len(left) < len(everything) - 1


def test_relevance_labels_are_learned_and_told(small_prepared: Path, tmp_path: Path) -> None:
    graded, out = add_relevance(small_prepared, tmp_path / "prepared"), tmp_path / "run"
    config = tiny("mmoe", "relevance_weight=0.25", "exclude_sides=[customer]")
    train(graded, "mmoe", config, out)

    fitted = Run.open(out).manifest.info["fitted"]
    assert "relevance of 4 classes learned with weight 0.25" in fitted["choices"]
    assert all(record["valid_relevance_loss"] > 0 for record in fitted["curve"])
    assert fitted["parameters"]["relevance_tower"] > 0
    evaluate(out, tmp_path / "evaluation", EvaluateConfig())


def test_relevance_is_no_problem_of_data_without_it(small_prepared: Path, small_runs: dict[str, Path]) -> None:
    prepared = PreparedData.open(small_prepared)
    assert problem(prepared, tiny("mmoe", "relevance_weight=1")).relevance_classes == 0
    fitted = Run.open(small_runs["mmoe"]).manifest.info["fitted"]
    assert not any("relevance" in told for told in (*fitted["choices"], *fitted["curve"][0], *fitted["parameters"]))


@pytest.mark.parametrize("weight", ["-0.1", ".nan", ".inf"])
def test_a_relevance_weight_that_is_no_weight_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match="config: relevance_weight: Input should be"):
        tiny("mmoe", f"relevance_weight={weight}")


def test_an_unknown_excluded_feature_is_told(small_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must name features of the prepared data, but colour is none"):
        train(small_prepared, "mmoe", tiny("mmoe", "exclude_features=[colour]"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_no_task_of_the_log_are_refused(click_only_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at least one above 0 among the log's tasks click, but they are"):
        train(click_only_prepared, "mmoe", tiny("mmoe", "task_weights={purchase: 1}"), tmp_path / "run")


def test_data_that_changed_since_training_is_refused(tmp_path: Path) -> None:
    data, run = tmp_path / "prepared", tmp_path / "run"
    for seed in (0, 1):
        write_small_log(tmp_path / f"log{seed}", small_tables(60, seed))
    prepare(tmp_path / "log0", data, PrepareConfig())
    train(data, "shown_order", tiny("shown_order"), run)
    prepare(tmp_path / "log1", data, PrepareConfig())
    with pytest.raises(UserError, match=r"must hold the data that .* was trained on, but it has changed"):
        evaluate(run, tmp_path / "evaluation", EvaluateConfig())
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mmoe", "weights.safetensors"),
        ("xgboost", "model.ubj"),
        ("lambdamart", "model.click.txt"),
        ("lambdamart", "trees.json"),
        ("mmoe", "config.yaml"),
        ("mmoe", "manifest.json"),
    ],
)
def test_a_damaged_run_is_told(name: str, file: str, small_runs: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_runs[name], tmp_path / "run"))
    size = (run / file).stat().st_size
    for damage in (b"\x00" * size, b"{" * size, b"x" * (size - 1)):
        (run / file).write_bytes(damage)
        with pytest.raises(UserError, match=f"{file} must"):
            evaluate(run, tmp_path / "evaluation", EvaluateConfig())
    assert not (tmp_path / "evaluation").exists()


def as_every_setting(config: ExperimentConfig) -> bytes:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()


@pytest.mark.parametrize("name", ["xgboost", "mmoe"])
def test_a_run_writes_the_settings_that_its_ranker_reads(name: str, small_runs: dict[str, Path]) -> None:
    run = Run.open(small_runs[name])
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert written == read_settings(name, run.config)
    assert ("xgboost" in written, "lambdamart" in written) == (name == "xgboost", False)
    # What it leaves out is as it was given, not as by default.
    assert run.config == tiny(name) != ExperimentConfig()


def test_the_fingerprint_of_a_run_hashes_every_setting(small_runs: dict[str, Path]) -> None:
    run = Run.open(small_runs["mmoe"])
    every = as_every_setting(run.config)
    entry = {"bytes": len(every), "sha256": hashlib.sha256(every).hexdigest()}
    files = run.manifest.files | {"config.yaml": entry}
    assert run.manifest.fingerprint == fingerprint({"kind": KIND, "inputs": run.manifest.inputs, "files": files})


def test_a_run_whose_config_has_every_setting_opens(small_runs: dict[str, Path], tmp_path: Path) -> None:
    newer = Run.open(small_runs["xgboost"])
    with publish(tmp_path / "run", KIND, newer.manifest.inputs) as draft:
        shutil.copytree(newer.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        (draft.path / "config.yaml").write_bytes(as_every_setting(newer.config))
        draft.info.update(newer.manifest.info)
    older = Run.open(tmp_path / "run")
    assert older.config == newer.config
    assert older.manifest.fingerprint == newer.manifest.fingerprint


def test_a_folder_of_something_else_is_no_run(small_prepared: Path) -> None:
    assert read_manifest(small_prepared, "prepared_data")
    with pytest.raises(UserError, match="must be a run, but it is prepared data"):
        Run.open(small_prepared)
