"""The service itself: one bundle in memory, pages ranked on a thread of their own, bundles swapped under load."""

import asyncio
import contextlib
import gc
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from shelfrank.bundle.golden import load_requests, open_checked
from shelfrank.bundle.loaded import CACHED_QUERIES, Bundle
from shelfrank.bundle.spec import PRECISIONS, Precision
from shelfrank.bundle.store import BundleStore, Version
from shelfrank.core.errors import UserError
from shelfrank.online import Asked, Event
from shelfrank.serve.journal import Journal, JournalReader
from shelfrank.serve.metrics import Metrics
from shelfrank.serve.ranking import (
    blend,
    engine_ranks,
    explained_in_time,
    explanations,
    fused_scores,
    task_weights,
)
from shelfrank.serve.shop import Shop

Result = TypeVar("Result")
log = logging.getLogger("shelfrank.serve")
WARM_UP_ROWS = (1000, 200, 1000, 200)
"""Candidates of the pages that are ranked before the first request; the largest decide how much memory is taken."""
TAKEN_IN = 64
"""Events that a page takes in itself, about a tenth of a millisecond each: what a results page brings is fewer."""
LOOK_EVERY_S = 0.1
"""Seconds between two looks for events that no page has asked for."""
AFTER_FAILURE_S = 5.0
REFUSED = "bundle %s is refused: %s"


@dataclass(frozen=True)
class Wanted:
    """How a page is to be ranked.

    Attributes:
        asked: The page.
        engine_scores: The engine's own scores; None where there is none.
        weight: How much the model counts against the engine.
        task_weights: What fuses the tasks; None takes the bundle's.
        top_n: Most results; None gives all.
        explain: Results that are explained, as far as the deadline allows.
    """

    asked: Asked
    engine_scores: Sequence[float | None]
    weight: float = 1.0
    task_weights: Mapping[str, float] | None = None
    top_n: int | None = None
    explain: int = 0


@dataclass(frozen=True)
class Answer:
    """A page in its new order, best first.

    Attributes:
        order: Each result's place in the request, from 0.
        engine_ranks: Each candidate's place in the engine's order, from 1.
        scores: What each result is sorted by; None where the engine's own order came back.
        tasks: Each result's score by task; empty where the engine's own order came back.
        explanations: Of the first results, as the API has them; of fewer than were wanted where time was short.
        bundle: The version that answered.
        unknown: How much was cold.
        unknown_ids: The candidates that the catalogue lacks, each once, in the order of the request.
        missing_features: By feature that the score can depend on, for how many candidates the request left it out.
        unknown_features: By name, how often the request gave it where nothing reads it.
        reason: Why the engine's own order came back; None where it did not.
        bounded: Whether the scores lie from 0 to 1.
    """

    order: Sequence[int]
    engine_ranks: Sequence[int]
    scores: Sequence[float] | None
    tasks: Sequence[Mapping[str, float]] = ()
    explanations: Sequence[Mapping[str, Any]] = ()
    bundle: str | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)
    unknown_ids: Sequence[str] = ()
    missing_features: Mapping[str, int] = field(default_factory=dict)
    unknown_features: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    bounded: bool = True


class NoShopError(UserError):
    """The page is asked of a bundle that has none."""


class EventsRefusedError(Exception):
    """Events could not be written, so none of them counts."""


class _Serving:
    """A bundle, how far it has read the events, its page where there is one, and why it fell back to float32."""

    def __init__(self, bundle: Bundle, reader: JournalReader, shop: Shop | None, fallback: str | None) -> None:
        self.bundle, self.reader, self.shop, self.fallback = bundle, reader, shop, fallback
        self._waiting: deque[Event] = deque()

    def catch_up(self, most: int | None = None) -> bool:
        """Takes in the events that were accepted since the last time, the oldest first.

        Args:
            most: Events after which the rest waits for the next time; None takes in all.

        Returns:
            Whether some may be waiting.
        """
        missing = None if most is None else most - len(self._waiting)
        if missing is None or missing > 0:
            self._waiting += self.reader.new_events(missing)
        n = len(self._waiting) if most is None else min(most, len(self._waiting))
        if n:
            self.bundle.features.add_events([self._waiting.popleft() for _ in range(n)])
        return n == most


class Service:
    """Ranks pages with the bundle that a store points at.

    Args:
        store: The bundle's versions.
        journal: The recent events.
        metrics: Where it counts; its own if not given.
        precision: In which precision graphs compute, where they answer the golden pages in it; else in float32.
        deadline_s: Seconds after which the engine's own order comes back.
        cached: Query vectors that are kept.
        has_page: Whether the page is served, of bundles that have a shop.

    Attributes:
        draining: Whether no more requests are wanted.
    """

    def __init__(
        self,
        store: BundleStore,
        journal: Journal,
        metrics: Metrics | None = None,
        precision: Precision = "fp32",
        deadline_s: float = 0.2,
        cached: int = CACHED_QUERIES,
        has_page: bool = False,
    ) -> None:
        self.has_page = has_page
        self.store, self.journal, self.metrics = store, journal, metrics or Metrics()
        self.precision: Precision = precision
        self.deadline_s, self.cached = deadline_s, cached
        self.draining = False
        self._serving: _Serving | None = None
        self._refused: set[str] = set()
        self._counted = (0, 0)
        self._scoring: Executor = ThreadPoolExecutor(1, "scoring")
        self._loading = ThreadPoolExecutor(1, "loading")

    @property
    def version(self) -> str | None:
        """The version that serves; None before one is loaded."""
        return self._serving.bundle.name if self._serving else None

    def about(self) -> dict[str, Any] | None:
        """What serves and which features requests must bring, as the API has it; None before a bundle is loaded."""
        if self._serving is None:
            return None
        bundle = self._serving.bundle
        spec = bundle.spec
        return {
            "bundle": bundle.name,
            "ranker": spec.ranker,
            "label": spec.label,
            "tasks": list(spec.tasks),
            "task_weights": dict(spec.task_weights),
            "gives_probabilities": spec.gives_probabilities,
            "precision": bundle.precision,
            "request_features": [asdict(each) for each in spec.request_features],
        }

    @property
    def served_precision(self) -> Precision | None:
        """In which precision graphs compute; None before a version is loaded."""
        return self._serving.bundle.precision if self._serving else None

    @property
    def fallback(self) -> str | None:
        """Why float32 serves in place of 8-bit graphs; None where it does not."""
        return self._serving.fallback if self._serving else None

    @property
    def is_ready(self) -> bool:
        """Whether requests are wanted."""
        return self._serving is not None and not self.draining

    async def start(self) -> None:
        """Loads the pointer's version or, where that is bad, the newest good one.

        Raises:
            UserError: Where no version is good.
        """
        await asyncio.get_running_loop().run_in_executor(self._loading, self._load_first)

    async def reload(self) -> bool:
        """Loads the version that the pointer names, checks it, and swaps it in; requests in flight keep the old one.

        Returns:
            False where it serves already.

        Raises:
            UserError: Where it is bad: the old one serves on.
        """
        return await asyncio.get_running_loop().run_in_executor(self._loading, self._load_current)

    async def follow(self, every_s: float) -> None:
        """Reloads whenever the pointer names another version, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            name = self.store.current()
            if name is None or name == self.version or name in self._refused:
                continue
            with contextlib.suppress(UserError):
                await self.reload()

    async def take_in_events(self) -> None:
        """Takes in events between pages, a few at a time, also where no page comes; until it is cancelled."""
        while True:
            pause_s = LOOK_EVERY_S
            serving = self._serving
            if serving is not None:
                try:
                    more = await asyncio.get_running_loop().run_in_executor(self._scoring, serving.catch_up, TAKEN_IN)
                    pause_s = 0.0 if more else LOOK_EVERY_S
                except Exception:
                    log.exception("events could not be taken in; the next try is in %.0f s", AFTER_FAILURE_S)
                    pause_s = AFTER_FAILURE_S
            await asyncio.sleep(pause_s)

    async def rank(self, wanted: Wanted) -> Answer:
        """Ranks a page; past the deadline or on an error of the model, the engine's own order comes back.

        Args:
            wanted: The page.

        Returns:
            The new order.

        Raises:
            UserError: Where the request itself is at fault.
        """
        self.metrics.candidates.observe(len(wanted.asked.product_ids))
        serving = self._serving
        if serving is None:
            return self._degraded(wanted, "not_loaded")
        loop = asyncio.get_running_loop()
        try:
            due_s = time.monotonic() + self.deadline_s
            scoring = loop.run_in_executor(self._scoring, self._rank, serving, wanted, due_s)
            answer = await asyncio.wait_for(scoring, self.deadline_s)
        except TimeoutError:
            return self._degraded(wanted, "deadline")
        except UserError:
            raise
        except Exception:
            log.exception("the model could not rank a page of %d candidates", len(wanted.asked.product_ids))
            return self._degraded(wanted, "model_error")
        for what, count in answer.unknown.items():
            if count:
                self.metrics.unknown.labels(what).inc(count)
        self.metrics.count_features(answer.missing_features, answer.unknown_features)
        return answer

    async def of_shop(self, work: Callable[[Shop], Result]) -> Result:
        """Asks the page's shop, with what was accepted before, as far as a page waits for it.

        Args:
            work: What is asked; it runs on the thread that ranks.

        Returns:
            The answer.

        Raises:
            NoShopError: Where nothing serves yet, or what serves has no shop.
            UserError: Where what is asked is at fault.
        """
        serving = self._serving
        if serving is None or serving.shop is None:
            state = "has none" if serving else "is still loading"
            raise NoShopError(
                f"the page needs a bundle with a shop, but this service {state}; import titles, then export"
            )
        shop = serving.shop

        def ask() -> Result:
            serving.catch_up(TAKEN_IN)
            return work(shop)

        return await asyncio.get_running_loop().run_in_executor(self._scoring, ask)

    async def add_events(self, events: Sequence[Event]) -> dict[str, int]:
        """Accepts events: a page that is asked for after it sees them, in every process of the service.

        A page takes in the next `TAKEN_IN` events itself and waits for no more: what was accepted in bulk is seen as
        soon as `take_in_events` has come to it.

        Args:
            events: The events.

        Returns:
            By reason, how many of them change no feature of the bundle that serves.

        Raises:
            EventsRefusedError: Where they cannot be written.
        """
        try:
            passed_over = await asyncio.get_running_loop().run_in_executor(None, self._accept, events)
        except OSError as error:
            log.error("%d events are refused, since they cannot be written: %s", len(events), error)
            raise EventsRefusedError(
                f"events must be written before they count, but the system says: {error.strerror or error}; none of "
                f"these {len(events)} was taken in, so send them again"
            ) from error
        self.metrics.events.inc(len(events))
        for reason, count in passed_over.items():
            self.metrics.passed_over.labels(reason).inc(count)
        return dict(passed_over)

    def close(self) -> None:
        """Ends the threads once what they are doing is done."""
        self._scoring.shutdown(wait=True, cancel_futures=True)
        self._loading.shutdown(wait=True, cancel_futures=True)

    def _accept(self, events: Sequence[Event]) -> Counter[str]:
        serving = self._serving
        features = None if serving is None else serving.bundle.features
        # Judged before they are written: a page may take them in at once, and they would repeat themselves.
        reasons = [] if features is None else features.reasons(events)
        self.journal.append(events)
        if features is not None:
            features.announce(events)
        return Counter(reason for reason in reasons if reason is not None)

    def _rank(self, serving: _Serving, wanted: Wanted, due_s: float) -> Answer:
        serving.catch_up(TAKEN_IN)
        try:
            return rank_page(serving.bundle, wanted, due_s)
        finally:
            self._count_queries(serving.bundle)

    def _degraded(self, wanted: Wanted, reason: str) -> Answer:
        self.metrics.degraded.labels(reason).inc()
        engine = engine_ranks(wanted.engine_scores)
        order = np.argsort(engine, kind="stable")[: wanted.top_n]
        return Answer(order.tolist(), engine.tolist(), None, bundle=self.version, reason=reason)

    def _count_queries(self, bundle: Bundle) -> None:
        encoders = [encoder for encoder in (bundle.matching, bundle.semantic) if encoder is not None]
        counted = sum(each.hits for each in encoders), sum(each.misses for each in encoders)
        for name, now, before in zip(("cache", "encoder"), counted, self._counted, strict=True):
            # Another bundle counts from 0 again.
            self.metrics.queries.labels(name).inc(max(now - before, 0))
        self._counted = counted

    def _load_first(self) -> None:
        refusals: dict[str, UserError] = {}
        for name in self.store.candidates():
            try:
                self._load(name)
            except UserError as error:
                refusals[name] = error
                continue
            for refused, error in refusals.items():
                log.error(REFUSED, refused, error)
            return
        if not refusals:
            # Of an empty store this says what to do.
            self._load(self.store.open().name)
            return
        first, *others = refusals.values()
        raise UserError(f"{first}; no other version can be opened either") if others else first

    def _load_current(self) -> bool:
        name = self.store.current() or self.store.open().name
        if name == self.version:
            return False
        try:
            self._load(name)
        except UserError as error:
            log.error(REFUSED, name, error)
            raise
        return True

    def _load(self, name: str) -> None:
        started = time.perf_counter()
        try:
            serving = self._open(self.store.verified(name))
        except Exception as error:
            self._refused.add(name)
            self.metrics.loads.labels("refused").inc()
            if isinstance(error, UserError):
                raise
            raise UserError(f"bundle {name} must load, but it does not: {type(error).__name__}: {error}") from error
        before = self.version
        self._serving = serving
        self._refused.discard(name)
        self.metrics.loads.labels("loaded").inc()
        if before:
            self.metrics.bundle.labels(before).set(0)
        self.metrics.bundle.labels(name).set(1)
        if serving.fallback:
            self.metrics.fallbacks.labels(self.precision).inc()
            log.warning("bundle %s serves fp32 in place of %s: %s", name, self.precision, serving.fallback)
        for precision in PRECISIONS:
            self.metrics.precision.labels(precision).set(precision == serving.bundle.precision)
        _leave_alone()
        log.info("bundle %s serves in %s after %.1f s", name, serving.bundle.precision, time.perf_counter() - started)

    def _open(self, version: Version) -> _Serving:
        bundle, fallback = open_checked(version.path, self.precision, self.cached)
        warm_up(bundle, version)
        has_shop = self.has_page and Shop.is_in(version.path)
        shop = Shop(bundle, version.path, self.journal.folder) if has_shop else None
        serving = _Serving(bundle, JournalReader(self.journal), shop, fallback)
        serving.catch_up()
        return serving


def rank_page(bundle: Bundle, wanted: Wanted, due_s: float = math.inf) -> Answer:
    """Ranks a page with a bundle, in the caller's thread.

    Args:
        bundle: The bundle.
        wanted: The page.
        due_s: When the page must be ready, by the monotonic clock; explanations that would take longer are left out.

    Returns:
        The new order.

    Raises:
        UserError: Where the request itself is at fault.
        ArithmeticError: Where a score is not finite.
    """
    engine = engine_ranks(wanted.engine_scores)
    if not len(engine):
        # A page of none may still have weights that are wrong.
        task_weights(bundle, wanted.task_weights)
        return Answer([], [], [], bundle=bundle.name)
    started_s = time.monotonic()
    scored = bundle.score(replace(wanted.asked, positions=engine.tolist()))
    scoring_s = time.monotonic() - started_s
    weights = task_weights(bundle, wanted.task_weights)
    fused = fused_scores(scored, weights)
    if not np.isfinite(fused).all():
        raise ArithmeticError("scores must be finite")
    order, values = blend(fused, engine, wanted.weight)
    order = order[: wanted.top_n]
    explain = partial(explanations, bundle, scored.rows, weights=weights)
    return Answer(
        order=order.tolist(),
        engine_ranks=engine.tolist(),
        scores=values[order].tolist(),
        tasks=[dict(zip(bundle.spec.tasks, row, strict=True)) for row in scored.scores[order].tolist()],
        explanations=explained_in_time(explain, order[: wanted.explain], due_s, scoring_s),
        bundle=bundle.name,
        unknown=scored.page.unknown,
        unknown_ids=scored.page.unknown_ids(wanted.asked),
        missing_features=scored.page.missing_features,
        unknown_features=scored.page.unknown_features,
        bounded=bundle.spec.gives_probabilities or wanted.weight < 1,
    )


def _leave_alone() -> None:
    """Lets the collector pass over what stays: going through a bundle's tables takes as long as some pages."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def warm_up(bundle: Bundle, version: Version) -> None:
    """Ranks pages of many candidates, so that no request waits for memory or for code to be loaded."""
    requests = load_requests(version.path)
    ids = [product for request in requests for product in request.asked.product_ids]
    if not ids:
        return
    asked = requests[0].asked
    for n_rows in WARM_UP_ROWS:
        many = (ids * (n_rows // len(ids) + 1))[:n_rows]
        bundle.score(replace(asked, product_ids=many, positions=None, products=[], search_id=None))
