"""Compares a run with the shown order and the current version before it is published."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Bool, Float32, Int64

from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.replay import MRR_AT, logged_pages, spread
from shelfrank.bundle.store import BundleStore, Version
from shelfrank.config import EvaluateConfig
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.progress import progress
from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.differences import paired_difference
from shelfrank.features.request import Event
from shelfrank.features.store import MAX_RECENT
from shelfrank.logs.search_log import SearchLog
from shelfrank.metrics import reciprocal_rank
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.metrics.order import fuse
from shelfrank.rankers.run import Run
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import between, count, plural, signed

Reference = Literal["shown_order", "current"]
CONFIG = EvaluateConfig()
ROWS_AT_ONCE = 1_000_000
"""Rows of the log that are held as columns while they are replayed."""


def references(names: Sequence[str]) -> tuple[Reference, ...]:
    """Reads names of the command line; an unknown name is a `UserError`."""
    known = {each: each for each in get_args(Reference)}
    for name in names:
        if name not in known:
            raise unknown_name("reference", name, known)
    return tuple(dict.fromkeys(known[name] for name in names))


@dataclass(frozen=True)
class Gate:
    """The condition for publishing a run.

    Attributes:
        better_than: References that it must beat; without any, it is compared and published.
        margin: By how much of MRR@10 the lower end of the difference's interval must be above 0.
        n_searches: Test searches that are compared, at most.
    """

    better_than: tuple[Reference, ...] = ()
    margin: float = 0.0
    n_searches: int = 1000


@dataclass(frozen=True)
class ReleaseComparison:
    """A run compared with a reference on the same test searches.

    Attributes:
        reference: The reference.
        name: The reference in words.
        task: The deciding task: the one with the largest weight in the run's score among those with a positive test
            search. None if nothing was compared.
        differences: By task, the paired difference of MRR@10, the run's minus the reference's, with its interval.
        n_searches: Test searches that were compared, evenly spread over those with a positive label.
        n_with_positive: Test searches with a positive label.
        problem: Why nothing was compared; None if it was.
        is_same_run: Whether the current version is of the same run, so that there is nothing to compare.
        note: Why the comparison is unfair to the run: the reference was trained on the compared searches.
    """

    reference: Reference
    name: str
    task: str | None = None
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_searches: int = 0
    n_with_positive: int = 0
    problem: str | None = None
    is_same_run: bool = False
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def line(self) -> str:
        """Formats all figures in one line."""
        if self.problem is not None:
            return f"not compared with {self.name}: {self.problem}"
        if self.is_same_run:
            return f"{self.name} is of the same run"
        figures = ", ".join(f"{task} {self._figure(task)}" for task in self.differences)
        return (
            f"against {self.name}, difference of MRR@{MRR_AT}: {figures}; on {count(self.n_searches)} of "
            f"{plural(self.n_with_positive, 'test search', 'test searches')} with a positive label"
            + (f"; {self.note}" if self.note else "")
        )

    def warning(self) -> str | None:
        """One sentence if the run is below its reference: on the deciding task, or on another beyond chance."""
        below = []
        for task, difference in self.differences.items():
            interval = Estimate.model_validate(difference)
            is_worse = interval.sign == -1
            if is_worse or (task == self.task and interval.value is not None and interval.value < 0):
                chance = "" if is_worse else ", not beyond chance"
                if interval.too_few:
                    chance = f", inconclusive: {_counting(interval)}"
                below.append(f"{task} by {self._figure(task)}{chance}")
        if not below:
            return None
        return f"the run is worse than {self.name} at MRR@{MRR_AT} of {'; of '.join(below)}"

    def refusal(self, margin: float) -> str | None:
        """Why the run is not shown to be better by more than a margin; None if it is."""
        if self.is_same_run:
            return None
        rule = f"the run must be better than {self.name}, as the export requires"
        if self.problem is not None or self.task is None:
            return f"{rule}, but they cannot be compared: {self.problem}"
        interval = Estimate.model_validate(self.differences[self.task])
        if interval.sign == 1 and interval.low is not None and interval.low > margin:
            return None
        need = _counting(interval) if interval.too_few else f"the lower end of the interval must be above {margin:g}"
        return f"{rule}, but the difference of MRR@{MRR_AT} of {self.task} is {self._figure(self.task)}, and {need}"

    def _figure(self, task: str) -> str:
        interval = Estimate.model_validate(self.differences[task])
        ends = f"{CONFIG.confidence:.0%} interval {between(interval)}".replace("%", " %")
        return f"{signed(interval.value)} ({ends}, {plural(interval.n or 0, 'search', 'searches')})"


def _counting(interval: Estimate) -> str:
    n = interval.n or 0
    return f"{plural(n, 'search', 'searches')} {'counts' if n == 1 else 'count'}, {MIN_SEARCHES} are needed"


def compare_for_release(run: Run, prepared: PreparedData, store: BundleStore, gate: Gate) -> list[ReleaseComparison]:
    """Compares a run with the shown order and with a store's current version, on the newest searches that it has.

    The searches are the test split's with a positive label, evenly spread, so the cost is bounded and the same searches
    come each time. The current version's own run scores the same prepared rows where it was trained on the same data;
    otherwise the logged searches are replayed through its bundle together with the events of the log since its export.

    Args:
        run: A finished run.
        prepared: Its data.
        store: The bundle that it would be published to.
        gate: How many searches.

    Returns:
        The comparison with the shown order, then that with the current version if there is one.

    Raises:
        UserError: If the run or its log cannot be read.
    """
    log = SearchLog.open(Path(prepared.manifest.info["log"]))
    current = _current(store)
    names = {"shown_order": "the shown order", "current": f"the current version {current}"}
    split = prepared.split("test")
    known = _with_positive(split)
    if not len(known):
        problem = "no test search has a positive label; prepare a larger test split"
        references: tuple[Reference, ...] = ("shown_order", "current") if current else ("shown_order",)
        return [ReleaseComparison(each, names[each], problem=problem) for each in references]
    chosen = known[spread(len(known), gate.n_searches)]
    if not len(chosen):
        return []
    rows = split.searches(chosen)
    ranker = run.ranker(prepared)
    weights = run.config.fusion_weights(prepared.tasks).shares
    own = fuse(ranker.score(run.select(rows)), weights)
    task = _deciding_task(rows, weights, ranker.scored_tasks)

    def compared(
        reference: Reference, base: Float32[np.ndarray, " rows"], note: str | None = None
    ) -> ReleaseComparison:
        differences = _differences(own, base, rows)
        return ReleaseComparison(reference, names[reference], task, differences, len(chosen), len(known), note=note)

    comparisons = []
    note = log.manifest.info.get("notes", {}).get("position")
    if note is None:
        comparisons.append(compared("shown_order", -np.asarray(rows.position, np.float32)))
    else:
        problem = f"positions are synthetic: {note}"
        comparisons.append(ReleaseComparison("shown_order", names["shown_order"], problem=problem))
    if current is None:
        return comparisons
    try:
        version = store.verified(current)
        if version.manifest.inputs["run"] == run.manifest.fingerprint:
            comparisons.append(ReleaseComparison("current", names["current"], is_same_run=True))
        else:
            comparisons.append(compared("current", *_score(version, log, prepared, rows, chosen)))
    except Exception as error:  # Whatever is wrong with the current version, a new one must be able to replace it.
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        comparisons.append(ReleaseComparison("current", names["current"], problem=problem))
    return comparisons


def require_better(comparisons: list[ReleaseComparison], gate: Gate) -> None:
    """Refuses a run that is not shown to be better than the references of a gate.

    A first version has no current one to beat.

    Args:
        comparisons: The comparisons.
        gate: The references that the run must beat.

    Raises:
        UserError: If it is not shown to be better; the text has the figures.
    """
    if gate.better_than and gate.n_searches < 1:
        raise UserError(
            "what a run must be better than is compared on test searches, so `compared` must be at least 1, not 0"
        )
    refusals = [each.refusal(gate.margin) for each in comparisons if each.reference in gate.better_than]
    reasons = [refusal for refusal in refusals if refusal is not None]
    if reasons:
        raise UserError(
            f"{'; '.join(reasons)}; nothing was published, so train a better run, or export without requiring it"
        )


def events_before(
    log: SearchLog,
    after_us: int,
    moments_us: Int64[np.ndarray, " moments"],
    knows: Callable[[list[str]], Bool[np.ndarray, " products"]],
    max_rows: int = MAX_RECENT,
) -> Iterator[list[Event]]:
    """Replays the events that a service would have received before some times, as far as it would still keep them.

    Times are read first, as columns; only the rows that a time needs become events, in blocks.

    Args:
        log: The log.
        after_us: Start, exclusive, in microseconds since 1970.
        moments_us: The times in ascending order, exclusive.
        knows: Marks the products that the service knows; it keeps no events of others.
        max_rows: Rows of the log that the service keeps; only the newest between two times are replayed.

    Yields:
        For each time the events since the one before, the oldest first.
    """
    last_us = int(moments_us.max(initial=after_us))
    known = np.concatenate([_times(log, table, after_us, last_us, knows) for table in ("impressions", "events")])
    times = np.sort(known)
    ends = np.searchsorted(times, moments_us)
    starts = np.maximum(np.concatenate([[0], ends])[: len(ends)], ends - max_rows)
    first = 0
    while first < len(ends):
        past = first + 1
        # Adjacent ranges are read together, since a read passes over all the log's times.
        while past < len(ends) and starts[past] == ends[past - 1] and ends[past] - starts[first] <= ROWS_AT_ONCE:
            past += 1
        tables = []
        if starts[first] < ends[past - 1]:
            tables = _rows_between(log, int(times[starts[first]]), int(moments_us[past - 1]))
        for moment in range(first, past):
            happened: list[Event] = []
            if starts[moment] < ends[moment]:
                for at, rows in tables:
                    low, high = np.searchsorted(at, [times[starts[moment]], moments_us[moment]])
                    some = zip(at[low:high].tolist(), rows.slice(low, high - low).to_pylist(), strict=True)
                    happened += [event for ts_us, row in some for event in _events_of_row(ts_us, row)]
            yield sorted(happened, key=lambda event: event.ts_us)
        first = past


def _times(
    log: SearchLog,
    table: str,
    after_us: int,
    until_us: int,
    knows: Callable[[list[str]], Bool[np.ndarray, " products"]],
) -> Int64[np.ndarray, " rows"]:
    """Times of a table's rows of known products, between two times, both excluded."""
    times = [np.empty(0, np.int64)]
    if log.has(table) and until_us > after_us:
        dataset, within = _between(log, table, after_us, until_us)
        for batch in dataset.to_batches(columns=["timestamp", "product_id"], filter=within):
            at = _microseconds(batch["timestamp"])
            products = pc.dictionary_encode(batch["product_id"])
            known = knows(products.dictionary.to_pylist())[products.indices.to_numpy()]
            times.append(at[known & (at > after_us) & (at < until_us)])
    return np.concatenate(times)


def _rows_between(log: SearchLog, from_us: int, until_us: int) -> list[tuple[Int64[np.ndarray, " rows"], pa.Table]]:
    """The rows of each table between two times, both included, in order of time, and their times."""
    tables = []
    for table in ("impressions", "events"):
        if not log.has(table):
            continue
        names = ("customer_id", "session_id", "product_id", "action")
        if table == "impressions":
            names += ("search_id", "query", "position", "price", *TASKS)
        dataset, within = _between(log, table, from_us, until_us)
        columns = ["timestamp", *(name for name in names if name in dataset.schema.names)]
        rows = dataset.to_table(columns=columns, filter=within).sort_by("timestamp")
        tables.append((_microseconds(rows["timestamp"]), rows.drop_columns(["timestamp"])))
    return tables


def _between(log: SearchLog, table: str, from_us: int, until_us: int) -> tuple[ds.Dataset, pc.Expression]:
    """A table, and the filter of its rows between two times, both included."""
    dataset = ds.dataset([str(file) for file in log.files(table)])
    kind = dataset.schema.field("timestamp").type
    low, high = (pa.scalar(each, pa.timestamp("us", tz="UTC")).cast(kind, safe=False) for each in (from_us, until_us))
    return dataset, (ds.field("timestamp") >= low) & (ds.field("timestamp") <= high)


def _microseconds(moments: pa.Array | pa.ChunkedArray) -> Int64[np.ndarray, " rows"]:
    return pc.cast(moments, pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64()).to_numpy()


def _events_of_row(ts_us: int, row: dict[str, Any]) -> Iterator[Event]:
    labels = {task: row.pop(task, None) for task in TASKS}
    if "action" in row:
        yield Event(ts_us=ts_us, **row)
        return
    price = row.pop("price", None)
    price = float(price) if isinstance(price, int | float) else None
    position = row.pop("position")
    yield Event(ts_us=ts_us, action="impression", position=position, price=price, **row)
    for task, label in labels.items():
        if label == 1:
            yield Event(ts_us=ts_us, action=task, price=price, **row)


def _current(store: BundleStore) -> str | None:
    """The version that the pointer names or, without one, the newest that could serve; None if there is none."""
    name = store.current()
    if name is not None:
        return name
    versions = store.versions()
    return versions[-1].name if versions else None


def _with_positive(split: Split) -> Int64[np.ndarray, " searches"]:
    """The searches that MRR measures for some task."""
    if not split.n_searches:
        return np.empty(0, np.int64)
    starts = split.search_offsets[:-1]
    labels = np.asarray(split.labels)
    known = (np.minimum.reduceat(labels, starts) >= 0) & (np.maximum.reduceat(labels, starts) > 0)
    return np.flatnonzero(known.any(axis=1))


def _deciding_task(rows: Split, weights: tuple[float, ...], scored: tuple[str, ...]) -> str:
    measured = [
        (task, weight) for i, (task, weight) in enumerate(zip(rows.tasks, weights, strict=True)) if _any(rows, i)
    ]
    return max(measured, key=lambda each: (each[0] in scored, each[1]))[0]


def _any(rows: Split, task: int) -> bool:
    values = reciprocal_rank(
        np.zeros(rows.n_rows, np.float32),
        np.ascontiguousarray(rows.labels[:, task]),
        rows.search_offsets,
        rows.tie_keys,
        MRR_AT,
    )
    return bool((~np.isnan(values)).any())


def _differences(
    own: Float32[np.ndarray, " rows"], base: Float32[np.ndarray, " rows"], rows: Split
) -> dict[str, dict[str, Any]]:
    differences = {}
    for index, task in enumerate(rows.tasks):
        labels = np.ascontiguousarray(rows.labels[:, index])
        mine, its = (reciprocal_rank(each, labels, rows.search_offsets, rows.tie_keys, MRR_AT) for each in (own, base))
        if not np.isnan(mine).all():
            differences[task] = paired_difference(mine, its, CONFIG)
    return differences


def _score(
    version: Version, log: SearchLog, prepared: PreparedData, rows: Split, chosen: Int64[np.ndarray, " chosen"]
) -> tuple[Float32[np.ndarray, " rows"], str | None]:
    """The sort keys of a version for the chosen test searches, and why they are unfair to the run, if they are."""
    run = _run_of(version)
    if run is not None and run.manifest.inputs["prepared"] == prepared.manifest.fingerprint:
        fusion = run.config.fusion_weights(prepared.tasks).shares
        return fuse(run.ranker(prepared).score(run.select(rows)), fusion), None
    bundle = Bundle.open(version.path)
    pages = logged_pages(log, prepared, "test", chosen)
    moments_us = np.array([page.ts_us for page in pages], np.int64)
    order = np.argsort(moments_us, kind="stable")
    replayed = events_before(log, bundle.features.until_us, moments_us[order], bundle.features.knows)
    weights = tuple(bundle.spec.task_weights[task] for task in bundle.spec.tasks)
    parts: list[Float32[np.ndarray, " rows"]] = [np.empty(0, np.float32)] * len(pages)
    with progress("Replaying through the current version", total=len(pages), unit="searches") as advance:
        for place, events in zip(order.tolist(), replayed, strict=True):
            # A service has the events before a page, except old ones that it no longer keeps.
            bundle.features.add_events(events)
            parts[place] = fuse(bundle.score(pages[place]).scores, weights)
            advance(1)
    return np.concatenate(parts), _seen_in_training(run, bundle.features.until_us, moments_us)


def _seen_in_training(run: Run | None, until_us: int, moments_us: Int64[np.ndarray, " pages"]) -> str | None:
    """Counts the pages within the time of a version's training data if that is known, else within its log's."""
    learned_us = None
    if run is not None:
        try:
            data = run.prepared()
            ends = [pc.max(data.searches(split)["timestamp"]) for split in ("train", "valid")]
            learned_us = max((int(_microseconds(pa.array([end]))[0]) for end in ends if end.is_valid), default=None)
        except (UserError, OSError):
            pass
    n_seen = int((moments_us <= (until_us if learned_us is None else learned_us)).sum())
    if not n_seen:
        return None
    what = "was" if learned_us is not None else "may have been"
    return f"it {what} trained on the time of {count(n_seen)} of them"


def _run_of(version: Version) -> Run | None:
    """The run of a version, if it still exists."""
    try:
        run = Run.open(Path(version.manifest.info["run"]))
    except (UserError, OSError, KeyError):
        return None
    return run if run.manifest.fingerprint == version.manifest.inputs["run"] else None
