"""Whether a run orders the newest test searches better than what people see now."""

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
from shelfrank.bundle.replay import MRR_AT, pages_as_asked, spread
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
"""Rows of the log that are held as columns while they are told to a version."""


def references(names: Sequence[str]) -> tuple[Reference, ...]:
    """What is named on a command line; an unknown name is a `UserError`."""
    known = {each: each for each in get_args(Reference)}
    for name in names:
        if name not in known:
            raise unknown_name("reference", name, known)
    return tuple(dict.fromkeys(known[name] for name in names))


@dataclass(frozen=True)
class Gate:
    """What a run must be better than to be published.

    Attributes:
        better_than: The references that it must beat; without any, it is compared and published.
        margin: By how much of MRR@10 the lower end of the difference's interval must be above 0.
        n_searches: Test searches that are compared, at most.
    """

    better_than: tuple[Reference, ...] = ()
    margin: float = 0.0
    n_searches: int = 1000


@dataclass(frozen=True)
class ReleaseComparison:
    """A run against what it would replace, on the same test searches.

    Attributes:
        reference: What it is compared with.
        name: The same in words.
        task: The task that decides: of those that some test search is positive for, the one that weighs most in the
            run's score. None where nothing was compared.
        differences: By task, the paired difference of MRR@10, the run's minus the reference's, with its interval.
        n_searches: Test searches that were compared, evenly spread over those with a positive label.
        n_with_positive: Test searches with a positive label.
        problem: Why nothing was compared; None where it was.
        is_same_run: Whether the current version is of the same run, so that there is nothing to compare.
        note: What makes the comparison unfair to the run: the reference learned from the searches that are compared.
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
        """All figures in one line."""
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
        """One sentence where the run is below its reference: on the task that decides, or on another beyond chance."""
        below = []
        for task, difference in self.differences.items():
            found = Estimate.model_validate(difference)
            is_worse = found.sign == -1
            if is_worse or (task == self.task and found.value is not None and found.value < 0):
                chance = "" if is_worse else ", not beyond chance"
                if found.too_few:
                    chance = f", too few to tell: {_counting(found)}"
                below.append(f"{task} by {self._figure(task)}{chance}")
        if not below:
            return None
        return f"the run is worse than {self.name} at MRR@{MRR_AT} of {'; of '.join(below)}"

    def refusal(self, margin: float) -> str | None:
        """Why the run is not shown to be better by more than a margin; None where it is."""
        if self.is_same_run:
            return None
        asked = f"the run must be better than {self.name}, as the export requires"
        if self.problem is not None or self.task is None:
            return f"{asked}, but they cannot be compared: {self.problem}"
        found = Estimate.model_validate(self.differences[self.task])
        if found.sign == 1 and found.low is not None and found.low > margin:
            return None
        rule = _counting(found) if found.too_few else f"the interval's lower end must lie above {margin:g}"
        return f"{asked}, but the difference of MRR@{MRR_AT} of {self.task} is {self._figure(self.task)}, and {rule}"

    def _figure(self, task: str) -> str:
        found = Estimate.model_validate(self.differences[task])
        ends = f"{CONFIG.confidence:.0%} interval {between(found)}".replace("%", " %")
        return f"{signed(found.value)} ({ends}, {plural(found.n or 0, 'search', 'searches')})"


def _counting(found: Estimate) -> str:
    n = found.n or 0
    return f"{plural(n, 'search', 'searches')} {'counts' if n == 1 else 'count'}, {MIN_SEARCHES} are needed"


def compare_for_release(run: Run, prepared: PreparedData, store: BundleStore, gate: Gate) -> list[ReleaseComparison]:
    """Compares a run with the shown order and with a store's current version, on the newest searches that it has.

    The searches are the test split's with a positive label, evenly spread, so the cost is bounded and the same searches
    come each time. The current version's own run scores the same prepared rows where it was trained on the same data;
    otherwise the logged searches are replayed through its bundle, which is told what the log says happened since.

    Args:
        run: A finished run.
        prepared: Its data.
        store: The bundle that it would be published to.
        gate: How many searches.

    Returns:
        The comparison with the shown order, then that with the current version where there is one.

    Raises:
        UserError: Where the run or its log cannot be read.
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

    found = []
    note = log.manifest.info.get("notes", {}).get("position")
    if note is None:
        found.append(compared("shown_order", -np.asarray(rows.position, np.float32)))
    else:
        found.append(ReleaseComparison("shown_order", names["shown_order"], problem=f"positions are made up: {note}"))
    if current is None:
        return found
    try:
        version = store.verified(current)
        if version.manifest.inputs["run"] == run.manifest.fingerprint:
            found.append(ReleaseComparison("current", names["current"], is_same_run=True))
        else:
            found.append(compared("current", *_score(version, log, prepared, rows, chosen)))
    except Exception as error:  # Whatever is wrong with the version that serves, a new one must be able to replace it.
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        found.append(ReleaseComparison("current", names["current"], problem=told))
    return found


def require_better(comparisons: list[ReleaseComparison], gate: Gate) -> None:
    """Refuses a run that is not shown to be better than what it must be better than.

    A first version has no current one to beat.

    Args:
        comparisons: What was compared.
        gate: What it must beat.

    Raises:
        UserError: Where it is not; the text has the figures.
    """
    if gate.better_than and gate.n_searches < 1:
        raise UserError(
            "what a run must be better than is compared on test searches, so `compared` must be at least 1, not 0"
        )
    refusals = [each.refusal(gate.margin) for each in comparisons if each.reference in gate.better_than]
    told = [refusal for refusal in refusals if refusal is not None]
    if told:
        raise UserError(
            f"{'; '.join(told)}; nothing was published, so train a better run, or export without requiring it"
        )


def events_before(
    log: SearchLog,
    after_us: int,
    moments_us: Int64[np.ndarray, " moments"],
    knows: Callable[[list[str]], Bool[np.ndarray, " products"]],
    most: int = MAX_RECENT,
) -> Iterator[list[Event]]:
    """What a service would have been told before some moments, but for what it would have forgotten by then.

    Times are read first, as columns; of the rows only those that a moment needs become events, some at once.

    Args:
        log: The log.
        after_us: Since when, in microseconds since 1970; what happened then is left out.
        moments_us: The moments in ascending order; what happens at a moment is not before it.
        knows: Which of some products the service knows; it keeps nothing of others.
        most: Rows of the log that the service keeps; of what lies between two moments only the newest are told.

    Yields:
        For each moment the events since the one before, the oldest first.
    """
    last_us = int(moments_us.max(initial=after_us))
    known = np.concatenate([_times(log, table, after_us, last_us, knows) for table in ("impressions", "events")])
    times = np.sort(known)
    ends = np.searchsorted(times, moments_us)
    starts = np.maximum(np.concatenate([[0], ends])[: len(ends)], ends - most)
    first = 0
    while first < len(ends):
        past = first + 1
        # What lies side by side is read together; a read passes over all the log's times.
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
    """When a table's rows of known products happened, after one moment and before another."""
    found = [np.empty(0, np.int64)]
    if log.has(table) and until_us > after_us:
        dataset, within = _between(log, table, after_us, until_us)
        for batch in dataset.to_batches(columns=["timestamp", "product_id"], filter=within):
            at = _microseconds(batch["timestamp"])
            products = pc.dictionary_encode(batch["product_id"])
            known = knows(products.dictionary.to_pylist())[products.indices.to_numpy()]
            found.append(at[known & (at > after_us) & (at < until_us)])
    return np.concatenate(found)


def _rows_between(log: SearchLog, from_us: int, until_us: int) -> list[tuple[Int64[np.ndarray, " rows"], pa.Table]]:
    """The rows of each table from one moment on and up to another, in order of time, and when they happened."""
    tables = []
    for table in ("impressions", "events"):
        if not log.has(table):
            continue
        wanted = ("customer_id", "session_id", "product_id", "action")
        if table == "impressions":
            wanted += ("search_id", "query", "position", "price", *TASKS)
        dataset, within = _between(log, table, from_us, until_us)
        columns = ["timestamp", *(name for name in wanted if name in dataset.schema.names)]
        rows = dataset.to_table(columns=columns, filter=within).sort_by("timestamp")
        tables.append((_microseconds(rows["timestamp"]), rows.drop_columns(["timestamp"])))
    return tables


def _between(log: SearchLog, table: str, from_us: int, until_us: int) -> tuple[ds.Dataset, pc.Expression]:
    """A table, and what picks the rows from one moment up to another, both included."""
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
    """The version that the pointer names or, without one, the newest that could serve; None where there is none."""
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
    found = {}
    for index, task in enumerate(rows.tasks):
        labels = np.ascontiguousarray(rows.labels[:, index])
        mine, its = (reciprocal_rank(each, labels, rows.search_offsets, rows.tie_keys, MRR_AT) for each in (own, base))
        if not np.isnan(mine).all():
            found[task] = paired_difference(mine, its, CONFIG)
    return found


def _score(
    version: Version, log: SearchLog, prepared: PreparedData, rows: Split, chosen: Int64[np.ndarray, " chosen"]
) -> tuple[Float32[np.ndarray, " rows"], str | None]:
    """What a version sorts the chosen test searches by, and what makes that unfair."""
    run = _run_of(version)
    if run is not None and run.manifest.inputs["prepared"] == prepared.manifest.fingerprint:
        fusion = run.config.fusion_weights(prepared.tasks).shares
        return fuse(run.ranker(prepared).score(run.select(rows)), fusion), None
    bundle = Bundle.open(version.path)
    pages = pages_as_asked(log, prepared, "test", chosen)
    moments_us = np.array([page.ts_us for page in pages], np.int64)
    order = np.argsort(moments_us, kind="stable")
    told = events_before(log, bundle.features.until_us, moments_us[order], bundle.features.knows)
    weights = tuple(bundle.spec.task_weights[task] for task in bundle.spec.tasks)
    parts: list[Float32[np.ndarray, " rows"]] = [np.empty(0, np.float32)] * len(pages)
    with progress("Replaying through the current version", total=len(pages), unit="searches") as advance:
        for place, events in zip(order.tolist(), told, strict=True):
            # A service knows what happened before a page; what happened long before it, it may have forgotten.
            bundle.features.add_events(events)
            parts[place] = fuse(bundle.score(pages[place]).scores, weights)
            advance(1)
    return np.concatenate(parts), _seen_in_training(run, bundle.features.until_us, moments_us)


def _seen_in_training(run: Run | None, until_us: int, moments_us: Int64[np.ndarray, " pages"]) -> str | None:
    """Says how many of some pages lie in the time that a version learned from, where that is known, or in its log's."""
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
    """The run behind a version, where it is still there."""
    try:
        run = Run.open(Path(version.manifest.info["run"]))
    except (UserError, OSError, KeyError):
        return None
    return run if run.manifest.fingerprint == version.manifest.inputs["run"] else None
