"""The thread that scores, and the three lanes in front of it: pages, the page's own calls, upkeep."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from shelfrank.serve.admission import MAX_WAITING, RESPONSE_SHARE, Clock, PageTimes, RunningEstimate

Result = TypeVar("Result")
MAX_CALLS_WAITING = 16
"""Calls of the page's own routes that wait at most."""
CLOSE_S = 5.0
CALL_EVERY_S = 1.0
"""While pages wait, a call of the page's own routes gets its turn once in so many seconds."""


class Lane(Enum):
    """What a piece of work is: pages go first, upkeep last."""

    PAGES = "pages"
    CALLS = "calls"
    UPKEEP = "upkeep"


class LateError(Exception):
    """A page's deadline came before its turn, so it was not begun."""


class FullError(Exception):
    """A lane has no place for more work."""


@dataclass(eq=False)
class Job:
    """A piece of work.

    Attributes:
        lane: Its lane.
        call: The work.
        expected_s: Seconds that it is expected to take.
        due_s: When it must be done, by the clock; None if at any time.
        n_candidates: Candidates of a page.
        is_typical: Whether its time says how long such work takes.
        future: Its result.
    """

    lane: Lane
    call: Callable[[], Any]
    expected_s: float = 0.0
    due_s: float | None = None
    n_candidates: int = 0
    is_typical: bool = True
    future: "Future[Any]" = field(default_factory=Future)


class Lanes:
    """The work that waits for one thread, and the order in which it is done.

    A page is admitted only if it can be expected to finish within its deadline after all that is ahead of it, and a
    page that no longer can is not begun. Not thread-safe.

    Args:
        deadline_s: Seconds within which a page must be answered.
        clock: The clock.
    """

    def __init__(self, deadline_s: float, clock: Clock = time.monotonic) -> None:
        self.deadline_s, self._clock = deadline_s, clock
        self.page_times = PageTimes()
        self._times = {Lane.CALLS: RunningEstimate(), Lane.UPKEEP: RunningEstimate()}
        self._waiting: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._pages_s = 0.0
        self._reserved: deque[float] = deque()
        self._running: Job | None = None
        self._began_s = self._called_s = clock()

    def n_waiting(self, lane: Lane) -> int:
        """Number of jobs of a lane that wait."""
        return len(self._waiting[lane])

    def refusal(self, n_candidates: int, due_s: float) -> str | None:
        """Decides whether a page can be ranked within its deadline.

        Args:
            n_candidates: Number of its candidates.
            due_s: When its deadline ends.

        Returns:
            Why it cannot: `late` or `overload`; None if it can.
        """
        now_s = self._clock()
        if now_s >= due_s:
            return "late"
        if len(self._waiting[Lane.PAGES]) >= MAX_WAITING:
            return "overload"
        while self._reserved and self._reserved[0] <= now_s:
            self._reserved.popleft()
        is_in_work = self._running is not None and self._running.lane is Lane.PAGES
        is_only = not (self._waiting[Lane.PAGES] or self._reserved or is_in_work)
        # Only a page that is ranked shows that pages have become faster again, so the only one needs no estimate.
        own_s = 0.0 if is_only else self.page_times.of(n_candidates)[1]
        ends_s = now_s + self._ahead_s(now_s) + own_s
        return None if ends_s <= due_s - RESPONSE_SHARE * self.deadline_s or self._is_idle() else "overload"

    def reserve(self, due_s: float) -> None:
        """Reserves the time of a page whose request is still being read, until `claim` or its deadline.

        Many heads may arrive before the first of these pages is added.
        """
        self._reserved.append(due_s)

    def claim(self) -> None:
        """Gives back the time that was reserved for a page, which is added or refused next."""
        if self._reserved:
            self._reserved.popleft()

    def add(self, job: Job) -> None:
        """Puts a job at the end of its lane.

        Args:
            job: The job.

        Raises:
            FullError: If the lane of the page's own calls is full.
        """
        if job.lane is Lane.CALLS and len(self._waiting[Lane.CALLS]) >= MAX_CALLS_WAITING:
            raise FullError
        if job.lane is Lane.PAGES:
            job.expected_s = self.page_times.of(job.n_candidates)[0]
            self._pages_s += job.expected_s
        else:
            job.expected_s = self._times[job.lane].mean_s or 0.0
        self._waiting[job.lane].append(job)

    def next(self) -> tuple[Job | None, list[Job]]:
        """Takes out the next job; jobs that were cancelled are dropped.

        Returns:
            The job, or None if nothing waits, and the pages before it that can no longer be ranked in time.
        """
        now_s = self._clock()
        late: list[Job] = []
        calls_are_due = now_s - self._called_s >= CALL_EVERY_S
        order = (Lane.CALLS, Lane.PAGES, Lane.UPKEEP) if calls_are_due else (Lane.PAGES, Lane.CALLS, Lane.UPKEEP)
        chosen: Job | None = None
        for lane in order:
            while chosen is None and self._waiting[lane]:
                job = self._take(lane)
                if not job.future.set_running_or_notify_cancel():
                    continue
                # The last page gets its chance, since the estimate may be wrong.
                expected_s = job.expected_s if self._waiting[lane] else 0.0
                if job.due_s is not None and now_s + expected_s >= job.due_s:
                    late.append(job)
                else:
                    chosen = job
        self._running, self._began_s = chosen, now_s
        return chosen, late

    def done(self) -> None:
        """Takes in the time of the job that `next` gave."""
        now_s, job = self._clock(), self._running
        self._running = None
        if job is None:
            return
        if job.lane is Lane.CALLS:
            self._called_s = now_s
        if job.is_typical and job.lane is Lane.PAGES:
            self.page_times.observe(job.n_candidates, now_s - self._began_s)
        elif job.lane is not Lane.PAGES:
            self._times[job.lane].observe(now_s - self._began_s)

    def cancel(self) -> None:
        """Cancels everything that waits."""
        for lane in Lane:
            while self._waiting[lane]:
                self._take(lane).future.cancel()

    def _take(self, lane: Lane) -> Job:
        job = self._waiting[lane].popleft()
        if lane is Lane.PAGES:
            # Numerics: an empty lane has no rest of earlier sums.
            self._pages_s = self._pages_s - job.expected_s if self._waiting[lane] else 0.0
        return job

    def _is_idle(self) -> bool:
        return self._running is None and not self._reserved and not any(self._waiting.values())

    def _ahead_s(self, now_s: float) -> float:
        """Seconds until a page that is added now would begin."""
        ahead_s = self._pages_s + len(self._reserved) * self.page_times.of(0)[0]
        if self._running is not None:
            # Work that takes longer than expected may take as long again.
            ahead_s += abs(self._running.expected_s - (now_s - self._began_s))
        if self._waiting[Lane.CALLS] and now_s + ahead_s - self._called_s >= CALL_EVERY_S:
            ahead_s += self._times[Lane.CALLS].mean_s or 0.0
        return ahead_s


class ScoringThread(Executor):
    """One thread that does the work of three lanes; as an executor, it does upkeep.

    Args:
        deadline_s: Seconds within which a page must be answered.
    """

    def __init__(self, deadline_s: float) -> None:
        self._lanes = Lanes(deadline_s)
        self._changed = threading.Condition()
        self._is_closing = False
        # A daemon, so that a page that never ends does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def refusal_unread(self, due_s: float) -> str | None:
        """Decides whether a page can be ranked within its deadline before its request is read, and reserves its time.

        Args:
            due_s: When its deadline ends.

        Returns:
            Why it cannot; None if it can, unless it has more candidates than the smallest pages.
        """
        with self._changed:
            refusal = self._lanes.refusal(0, due_s)
            if refusal is None:
                self._lanes.reserve(due_s)
        return refusal

    def claim(self) -> None:
        """Gives back the time that `refusal_unread` reserved for a page that is not ranked after all."""
        with self._changed:
            self._lanes.claim()

    def refusal(self, n_candidates: int, due_s: float) -> str | None:
        """Decides whether a page can be ranked within its deadline; see `Lanes.refusal`.

        Args:
            n_candidates: Number of its candidates.
            due_s: When its deadline ends.

        Returns:
            Why it cannot; None if it can.
        """
        with self._changed:
            self._lanes.claim()
            return self._lanes.refusal(n_candidates, due_s)

    def rank(self, call: Callable[[], Result], n_candidates: int, due_s: float, is_typical: bool) -> "Future[Result]":
        """Queues an admitted page.

        Args:
            call: Ranks it.
            n_candidates: Number of its candidates.
            due_s: When its deadline ends.
            is_typical: Whether its time says how long pages take.

        Returns:
            The result; `LateError` if it was not begun.
        """
        return self._add(Job(Lane.PAGES, call, due_s=due_s, n_candidates=n_candidates, is_typical=is_typical))

    def call(self, call: Callable[[], Result]) -> "Future[Result]":
        """Queues a call of the page's own routes.

        Args:
            call: The call.

        Returns:
            Its result.

        Raises:
            FullError: If too many wait.
        """
        return self._add(Job(Lane.CALLS, call))

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> "Future[Result]":
        """Queues upkeep, which is done when nothing else waits."""
        return self._add(Job(Lane.UPKEEP, lambda: fn(*args, **kwargs)))

    def n_waiting(self, lane: Lane) -> int:
        """Number of jobs of a lane that wait."""
        return self._lanes.n_waiting(lane)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the thread after the work that it does now, or after all that waits; `CLOSE_S` are waited at most."""
        with self._changed:
            self._is_closing = True
            if cancel_futures:
                self._lanes.cancel()
            self._changed.notify()
        if wait:
            self._thread.join(CLOSE_S)

    def _add(self, job: Job) -> "Future[Any]":
        with self._changed:
            if self._is_closing:
                raise RuntimeError("the service is shutting down")
            self._lanes.add(job)
            self._changed.notify()
        return job.future

    def _run(self) -> None:
        while True:
            with self._changed:
                job, late = self._lanes.next()
                while job is None and not late:
                    if self._is_closing:
                        return
                    self._changed.wait()
                    job, late = self._lanes.next()
            for each in late:
                each.future.set_exception(LateError())
            if job is None:
                continue
            result, problem = None, None
            try:
                result = job.call()
            except BaseException as error:
                problem = error
            with self._changed:
                self._lanes.done()
            if problem is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(problem)
            # Neither the page nor its result is kept until the next one.
            del job, late, result, problem
