"""Trials on Optuna's storage: each job done once, by whichever worker claims it, whoever is killed meanwhile."""

import contextlib
import fcntl
import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelfrank.core.errors import UserError

if TYPE_CHECKING:
    import optuna

POLL_S = 0.5
"""Seconds between two looks at what other workers have done."""
BUSY_TIMEOUT_S = 120


class Hopeless(Exception):  # noqa: N818 - not an error: a trial that is ended early
    """Ends a trial that will not be the best.

    Args:
        rows: Training rows that it has seen.
    """

    def __init__(self, rows: int) -> None:
        super().__init__("the trial is worse than the others were at this step")
        self.rows = rows


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        id: Its name, unique in its study; also of its folder.
        params: What is tried, for people who look into the study.
        distributions: Where each of them was drawn from, as Optuna has it.
        rows: Training rows that it sees at most.
        about: What the work needs to know beside that.
    """

    id: str
    params: Mapping[str, Any]
    distributions: Mapping[str, Any]
    rows: int
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its user attributes, and whether it was done, pruned or failed."""

    job: Job
    state: str
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Tools:
    """What a trial may do to its entry in the storage.

    Attributes:
        report: Takes a step, a value, the higher the better, and the rows seen so far; raises `Hopeless` where the
            trial should end.
    """

    report: Callable[[int, float, int], None]


class Queue:
    """The studies of one tuning.

    A job is claimed by locking its file in the work folder, which the system unlocks when the worker dies: a claimed
    trial whose file is not locked was killed and is tried again. So all workers must see the same work folder.

    Args:
        url: Optuna's storage; None takes a SQLite file in the work folder.
        work: Folder of locks and of what the trials leave.
        name: Prefix of the studies' names: another one for other inputs.
    """

    def __init__(self, url: str | None, work: Path, name: str) -> None:
        self.optuna = import_optuna()
        self.work, self.name = work, name
        (work / "locks").mkdir(parents=True, exist_ok=True)
        self.file = work / "optuna.db" if url is None else None
        self.storage = self._open(url or f"sqlite:///{work / 'optuna.db'}")

    def close(self) -> None:
        """Ends the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def work_off(
        self,
        stage: str,
        jobs: Sequence[Job],
        do: Callable[[Job, Tools], Mapping[str, Any]],
        tell: Callable[[str, Sequence[Outcome]], None] = lambda *_: None,
        pruner: "optuna.pruners.BasePruner | None" = None,
        tolerant: bool = False,
    ) -> list[Outcome]:
        """Does what no other worker does, and returns when all jobs are done, by whomever.

        Args:
            stage: Names the study.
            jobs: What must be done; every worker must give the same.
            do: Does one job, leaves its files in place and returns what the storage keeps of it.
            tell: Called with the stage and all outcomes so far whenever they may have changed.
            pruner: Says which trials are hopeless.
            tolerant: Keeps a trial that ends with a `UserError` as failed and goes on, instead of raising it.

        Returns:
            The outcomes in the order of the jobs.

        Raises:
            UserError: What a trial raised; it is tried again at the next call.
        """
        study = self._study(stage, pruner)
        by_id = {job.id: job for job in jobs}
        is_new = True
        while True:
            if is_new:
                with self._locked(stage):
                    self._put_missing(study, stage, jobs)
            trials = study.get_trials(deepcopy=False)
            claimed = self._claim(study, stage, trials)
            outcomes = self._outcomes(stage, trials, by_id)
            tell(stage, list(outcomes.values()))
            if claimed is not None:
                number, job_id, lock = claimed
                with lock:
                    self._do(study, number, by_id[job_id], do, tolerant)
                is_new = False
                continue
            if len(outcomes) == len(jobs):
                return [outcomes[job.id] for job in jobs]
            # Whoever has claimed what is left may have died since.
            is_new = True
            time.sleep(POLL_S)

    def _do(
        self,
        study: "optuna.Study",
        number: int,
        job: Job,
        do: Callable[[Job, Tools], Mapping[str, Any]],
        tolerant: bool,
    ) -> None:
        states = self.optuna.trial.TrialState
        trial = self.optuna.trial.Trial(study, self._trial_id(study, number))

        def report(step: int, value: float, rows: int) -> None:
            trial.report(value, step)
            if trial.should_prune():
                raise Hopeless(rows)

        started = time.monotonic()
        about: Mapping[str, Any]
        try:
            about = do(job, Tools(report))
            state, value = states.COMPLETE, float(about["objective"])
        except Hopeless as end:
            about, state, value = {"rows": end.rows}, states.PRUNED, None
        except UserError as error:
            if not tolerant:
                study.tell(number, state=states.FAIL)
                raise
            about, state, value = {"error": str(error)}, states.FAIL, None
        told = {"seconds": round(time.monotonic() - started, 3), "worker": f"{socket.gethostname()}:{os.getpid()}"}
        # One write: every one waits for the disk.
        trial.set_user_attr("about", {**about, **told})
        study.tell(number, value, state)

    def _put_missing(self, study: "optuna.Study", stage: str, jobs: Sequence[Job]) -> None:
        """Puts every job into the study that is neither waiting nor under way nor done."""
        states = self.optuna.trial.TrialState
        present = set()
        for trial in study.get_trials(deepcopy=False):
            if trial.state == states.RUNNING:
                self._drop_if_dead(study, stage, trial.number)
                trial = study.get_trials(deepcopy=False)[trial.number]
            if trial.state in (states.WAITING, states.RUNNING) or self._has_ended(stage, trial):
                present.add(trial.user_attrs["job"])
        for job in jobs:
            if job.id not in present:
                study.add_trial(
                    self.optuna.trial.create_trial(
                        state=states.WAITING,
                        params=dict(job.params),
                        distributions=dict(job.distributions),
                        user_attrs={"job": job.id},
                    )
                )

    def _drop_if_dead(self, study: "optuna.Study", stage: str, number: int) -> None:
        lock = self._try_lock(stage, number)
        if lock is None:
            return
        with lock:
            # It may have ended between the look at its state and the lock.
            if study.get_trials(deepcopy=False)[number].state == self.optuna.trial.TrialState.RUNNING:
                study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def _claim(
        self, study: "optuna.Study", stage: str, trials: "Sequence[optuna.trial.FrozenTrial]"
    ) -> tuple[int, str, contextlib.ExitStack] | None:
        for trial in trials:
            if trial.state != self.optuna.trial.TrialState.WAITING:
                continue
            lock = self._try_lock(stage, trial.number)
            if lock is None:
                continue
            if self._start(study, trial.number):
                return trial.number, trial.user_attrs["job"], lock
            lock.close()
        return None

    def _start(self, study: "optuna.Study", number: int) -> bool:
        try:
            return self.storage.set_trial_state_values(
                self._trial_id(study, number), state=self.optuna.trial.TrialState.RUNNING
            )
        except self.optuna.exceptions.UpdateFinishedTrialError:
            return False

    def folder(self, stage: str, job_id: str) -> Path:
        """Where a done job's files are."""
        return self.work / stage / job_id

    def _has_ended(self, stage: str, trial: "optuna.trial.FrozenTrial") -> bool:
        states = self.optuna.trial.TrialState
        if trial.state == states.COMPLETE:
            # Its files are gone where the storage outlived the work folder.
            return self.folder(stage, trial.user_attrs["job"]).is_dir()
        return trial.state == states.PRUNED or (
            trial.state == states.FAIL and "error" in trial.user_attrs.get("about", {})
        )

    def _outcomes(
        self, stage: str, trials: "Sequence[optuna.trial.FrozenTrial]", jobs: Mapping[str, Job]
    ) -> dict[str, Outcome]:
        states = self.optuna.trial.TrialState
        names = {states.COMPLETE: "done", states.PRUNED: "pruned", states.FAIL: "failed"}
        return {
            job: Outcome(jobs[job], names[trial.state], trial.user_attrs.get("about", {}))
            for trial in trials
            if self._has_ended(stage, trial) and (job := trial.user_attrs["job"])
        }

    def _study(self, stage: str, pruner: "optuna.pruners.BasePruner | None") -> "optuna.Study":
        return self.optuna.create_study(
            storage=self.storage,
            study_name=f"{self.name}/{stage}",
            direction="maximize",
            load_if_exists=True,
            pruner=pruner or self.optuna.pruners.NopPruner(),
            sampler=self.optuna.samplers.RandomSampler(),
        )

    def _trial_id(self, study: "optuna.Study", number: int) -> int:
        study_id = self.storage.get_study_id_from_name(study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _open(self, url: str) -> "optuna.storages.RDBStorage":
        options = {"connect_args": {"timeout": BUSY_TIMEOUT_S}} if url.startswith("sqlite") else {}
        try:
            # One at a time: two that make the tables at once would meet each other's halves.
            with self._locked("tables"):
                return self.optuna.storages.RDBStorage(url, engine_kwargs=options)
        except Exception as error:
            # SQLAlchemy and every driver have errors of their own.
            raise UserError(
                f"the storage must be a database that Optuna can open, but {url} is not: {str(error).splitlines()[0]}"
            ) from error

    def _try_lock(self, stage: str, number: int) -> contextlib.ExitStack | None:
        stack = contextlib.ExitStack()
        file = stack.enter_context((self.work / "locks" / f"{stage}-{number}").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stack.close()
            return None
        return stack

    @contextlib.contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        with (self.work / "locks" / what).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def import_optuna() -> Any:
    """The library; a `UserError` where it is not installed."""
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise UserError(
            "tuning needs Optuna, but it is not installed; pip install 'shelfrank[tune]' to install it"
        ) from error
    # Trials are told by our own progress.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def worker_environment(n_workers: int) -> dict[str, str]:
    """Variables of a worker's process: its share of the cores, as several that take all would stall one another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // n_workers)), "OMP_WAIT_POLICY": "PASSIVE"}
