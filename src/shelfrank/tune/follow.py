"""Progress of a search: training rows seen by all workers, trials, and the time that is left."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from shelfrank.core.jobs import JobResult
from shelfrank.core.progress import progress
from shelfrank.report.formats import duration
from shelfrank.tune.weights import Stage


class SearchProgress:
    """Counts the rows and trials that are done.

    Args:
        stages: The steps of the search.
        advance: Takes rows that have just been done, and a note.
    """

    def __init__(self, stages: Sequence[Stage], advance: Callable[..., None]) -> None:
        self.total = sum(stage.n_jobs * stage.rows for stage in stages)
        self.n_trials = sum(stage.n_jobs for stage in stages)
        self.advance = advance
        self.ended: dict[str, Sequence[JobResult]] = {}
        self.under_way, self.shown, self.earlier = 0.0, 0.0, 0.0
        self.started = time.monotonic()

    def update(self, stage: str, results: Sequence[JobResult]) -> None:
        """Takes all results of a stage so far; a trial that ended early counts whole."""
        if stage not in self.ended:
            # Trials of an earlier, killed search say nothing of this one's speed.
            self.earlier += _rows(results)
        self.ended[stage] = results
        self.under_way = 0.0
        self._show()

    def add(self, rows: float) -> None:
        """Takes rows of the training under way in this process."""
        self.under_way += rows
        self._show()

    def note(self) -> str:
        """Trials done, and about how long the rest takes."""
        n = sum(map(len, self.ended.values()))
        done, spent = self._done() - self.earlier, time.monotonic() - self.started
        left = (self.total - self._done()) * spent / done if done > 0 else None
        return f"{n} of {self.n_trials} trials" + ("" if left is None else f", about {duration(max(left, 0.0))} left")

    def _done(self) -> float:
        return min(self.total, sum(map(_rows, self.ended.values())) + self.under_way)

    def _show(self) -> None:
        done = self._done()
        if done != self.shown:
            self.advance(done - self.shown, note=self.note())
            self.shown = done


def _rows(results: Sequence[JobResult]) -> float:
    return sum(result.job.cost for result in results)


@contextlib.contextmanager
def following(title: str, stages: Sequence[Stage]) -> Iterator[SearchProgress]:
    """Shows a search's progress.

    Args:
        title: Name of the search.
        stages: Its steps.

    Yields:
        The progress, to be updated.
    """
    total = sum(stage.n_jobs * stage.rows for stage in stages)
    with progress(title, total=max(1, total), unit="rows") as advance:
        yield SearchProgress(stages, advance)
