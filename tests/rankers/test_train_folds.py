"""A ranker trained on every fold: an ordinary run each, resumed after a kill, and refused where one run is needed."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shelfrank.bundle.export import export
from shelfrank.config import TuneConfig
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.explain.search import explain_search
from shelfrank.rankers import run as run_module
from shelfrank.rankers.neural import WEIGHTS
from shelfrank.rankers.run import Run, is_trained, train
from shelfrank.train.trainer import Trainer
from shelfrank.tune.tuning import tune
from tiny import tiny

NAMES = ["fold-1", "fold-2", "fold-3"]
CHECKPOINTS = ("neural.dropout=0.3", "train.checkpoint_every_s=1e-9")

KILLED = """
import os, pathlib, signal, sys
from shelfrank.config import ExperimentConfig
from shelfrank.rankers import run
from shelfrank.train.trainer import Trainer

prepared, out, config = sys.argv[1:]
steps, problems = 0, 0
step, problem = Trainer.step, run.problem

def counted(*args):
    global problems
    problems += 1
    return problem(*args)

def killing(*args):
    global steps
    steps += problems == 2
    if steps == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)

run.problem, Trainer.step = counted, killing
run.train(pathlib.Path(prepared), "mmoe", ExperimentConfig.model_validate_json(config), pathlib.Path(out))
"""
"""A training that kills itself at the fourth step of the second fold."""


def test_each_fold_has_an_ordinary_run_of_its_data(small_folds: Path, tmp_path: Path) -> None:
    folder = small_folds / "runs" / "lambdamart"
    assert sorted(each.name for each in folder.iterdir()) == [*NAMES, "manifest.json"]
    runs = Run.open_folds(folder)
    assert [run.path.name for run in runs.folds] == NAMES
    data = PreparedData.open_folds(small_folds / "prepared")
    assert runs.prepared().manifest.fingerprint == data.manifest.fingerprint
    for name in NAMES:
        assert train(small_folds / "prepared" / name, "lambdamart", tiny("lambdamart"), tmp_path / name)
        alone, ours = Run.open(tmp_path / name), Run.open(folder / name)
        assert alone.manifest.fingerprint == ours.manifest.fingerprint
        assert ours.prepared().path == small_folds / "prepared" / name


def test_a_second_run_does_nothing(small_folds: Path) -> None:
    folder, config = small_folds / "runs" / "lambdamart", tiny("lambdamart")
    assert is_trained(small_folds / "prepared", "lambdamart", config, folder)
    assert not train(small_folds / "prepared", "lambdamart", config, folder)
    assert not is_trained(small_folds / "prepared", "lambdamart", tiny("lambdamart", "seed=1"), folder)


def test_a_killed_training_resumes_within_its_fold(
    small_folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, config, out = small_folds / "prepared", tiny("mmoe", *CHECKPOINTS), tmp_path / "run"
    train(prepared, "mmoe", config, tmp_path / "whole")
    arguments = [str(prepared), str(out), config.model_dump_json()]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(UserError, match="must be a finished run, but it does not exist"):
        Run.open_folds(out)

    built: list[object] = []
    steps: list[object] = []
    problem, step = run_module.problem, Trainer.step
    monkeypatch.setattr(run_module, "problem", lambda *args: built.append(args) or problem(*args))
    monkeypatch.setattr(Trainer, "step", lambda *args: steps.append(args) or step(*args))
    assert train(prepared, "mmoe", config, out, resume=True)
    assert len(built) == 2  # the first fold was finished
    n_resumed = len(steps)
    assert train(prepared / "fold-2", "mmoe", config, tmp_path / "second")
    assert train(prepared / "fold-3", "mmoe", config, tmp_path / "third")
    assert n_resumed == len(steps) - n_resumed - 3
    for name in NAMES:
        assert (out / name / WEIGHTS).read_bytes() == (tmp_path / "whole" / name / WEIGHTS).read_bytes()
    assert not list(tmp_path.glob(".run*"))


def test_data_beside_a_manifest_of_another_kind_is_no_fold(small_prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(small_prepared, tmp_path / "log" / "prepared")
    (tmp_path / "log" / "manifest.json").write_text("{}")
    prepared = PreparedData.open(tmp_path / "log" / "prepared")
    assert run_module.problem(prepared, tiny("mmoe")).texts.cache == tmp_path / "log" / ".prepared.text_states"


def test_an_error_of_a_fold_names_it(small_folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UserError("the valid split must have a positive")

    monkeypatch.setattr(run_module, "problem", refuse)
    with pytest.raises(UserError, match=r"^fold-1: the valid split must have a positive$"):
        train(small_folds / "prepared", "lambdamart", tiny("lambdamart"), tmp_path / "run")


def test_text_states_of_folds_lie_beside_all_of_them(small_folds: Path) -> None:
    for name in NAMES:
        data = PreparedData.open(small_folds / "prepared" / name)
        assert run_module.problem(data, tiny("mmoe")).texts.cache == small_folds / ".prepared.text_states"


def test_another_ranker_or_other_data_is_refused(small_folds: Path, small_prepared: Path) -> None:
    folder = small_folds / "runs" / "lambdamart"
    with pytest.raises(UserError, match=r"must be new or a run of popularity on .*, but it is one of lambdamart"):
        train(small_folds / "prepared", "popularity", tiny("popularity"), folder)
    with pytest.raises(UserError, match=r"but it was trained on .*prepared; write to another folder"):
        train(small_prepared, "lambdamart", tiny("lambdamart"), folder)


def test_steps_that_take_one_run_say_which_fold_to_name(small_folds: Path, tmp_path: Path) -> None:
    folder, told = small_folds / "runs" / "lambdamart", "must be given one fold, but .* holds 3; name one of them: .*"
    with pytest.raises(UserError, match=told + "lambdamart/fold-3, which learns from the most"):
        export(folder, tmp_path / "bundle")
    with pytest.raises(UserError, match=told):
        explain_search(folder, "s00150", "test", 3, "mean")
    with pytest.raises(UserError, match=told + "prepared/fold-1 to choose settings"):
        tune(small_folds / "prepared", "mmoe", tiny("mmoe"), tmp_path / "tuned", TuneConfig())
