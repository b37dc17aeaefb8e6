"""The lanes in front of the thread that scores, by a clock that the tests set."""

import random
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from serving import wait_until

from shelfrank.serve.admission import MAX_WAITING
from shelfrank.serve.scoring import (
    CALL_EVERY_S,
    MAX_CALLS_WAITING,
    FullError,
    Job,
    Lane,
    Lanes,
    LateError,
    ScoringThread,
)

DEADLINE_S = 0.2
PAGE_S = 0.02
N = 200


@dataclass
class Bench:
    """Lanes with a clock, and a worker that takes as long as a test says."""

    now_s: float = 0.0
    answered: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lanes = Lanes(DEADLINE_S, lambda: self.now_s)

    def page(self, due_s: float | None = None) -> Job:
        job = Job(Lane.PAGES, lambda: None, due_s=self.now_s + DEADLINE_S if due_s is None else due_s, n_candidates=N)
        self.lanes.add(job)
        return job

    def add(self, lane: Lane) -> Job:
        job = Job(lane, lambda: None)
        self.lanes.add(job)
        return job

    def work(self, seconds: float) -> Job | None:
        job, _ = self.lanes.next()
        self.now_s += seconds
        self.lanes.done()
        return job


@pytest.fixture
def bench() -> Bench:
    """Lanes that know how long a page takes."""
    bench = Bench()
    for _ in range(50):
        bench.page()
        bench.work(PAGE_S)
    return bench


def test_pages_are_admitted_until_the_last_would_be_late(bench: Bench) -> None:
    due_s = bench.now_s + DEADLINE_S
    n_admitted = 0
    while bench.lanes.refusal(N, due_s) is None:
        bench.page(due_s)
        n_admitted += 1
    # 0.13 s of 0.2 s are for ranking, so six pages of 0.02 s.
    assert n_admitted == 6
    assert bench.lanes.refusal(N, due_s) == "overload"
    ends_s = []
    while bench.lanes.n_waiting(Lane.PAGES):
        assert bench.work(PAGE_S)
        ends_s.append(bench.now_s)
    assert max(ends_s) <= due_s
    assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None


def test_a_page_in_work_counts(bench: Bench) -> None:
    due_s = bench.now_s + DEADLINE_S
    bench.page()
    bench.lanes.next()
    n_admitted = 0
    while bench.lanes.refusal(N, due_s) is None:
        bench.page(due_s)
        n_admitted += 1
    assert n_admitted == 5


def test_a_page_in_work_that_takes_too_long_is_expected_to_take_longer(bench: Bench) -> None:
    bench.page()
    bench.lanes.next()
    bench.now_s += 0.3
    assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) == "overload"


def test_pages_whose_requests_are_being_read_count(bench: Bench) -> None:
    due_s = bench.now_s + DEADLINE_S
    n_admitted = 0
    while bench.lanes.refusal(0, due_s) is None:
        bench.lanes.reserve(due_s)
        n_admitted += 1
    assert n_admitted == 6
    bench.lanes.claim()
    assert bench.lanes.refusal(N, due_s) is None
    bench.page()
    assert bench.lanes.refusal(0, due_s) == "overload"
    # A request that never arrives as a whole holds its place no longer than a page would.
    bench.now_s = due_s
    assert bench.lanes.refusal(N, due_s + DEADLINE_S) is None


def test_a_page_whose_deadline_has_passed_is_refused(bench: Bench) -> None:
    assert bench.lanes.refusal(N, bench.now_s) == "late"
    assert bench.lanes.refusal(N, bench.now_s - 1) == "late"


def test_larger_pages_need_more_time(bench: Bench) -> None:
    due_s = bench.now_s + DEADLINE_S
    for _ in range(4):
        bench.page()
    assert bench.lanes.refusal(N, due_s) is None
    assert bench.lanes.refusal(5 * N, due_s) == "overload"


def test_the_queue_is_bounded_however_short_pages_are() -> None:
    bench = Bench()
    for _ in range(500):
        bench.page()
        bench.work(1e-6)
    for _ in range(MAX_WAITING):
        assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None
        bench.page()
    assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) == "overload"


def test_an_idle_service_tries_a_page_however_long_pages_took() -> None:
    bench = Bench()
    for _ in range(50):
        bench.page()
        bench.work(5.0)
    for _ in range(200):
        assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None
        bench.page()
        bench.work(PAGE_S)
    bench.page()
    assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None


def test_pages_that_can_no_longer_be_ranked_in_time_are_not_begun(bench: Bench) -> None:
    late, soon, fine = bench.page(), bench.page(bench.now_s + 0.31), bench.page(bench.now_s + 1.0)
    bench.now_s += 0.3
    job, skipped = bench.lanes.next()
    assert job is fine
    assert skipped == [late, soon]


def test_the_last_page_is_begun_unless_its_deadline_has_passed(bench: Bench) -> None:
    page = bench.page()
    bench.now_s += DEADLINE_S - PAGE_S / 2
    assert bench.lanes.next() == (page, [])
    bench.lanes.done()
    page = bench.page()
    bench.now_s += DEADLINE_S
    assert bench.lanes.next() == (None, [page])


def test_pages_that_were_given_up_are_skipped(bench: Bench) -> None:
    given_up, wanted = bench.page(), bench.page()
    assert given_up.future.cancel()
    assert bench.lanes.next() == (wanted, [])


def test_pages_go_first_and_upkeep_last(bench: Bench) -> None:
    upkeep, call, page = bench.add(Lane.UPKEEP), bench.add(Lane.CALLS), bench.page()
    bench.lanes._called_s = bench.now_s
    assert [bench.work(PAGE_S) for _ in range(4)] == [page, call, upkeep, None]


def test_neither_pages_nor_calls_starve() -> None:
    bench = Bench()
    done = {Lane.PAGES: 0, Lane.CALLS: 0}
    for _ in range(MAX_CALLS_WAITING):
        bench.add(Lane.CALLS)
    bench.page(1e9)
    while bench.now_s < 20:
        bench.page(1e9)
        job = bench.work(0.1)
        assert job is not None
        done[job.lane] += 1
    n_calls = min(MAX_CALLS_WAITING, int(20 / CALL_EVERY_S))
    assert n_calls - 3 <= done[Lane.CALLS] <= n_calls
    assert done[Lane.PAGES] >= 180


def test_calls_are_bounded(bench: Bench) -> None:
    for _ in range(MAX_CALLS_WAITING):
        bench.add(Lane.CALLS)
    with pytest.raises(FullError):
        bench.add(Lane.CALLS)
    # Pages are not refused because of them.
    assert bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None


@pytest.mark.parametrize("times_capacity", [0.5, 1, 2, 4, 10])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_goodput_stays_near_capacity_at_any_load(times_capacity: float, spread: float) -> None:
    """A simulated service under a load of Poisson arrivals, whose pages take 20 ms with a spread."""
    bench, draw = Bench(), random.Random(0)
    seconds, capacity = 60.0, 1 / PAGE_S
    arrival_s, at_s = [], 0.0
    while at_s < seconds:
        at_s += draw.expovariate(times_capacity * capacity)
        arrival_s.append(at_s)
    arrivals = deque(arrival_s)
    useful, begun, late_pages = 0, 0, 0

    def arrive(until_s: float) -> None:
        while arrivals and arrivals[0] <= until_s:
            bench.now_s = arrivals.popleft()
            if bench.lanes.refusal(N, bench.now_s + DEADLINE_S) is None:
                bench.page()

    while arrivals or bench.lanes.n_waiting(Lane.PAGES):
        if not bench.lanes.n_waiting(Lane.PAGES):
            arrive(arrivals[0])
        job, late = bench.lanes.next()
        late_pages += len(late)
        if job is None:
            continue
        begun += 1
        end_s = bench.now_s + PAGE_S * draw.uniform(1 - spread, 1 + spread)
        arrive(end_s)
        bench.now_s = end_s
        bench.lanes.done()
        assert job.due_s is not None
        useful += end_s <= job.due_s
    offered = len(arrival_s)
    assert useful >= (0.9 if times_capacity == 1 else 0.97) * min(offered, seconds * capacity)
    # What is admitted is answered in time, so that the rest is refused at once.
    assert begun - useful + late_pages <= 0.01 * begun


@pytest.fixture
def thread() -> Iterator[ScoringThread]:
    """A thread with a deadline that no test reaches."""
    thread = ScoringThread(60.0)
    yield thread
    thread.shutdown(cancel_futures=True)


def test_a_thread_does_all_lanes_and_raises_what_they_raise(thread: ScoringThread) -> None:
    now_s = 1e12
    assert thread.rank(lambda: "page", N, now_s, is_typical=True).result(60) == "page"
    assert thread.call(lambda: "call").result(60) == "call"
    assert thread.submit(lambda a, b: a + b, 1, b=2).result(60) == 3
    with pytest.raises(ZeroDivisionError):
        thread.rank(lambda: 1 // 0, N, now_s, is_typical=True).result(60)
    with pytest.raises(LateError):
        thread.rank(lambda: "page", N, 0.0, is_typical=True).result(60)


def test_a_thread_ends_without_what_waits(thread: ScoringThread) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def block() -> str:
        begun.set()
        assert go_on.wait(60)
        return "done"

    first: Future[str] = thread.call(block)
    second = thread.submit(lambda: None)
    assert begun.wait(60)
    wait_until(lambda: thread.n_waiting(Lane.UPKEEP) == 1)
    thread.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    assert first.result(60) == "done"
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="shutting down"):
        thread.call(lambda: None)
