"""Jobs are done once each, by whichever process claims them, whoever is killed meanwhile."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shelfrank.core.errors import UserError
from shelfrank.core.jobs import Job, JobResult, JobRunner, Pruned, Workers, shared_cores

JOBS = [Job("b", 1.0, {"x": 2}), Job("a", 3.0, {"x": 1}), Job("a.1-r0.5")]


def counted(done: list[str]) -> Callable[[Job], Mapping[str, Any]]:
    def do(job: Job) -> Mapping[str, Any]:
        done.append(job.id)
        return {"x": job.params.get("x")}

    return do


def test_jobs_are_done_in_order_and_their_results_kept(tmp_path: Path) -> None:
    done: list[str] = []
    runner = JobRunner(tmp_path / "work")
    results = runner.run("first", JOBS, counted(done))
    assert done == ["b", "a", "a.1-r0.5"]
    assert [result.job for result in results] == JOBS
    assert [result.facts["x"] for result in results] == [2, 1, None]
    assert all(result.facts["seconds"] >= 0 for result in results)

    assert JobRunner(tmp_path / "work").run("first", JOBS, counted(done)) == results
    assert len(done) == 3
    runner.run("second", JOBS[:1], counted(done))
    assert len(done) == 4


def test_an_error_ends_the_run_and_the_job_is_tried_again(tmp_path: Path) -> None:
    done: list[str] = []

    def fails(job: Job) -> Mapping[str, Any]:
        if job.id == "a":
            raise UserError("a loss must stay finite")
        return counted(done)(job)

    with pytest.raises(UserError, match="finite"):
        JobRunner(tmp_path).run("stage", JOBS, fails)
    assert done == ["b"]
    JobRunner(tmp_path).run("stage", JOBS, counted(done))
    assert done == ["b", "a", "a.1-r0.5"]


def test_a_tolerant_run_keeps_failed_and_pruned_jobs(tmp_path: Path) -> None:
    def do(job: Job) -> Mapping[str, Any]:
        if job.id == "a":
            raise UserError("a loss must stay finite")
        if job.id == "b":
            raise Pruned({"rows": 5})
        return {}

    results = JobRunner(tmp_path).run("stage", JOBS, do, tolerant=True)
    assert [result.state for result in results] == ["pruned", "failed", "done"]
    assert results[0].facts["rows"] == 5
    assert results[1].facts["error"] == "a loss must stay finite"
    assert {each["state"] for each in JobRunner(tmp_path).results("stage")} == {"pruned", "failed", "done"}


def test_results_are_shown_after_every_job(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def show(stage: str, results: Sequence[JobResult]) -> None:
        assert stage == "stage"
        seen.append([result.job.id for result in results])

    JobRunner(tmp_path).run("stage", JOBS[:2], counted([]), show)
    assert seen == [[], ["b"], ["b", "a"]]


def test_a_folder_that_was_removed_stays_away(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path / "work")
    (tmp_path / "work").rmdir()
    with pytest.raises(FileNotFoundError):
        runner.run("late", JOBS, counted([]))
    assert not (tmp_path / "work").exists()


KILLED = """
import os, signal, sys, time
from pathlib import Path
from shelfrank.core.jobs import Job, JobRunner

def do(job):
    print(job.id, flush=True)
    if job.id == "b":
        return {}
    time.sleep(60)

JobRunner(Path(sys.argv[1])).run("stage", [Job("b"), Job("a"), Job("a.1-r0.5")], do)
"""


def test_the_job_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    working = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert working.stdout is not None
    assert [working.stdout.readline().strip() for _ in range(2)] == ["b", "a"]
    done: list[str] = []

    def stop(_: str, results: Sequence[JobResult]) -> None:
        if len(results) == 2:
            raise KeyboardInterrupt

    # What the other process is at is left alone.
    with pytest.raises(KeyboardInterrupt):
        JobRunner(tmp_path).run("stage", JOBS, counted(done), stop)
    assert done == ["a.1-r0.5"]
    working.kill()
    working.communicate()
    JobRunner(tmp_path).run("stage", JOBS, counted(done))
    assert done == ["a.1-r0.5", "a"]


def work_together(folder: Path, who: Path) -> None:
    who.mkdir(exist_ok=True)

    def do(job: Job) -> Mapping[str, Any]:
        (who / f"{job.id}-{os.getpid()}").touch()
        # Each worker has begun a job before either ends one.
        end = time.monotonic() + 60
        while len({file.name.rpartition("-")[2] for file in who.iterdir()}) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return {"threads": os.environ["OMP_NUM_THREADS"]}

    JobRunner(folder).run("stage", JOBS, do)


def test_workers_share_the_jobs_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Workers(2, work_together, (tmp_path / "work", tmp_path / "who"), {"OMP_NUM_THREADS": "1"}) as workers:
        assert os.environ["OMP_NUM_THREADS"] == "7"
        results = JobRunner(tmp_path / "work").run("stage", JOBS, None, lambda *_: workers.check())
    assert [result.facts["threads"] for result in results] == ["1"] * 3
    begun = [file.name.rpartition("-") for file in (tmp_path / "who").iterdir()]
    assert sorted(name for name, _, _ in begun) == sorted(job.id for job in JOBS)
    assert len({pid for _, _, pid in begun}) == 2
    assert [process.exitcode for process in workers.processes] == [0, 0]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"one ended with code -9, .* run the same step again with fewer workers"),
        Workers(1, die, (), {}) as workers,
    ):
        JobRunner(tmp_path).run("stage", JOBS, None, lambda *_: workers.check())


def test_workers_take_their_share_of_the_cores_unless_the_user_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfrank.core.jobs.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert shared_cores(3)["OMP_NUM_THREADS"] == "2"
    assert shared_cores(16)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in shared_cores(3)


def work_for_a_minute(pid: Path) -> None:
    pid.with_suffix(".part").write_text(str(os.getpid()))
    pid.with_suffix(".part").rename(pid)
    time.sleep(60)


def start_a_worker(pid: Path) -> None:
    with Workers(1, work_for_a_minute, (pid,), {}):
        pass


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(target=start_a_worker, args=(tmp_path / "pid",))
    parent.start()
    assert wait_until((tmp_path / "pid").exists)
    worker = int((tmp_path / "pid").read_text())
    assert is_alive(worker)

    os.kill(parent.pid, signal.SIGKILL)
    parent.join()

    assert wait_until(lambda: not is_alive(worker))
