"""Jobs that are done once each, by whichever process claims them, even where processes are killed.

A job's result is a file that is written atomically. A job is claimed by a lock on a file, which the system releases
when the process ends: a killed worker's job is free at once, without a timeout. So any number of processes that see the
same folder, on one machine or several, work through the same jobs, and running them again skips the finished ones.
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from shelfrank.core.artifact import write_atomic
from shelfrank.core.errors import UserError
from shelfrank.core.processor import usable_cores

POLL_S = 0.2
"""Seconds between two looks at the results of other workers."""


class Pruned(Exception):  # noqa: N818 - not an error: a job that is ended early
    """Ends a job early, on purpose.

    Args:
        facts: What its result holds.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__("the job is not worth finishing")
        self.facts = facts


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        id: Name, unique in its stage; its folder has the same name.
        cost: Its work in any unit, at most; for progress.
        params: Its parameters.
    """

    id: str
    cost: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """A finished job.

    Attributes:
        job: The job.
        state: Whether it was done, ended early or ended with an error.
        facts: JSON data that it returned, with its `seconds`; of a failed one the `error`.
    """

    job: Job
    state: Literal["done", "pruned", "failed"]
    facts: Mapping[str, Any]


class JobRunner:
    """Works through stages of jobs beside all other processes that use the same folder.

    Args:
        folder: Holds locks, results and the folders of the jobs, by stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def folder_of(self, stage: str, job_id: str) -> Path:
        """Where a job leaves its files."""
        return self.folder / stage / job_id

    def run(
        self,
        stage: str,
        jobs: Sequence[Job],
        do: Callable[[Job], Mapping[str, Any]] | None,
        on_results: Callable[[str, Sequence[JobResult]], None] = lambda *_: None,
        tolerant: bool = False,
    ) -> list[JobResult]:
        """Does the jobs that no other process does, and returns when all are finished, by whomever.

        Args:
            stage: Name of the stage.
            jobs: Its jobs; every process must pass the same, and free ones are claimed in this order.
            do: Does a job and returns the facts of its result; it may raise `Pruned`. None only waits for others.
            on_results: Called with the stage and all results so far, after each job and while waiting.
            tolerant: Keeps a job that ends with a `UserError` or an `OSError` as failed, instead of raising it.

        Returns:
            The results in the order of the jobs.

        Raises:
            UserError: The error of a job, which is tried again at the next call.
        """
        # Whoever finishes the last stage may have removed the whole folder, which must then stay away.
        (self.folder / stage).mkdir(exist_ok=True)
        left, found = {job.id: job for job in jobs}, dict[str, JobResult]()
        while True:
            for job_id in [each for each in self._finished(stage) if each in left]:
                result = json.loads(self._file(stage, job_id, "json").read_bytes())
                found[job_id] = JobResult(left.pop(job_id), result["state"], result["facts"])
            on_results(stage, list(found.values()))
            if not left:
                return [found[job.id] for job in jobs]
            if do is None or not any(self._claim_and_do(stage, job, do, tolerant) for job in left.values()):
                time.sleep(POLL_S)

    def results(self, stage: str) -> list[Mapping[str, Any]]:
        """State and facts of the jobs of a stage that are finished, whoever did them."""
        return [json.loads(self._file(stage, job_id, "json").read_bytes()) for job_id in self._finished(stage)]

    def _claim_and_do(self, stage: str, job: Job, do: Callable[[Job], Mapping[str, Any]], tolerant: bool) -> bool:
        """Whether the job is finished now; False where another process is at it."""
        with self._lock(stage, job.id) as claimed:
            # Another process may have finished it since the last look.
            if not claimed or self._file(stage, job.id, "json").exists():
                return claimed
            started = time.monotonic()
            state, facts = _outcome(job, do, tolerant)
            facts = {**facts, "seconds": round(time.monotonic() - started, 3)}
            content = json.dumps({"state": state, "facts": facts}).encode()
            write_atomic(self._file(stage, job.id, "json"), content)
            return True

    @contextlib.contextmanager
    def _lock(self, stage: str, job_id: str) -> Iterator[bool]:
        with self._file(stage, job_id, "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _finished(self, stage: str) -> list[str]:
        with os.scandir(self.folder / stage) as entries:
            names = sorted(entry.name for entry in entries)
        return [name.removeprefix(".").removesuffix(".json") for name in names if name.endswith(".json")]

    def _file(self, stage: str, job_id: str, kind: str) -> Path:
        return self.folder / stage / f".{job_id}.{kind}"


def _outcome(job: Job, do: Callable[[Job], Mapping[str, Any]], tolerant: bool) -> tuple[str, Mapping[str, Any]]:
    try:
        return "done", do(job)
    except Pruned as early:
        return "pruned", early.facts
    except (UserError, OSError) as error:
        if not tolerant:
            raise
        return "failed", {"error": str(error)}


class Workers:
    """Processes that work beside this one for the length of a block; they end with it, however it ends.

    Args:
        n: How many.
        work: Function that each runs; a `UserError` ends it quietly, as this process meets the same one.
        arguments: Its arguments.
        environment: Variables of the workers, such as how many threads a numerical library takes when it loads.
    """

    def __init__(
        self, n: int, work: Callable[..., object], arguments: tuple[Any, ...], environment: Mapping[str, str]
    ) -> None:
        self.n, self.work, self.arguments, self.environment = n, work, arguments, environment
        self.processes: list[BaseProcess] = []

    def __enter__(self) -> "Workers":
        context, before = multiprocessing.get_context("spawn"), dict(os.environ)
        os.environ.update(self.environment)
        try:
            for _ in range(self.n):
                self.processes.append(context.Process(target=_work, args=(self.work, self.arguments), daemon=True))
                self.processes[-1].start()
        finally:
            for name in self.environment:
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]
        return self

    def check(self) -> None:
        """Raises a `UserError` where a worker has died."""
        for process in self.processes:
            if process.exitcode not in (None, 0):
                raise UserError(
                    f"every worker must live until the work is done, but one ended with code {process.exitcode}, "
                    "perhaps for want of memory; run the same step again with fewer workers"
                )

    def __exit__(self, error: object, *_: object) -> None:
        for process in self.processes:
            if error:
                process.terminate()
            process.join()


def _work(work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    with contextlib.suppress(UserError):
        work(*arguments)


def end_with_parent() -> None:
    """Ends this process at once when the one that started it has ended, however it ended.

    Otherwise a worker whose parent was killed would finish its job while the next call begins the same one.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process that another one started has a parent to end with"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def shared_cores(n_workers: int) -> dict[str, str]:
    """Variables that give each of several workers its share of the cores, unless the user has set them."""
    wanted = {"OMP_NUM_THREADS": str(max(1, usable_cores() // n_workers)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: value for name, value in wanted.items() if name not in os.environ}
