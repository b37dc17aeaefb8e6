"""Trains and measures every row from every seed, several at once; finished run folders are kept."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shelfrank.config import EvaluateConfig, ExperimentConfig
from shelfrank.core.errors import UserError
from shelfrank.core.jobs import Job, JobResult, JobRunner, Workers
from shelfrank.core.progress import console
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.evaluation import Evaluation, evaluate, is_evaluated
from shelfrank.paper.reproduce.budgets import Budget
from shelfrank.paper.reproduce.rows import TableRow, TaskFigures, printed_weights
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.run import Run, is_trained, problem, resolve_experiment, train
from shelfrank.rankers.texts import ProblemTexts
from shelfrank.report.formats import duration

STAGE = "trainings"
UNTOLD = ("cost", "fingerprint", "calibration", "uses_features", "learned")
"""Parts of a report that are times, that hold times, or that no table shows."""


@dataclass(frozen=True)
class Training:
    """One row from one seed.

    Attributes:
        row: The row.
        seed: From which seed.
        config: How, resolved.
        out: Folder of the reproduction.
    """

    row: TableRow
    seed: int
    config: ExperimentConfig
    out: Path

    @property
    def name(self) -> str:
        """The name of its folders."""
        return f"{self.row.name}-seed{self.seed}"

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.out / "runs" / self.name

    @property
    def evaluation(self) -> Path:
        """Its evaluation."""
        return self.out / "evaluations" / self.name


def plan(
    rows: Sequence[TableRow],
    budget: Budget,
    out: Path,
    tuned: dict[str, TaskFigures],
    overrides: Sequence[str] = (),
) -> list[Training]:
    """Every training of some rows.

    Args:
        rows: The rows.
        budget: Sizes, seeds and settings.
        out: Folder of the reproduction.
        tuned: Task weights by row, in place of those that the paper prints.
        overrides: Settings of every run on top of all others.

    Returns:
        The trainings, row by row.
    """
    return [
        Training(row, seed, resolve_row(row, budget, seed, tuned.get(row.name), overrides), out)
        for row in rows
        for seed in range(budget.n_seeds if row.seeds else 1)
    ]


def resolve_row(
    row: TableRow, budget: Budget, seed: int, weights: TaskFigures | None = None, overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """How a row is trained from a seed, with the given task weights in place of those that the paper prints."""
    # Numerics: one thread, so that the figures are the same however many cores there are.
    settings = ["train.threads=1", *budget.settings]
    if row.is_ft_transformer:
        settings += budget.ft_transformer_settings
    if row.reads_text:
        settings += [f"neural.text.model={json.dumps(budget.text_model)}", *budget.text_settings]
    # Table 5 is the only one with the relevance task.
    settings.append(f"relevance_weight={0.1 if row.table == 5 else 0}")
    weights = weights or printed_weights(row)
    if weights is not None:
        settings.append(f"task_weights={json.dumps(dict(weights))}")
    is_sized = row.ranker in PAPER_ROWS and bool(PAPER_ROWS[row.ranker].sizes)
    preset = budget.preset if is_sized else "default"
    return resolve_experiment(row.ranker, None, [*settings, *row.settings, *overrides], seed, preset)


def run_all(trainings: Sequence[Training], prepared: Path, config: EvaluateConfig, n_workers: int) -> list[Training]:
    """Trains and measures, `n_workers` at a time; finished trainings are skipped.

    A training that fails does not stop the others. A killed one resumes from its checkpoint at the next call.

    Args:
        trainings: The trainings.
        prepared: The prepared data.
        config: How to measure.
        n_workers: Processes, of one thread each.

    Returns:
        The trainings that were done now.

    Raises:
        UserError: Where a training failed, after all others have ended.
    """
    # Before any worker starts: each takes seconds to load its libraries.
    finished = [each for each in trainings if _is_finished(each, prepared, config)]
    for training in finished:
        console.print(f"{training.name}: unchanged", highlight=False, markup=False, soft_wrap=True)
    trainings = [each for each in trainings if each not in finished]
    if not trainings:
        return []
    order = {each.name: each for each in sorted(trainings, key=_expected_cost, reverse=True)}
    jobs = [Job(name, _expected_cost(each)) for name, each in order.items()]
    started, seen, spent = time.monotonic(), set[str](), [0.0]
    _encode_texts(trainings, prepared)

    def on_results(_: str, results: Sequence[JobResult]) -> None:
        for result in [each for each in results if each.job.id not in seen]:
            seen.add(result.job.id)
            changed = result.facts.get("changed", False)
            spent[0] += result.job.cost * changed
            if result.state == "failed":
                _show(result, f"failed: {result.facts['error']}")
                continue
            rate = spent[0] / max(time.monotonic() - started, 1e-9)
            unfinished = sum(job.cost for job in jobs if job.id not in seen)
            remaining = f", about {duration(unfinished / rate)} left" if rate and unfinished else ""
            _show(result, f"{'done' if changed else 'unchanged'} ({len(seen)} of {len(jobs)}{remaining})")
        workers.check()

    # Run folders record what is finished, so that the jobs' own folder lasts no longer than this call.
    with (
        tempfile.TemporaryDirectory() as folder,
        Workers(n_workers, _work_off, (Path(folder), order, prepared, config), {"OMP_NUM_THREADS": "1"}) as workers,
    ):
        results = JobRunner(Path(folder)).run(STAGE, jobs, None, on_results)
    failed = [result for result in results if result.state == "failed"]
    if failed:
        first = failed[0]
        raise UserError(f"{len(failed)} of {len(jobs)} trainings failed, {first.job.id} first: {first.facts['error']}")
    return [order[result.job.id] for result in results if result.facts["changed"]]


def _work_off(folder: Path, trainings: dict[str, Training], prepared: Path, config: EvaluateConfig) -> None:
    """Works on the trainings beside other processes."""
    jobs = [Job(name) for name in trainings]

    def do(job: Job) -> dict[str, Any]:
        return {"changed": _run(trainings[job.id], prepared, config)}

    JobRunner(folder).run(STAGE, jobs, do, tolerant=True)


def _is_finished(training: Training, prepared: Path, config: EvaluateConfig) -> bool:
    with contextlib.suppress(UserError):  # a worker meets the same error and reports it for its training
        trained = is_trained(prepared, training.row.ranker, training.config, training.run)
        return trained and is_evaluated(training.run, training.evaluation, config)
    return False


def pure_report(training: Training) -> dict[str, Any]:
    """The parts of a run and its evaluation that the same seed repeats bit for bit: no times.

    Args:
        training: A finished training.

    Returns:
        The evaluation's report without times, with the run's inputs: resolved config, data and text model.
    """
    evaluation, run = Evaluation.open(training.evaluation), Run.open(training.run)
    report = {name: value for name, value in evaluation.report.items() if name not in UNTOLD}
    report["name"] = training.name
    report["curves"] = [
        {name: value for name, value in record.items() if name != "seconds"} for record in report["curves"] or []
    ]
    inputs = {name: value for name, value in run.manifest.inputs.items() if name != "config"}
    return {**report, "inputs": inputs, "rows": run.manifest.info["rows"]}


def _run(training: Training, prepared: Path, config: EvaluateConfig) -> bool:
    folder = training.out / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{training.name}.log").open("ab") as log, _standard_error_to(log.fileno()):
        trained = train(prepared, training.row.ranker, training.config, training.run, resume=True, ignore_foreign=True)
        return evaluate(training.run, training.evaluation, config) or trained


@contextlib.contextmanager
def _standard_error_to(descriptor: int) -> Iterator[None]:
    """Sends this process's standard error elsewhere: the progress of several workers would mix."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _encode_texts(trainings: Sequence[Training], path: Path) -> None:
    """Fills the cache of the frozen layers' output once, on every core, before several processes want it."""
    reading = [each for each in trainings if each.row.reads_text and not (each.run / "manifest.json").exists()]
    if reading:
        prepared = PreparedData.open(path)
        texts = ProblemTexts(problem(prepared, reading[0].config))
        texts.feed(torch.device("cpu"), prepared.split("train"))
        console.print(f"encode texts: {texts.notes()[1]}", highlight=False)


def _expected_cost(training: Training) -> float:
    """About how long a training takes beside the others, to start the long ones first and to estimate the time left."""
    if not training.row.seeds:
        return 0.1
    return 1.0 + 8.0 * training.row.reads_text + 4.0 * training.row.is_ft_transformer


def _show(result: JobResult, what: str) -> None:
    console.print(f"{result.job.id}: {what}", highlight=False, markup=False, soft_wrap=True)
