"""The history statistics: what is counted over the past of a key, in one table for logs and for live events.

A `Measure` is an integer per impression or event that adds up. It is read in two places that must agree: from a log's
rows, for prepared data and for the tables of a store, and from one live event. A `HistoryStat` combines measures over
what a key knew before a search. A new statistic is one entry of `history_stats`, with a measure where none fits.

Nothing here needs an engine, so that a service computes features without one.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from shelfrank.core.schema import TASKS

MILLIONTHS = 1_000_000
DAY_US = 86_400_000_000
OUTSIDE = "event"
"""What a `HistoryEvent` outside the results pages is, whatever the visitor did."""

KEYS = {
    "product": ("product_idx",),
    "query": ("query_idx",),
    "query_product": ("query_idx", "product_idx"),
    "customer": ("customer_key",),
    "customer_product": ("customer_key", "product_idx"),
    "session": ("session_key",),
    "session_product": ("session_key", "product_idx"),
}
"""Timeline columns of each key. `query|<feature>`, `customer|<feature>` and `session|<feature>` pair it with a product
feature's code."""


@dataclass(frozen=True)
class HistoryEvent:
    """One event with the keys to whose history it adds.

    Attributes:
        ts_us: When it happened, in microseconds since 1970, UTC.
        kind: `impression` or a task on a results page; `OUTSIDE` elsewhere.
        product_idx: The product.
        codes: Codes of the product's affinity features, by name.
        query: The query of the results page; None outside.
        customer_id: The customer; None is an anonymous visitor.
        session_id: The visit; None where it is unknown.
        position: Position of an impression, from 1; None where it is unknown.
        price: The product's price; None or NaN where it is unknown.
        levels: The product's levels in thousandths, by feature; an unknown one is left out.
    """

    ts_us: int
    kind: str
    product_idx: int
    codes: Mapping[str, int] = field(default_factory=dict)
    query: str | None = None
    customer_id: str | None = None
    session_id: str | None = None
    position: int | None = None
    price: float | None = None
    levels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """An integer per impression or event that adds up over the past of a key.

    Attributes:
        name: Its column in a timeline.
        dtype: The type of that column.
        of_rows: Reads it from the impressions of a log: from an ibis table to an ibis value or a constant.
        of_event: Reads it from one event, live or of a log's `events`.
        kind: The kind of event that it counts; it is 0 of any other.
        is_late: Whether it is known only after the delay of outcomes.
    """

    name: str
    dtype: Literal["int8", "int32", "int64"]
    of_rows: Callable[[Any], Any]
    of_event: Callable[[HistoryEvent], int]
    kind: str
    is_late: bool = False


@dataclass(frozen=True)
class HistoryStat:
    """What is known of a key before a search.

    Attributes:
        name: Its name.
        parts: What it combines.
        dtype: The type of its values.
        combine: `sum` adds up all that the parts counted; `latest` is the time at which one of them last became
            known to be above 0, in microseconds since 1970, and 0 if none ever was.
    """

    name: str
    parts: tuple[Measure, ...]
    dtype: type[np.signedinteger] = np.int32
    combine: Literal["sum", "latest"] = "sum"


def _attention(rows: Any, task: str = "click") -> Any:
    # Attention whose outcome is not known says nothing about outcomes.
    return rows[task].notnull().ifelse((MILLIONTHS / (1.0 + rows.position).log2()).round(), 0)


def _attention_of_event(event: HistoryEvent) -> int:
    return _attention_at(event.position) if event.kind == "impression" and event.position else 0


@lru_cache(1_000)
def _attention_at(position: int) -> int:
    return round(MILLIONTHS / math.log2(1.0 + position))


def _priced_clicks(rows: Any) -> Any:
    return ((rows.click > 0) & (rows.price > 0)).ifelse(1, 0)


def _priced_click_of_event(event: HistoryEvent) -> int:
    return int(event.kind == "click" and event.price is not None and event.price > 0)


def _clicked_prices(rows: Any) -> Any:
    # Numerics: whole millionths add up to the same sum in any order. DuckDB refuses the logarithm of 0.
    log_price = ((rows.price > 0).ifelse(rows.price, None).cast("float64").ln() * MILLIONTHS).round()
    return ((rows.click > 0) & (rows.price > 0)).ifelse(log_price, 0)


def _clicked_price_of_event(event: HistoryEvent) -> int:
    if event.price is None or not _priced_click_of_event(event):
        return 0
    return round(math.log(event.price) * MILLIONTHS)


def _outcome(task: str) -> Measure:
    """Impressions on which the task's label is 1."""
    return Measure(
        task, "int8", lambda rows: rows[task].fill_null(0), lambda event: int(event.kind == task), task, is_late=True
    )


def _known(task: str) -> Measure:
    """Impressions whose label of the task is known, as that of any live one is."""
    return Measure(
        f"known_{task}",
        "int8",
        lambda rows: rows[task].notnull(),
        lambda event: int(event.kind == "impression"),
        "impression",
    )


@cache
def _attention_of_task(task: str) -> Measure:
    """Attention where the task's label is known."""
    return Measure(f"attention_{task}", "int32", lambda rows: _attention(rows, task), _attention_of_event, "impression")


@cache
def _level_of_attention(name: str) -> Measure:
    """The level of the product, weighted by attention; an unknown level counts as the middle of its category."""
    return Measure(
        f"attention_{name}_level",
        "int64",
        lambda rows: (_attention(rows) * rows[f"{name}_level"]).cast("int64"),
        lambda event: _attention_of_event(event) * event.levels.get(name, 0),
        "impression",
    )


@cache
def _level_of_outcome(task: str, name: str) -> Measure:
    """The level of the product where the task's label is 1."""
    return Measure(
        f"{task}_{name}_level",
        "int32",
        lambda rows: (rows[task].fill_null(0) > 0).ifelse(rows[f"{name}_level"], 0),
        lambda event: event.levels.get(name, 0) if event.kind == task else 0,
        task,
        is_late=True,
    )


_IMPRESSION = Measure("impression", "int8", lambda rows: 1, lambda event: int(event.kind == "impression"), "impression")
_EVENT = Measure("event", "int8", lambda rows: 0, lambda event: int(event.kind == OUTSIDE), OUTSIDE)
_ATTENTION = Measure("attention", "int32", _attention, _attention_of_event, "impression")
_CLICKED_PRICE = Measure("clicked_price", "int64", _clicked_prices, _clicked_price_of_event, "click", is_late=True)
_CLICKED_PRICED = Measure("clicked_priced", "int8", _priced_clicks, _priced_click_of_event, "click", is_late=True)
_OUTCOMES = {task: _outcome(task) for task in TASKS}
_KNOWN = {task: _known(task) for task in TASKS}


def history_stats(tasks: Sequence[str], levels: Sequence[str] = ()) -> dict[str, HistoryStat]:
    """The table of the history statistics, by name.

    Args:
        tasks: Tasks whose labels the log has; the first one, the click if it is there, counts as engagement.
        levels: Features whose levels rows carry.

    Returns:
        `impression`; each task, and `known_<task>` of it; `event` outside the results pages; `engaged` and, the time
        of the latest engagement, `last_us`; `attention`, 1 / log2(1 + position), the discount of NDCG, in millionths,
        where the click's label is known, and `attention_<task>` where the task's is; of the clicks on products whose
        price is known the number, `clicked_priced`, and the sum of ln price in millionths, `clicked_price`. For each
        feature F with levels the sum of them, each in thousandths and weighted by attention in millionths,
        `attention_F_level`, and that of those with an outcome, `<task>_F_level`.
    """
    engagement = (_OUTCOMES[tasks[0]], _EVENT)
    table = (
        HistoryStat("impression", (_IMPRESSION,)),
        *(HistoryStat(task, (_OUTCOMES[task],)) for task in tasks),
        *(HistoryStat(_KNOWN[task].name, (_KNOWN[task],)) for task in tasks),
        HistoryStat("event", (_EVENT,)),
        HistoryStat("engaged", engagement),
        HistoryStat("last_us", engagement, np.int64, combine="latest"),
        HistoryStat("attention", (_ATTENTION,), np.int64),
        *(HistoryStat(each.name, (each,), np.int64) for each in map(_attention_of_task, tasks)),
        HistoryStat("clicked_price", (_CLICKED_PRICE,), np.int64),
        HistoryStat("clicked_priced", (_CLICKED_PRICED,)),
        *(HistoryStat(each.name, (each,), np.int64) for each in map(_level_of_attention, levels)),
        *(
            HistoryStat(each.name, (each,), np.int64)
            for each in (_level_of_outcome(task, name) for name in levels for task in tasks)
        ),
    )
    return {stat.name: stat for stat in table}


@dataclass(frozen=True)
class KeyStat:
    """A statistic of one key over one window.

    Attributes:
        key: A name in `KEYS`, or `query|`, `customer|` or `session|` with an affinity feature's name.
        stat: The statistic.
        days: Length of the window before the search; 0 is all time.
    """

    key: str
    stat: HistoryStat
    days: float = 0.0

    @cached_property
    def column(self) -> str:
        """Its column in a batch of rows."""
        return f"{self.key}.{self.stat.name}" + (f".{self.days:g}d" if self.days else "")


@dataclass(frozen=True)
class HistoryPlan:
    """The history that a log allows.

    Attributes:
        tasks: Tasks whose labels the log has.
        partly: Those of them whose labels some impressions lack.
        affinity: Product features, as integer codes `<name>_code`, whose values are matched with past engagement.
        has_events: Whether the log has events outside its results pages.
        has_sessions: Whether the log has sessions.
        has_price: Whether rows carry `price`.
        levels: Numerical product features of whose values rows carry the levels, as `<name>_level`.
        by_category: Whether levels are those within the product's category.
    """

    tasks: tuple[str, ...]
    partly: tuple[str, ...]
    affinity: tuple[str, ...]
    has_events: bool
    has_sessions: bool
    has_price: bool
    levels: tuple[str, ...] = ()
    by_category: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HistoryPlan":
        """Reads the fields of a plan that were written as JSON."""
        fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in data.items()}
        return cls(**fields)

    def stat(self, key: str, name: str, days: float = 0.0) -> KeyStat:
        """A statistic of the table for one key and window."""
        return KeyStat(key, history_stats(self.tasks, self.levels)[name], days)


@dataclass(frozen=True)
class KeyPlan:
    """The statistics of one key, and the running sums from which they follow.

    Attributes:
        key: Its name, see `KEYS`.
        stats: The statistics.
        delay_us: Time after a search at which its outcomes count as known.
    """

    key: str
    stats: tuple[KeyStat, ...]
    delay_us: int

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The timeline's columns that make the key."""
        if self.key in KEYS:
            return KEYS[self.key]
        side, _, feature = self.key.partition("|")
        return (*KEYS[side], f"{feature}_code")

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures that are summed, by name."""
        used = {part.name: part for each in self.stats for part in each.stat.parts}
        return tuple(used[name] for name in sorted(used))

    @cached_property
    def latest(self) -> tuple[Measure, ...]:
        """The measures whose latest times are needed."""
        parts = (part for each in self.stats if each.stat.combine == "latest" for part in each.stat.parts)
        return tuple(dict.fromkeys(parts))

    @cached_property
    def offsets_us(self) -> tuple[int, ...]:
        """Offsets before the time of a search at which the running sums are read."""
        offsets = {0, self.delay_us}
        for each in self.stats:
            if each.stat.combine == "sum":
                for part in each.stat.parts:
                    offsets |= {self.known_after_us(part), self.window_us(part, each.days)}
        return tuple(sorted(offsets))

    def known_after_us(self, measure: Measure) -> int:
        """Time after which a measure is known."""
        return self.delay_us if measure.is_late else 0

    def window_us(self, measure: Measure, days: float) -> int:
        """Offset at which a window of a measure begins."""
        return self.known_after_us(measure) + round(days * DAY_US)


def key_plans(stats: Iterable[KeyStat], outcome_delay_s: float) -> dict[str, KeyPlan]:
    """Some statistics by their keys, in order.

    Args:
        stats: The statistics, in any order and any number of times.
        outcome_delay_s: Time after a search at which its outcomes count as known.

    Returns:
        A plan for each key.
    """
    by_key: dict[str, list[KeyStat]] = {}
    for each in sorted(set(stats), key=lambda each: (each.key, each.stat.name, each.days)):
        by_key.setdefault(each.key, []).append(each)
    delay_us = round(outcome_delay_s * 1e6)
    return {key: KeyPlan(key, tuple(some), delay_us) for key, some in by_key.items()}
