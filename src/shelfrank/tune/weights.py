"""The search over loss weights: every point trained, or the cheap way to the points worth training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank.config import ExperimentConfig
from shelfrank.core.jobs import Job, JobResult, JobRunner
from shelfrank.metrics.order import fuse
from shelfrank.tune.simplex import Point, simplex, spread
from shelfrank.tune.trials import RANKS, SCORES, TrialTrainer, leave, overlaid, read_ranks

SHARED, SCREEN, WHOLE = "shared", "screen", "whole"
OnResults = Callable[[str, Sequence[JobResult]], None]
"""Takes a stage and its results so far."""


@dataclass(frozen=True)
class Stage:
    """A step of the search.

    Attributes:
        name: Its name.
        n_jobs: Trials in it.
        rows: Training rows that each sees at most.
    """

    name: str
    n_jobs: int
    rows: int


@dataclass(frozen=True)
class Judged:
    """A point with its last judgement.

    Attributes:
        point: The weights.
        stage: The last stage that it reached.
        ranks: Its order's ranks there.
        common: Its order's ranks at the last stage that every point reached.
        screened: Its order's ranks by fusing the shared training's scores; None where there was none.
        rows: Training rows that were spent on it alone.
        seconds: Seconds that were spent on it alone.
    """

    point: Point
    stage: str
    ranks: np.ndarray
    common: np.ndarray
    screened: np.ndarray | None
    rows: int
    seconds: float


@dataclass(frozen=True)
class WeightSearch:
    """The search over one network's loss weights.

    Attributes:
        trainer: Trains and judges.
        owner: Fingerprint of the search's inputs.
        spent: Stage, rows and seconds of every trial, once it has run.
    """

    trainer: TrialTrainer
    owner: str
    spent: list[dict[str, Any]] = field(default_factory=list)

    @property
    def points(self) -> list[Point]:
        """Every point of the grid."""
        settings = self.trainer.settings
        return simplex(len(self.trainer.prepared.tasks), settings.n_parts, settings.relevance_weights)

    def stages(self) -> list[Stage]:
        """The steps of the search, in order."""
        settings, whole = self.trainer.settings, self._whole_rows
        if settings.method == "full":
            return [Stage(WHOLE, len(self.points), whole)]
        left, looks = len(self.points), []
        for i, (share, keep) in enumerate(zip(settings.cheap.looks, settings.cheap.keep, strict=True)):
            looks.append(Stage(look_name(i), left, self.trainer.rows_of(share, i)))
            left = kept_of(left, keep)
        n_whole = min(left, settings.cheap.n_best + settings.cheap.n_spread)
        return [Stage(SHARED, len(self._equal), whole), Stage(SCREEN, 1, 0), *looks, Stage(WHOLE, n_whole, whole)]

    def run(self, runner: JobRunner, on_results: OnResults) -> list[Judged]:
        """Goes through all stages beside whoever else does.

        Args:
            runner: The trials.
            on_results: Called with a stage's name and its results so far.

        Returns:
            Every point with its last judgement, in the grid's order.
        """
        points = {point.id: point for point in self.points}
        judged: dict[str, Judged] = {}
        finalists = list(points.values())
        if self.trainer.settings.method == "cheap":
            narrowed, finalists = self._narrow(runner, points, on_results)
            judged = {found.point.id: found for found in narrowed}
        jobs = [Job(point.id, self._whole_rows) for point in finalists]
        for result in self._run(runner, WHOLE, jobs, self._train_whole(runner), on_results):
            found = self._judged(runner, WHOLE, points[result.job.id], result, judged.get(result.job.id))
            judged[found.point.id] = found
        return [judged[name] for name in points]

    def config_of(self, point: Point) -> ExperimentConfig:
        """The experiment with a point's weights."""
        top: dict[str, Any] = {"task_weights": self.task_weights(point)}
        if point.relevance is not None:
            top["relevance_weight"] = point.relevance
        return overlaid(self.trainer.config, top)

    def task_weights(self, point: Point) -> dict[str, float]:
        """A point's weights by task."""
        return dict(zip(self.trainer.prepared.tasks, point.weights, strict=True))

    def _narrow(
        self, runner: JobRunner, points: Mapping[str, Point], on_results: OnResults
    ) -> tuple[list[Judged], list[Point]]:
        """Looks at all points, and says which are worth a whole training."""
        trainer, cheap = self.trainer, self.trainer.settings.cheap
        jobs = [Job(point.id, self._whole_rows) for point in self._equal.values()]
        self._run(runner, SHARED, jobs, self._train_shared(runner), on_results)
        start = {name: runner.folder_of(SHARED, self._equal[point.relevance].id) for name, point in points.items()}
        # It costs no training, but one worker's look at all orders is enough.
        self._run(runner, SCREEN, [Job("all")], lambda _: self._screen(runner, start, points), on_results)
        screened = np.load(runner.folder_of(SCREEN, "all") / RANKS)
        found = {
            name: Judged(point, SCREEN, ranks, ranks, ranks, 0, 0.0)
            for (name, point), ranks in zip(points.items(), screened, strict=True)
        }
        left = list(points.values())
        for look, (share, keep) in enumerate(zip(cheap.looks, cheap.keep, strict=True)):
            stage = look_name(look)
            jobs = [Job(point.id, trainer.rows_of(share, look)) for point in left]

            def do(job: Job, share: float = share, look: int = look, stage: str = stage) -> Mapping[str, Any]:
                origin = runner.folder_of(look_name(look - 1), job.id) if look else start[job.id]
                return trainer.short(
                    self.config_of(points[job.id]), runner.folder_of(stage, job.id), origin, share, look
                )

            for result in self._run(runner, stage, jobs, do, on_results):
                point = points[result.job.id]
                judged = self._judged(runner, stage, point, result, found[point.id])
                found[point.id] = replace(judged, common=judged.ranks) if len(left) == len(points) else judged
            left = self._best([found[point.id] for point in left], kept_of(len(left), keep))
        best = left[: cheap.n_best]
        return list(found.values()), [*best, *spread(left, best, cheap.n_spread)]

    def _screen(self, runner: JobRunner, start: Mapping[str, Path], points: Mapping[str, Point]) -> dict[str, Any]:
        scores = {folder: np.load(folder / SCORES) for folder in set(start.values())}
        judge = self.trainer.judge
        ranks = np.stack([judge.ranks(fuse(scores[start[name]], point.weights)) for name, point in points.items()])
        leave(runner.folder_of(SCREEN, "all"), lambda draft: np.save(draft / RANKS, ranks))
        return {"objective": max(map(judge.objective, ranks))}

    def _run(
        self,
        runner: JobRunner,
        stage: str,
        jobs: Sequence[Job],
        do: Callable[[Job], Mapping[str, Any]],
        on_results: OnResults,
    ) -> list[JobResult]:
        results = runner.run(stage, jobs, do, on_results)
        self.spent.extend(
            {"stage": stage, "rows": int(each.facts.get("rows", 0)), "seconds": float(each.facts["seconds"])}
            for each in results
        )
        return results

    def _train_shared(self, runner: JobRunner) -> Callable[[Job], Mapping[str, Any]]:
        equal = {point.id: point for point in self._equal.values()}

        def do(job: Job) -> Mapping[str, Any]:
            folder, owner = runner.folder_of(SHARED, job.id), f"{self.owner}/{SHARED}/{job.id}"
            return self.trainer.whole(self.config_of(equal[job.id]), folder, owner, keep_weights=True)

        return do

    def _train_whole(self, runner: JobRunner) -> Callable[[Job], Mapping[str, Any]]:
        points = {point.id: point for point in self.points}

        def do(job: Job) -> Mapping[str, Any]:
            folder = runner.folder_of(WHOLE, job.id)
            return self.trainer.whole(self.config_of(points[job.id]), folder, f"{self.owner}/{WHOLE}/{job.id}")

        return do

    def _judged(self, runner: JobRunner, stage: str, point: Point, result: JobResult, before: Judged | None) -> Judged:
        ranks = read_ranks(runner.folder_of(stage, point.id))
        rows, seconds = int(result.facts["rows"]), float(result.facts["seconds"])
        if before is None:
            return Judged(point, stage, ranks, ranks, None, rows, seconds)
        return replace(before, stage=stage, ranks=ranks, rows=before.rows + rows, seconds=before.seconds + seconds)

    def _best(self, found: Sequence[Judged], n: int) -> list[Point]:
        """The points of the highest objective, the best first; of equal ones the first of the grid."""
        judge = self.trainer.judge
        order = sorted(range(len(found)), key=lambda i: (-judge.objective(found[i].ranks), i))
        return [found[i].point for i in order[:n]]

    @property
    def common(self) -> str:
        """The last stage that every point reaches."""
        return [stage for stage in self.stages() if stage.n_jobs == len(self.points) or stage.name == SCREEN][-1].name

    @property
    def _equal(self) -> dict[float | None, Point]:
        """Equal weights beside each relevance weight: without that label the network is another one."""
        n_tasks = len(self.trainer.prepared.tasks)
        return {each: Point((1,) * n_tasks, each) for each in self.trainer.settings.relevance_weights or (None,)}

    @property
    def _whole_rows(self) -> int:
        return self.trainer.train_rows.n_rows * self.trainer.config.train.epochs


def look_name(look: int) -> str:
    """Name of a look's stage, counted from 0."""
    return f"look{look + 1}"


def kept_of(n: int, share: float) -> int:
    """How many of n points a share of them is, at least one."""
    return max(1, round(share * n))
