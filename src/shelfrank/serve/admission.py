"""Admission: how long pages take, what is ahead of a new one, and whether it can still be ranked in time."""

import time
from collections.abc import Callable
from contextvars import ContextVar

Clock = Callable[[], float]
ARRIVED_S: ContextVar[float | None] = ContextVar("arrived_s", default=None)
"""When the head of the current request arrived, by the monotonic clock; None outside a request."""
WEIGHT = 1 / 8
"""Weight of a new measurement in a running estimate."""
MAX_JUMP = 4.0
"""Largest ratio of a measurement to the estimate that counts: one stall must not refuse the pages after it."""
MARGIN = 2.0
"""Deviations above the mean that a page is expected to take at most."""
RESPONSE_SHARE = 0.35
"""Share of the deadline that is kept for reading the request, writing the response, and pages that take longer."""
MAX_WAITING = 64
"""Pages that wait at most, however short they are."""
GUESS_S, GUESS_PER_CANDIDATE_S = 0.01, 1e-4
"""Time of a page before any is measured."""
HALF_LIFE_S = 1.0
SATURATED_ABOVE, SATURATED_BELOW = 0.2, 0.05
"""Shares of refused pages at which a service becomes saturated, and at which it no longer is."""
FEW_PAGES = 5.0
"""Offered pages below which refused ones are no share: a burst of three is not saturation."""


class RunningEstimate:
    """The running mean and mean absolute deviation of a duration, as TCP estimates a round trip."""

    def __init__(self) -> None:
        self.mean_s: float | None = None
        self.deviation_s = 0.0

    def observe(self, seconds: float) -> None:
        """Takes in a measurement; one far above the estimate counts as `MAX_JUMP` times it."""
        if self.mean_s is None:
            self.mean_s = seconds
            return
        seconds = min(seconds, MAX_JUMP * self.mean_s)
        self.deviation_s += WEIGHT * (abs(seconds - self.mean_s) - self.deviation_s)
        self.mean_s += WEIGHT * (seconds - self.mean_s)


class PageTimes:
    """How long pages take, by their number of candidates.

    Numbers of candidates between two powers of two share an estimate. A size that was not measured yet is estimated
    by the nearest smaller one in proportion to its candidates, else by the nearest larger one: both are upper bounds.
    """

    def __init__(self) -> None:
        self._by_size: dict[int, RunningEstimate] = {}

    def observe(self, n_candidates: int, seconds: float) -> None:
        """Takes in the time of a page."""
        self._by_size.setdefault(n_candidates.bit_length(), RunningEstimate()).observe(seconds)

    def of(self, n_candidates: int) -> tuple[float, float]:
        """Estimates the time of a page.

        Args:
            n_candidates: Number of its candidates.

        Returns:
            The expected seconds, and the seconds that it hardly exceeds.

        Example:
            >>> times = PageTimes()
            >>> times.observe(200, 0.02)
            >>> times.of(255), times.of(500)
            ((0.02, 0.02), (0.04, 0.04))
        """
        size = n_candidates.bit_length()
        smaller = max((each for each in self._by_size if each <= size), default=None)
        nearest = smaller if smaller is not None else min(self._by_size, default=None)
        if nearest is None:
            guess_s = GUESS_S + GUESS_PER_CANDIDATE_S * n_candidates
            return guess_s, guess_s
        estimate = self._by_size[nearest]
        assert estimate.mean_s is not None
        scale = float(2 ** max(size - nearest, 0))
        return scale * estimate.mean_s, scale * (estimate.mean_s + MARGIN * estimate.deviation_s)


class Saturation:
    """Whether a service refuses so many pages that it should get fewer, with hysteresis.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._offered = self._refused = 0.0
        self._at_s = clock()
        self._is_saturated = False

    def count(self, is_refused: bool) -> None:
        """Counts a page that was offered."""
        self._decay()
        self._offered += 1
        self._refused += is_refused
        self._update()

    def holds(self) -> bool:
        """Whether the service is saturated: it stays so until hardly any page is refused, or hardly any comes."""
        self._decay()
        self._update()
        return self._is_saturated

    def _decay(self) -> None:
        now_s = self._clock()
        factor = 0.5 ** ((now_s - self._at_s) / HALF_LIFE_S)
        self._offered, self._refused, self._at_s = self._offered * factor, self._refused * factor, now_s

    def _update(self) -> None:
        share = self._refused / max(self._offered, FEW_PAGES)
        self._is_saturated = share > (SATURATED_BELOW if self._is_saturated else SATURATED_ABOVE)
