"""Wrong use of the API: each is one sentence."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_steps import Steps, in_a_new_process

import shelfrank as sr
from shelfrank.api.arguments import plain
from small_log import small_tables


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda out: sr.simulate(out=out, serches=3), "config: serches: unknown key"),
        (lambda out: sr.simulate(out=out, searches=0), "config: searches: .*greater than 0"),
        (
            lambda out: sr.prepare("log", out=out, history={"window_days": [1]}),
            "config: history.window_days: unknown key",
        ),
        (lambda out: sr.train("data", ranker="mmoe", out=out, train={"epoch": 3}), "config: train.epoch: unknown key"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, train={"epochs": "x"}), "config: train.epochs: "),
        (lambda out: sr.train("data", ranker="mmo", out=out), "unknown ranker 'mmo'.*did you mean"),
        (lambda out: sr.evaluate("run", out=out, k=[1]), "config: k: unknown key"),
        (lambda out: sr.evaluate("run", out=out, split="tset"), "unknown split 'tset'.*did you mean 'test'"),
        (lambda out: sr.compare("one", out=out), "evaluations must be a list, but it is 'one'"),
        (lambda out: sr.import_log("custm", "mapping.yaml", out=out), "unknown source 'custm'"),
        (lambda out: sr.export("run", out=out, require_better_than="older"), "unknown reference 'older'"),
        (lambda out: sr.export("run", out=out, margin=0.1), "needs require_better_than"),
        (lambda out: sr.export("run", out=out, replayed=-1), "replayed must be 0 or more"),
        (lambda out: sr.explain("run", search="s", top=0), "top must be 1 or more"),
    ],
)
def test_a_wrong_setting_is_named(step: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match=said):
        step(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_choice_is_named(steps: Steps) -> None:
    """In a process without the tests' type checker, as callers have it."""
    calls = {
        f"sr.Bundle.open({str(steps.bundle.path)!r}, precision='fp64')": "unknown precision 'fp64'",
        "sr.train('data', ranker='mmoe', out='out', preset='papr')": "unknown preset 'papr'",
        "sr.explain('run', search='s', baseline='zero')": "unknown baseline 'zero'",
        "sr.export('run', out='out', vectors='fp8')": "unknown vectors 'fp8'",
    }
    tried = "".join(f"try: {call}\nexcept sr.UserError as error: print(error)\n" for call in calls)
    said = in_a_new_process(f"import shelfrank as sr\n{tried}").split("\n")
    assert [line[: len(start)] for line, start in zip(said, calls.values(), strict=True)] == list(calls.values())


IMPRESSIONS = pd.DataFrame(small_tables(4)["impressions"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: sr.train("data", ranker=None, out=out), "train: ranker must be a text, but it is None"),
        (
            lambda out: sr.train("data", ranker=["mmoe"], out=out),
            "train: ranker must be a text, but it is of type list",
        ),
        (lambda out: sr.train(out=out), "train: missing a required argument: 'data'; it takes data, ranker"),
        (lambda out: sr.train("data", "mmoe", out=out), "train: too many positional arguments; it takes data, ranker"),
        (lambda out: sr.train(None, ranker="mmoe", out=out), "train: data must be a path or the result of a step"),
        (lambda out: sr.train(IMPRESSIONS, ranker="mmoe", out=out), "train: data must .* of type DataFrame"),
        (lambda out: sr.train("data", ranker="mmoe", preset=None, out=out), "preset must be 'default' or 'paper', but"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, seed="0"), "seed must be a whole number, but it is '0'"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, seed=-1), "config: seed: .*greater than or equal to 0"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, resume="yes"), "resume must be True or False, but it is"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, config={"seed": 1}), "config must be a path"),
        (
            lambda out: sr.train("data", ranker="mmoe", out=out, train=None),
            "config: train: Input should be keys and val",
        ),
        (lambda out: sr.train("data", ranker="mmoe", out=out, train={1: 2}), "config: train.1: "),
        (lambda out: sr.evaluate("run", out=out, split=1), "evaluate: split must be a text, but it is 1"),
        (lambda out: sr.evaluate("run", out=out, ks=IMPRESSIONS), "config: ks.0: "),
        (lambda out: sr.explain("run", search=None), "explain: search must be an id, but it is None"),
        (lambda out: sr.explain("run", search="s", top="3"), "explain: top must be a whole number, but it is '3'"),
        (lambda out: sr.explain("run", serach="s"), "unknown argument of explain 'serach': .*did you mean 'search'"),
        (lambda out: sr.export("run", out=out, replayed="5"), "export: replayed must be a whole number, but it is '5'"),
        (lambda out: sr.export("run", out=out, int8="no"), "export: int8 must be True or False, but it is 'no'"),
        (lambda out: sr.export("run", out=out, margin=2.0), "export: margin must be 1 or less, but it is 2.0"),
        (
            lambda out: sr.export("run", out=out, require_better_than=[1]),
            "require_better_than.0 must be a text, but it",
        ),
        (lambda out: sr.compare(["a"], out=out, baseline=None), "compare: baseline must be a path or the result of"),
        (lambda out: sr.compare([], out=out), "at least one evaluation"),
        (lambda out: sr.compare([None], out=out), "compare: evaluations.0 must be a path"),
        (lambda out: sr.compare({"mmoe": "a"}, out=out), "compare: evaluations must be a list, but it is of type dict"),
        (lambda out: sr.compare(None, out=out), "compare: evaluations must be a list, but it is None"),
        (
            lambda out: sr.prepare("log", out=None),
            "prepare: out must be a path or the result of a step, but it is None",
        ),
        (lambda out: sr.prepare("log", out=""), "prepare: out must be a path or the result of a step, but it is ''"),
        (lambda out: sr.prepare("log", out="a\0b"), "prepare: out must be a path"),
        (lambda out: sr.prepare("log", out=b"out"), "prepare: out must be a path"),
        (lambda out: sr.simulate(), "simulate: missing a required argument: 'out'"),
        (lambda out: sr.simulate(out=out, searches=3.5), "config: searches: "),
        (lambda out: sr.import_log(None, "mapping.yaml", out=out), "import_log: source must be a text"),
        (
            lambda out: sr.import_log("ubi", "x", out=out, first_ordinal=2),
            "first_ordinal must be 1 or less, but it is 2",
        ),
        (lambda out: sr.import_log("custom", "x", out=out, first_ordinal=0), "must be given with the source ubi only"),
        (lambda out: sr.validate(3), "validate: log must be a path"),
        (lambda out: sr.SearchLog.from_frames(impressions=None, out=out), "impressions must be a table of pandas"),
        (
            lambda out: sr.SearchLog.from_frames(impressions=IMPRESSIONS, out=out, columns=["page"]),
            "columns must be a di",
        ),
        (
            lambda out: sr.SearchLog.from_frames(impressions=IMPRESSIONS, out=out, columns={"impressions": ["x"]}),
            "columns.impressions must be a dictionary, but it is of type list",
        ),
        (
            lambda out: sr.SearchLog.from_frames(impressions=IMPRESSIONS, out=out, features=["brand"]),
            "features must be a",
        ),
        (
            lambda out: sr.SearchLog.from_frames(impressions=IMPRESSIONS, out=out, features={1: {}}),
            "must be a text, but",
        ),
        (lambda out: sr.SearchLog.from_frames(impressions=IMPRESSIONS, out=out, name=None), "name must be a text, but"),
        (lambda out: sr.Run.open(None), "^Run.open: path must be a path"),
        (
            lambda out: sr.tune("data", ranker="mmoe", out=out, objective=["click"]),
            "objective must be a task, or weights",
        ),
        (lambda out: sr.tune("data", ranker="mmoe", out=out, objective="clicks"), "config: objective.weights.clicks: "),
        (lambda out: sr.tune("data", ranker="mmoe", out=out, tuning={"stp": 1}), "config: stp: unknown key, .* step"),
        (
            lambda out: sr.tune("data", ranker="mmoe", out=out, workers=0),
            "tune: workers must be 1 or more, but it is 0",
        ),
        (lambda out: sr.describe("lambdamart"), "describe counts the parameters of networks"),
        (
            lambda out: sr.model_card("run", "evaluation", out=out, license=None),
            "license must be a text, but it is None",
        ),
        (lambda out: sr.track("run", "evaluation"), "track: evaluations must be a list"),
        (lambda out: sr.score_semantic("log", out=out, model=None), "config: model: "),
    ],
)
def test_a_wrong_call_is_one_sentence(call: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match=said) as error:
        call(tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_the_system_says_of_files_is_one_sentence(tmp_path: Path, make_log: Any) -> None:
    log = make_log(20)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(sr.UserError, match=r"x must be in a folder, but .*file is a file"):
        sr.prepare(log, out=tmp_path / "file" / "x")
    with pytest.raises(sr.UserError, match="the system says: File name too long"):
        sr.prepare(log, out=tmp_path / ("x" * 300))
    with pytest.raises(sr.UserError, match="must be a YAML file, but it is a folder"):
        sr.prepare(log, out=tmp_path / "out", config=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_values_of_numpy_and_pandas_become_plain() -> None:
    given = {"a": np.int64(3), "b": [np.float32(0.5), pd.NA], "c": np.arange(2), "d": (np.str_("x"), Path("y/z"))}
    assert plain(given) == {"a": 3, "b": [0.5, None], "c": [0, 1], "d": ("x", "y/z")}
    assert type(plain(np.int64(3))) is int
    assert plain(np.datetime64("2025-06-30T12:00:00", "ns")) == dt.datetime(2025, 6, 30, 12)
    assert plain(IMPRESSIONS) is IMPRESSIONS
    assert plain(Path("y")) == Path("y")


def test_settings_of_numpy_are_taken(steps: Steps, tmp_path: Path) -> None:
    run = sr.train(
        steps.data,
        ranker="lambdamart",
        out=tmp_path / "run",
        seed=np.int64(0),
        lambdamart={"n_rounds": np.int32(4), "min_rows_per_leaf": np.int64(5)},
        train={"threads": 1},
    )
    assert run.manifest.fingerprint == steps.runs["lambdamart"].manifest.fingerprint
