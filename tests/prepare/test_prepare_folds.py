"""Forward folds: each is prepared by itself, nothing later reaches it, and a killed step resumes after the last one."""

import copy
import hashlib
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from random_log import one_thread, random_tables, write_log
from shelfrank.config import PrepareConfig, SplitConfig
from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.prepare import pipeline
from shelfrank.prepare.pipeline import prepare
from shelfrank.text.scores import KIND, SemanticScores

SPLIT = SplitConfig(by="forward", train=0.4, valid=0.1, folds=3)
CONFIG = one_thread(split=SPLIT)
NAMES = ["fold-1", "fold-2", "fold-3"]

KILLED = """
import os, pathlib, signal, sys
from shelfrank.config import PrepareConfig
from shelfrank.prepare import pipeline

log, out, config = sys.argv[1:]
read_log, passes = pipeline.read_log, 0

def counted(*args):
    global passes
    passes += 1
    if passes == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_log(*args)

pipeline.read_log = counted
pipeline.prepare(pathlib.Path(log), pathlib.Path(out), PrepareConfig.model_validate_json(config))
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = random_tables(seed=5, n_searches=60, n_moments=60)
    return write_log(tmp_path_factory.mktemp("forward") / "log", tables)


@pytest.fixture(scope="module")
def prepared(log: Path) -> Path:
    assert prepare(log, log.parent / "prepared", CONFIG)
    return log.parent / "prepared"


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file that a fold's ranker, or its evaluation, reads."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_folder_holds_an_ordinary_one_for_each_fold(log: Path, prepared: Path, tmp_path: Path) -> None:
    assert sorted(each.name for each in prepared.iterdir()) == [*NAMES, "manifest.json"]
    assert not list(prepared.parent.glob(".*"))
    alone = one_thread(split=SPLIT.only_fold(2))
    assert prepare(log, tmp_path / "alone", alone)
    assert contents(tmp_path / "alone") == contents(prepared / "fold-2")


def test_test_windows_do_not_overlap_and_follow_each_other(prepared: Path) -> None:
    data = PreparedData.open_folds(prepared)
    times = [fold.searches("test")["timestamp"].to_pylist() for fold in data.folds]
    assert all(earlier[-1] < later[0] for earlier, later in itertools.pairwise(times))
    for fold in data.folds:
        ends = [fold.searches(split)["timestamp"].to_pylist() for split in SPLITS]
        assert ends[0][-1] < ends[1][0] <= ends[1][-1] < ends[2][0]
    together = [id_ for fold in data.folds for id_ in fold.searches("test")["search_id"].to_pylist()]
    assert data.searches("test")["search_id"].to_pylist() == together
    assert len(set(together)) == len(together) == data.manifest.info["splits"]["test"]["searches"]
    # The last fold's splits hold the whole log, and so every search after the first boundary.
    last = data.folds[-1]
    everything = {id_ for split in SPLITS for id_ in last.searches(split)["search_id"].to_pylist()}
    before = {id_ for split in SPLITS[:2] for id_ in data.folds[0].searches(split)["search_id"].to_pylist()}
    assert set(together) == everything - before


def test_the_test_split_of_all_folds_is_theirs_one_after_another(prepared: Path) -> None:
    data = PreparedData.open_folds(prepared)
    pooled = data.split("test")
    row = search = 0
    for fold in data.folds:
        own = fold.split("test")
        part = pooled.run_of_searches(search, search + own.n_searches)
        for name in ("labels", "query_idx", "product_idx", "customer_idx", "position", "tie_keys", "search_offsets"):
            np.testing.assert_array_equal(getattr(part, name), getattr(own, name))
        row, search = row + own.n_rows, search + own.n_searches
    assert (pooled.n_rows, pooled.n_searches) == (row, search)
    counted = data.manifest.info["splits"]["test"]
    assert counted["impressions"] == row
    assert counted["products"] == len(set(pooled.product_idx.tolist()))
    assert counted["customers"] == len(set(pooled.customer_idx.tolist()) - {-1})
    assert counted["positives"] == {task: int((pooled.labels[:, i] == 1).sum()) for i, task in enumerate(pooled.tasks)}


def test_later_outcomes_change_nothing_of_a_fold(tmp_path: Path) -> None:
    tables = random_tables(seed=5, n_searches=60, n_moments=60)
    fold = one_thread(split=SPLIT.only_fold(1))
    prepare(write_log(tmp_path / "log", tables), tmp_path / "one", fold)
    one = PreparedData.open(tmp_path / "one")
    ends = {split: one.searches(split)["timestamp"].to_pylist() for split in SPLITS}
    for name, last in (("after the window", ends["test"][-1]), ("after training", ends["train"][-1])):
        altered = copy.deepcopy(tables)
        changed = [row for row in altered["impressions"] if row["timestamp"] > last]
        assert changed
        for row in changed:
            row.update(dict.fromkeys(TASKS, 1 - int(bool(row["click"]))))
        prepare(write_log(tmp_path / name / "log", altered), tmp_path / name / "out", fold)
        before, after = contents(tmp_path / "one"), contents(tmp_path / name / "out")
        assert before.keys() == after.keys()
        different = {file for file in before if before[file] != after[file]}
        if name == "after the window":
            assert not different
        else:
            # Labels of the validation and test searches, and histories there: nothing that is fitted.
            assert {file.split("/")[0] for file in different} == {"valid", "test"}


def test_a_killed_prepare_resumes_after_the_last_finished_fold(
    log: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = [str(log), str(out), CONFIG.model_dump_json()]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(UserError, match="must be finished prepared data, but it does not exist"):
        PreparedData.open_folds(out)

    passes: list[object] = []
    read_log = pipeline.read_log
    monkeypatch.setattr(pipeline, "read_log", lambda *args: passes.append(args) or read_log(*args))
    assert prepare(log, out, CONFIG)
    assert len(passes) == 1
    assert contents(out) == contents(prepared)
    assert PreparedData.open_folds(out).manifest.fingerprint == PreparedData.open_folds(prepared).manifest.fingerprint
    assert not list(tmp_path.glob(".out*"))
    assert not prepare(log, out, CONFIG)
    assert len(passes) == 1


def test_folds_of_other_settings_are_not_resumed(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_log, passes = pipeline.read_log, 0

    def interrupted(*args: object) -> object:
        nonlocal passes
        passes += 1
        if passes == 2:
            raise KeyboardInterrupt
        return read_log(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pipeline, "read_log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(log, tmp_path / "out", CONFIG)
    other = one_thread(split=SplitConfig(by="forward", train=0.5, valid=0.1, folds=2))
    assert prepare(log, tmp_path / "out", other)
    assert passes == 4
    assert [fold.path.name for fold in PreparedData.open_folds(tmp_path / "out").folds] == NAMES[:2]
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_of_folds_and_one_of_a_split_replace_each_other(log: Path, tmp_path: Path) -> None:
    two = one_thread(split=SplitConfig(by="forward", train=0.5, valid=0.1, folds=2))
    assert prepare(log, tmp_path / "out", two)
    assert prepare(log, tmp_path / "out", one_thread())
    assert not PreparedData.open_folds(tmp_path / "out").folds
    assert prepare(log, tmp_path / "out", two)
    assert len(PreparedData.open_folds(tmp_path / "out").folds) == 2


def test_steps_that_take_one_fold_say_which_to_name(prepared: Path) -> None:
    told = (
        "must be given one fold, but .*prepared holds 3; name one of them: .*prepared/fold-3, .*prepared/fold-1 to choo"
    )
    with pytest.raises(UserError, match=told):
        PreparedData.open(prepared)


def test_scores_of_a_tuned_model_must_be_tuned_on_the_first_fold(log: Path, tmp_path: Path) -> None:
    def scores(split: SplitConfig) -> Path:
        fingerprint = json.loads((log / "manifest.json").read_text())["fingerprint"]
        out = tmp_path / json.dumps(split.plain()).replace("/", "")
        tuned = {"log": fingerprint, "split": split.plain()}
        with publish(out, KIND, {"log": fingerprint, "model": "x", "tuned_on": tuned, "config": {}}):
            pass
        return out

    def checked(split: SplitConfig, of: SplitConfig) -> SemanticScores | None:
        from shelfrank.logs.search_log import SearchLog

        config = PrepareConfig(split=split, semantic_scores=str(scores(of)))
        return pipeline._semantic_scores(SearchLog.open(log), config)

    assert checked(SPLIT, SPLIT.only_fold(1)) is not None
    assert checked(SPLIT.only_fold(3), SPLIT.only_fold(1)) is not None
    for later in (SPLIT.only_fold(2), SplitConfig()):
        with pytest.raises(UserError, match="must be tuned on the training searches of the same split"):
            checked(SPLIT, later)
