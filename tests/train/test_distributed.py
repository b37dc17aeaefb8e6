"""Several processes train as one does, score what one scores, resume to the same bits, and end together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.distributed import TCPStore

import shared_training
from shared_training import EVALUATION, NETWORKS, RUNS, learned, network_curves, normalised_gradients, train_runs
from shelfrank.core.processes import Processes
from shelfrank.data.batch import ShuffledBatches, SplitRows
from shelfrank.data.prepared import Split
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.nn.bottoms.base import ghost_rows
from shelfrank.rankers.neural import WEIGHTS
from shelfrank.rankers.run import Run
from shelfrank.train import distributed
from shelfrank.train.checkpoint import FILE
from shelfrank.train.distributed import BatchShare, own_searches
from tiny import hand_split, random_split
from tiny_encoder import save_tiny_bert

CLOSE = 1e-5
"""How near the losses of one and of two processes must be; rounding moves them by 1e-6 or less, and labels that are
counted by each process alone by 4e-3 or more."""


class Shared(NamedTuple):
    """What two processes left behind.

    Attributes:
        out: Their runs and evaluations.
        found: What the first wrote down.
        codes: Their exit codes.
        told: What each printed to standard error.
    """

    out: Path
    found: dict[str, Any]
    codes: list[int]
    told: list[str]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **more}


def run_two(*arguments: str) -> tuple[list[int], list[str]]:
    """Runs `shared_training` in two processes, as `torchrun` would; exit codes and standard errors."""
    # The launcher's own store outlives the processes, so that they can ask it who has told an error.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error", shared_training.__file__, folder, *arguments]
        ended = subprocess.run(command, env=environment(WORLD_SIZE="2", **where), stdout=subprocess.PIPE, check=True)
        told = [Path(folder, str(rank)).read_text(encoding="utf-8") for rank in range(2)]
    return json.loads(ended.stdout), told


@pytest.fixture(scope="module")
def prepared(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, with a text encoder and no cache of texts beside it."""
    folder = tmp_path_factory.mktemp("data")
    save_tiny_bert(folder / "bert")
    return Path(shutil.copytree(small_prepared, folder / "prepared"))


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    out = tmp_path_factory.mktemp("shared")
    codes, told = run_two("work", str(prepared), str(out))
    assert (out / "found.json").is_file(), told
    return Shared(out, json.loads((out / "found.json").read_text()), codes, told)


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    train_runs(prepared, out)
    return out


@pytest.fixture(scope="module")
def curves() -> dict[str, Any]:
    return network_curves()


@pytest.mark.parametrize("name", NETWORKS)
def test_two_processes_have_the_losses_of_one(name: str, curves: dict[str, Any], shared: Shared) -> None:
    assert_allclose(shared.found["networks"][name][0], curves[name][0], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", NETWORKS)
def test_running_statistics_follow_the_whole_batch(name: str, curves: dict[str, Any], shared: Shared) -> None:
    ours, theirs = shared.found["networks"][name][1], curves[name][1]
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        assert_allclose(values, theirs[key], rtol=1e-3, atol=1e-4, err_msg=key)


def test_batch_norm_has_the_output_and_gradients_of_the_whole_batch(shared: Shared) -> None:
    expected = normalised_gradients()
    for name, values in shared.found["batch norm"].items():
        for ours, theirs in zip(values, expected[name], strict=True):
            assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["network", "every part", "text"])
def test_a_run_of_two_processes_has_the_curve_of_one(name: str, shared: Shared, alone: Path) -> None:
    ours, theirs = (Run.open(folder / name) for folder in (shared.out, alone))
    assert ours.manifest.inputs == theirs.manifest.inputs
    info = [run.manifest.info for run in (ours, theirs)]
    assert_allclose(*(learned(told["fitted"]["curve"]) for told in info), rtol=0, atol=CLOSE)
    assert [told["processes"] for told in info] == [2, 1]
    assert "2 processes shared every batch" in info[0]["fitted"]["choices"]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_measure_what_one_does(name: str, shared: Shared, tmp_path: Path) -> None:
    evaluate(shared.out / name, tmp_path / "alone", EVALUATION)
    ours, theirs = Evaluation.open(shared.out / f"{name}-evaluation"), Evaluation.open(tmp_path / "alone")
    assert ours.manifest.inputs == theirs.manifest.inputs
    for array in ("tasks", "fused", "pd_searches", "pd_fused", "pd_neutral"):
        assert_allclose(ours.array(array), theirs.array(array), rtol=0, atol=CLOSE)
    assert ours.report["ndcg"] == theirs.report["ndcg"]
    assert ours.report["pd"] == theirs.report["pd"]


def test_the_cache_of_texts_is_computed_by_one_process(shared: Shared) -> None:
    choices = Run.open(shared.out / "text").manifest.info["fitted"]["choices"]
    assert any("kept in" in choice and ", 0 computed" not in choice for choice in choices)


def test_an_error_of_one_process_ends_all_with_one_sentence(shared: Shared) -> None:
    assert shared.codes == [2, 2]
    errors = [line for told in shared.told for line in told.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "foreign must be new or a folder that shelfrank wrote" in errors[0]
    assert "Traceback" not in "".join(shared.told)


def test_no_thread_of_the_group_outlives_it(shared: Shared) -> None:
    # One that does may abort a process that has done its work, while the interpreter ends.
    assert [told.count("threads of the group: 0\n") for told in shared.told] == [1, 1], shared.told


def test_a_killed_process_ends_the_other_and_the_training_resumes_to_the_same_bits(
    prepared: Path, shared: Shared, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    codes, told = run_two("die", str(prepared), str(out), "12")
    assert codes == [2, -signal.SIGKILL]
    assert told[0].count("error: ") == 1
    assert "another one has ended" in told[0]
    assert [file.name for file in tmp_path.iterdir()] == [".run.checkpoint"]
    assert (tmp_path / ".run.checkpoint" / FILE).is_file()

    config = tmp_path / "config.yaml"
    undisturbed = shared.out / "undisturbed"
    shutil.copy(undisturbed / "config.yaml", config)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "shelfrank"]
    command = ["train", str(prepared), "--ranker", "mmoe_dcn_v2", "--config", str(config), "--out", str(out)]
    resumed = subprocess.run(
        [sys.executable, *torchrun, *command, "--resume", "--json"], env=environment(), capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["processes"] == 2
    assert (out / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()


@given(st.integers(1, 300), st.integers(1, 9), st.sampled_from([1, 2, 5, 16, 128]), st.booleans())
def test_shares_are_disjoint_and_make_up_the_batch(n_rows: int, n: int, ghost_batch_size: int, whole: bool) -> None:
    split = random_split(300)
    rows = np.random.default_rng(0).permutation(300)[:n_rows].astype(np.int64)
    shares = [BatchShare(Processes(rank, n), split, whole, ghost_batch_size)(rows) for rank in range(n)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(rows.tolist())
    assert all((np.diff(share) > 0).all() for share in shares)
    if ghost_batch_size > 1:
        size = ghost_rows(n_rows, ghost_batch_size)
        assert np.concatenate(shares).tolist() == sorted(rows.tolist())
        ends = np.cumsum([len(share) for share in shares])
        assert all(end % size == 0 or end == n_rows for end in ends.tolist())
    elif not whole:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_search_with_its_texts_stays_in_one_process() -> None:
    split = random_split(300)
    for batch in range(4):
        shares = [
            [taken.product_idx for taken in ShuffledBatches(SplitRows(split), 80, 0, True, share).epoch(0)][batch] // 5
            for share in (BatchShare(Processes(rank, 3), split, True, 1) for rank in range(3))
        ]
        searches = [set(share.tolist()) for share in shares]
        assert sum(map(len, searches)) == len(set.union(*searches))
        assert min(map(len, shares)) > 0


@pytest.mark.parametrize("sizes", [[3, 0, 4, 1, 0], [7], [0, 0], [1] * 9], ids=str)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_splits_searches_are_shared_whole_and_in_order(
    sizes: Sequence[int], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split: Split = hand_split([[1, 0, 0]] * sum(sizes), sizes=sizes)
    parts = []
    for rank in range(n):
        monkeypatch.setattr(distributed, "processes", lambda rank=rank: Processes(rank, n))
        part, cuts = own_searches(split)
        assert (cuts[rank + 1] - cuts[rank], len(cuts)) == (part.n_rows, n + 1)
        parts.append(part)
    assert np.concatenate([np.diff(part.search_offsets) for part in parts]).tolist() == list(sizes)
    assert np.concatenate([part.tie_keys for part in parts]).tolist() == split.tie_keys.tolist()
