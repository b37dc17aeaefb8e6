"""The service: one bundle in memory, pages admitted and ranked on a thread of their own, bundles swapped under load."""

import asyncio
import gc
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from shelfrank.bundle.golden import load_requests, open_checked
from shelfrank.bundle.loaded import CACHED_QUERIES, Bundle
from shelfrank.bundle.spec import PRECISIONS, Precision
from shelfrank.bundle.store import CURRENT, BundleStore, Version
from shelfrank.core.artifact import MANIFEST
from shelfrank.core.errors import UserError
from shelfrank.features.request import Event, PageRequest
from shelfrank.serve.admission import ARRIVED_S, Saturation
from shelfrank.serve.journal import Journal, JournalReader
from shelfrank.serve.limits import OVERLOADED
from shelfrank.serve.metrics import Metrics
from shelfrank.serve.ranking import RankOptions, RankResult, engine_positions, rank_page
from shelfrank.serve.scoring import FullError, Lane, LateError, ScoringThread
from shelfrank.serve.shop import Shop
from shelfrank.serve.titles import Titles
from shelfrank.serve.version_checks import EndedProcessError, VersionChecks

Result = TypeVar("Result")
log = logging.getLogger("shelfrank.serve")
WARM_UP_ROWS = (1000, 200, 1000, 200)
"""Candidates of the pages that are ranked before the first request; the largest decide how much memory is allocated."""
EVENTS_PER_PAGE = 64
"""Events that a page applies itself, about a tenth of a millisecond each; one results page brings fewer."""
EVENTS_AT_START = 4_096
"""Events that are read at once before the first page; each takes about 1 KB until it is applied."""
MAX_TAKE_IN_S = 0.05
"""Processor seconds of a page's events beyond which the next page applies half as many."""
POLL_EVENTS_S = 0.1
"""Seconds between two polls for events while no page is ranked."""
RETRY_EVENTS_S = 5.0
MIN_RETRY_LOAD_S, MAX_RETRY_LOAD_S = 10.0, 600.0
"""Seconds until a refused version of the same files is tried again; each refusal doubles them."""
REPORT_S = 1.0
"""Seconds between two updates of the gauges."""
LATEST_START = 0.5
"""Share of the deadline that a request may have waited for the process itself and still get the engine's own order."""
Overload = Literal["refuse", "engine_order"]
"""What a page gets that cannot be ranked in time: 503, or the engine's own order."""
REFUSED = "bundle %s is refused: %s"


class NoShopError(UserError):
    """The bundle has no shop for the page to show."""


class OverloadError(Exception):
    """The service has more to do than it can do in time; the text says what to do."""


class EventsRefusedError(Exception):
    """Events could not be written, so none of them was accepted."""


class _Serving:
    """A bundle, its position in the journal, its shop and titles if it has them, and why it fell back to float32."""

    def __init__(
        self, bundle: Bundle, reader: JournalReader, shop: Shop | None, titles: Titles | None, fallback: str | None
    ) -> None:
        self.bundle, self.reader, self.shop, self.titles, self.fallback = bundle, reader, shop, titles, fallback
        self._waiting: deque[Event] = deque()
        self._at_once = EVENTS_PER_PAGE
        self.caught_up_s = time.monotonic()
        self.published_s = time.time()

    def catch_up(self) -> bool:
        """Applies the next events that were accepted, the oldest first; as many as a page may wait for.

        Returns:
            Whether more may be waiting.
        """
        enough = self._at_once
        if len(self._waiting) < enough:
            self._waiting += self.reader.new_events(enough - len(self._waiting))
        n = min(enough, len(self._waiting))
        if n:
            started_s = time.thread_time()
            self.bundle.features.add_events([self._waiting.popleft() for _ in range(n)])
            if time.thread_time() - started_s > MAX_TAKE_IN_S:
                self._at_once = max(enough // 2, 1)
            elif n == enough:
                self._at_once = min(2 * enough, EVENTS_PER_PAGE)
        if n != enough and self.reader.is_readable:
            self.caught_up_s = time.monotonic()
        return n == enough

    def catch_up_all(self) -> None:
        """Applies all accepted events before the first page; the last call, perhaps of none, has them sorted."""
        some: list[Event] | None = None
        while some is None or len(some) == EVENTS_AT_START:
            some = self.reader.new_events(EVENTS_AT_START)
            if some or self.bundle.features.n_recent:
                self.bundle.features.add_events(some)
        self.caught_up_s = time.monotonic()


class _Refusal:
    """When a refused version is tried again.

    Args:
        stamp: Its files before it was tried; see `BundleStore.stamp`.
        before: The refusal before this one, if it was refused before.
        is_final: Whether the same files are never tried again.
    """

    def __init__(self, stamp: tuple[Any, ...], before: "_Refusal | None", is_final: bool) -> None:
        self._tried = self._latest = stamp
        # Other files are another try, so its pauses start anew.
        is_same = before is not None and before._tried == stamp
        self._pause_s = min(2 * before._pause_s, MAX_RETRY_LOAD_S) if before and is_same else MIN_RETRY_LOAD_S
        self._due_s = math.inf if is_final else time.monotonic() + self._pause_s

    def is_due(self, stamp: tuple[Any, ...]) -> bool:
        """Whether its files have changed and rest since the last call, or the pause is over."""
        rests, self._latest = stamp == self._latest, stamp
        return time.monotonic() >= self._due_s or (rests and stamp != self._tried)


class Service:
    """Ranks pages with the bundle that a store points at.

    Args:
        store: The bundle's versions.
        journal: The recent events.
        metrics: The counters; new ones if not given.
        precision: Precision of the graphs, if they reproduce the golden pages in it; else float32.
        deadline_s: Seconds after which the engine's own order is returned.
        cached: Size of the cache of query vectors.
        has_page: Whether the page is served, for bundles that have a shop.
        overload: What a page gets that cannot be ranked in time.

    Attributes:
        draining: Whether the service is shutting down and should get no more requests.
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
        overload: Overload = "refuse",
    ) -> None:
        self.has_page, self.overload = has_page, overload
        self.store, self.journal, self.metrics = store, journal, metrics or Metrics()
        self.precision: Precision = precision
        self.deadline_s, self.cached = deadline_s, cached
        self.draining = False
        self._serving: _Serving | None = None
        self._checks = VersionChecks(journal.folder, precision, has_page)
        self._refused: dict[str, _Refusal] = {}
        self._logged: dict[str, str] = {}
        self._counted = (0, 0)
        self._scoring = ScoringThread(deadline_s)
        self._saturation = Saturation()
        self._loading = ThreadPoolExecutor(1, "loading")

    @property
    def version(self) -> str | None:
        """The serving version; None before one is loaded."""
        return self._serving.bundle.name if self._serving else None

    def about(self) -> dict[str, Any] | None:
        """The fields of `BundleResponse`; None before a bundle is loaded."""
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
        """The precision of the graphs; None before a version is loaded."""
        return self._serving.bundle.precision if self._serving else None

    @property
    def fallback(self) -> str | None:
        """Why float32 serves in place of 8-bit graphs; None if it does not."""
        return self._serving.fallback if self._serving else None

    @property
    def is_ready(self) -> bool:
        """Whether the service should get requests."""
        return self._serving is not None and not self.draining and not self.is_saturated

    @property
    def is_saturated(self) -> bool:
        """Whether more pages come than can be ranked in time."""
        return self._saturation.holds()

    async def start(self) -> None:
        """Loads the pointer's version or, if that cannot be opened, the newest one that can.

        Raises:
            UserError: If no version can be opened; the text has the reason for the pointer's version.
        """
        await asyncio.get_running_loop().run_in_executor(self._loading, self._load_first)

    async def reload(self) -> bool:
        """Loads the version that the pointer names, checks it and swaps it in; requests in flight keep the old one.

        Returns:
            False if it serves already.

        Raises:
            UserError: If it cannot be opened; the old one keeps serving.
        """
        return await asyncio.get_running_loop().run_in_executor(self._loading, self._load_current)

    async def follow(self, every_s: float) -> None:
        """Reloads whenever the pointer names another version, until cancelled.

        A version that was refused is tried again once its files have changed and rest, since files may arrive after the
        pointer, and otherwise after pauses.
        """
        while True:
            await asyncio.sleep(every_s)
            try:
                name = await asyncio.to_thread(self._due_version)
                if name is not None:
                    await self.reload()
            except UserError:
                # It is logged, and the old version serves on.
                pass
            except Exception:
                log.exception("the bundle's pointer cannot be followed; the next attempt is in %.0f s", every_s)

    async def apply_events(self) -> None:
        """Applies events between pages, a few at a time, until cancelled."""
        while True:
            pause_s = POLL_EVENTS_S
            serving = self._serving
            if serving is not None:
                try:
                    loop = asyncio.get_running_loop()
                    has_more = await loop.run_in_executor(self._scoring, serving.catch_up)
                    pause_s = 0.0 if has_more else POLL_EVENTS_S
                except Exception:
                    log.exception("events could not be applied; the next attempt is in %.0f s", RETRY_EVENTS_S)
                    pause_s = RETRY_EVENTS_S
            await asyncio.sleep(pause_s)

    async def report(self) -> None:
        """Updates the gauges of this process every `REPORT_S` seconds, until cancelled."""
        while True:
            self.update_gauges()
            await asyncio.sleep(REPORT_S)

    def update_gauges(self) -> None:
        """Updates the gauges of this process."""
        serving = self._serving
        self.metrics.update(
            waiting={lane.value: self._scoring.n_waiting(lane) for lane in Lane},
            is_saturated=self.is_saturated,
            event_lag_s=0.0 if serving is None else time.monotonic() - serving.caught_up_s,
            bundle_age_s=0.0 if serving is None else time.time() - serving.published_s,
        )

    def refuses_page(self, arrived_s: float) -> bool:
        """Decides on a page by the head of its request alone, so that a refusal costs next to nothing.

        Args:
            arrived_s: When the head arrived, by the monotonic clock.

        Returns:
            Whether the page must be refused; it is counted then.
        """
        if self._serving is None:
            return False
        due_s = arrived_s + self.deadline_s
        if self.overload == "engine_order":
            # The engine's own order needs the request, and reading it costs time that no page has if all are late.
            reason = "late" if time.monotonic() > due_s - LATEST_START * self.deadline_s else None
        else:
            reason = self._scoring.refusal_unread(due_s)
        if reason is None:
            return False
        self._saturation.count(is_refused=True)
        self.metrics.rejected.labels(reason).inc()
        return True

    def forget_page(self) -> None:
        """Gives back the time of a page that `refuses_page` did not refuse and that is not ranked after all."""
        self._scoring.claim()

    async def rank(self, page: PageRequest, options: RankOptions) -> RankResult:
        """Ranks a page; past the deadline or after an error of the model, in the engine's own order.

        The deadline counts from the arrival of the request's head. A page that cannot be ranked within it after all
        that is queued is not begun.

        Args:
            page: The query, the customer and the candidates.
            options: How to rank them.

        Returns:
            The new order.

        Raises:
            UserError: If the request is invalid for this bundle.
            OverloadError: If the page cannot be ranked in time, and such pages are refused.
        """
        n_candidates = len(page.product_ids)
        self.metrics.candidates.observe(n_candidates)
        serving = self._serving
        if serving is None:
            return self._degraded(page, options, "not_loaded")
        now_s = time.monotonic()
        due_s = (ARRIVED_S.get() or now_s) + self.deadline_s
        refusal = self._scoring.refusal(n_candidates, due_s)
        self._saturation.count(is_refused=refusal is not None)
        if refusal is not None:
            if self.overload == "engine_order":
                return self._degraded(page, options, "overload")
            self.metrics.rejected.labels(refusal).inc()
            raise OverloadError(OVERLOADED.detail)
        try:
            scoring = self._scoring.rank(
                partial(self._rank, serving, page, options, due_s), n_candidates, due_s, is_typical=not options.explain
            )
            result = await asyncio.wait_for(asyncio.wrap_future(scoring), due_s - now_s)
        except (TimeoutError, LateError):
            return self._degraded(page, options, "deadline")
        except UserError:
            raise
        except Exception:
            log.exception("the model could not rank a page of %d candidates", len(page.product_ids))
            return self._degraded(page, options, "model_error")
        for kind, count in result.unknown.items():
            if count:
                self.metrics.unknown.labels(kind).inc(count)
        self.metrics.count_features(result.missing_features, result.unknown_features)
        for name, count in result.clipped_features.items():
            self.metrics.clipped_features.labels(name).inc(count)
        self.metrics.not_finite.inc(result.not_finite)
        return result

    def find_products(self, texts: Sequence[str]) -> list[str | None]:
        """Finds products by id or, where the bundle has titles, by title.

        Args:
            texts: Ids or titles.

        Returns:
            The id of each product; None for what the bundle does not know, and before one is loaded.
        """
        serving = self._serving
        if serving is None or not texts:
            return [None] * len(texts)
        found: list[str | None] = [
            text if known else None
            for text, known in zip(texts, serving.bundle.features.knows(texts).tolist(), strict=True)
        ]
        missing = [place for place, product in enumerate(found) if product is None]
        if missing and serving.titles is not None:
            products = serving.titles.find([texts[place] for place in missing])
            for place, product in zip(missing, products, strict=True):
                found[place] = product
        return found

    async def with_shop(self, call: Callable[[Shop], Result]) -> Result:
        """Calls a function with the page's shop on the thread that ranks, after the events that a page waits for.

        Pages to rank go first; see `Lanes`.

        Args:
            call: The function.

        Returns:
            Its result.

        Raises:
            NoShopError: If no bundle is loaded yet, or the bundle has no shop.
            OverloadError: If too many such calls wait.
            UserError: If the request is invalid for this bundle.
        """
        serving = self._serving
        if serving is None or serving.shop is None:
            state = "has none" if serving else "is still loading"
            raise NoShopError(
                f"the page needs a bundle with a shop, but this service {state}; import titles, then export"
            )
        shop = serving.shop

        def run() -> Result:
            serving.catch_up()
            return call(shop)

        try:
            return await asyncio.wrap_future(self._scoring.call(run))
        except FullError:
            self.metrics.rejected.labels("page_calls").inc()
            raise OverloadError(OVERLOADED.detail) from None

    async def add_events(self, events: Sequence[Event]) -> dict[str, int]:
        """Accepts events: every later page sees them, in every process of the service.

        A page applies the next `EVENTS_PER_PAGE` events itself and waits for no more; `apply_events` applies the rest
        of a bulk post soon after.

        Args:
            events: The events.

        Returns:
            By reason, how many of them change no feature of the serving bundle.

        Raises:
            EventsRefusedError: If they cannot be written.
        """
        try:
            passed_over = await asyncio.get_running_loop().run_in_executor(None, self._accept, events)
        except OSError as error:
            file = self.journal.file
            log.error("%d events are refused because %s cannot be written: %s", len(events), file, error)
            raise EventsRefusedError(
                f"events must be written before they are accepted, but writing failed: {error.strerror or error}; none "
                f"of these {len(events)} was accepted, so send them again"
            ) from error
        self.metrics.events.inc(len(events))
        for reason, count in passed_over.items():
            self.metrics.passed_over.labels(reason).inc(count)
        return dict(passed_over)

    def close(self) -> None:
        """Stops the threads after their current work; a version that is being checked is given up."""
        self._checks.stop()
        self._scoring.shutdown(wait=True, cancel_futures=True)
        self._loading.shutdown(wait=True, cancel_futures=True)

    def _accept(self, events: Sequence[Event]) -> Counter[str]:
        serving = self._serving
        features = None if serving is None else serving.bundle.features
        # Before they are written: a page may apply them at once, and each would then repeat itself.
        reasons = [] if features is None else features.reasons(events)
        self.journal.append(events)
        if features is not None:
            features.announce(events)
        return Counter(reason for reason in reasons if reason is not None)

    def _rank(self, serving: _Serving, page: PageRequest, options: RankOptions, due_s: float) -> RankResult:
        serving.catch_up()
        try:
            # An explanation may take as long as a page, and pages are more important.
            return rank_page(serving.bundle, page, options, due_s, lambda: not self._scoring.n_waiting(Lane.PAGES))
        finally:
            self._count_queries(serving.bundle)

    def _degraded(self, page: PageRequest, options: RankOptions, reason: str) -> RankResult:
        self.metrics.degraded.labels(reason).inc()
        engine = engine_positions(page)
        order = np.argsort(engine, kind="stable")[: options.top_n]
        return RankResult(order.tolist(), engine.tolist(), None, bundle=self.version, reason=reason)

    def _count_queries(self, bundle: Bundle) -> None:
        encoders = [encoder for encoder in (bundle.matching, bundle.semantic) if encoder is not None]
        counted = sum(each.hits for each in encoders), sum(each.misses for each in encoders)
        for name, now, before in zip(("cache", "encoder"), counted, self._counted, strict=True):
            # The counts of another bundle start at 0.
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
                self._logged[refused] = str(error)
            return
        if not refusals:
            # For an empty store this raises an error that says what to do.
            self._load(self.store.open().name)
            return
        first, *others = refusals.values()
        raise UserError(f"{first}; no other version can be opened either") if others else first

    def _load_current(self) -> bool:
        name = self.store.current()
        if name is None:
            newest = self.store.open().name
            if self.version is not None:
                # The newest version may be one that was rolled back.
                raise UserError(
                    f"{self.store.path / CURRENT} must name the version to serve, but it is missing or names none; run "
                    f"`shelfrank rollback {self.store.path} --to VERSION`; {self.version} serves on"
                )
            name = newest
        if name == self.version:
            return False
        try:
            self._load(name)
        except UserError as error:
            # A version that is tried again and again is one line for each reason.
            log.log(logging.DEBUG if self._logged.get(name) == str(error) else logging.ERROR, REFUSED, name, error)
            self._logged[name] = str(error)
            raise
        self._logged.pop(name, None)
        return True

    def _due_version(self) -> str | None:
        """The pointer's version if it should be loaded now: it does not serve, and was not just refused."""
        name = self.store.current()
        if name is None or name == self.version:
            return None
        refusal = self._refused.get(name)
        return name if refusal is None or refusal.is_due(self.store.stamp(name)) else None

    def _load(self, name: str) -> None:
        started = time.perf_counter()
        stamp = self.store.stamp(name)
        try:
            serving = self._open(name)
        except Exception as error:
            self._refused[name] = _Refusal(stamp, self._refused.get(name), isinstance(error, EndedProcessError))
            self.metrics.loads.labels("refused").inc()
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"bundle {name} must load, but it fails with {type(error).__name__}: {error}; export the run again"
            ) from error
        before = self.version
        self._serving = serving
        self._refused.pop(name, None)
        self.metrics.loads.labels("loaded").inc()
        if before:
            self.metrics.bundle.labels(before).set(0)
        self.metrics.bundle.labels(name).set(1)
        if serving.fallback:
            self.metrics.fallbacks.labels(self.precision).inc()
            log.warning("bundle %s serves fp32 in place of %s: %s", name, self.precision, serving.fallback)
        for precision in PRECISIONS:
            self.metrics.precision.labels(precision).set(precision == serving.bundle.precision)
        _freeze_objects()
        log.info("bundle %s serves in %s after %.1f s", name, serving.bundle.precision, time.perf_counter() - started)

    def _open(self, name: str) -> _Serving:
        self._checks.refuse_known(name, self.store.folder(name))
        version = self.store.verified(name)
        self._checks.check(version)
        bundle, fallback = open_checked(version.path, self.precision, self.cached)
        warm_up(bundle, version)
        has_shop = self.has_page and Shop.is_in(version.path)
        shop = Shop(bundle, version.path, self.journal.folder) if has_shop else None
        titles = Titles(version.path) if Shop.is_in(version.path) else None
        serving = _Serving(bundle, JournalReader(self.journal), shop, titles, fallback)
        serving.published_s = (version.path / MANIFEST).stat().st_mtime
        serving.catch_up_all()
        return serving


def _freeze_objects() -> None:
    """Exempts long-lived objects from the collector: a pass over a bundle's tables takes as long as several pages."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def warm_up(bundle: Bundle, version: Version) -> None:
    """Ranks pages of many candidates, so that no request waits for memory allocation or imports."""
    requests = load_requests(version.path)
    ids = [product for request in requests for product in request.page.product_ids]
    if not ids:
        return
    page = requests[0].page
    for n_rows in WARM_UP_ROWS:
        many = (ids * (n_rows // len(ids) + 1))[:n_rows]
        bundle.score(replace(page, product_ids=many, positions=None, products=[], search_id=None))
