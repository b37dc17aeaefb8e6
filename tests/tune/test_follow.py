"""Progress of a search: rows and trials of all workers, and the time that is left."""

from collections.abc import Sequence

import pytest

from shelfrank.core.jobs import Job, JobResult
from shelfrank.tune import follow
from shelfrank.tune.follow import SearchProgress, following
from shelfrank.tune.weights import Stage

STAGES = [Stage("looks", 4, 10), Stage("whole", 2, 100)]


class Bar:
    """Adds up what it is shown."""

    def __init__(self) -> None:
        self.rows, self.notes = 0.0, list[str]()

    def __call__(self, rows: float, note: str) -> None:
        self.rows += rows
        self.notes.append(note)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    return now


def results(stage: Stage, states: Sequence[str]) -> list[JobResult]:
    return [JobResult(Job(str(i), stage.rows), state, {}) for i, state in enumerate(states)]  # pyright: ignore


def test_rows_and_trials_add_up_over_the_stages(clock: list[float]) -> None:
    bar = Bar()
    progress = SearchProgress(STAGES, bar)
    assert (progress.total, progress.n_trials) == (240, 6)
    progress.update("looks", [])
    assert bar.notes == []
    progress.update("looks", results(STAGES[0], ["done"] * 4))
    clock[0] += 10
    progress.update("whole", [])
    # A trial that ended early counts whole: there is nothing left of it.
    progress.update("whole", results(STAGES[1], ["pruned"]))
    assert bar.rows == 140
    assert bar.notes[-1] == "5 of 6 trials, about 7.1 s left"
    progress.update("whole", results(STAGES[1], ["pruned", "done"]))
    assert bar.rows == 240
    assert bar.notes[-1].startswith("6 of 6 trials")


def test_the_training_under_way_counts_until_it_ends(clock: list[float]) -> None:
    bar = Bar()
    progress = SearchProgress(STAGES, bar)
    progress.update("whole", [])
    progress.add(30)
    progress.add(30)
    assert bar.rows == 60
    progress.update("whole", results(STAGES[1], ["done"]))
    assert bar.rows == 100
    progress.add(1000)
    assert bar.rows == 240


def test_trials_of_an_earlier_search_say_nothing_of_the_speed(clock: list[float]) -> None:
    bar = Bar()
    progress = SearchProgress(STAGES, bar)
    progress.update("looks", results(STAGES[0], ["done"] * 3))
    assert bar.notes == ["3 of 6 trials"]
    clock[0] += 5
    progress.update("looks", results(STAGES[0], ["done"] * 4))
    # Ten rows in five seconds, and 200 are left.
    assert bar.notes[-1] == f"4 of 6 trials, about {follow.duration(100)} left"


def test_the_bar_ends_where_the_search_does(capsys: pytest.CaptureFixture[str]) -> None:
    with following("Tuning", STAGES) as progress:
        progress.update("looks", results(STAGES[0], ["done"] * 4))
        progress.update("whole", results(STAGES[1], ["done"] * 2))
    assert progress.shown == progress.total == 240
