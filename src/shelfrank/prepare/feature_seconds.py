"""What each group of features costs while a log is prepared."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

DECLARED = "declared"
"""The group of the features that the log declares."""


@dataclass(frozen=True)
class FeatureSeconds:
    """Seconds by the clock that each group of features takes, added up over the threads that compute it.

    Attributes:
        by_group: The seconds so far.
    """

    by_group: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def of(self, group: str) -> Iterator[None]:
        """Counts the block's time for a group."""
        with self.of_shares({group: 1.0}):
            yield

    @contextlib.contextmanager
    def of_shares(self, shares: Mapping[str, float]) -> Iterator[None]:
        """Divides the block's time among groups.

        Args:
            shares: What belongs to each, in any unit; at least one is above 0.

        Yields:
            Nothing.
        """
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            total = sum(shares.values())
            with self._lock:
                for group, share in shares.items():
                    self.by_group[group] = self.by_group.get(group, 0.0) + seconds * share / total

    def as_dict(self) -> dict[str, float]:
        """Plain data for a manifest."""
        return {group: round(seconds, 2) for group, seconds in self.by_group.items()}
