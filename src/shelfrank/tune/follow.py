"""Progress of a search: training rows done by all workers, trials, and the time that is left."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from shelfrank.core.progress import progress
from shelfrank.report.formats import duration
from shelfrank.tune.queue import Outcome
from shelfrank.tune.weights import Stage


class Follower:
    """Keeps account of what is done.

    Args:
        stages: The steps of the search.
        advance: Takes rows just done, and a note.
    """

    def __init__(self, stages: Sequence[Stage], advance: Callable[..., None]) -> None:
        self.total = sum(stage.n_jobs * stage.rows for stage in stages)
        self.n_trials = sum(stage.n_jobs for stage in stages)
        self.advance = advance
        self.ended: dict[str, dict[str, int]] = {}
        self.under_way = 0.0
        self.told = 0.0
        self.earlier = 0.0
        self.started = time.monotonic()

    def tell(self, stage: str, outcomes: Sequence[Outcome]) -> None:
        """Takes all outcomes of a stage so far; a trial that ended early counts whole."""
        if stage not in self.ended:
            # Trials of an earlier, killed search say nothing of this one's speed.
            self.earlier += sum(outcome.job.rows for outcome in outcomes)
        self.ended[stage] = {outcome.job.id: outcome.job.rows for outcome in outcomes}
        self.under_way = 0.0
        self._show()

    def live(self, rows: float) -> None:
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
        ended = sum(sum(stage.values()) for stage in self.ended.values())
        return min(self.total, ended + self.under_way)

    def _show(self) -> None:
        done = self._done()
        if done != self.told:
            self.advance(done - self.told, note=self.note())
            self.told = done


@contextlib.contextmanager
def following(title: str, stages: Sequence[Stage]) -> Iterator[Follower]:
    """Shows a search's progress.

    Args:
        title: What it does.
        stages: Its steps.

    Yields:
        What must be told of it.
    """
    total = sum(stage.n_jobs * stage.rows for stage in stages)
    with progress(title, total=max(1, total), unit="rows") as advance:
        yield Follower(stages, advance)
