"""The metrics of the service, in the format of Prometheus."""

import os
from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MultiProcessValue

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Folder in which several processes share their counts; it must be set before prometheus_client is imported."""
SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
MAX_NAMES = 100
"""Names of unknown features that a process counts by name."""
OTHER = "other"
RESTARTS = "shelfrank_worker_restarts"
RESTARTS_HELP = "Processes that were started in place of one that ended."
REJECTED = (
    "overload",
    "late",
    "page_calls",
    "key",
    "host",
    "content_type",
    "content_length",
    "body_bytes",
    "body_time",
    "bodies",
    "header_bytes",
    "header_time",
    "connections",
    "unread_responses",
)
"""Why requests and connections are refused before they are read."""
CANDIDATES = (1, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """The counts of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("shelfrank_requests", "Requests.", ("route", "status"), registry=registry)
        self.seconds = Histogram(
            "shelfrank_request_seconds", "Time in the service.", ("route",), buckets=SECONDS, registry=registry
        )
        self.candidates = Histogram(
            "shelfrank_candidates", "Candidates of a page.", buckets=CANDIDATES, registry=registry
        )
        self.degraded = Counter(
            "shelfrank_degraded", "Pages returned in the engine's own order.", ("reason",), registry=registry
        )
        self.unknown = Counter(
            "shelfrank_unknown", "Unknown products, customers, queries and categories.", ("what",), registry=registry
        )
        self.missing_features = Counter(
            "shelfrank_missing_features",
            "Candidates without a feature that the bundle needs and the request left out.",
            ("feature",),
            registry=registry,
        )
        self.unknown_features = Counter(
            "shelfrank_unknown_features",
            "Names in a request that no feature is read from.",
            ("feature",),
            registry=registry,
        )
        self.clipped_features = Counter(
            "shelfrank_clipped_features",
            "Candidates whose number is outside of what training saw, and was clipped to it.",
            ("feature",),
            registry=registry,
        )
        self.not_finite = Counter(
            "shelfrank_not_finite", "Candidates without a finite score, which come last.", registry=registry
        )
        self._unknown_names: set[str] = set()
        self.events = Counter("shelfrank_events", "Events accepted.", registry=registry)
        self.passed_over = Counter(
            "shelfrank_events_passed_over", "Accepted events that change no feature.", ("reason",), registry=registry
        )
        self.queries = Counter(
            "shelfrank_query_vectors", "Query vectors from the cache or computed.", ("from_",), registry=registry
        )
        self.loads = Counter("shelfrank_bundle_loads", "Bundles loaded or refused.", ("result",), registry=registry)
        self.bundle = Gauge(
            "shelfrank_bundle_info",
            "The serving version.",
            ("version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.precision = Gauge(
            "shelfrank_precision_info",
            "The precision of the graphs.",
            ("precision",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.fallbacks = Counter(
            "shelfrank_precision_fallbacks",
            "Loaded bundles that serve float32 because they miss their golden pages in this precision.",
            ("precision",),
            registry=registry,
        )
        self.memory = Gauge(
            "shelfrank_memory_bytes", "Memory of a process.", registry=registry, multiprocess_mode="liveall"
        )
        self.rejected = Counter(
            "shelfrank_rejected", "Requests and connections refused unread.", ("reason",), registry=registry
        )
        self.waiting = Gauge(
            "shelfrank_waiting",
            "Jobs that wait for the thread that ranks: pages, calls of the page, upkeep.",
            ("lane",),
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.in_flight = Gauge(
            "shelfrank_in_flight", "Requests being answered.", registry=registry, multiprocess_mode="liveall"
        )
        self.connections = Gauge(
            "shelfrank_connections", "Open connections.", registry=registry, multiprocess_mode="liveall"
        )
        self.saturated = Gauge(
            "shelfrank_saturated",
            "Whether more pages come than can be ranked in time.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.event_lag = Gauge(
            "shelfrank_event_lag_seconds",
            "Time since pages last reflected every accepted event.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.bundle_age = Gauge(
            "shelfrank_bundle_age_seconds",
            "Time since the serving version was published.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        # The process that starts the others counts them; see `restart_counter`.
        Counter(RESTARTS, RESTARTS_HELP, registry=registry)
        for reason in REJECTED:
            self.rejected.labels(reason)
        for reason in ("deadline", "overload", "model_error", "not_loaded"):
            self.degraded.labels(reason)
        for result in ("loaded", "refused"):
            self.loads.labels(result)
        self.fallbacks.labels("int8")

    def count_features(self, missing: Mapping[str, int], unknown: Mapping[str, int]) -> None:
        """Counts the features that a request left out, and the names in it that no feature is read from.

        Args:
            missing: By feature, for how many candidates it was left out.
            unknown: By name, how often it was given. Names come from callers: after `MAX_NAMES` different ones, others
                are counted together, as `other`.
        """
        for name, count in missing.items():
            self.missing_features.labels(name).inc(count)
        for name, count in unknown.items():
            if len(self._unknown_names) < MAX_NAMES:
                self._unknown_names.add(name)
            self.unknown_features.labels(name if name in self._unknown_names else OTHER).inc(count)

    def update(self, waiting: Mapping[str, int], is_saturated: bool, event_lag_s: float, bundle_age_s: float) -> None:
        """Sets the gauges of this process; every process does so regularly, since only one of them is scraped.

        Args:
            waiting: By lane, the number of jobs that wait.
            is_saturated: Whether more pages come than can be ranked in time.
            event_lag_s: Seconds since pages last reflected every accepted event.
            bundle_age_s: Seconds since the serving version was published.
        """
        for lane, count in waiting.items():
            self.waiting.labels(lane).set(count)
        self.saturated.set(is_saturated)
        self.event_lag.set(event_lag_s)
        self.bundle_age.set(bundle_age_s)
        self.memory.set(memory_bytes())

    def text(self) -> bytes:
        """Writes all metrics, those of the service's other processes included."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)


def restart_counter() -> Callable[[], None]:
    """Counts restarts in the folder of `MULTIPROCESS`, for the process that starts the others.

    It has imported the library before the folder had a name, so that its other counters are its own.

    Returns:
        Counts one.
    """
    count = MultiProcessValue()("counter", RESTARTS, f"{RESTARTS}_total", (), (), RESTARTS_HELP)
    return partial(count.inc, 1)


def forget_process(pid: int) -> None:
    """Drops the gauges of a process that ended; its counts stay in the sums."""
    mark_process_dead(pid)


def memory_bytes() -> int:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
