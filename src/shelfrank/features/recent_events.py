"""Events since the log was read, in memory, added to the running sums of the mapped tables.

They are held as the log's history is: in sorted tables of running sums, a few for each key. New events wait in a short
unsorted tail; when it is full it becomes a table, and tables of similar size are merged. So an event costs the same
whether it is the newest or the oldest, and a page searches a number of tables that grows with the logarithm of the
number of events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64

from shelfrank.features.history_stats import HistoryEvent, KeyPlan
from shelfrank.features.history_table import NEVER, HistoryTable

TAIL = 256
"""Number of events that make a table."""
LARGE = 4_096
"""Moments from which a merge of two tables may wait for the next call: it takes some milliseconds."""
NOBODY = -1
"""The number of no query, customer or session; Python hashes no text to it."""
SIDES = ("query", "customer", "session")
PLACES_PER_VISITOR = 16
"""Places of `_Filter` for each visitor: one of some 20 unknown visitors is taken for a known one."""


@dataclass(frozen=True)
class _Rows:
    """Some events in columns, in any order.

    Attributes:
        ts_us: When each happened.
        product: Its product.
        codes: Codes of its product's affinity features, by name; -1 for none.
        visitors: Hashes of its query, customer and session, by side.
        values: What each of the measures counts of it.
    """

    ts_us: Int64[np.ndarray, " n"]
    product: Int64[np.ndarray, " n"]
    codes: Mapping[str, Int64[np.ndarray, " n"]]
    visitors: Mapping[str, Int64[np.ndarray, " n"]]
    values: Int64[np.ndarray, "n n_measures"]

    def __len__(self) -> int:
        return len(self.ts_us)

    def followed_by(self, others: "_Rows") -> "_Rows":
        """These events and then others."""
        return _Rows(
            ts_us=np.append(self.ts_us, others.ts_us),
            product=np.append(self.product, others.product),
            codes={name: np.append(codes, others.codes[name]) for name, codes in self.codes.items()},
            visitors={side: np.append(names, others.visitors[side]) for side, names in self.visitors.items()},
            values=np.concatenate([self.values, others.values]),
        )


@dataclass(frozen=True)
class _Key:
    """A key, and where its parts are in `_Rows`.

    Attributes:
        plan: Its statistics.
        side: `query`, `customer` or `session`; None for the products alone.
        feature: The affinity feature whose code is its second part.
        has_products: Whether its second part, or its only one, is the product.
        columns: Its measures among all.
    """

    plan: KeyPlan
    side: str | None
    feature: str | None
    has_products: bool
    columns: Int64[np.ndarray, " n_measures"]

    @classmethod
    def of(cls, plan: KeyPlan, measures: Sequence[str]) -> "_Key":
        """Reads the key's name."""
        side, _, feature = plan.key.partition("|")
        return cls(
            plan=plan,
            side=None if side == "product" else side.removesuffix("_product"),
            feature=feature or None,
            has_products=side.endswith("product"),
            columns=np.array([measures.index(each.name) for each in plan.measures], np.int64),
        )

    def visitors(self, rows: _Rows) -> Int64[np.ndarray, " n"]:
        """The first part of the key of each event; `NOBODY` for none."""
        return np.zeros(len(rows), np.int64) if self.side is None else rows.visitors[self.side]

    def seconds(self, rows: _Rows) -> Int64[np.ndarray, " n"]:
        """The second part of the key of each event; -1 for none."""
        if self.feature is not None:
            return rows.codes[self.feature]
        return rows.product if self.has_products else np.zeros(len(rows), np.int64)

    def chosen(self, rows: _Rows) -> Int64[np.ndarray, " chosen"]:
        """The events that add to this key."""
        counts = rows.values[:, self.columns].any(axis=1)
        return np.flatnonzero(counts & (self.visitors(rows) != NOBODY) & (self.seconds(rows) >= 0))


class _Table:
    """The events of one key in order of group and time.

    Args:
        plan: The key's statistics.
        visitor: The first part of each event's key.
        second: The second part.
        ts_us: When it happened.
        values: What the plan's measures count of it.
    """

    def __init__(
        self,
        plan: KeyPlan,
        visitor: Int64[np.ndarray, " n"],
        second: Int64[np.ndarray, " n"],
        ts_us: Int64[np.ndarray, " n"],
        values: Int64[np.ndarray, "n n_measures"],
    ) -> None:
        order = np.lexsort((ts_us, second, visitor))
        visitor, second, ts_us = visitor[order], second[order], ts_us[order]
        is_group = np.ones(len(order), bool)
        is_group[1:] = (visitor[1:] != visitor[:-1]) | (second[1:] != second[:-1])
        is_moment = is_group.copy()
        is_moment[1:] |= ts_us[1:] != ts_us[:-1]
        at, groups_at = np.flatnonzero(is_moment), np.flatnonzero(is_group)
        added = np.add.reduceat(values[order], at, axis=0)
        self._times, ranks = np.unique(ts_us[at], return_inverse=True)
        self._visitors, firsts = np.unique(visitor[groups_at], return_inverse=True)
        group = np.cumsum(is_group)[at] - 1
        self._keys = firsts << 32 | second[groups_at]
        self._moments = group << 32 | ranks
        self._sums = np.concatenate([np.zeros((1, added.shape[1]), np.int64), np.cumsum(added, axis=0)])
        starts = np.searchsorted(group, np.arange(len(groups_at) + 1)).astype(np.int32)
        if np.add.reduceat(np.abs(added), starts[:-1], axis=0).max() <= np.iinfo(np.int32).max:
            # Numerics: only differences within a group are read, and they are exact where the sums wrap around.
            self._sums = self._sums.astype(np.int32)
        self._table = HistoryTable(
            plan,
            len(self._times),
            starts=starts,
            moments=self._moments,
            sums=self._sums,
            keys=self._keys,
            last=self._last(plan, added, starts[group]) if plan.latest else None,
        )

    def __len__(self) -> int:
        return len(self._table)

    def merged(self, other: "_Table") -> "_Table":
        """One table of the events of two."""
        parts = zip(self._columns(), other._columns(), strict=True)
        visitor, second, ts_us, values = (np.concatenate(each) for each in parts)
        return _Table(self._table.plan, visitor, second, ts_us, values)

    def add_to(
        self,
        visitor: int,
        ts_us: int,
        rows: Int64[np.ndarray, " rows"],
        sums: Int64[np.ndarray, "offsets_plus_1 rows n_measures"],
        latest_us: Int64[np.ndarray, "n_latest rows"],
    ) -> None:
        """Adds the events before a search to the running sums of some rows; see `RecentEvents.add_to`."""
        first = int(np.searchsorted(self._visitors, visitor))
        if first == len(self._visitors) or self._visitors[first] != visitor:
            return
        groups = self._table.groups(rows, first)
        found = np.flatnonzero(groups >= 0)
        if not len(found):
            return
        offsets_us = np.array(self._table.plan.offsets_us)
        ranks = np.searchsorted(self._times, ts_us - offsets_us).tolist()
        own_sums, own_latest_us = self._table.before(groups[found], ranks)
        sums[:, found] += own_sums
        latest_us[:, found] = np.maximum(latest_us[:, found], own_latest_us)

    def _columns(self) -> tuple[np.ndarray, ...]:
        """The arguments that build an equal table."""
        keys, times = self._keys[self._moments >> 32], self._times[self._moments & 0xFFFFFFFF]
        values = np.diff(self._sums, axis=0).astype(np.int64)
        return self._visitors[keys >> 32], keys & 0xFFFFFFFF, times, values

    def _last(
        self,
        plan: KeyPlan,
        added: Int64[np.ndarray, "moments n_measures"],
        starts: Int[np.ndarray, " moments"],
    ) -> Int64[np.ndarray, "moments n_latest"]:
        """When each of the plan's latest was last above 0 in the group of each moment, up to it."""
        last = np.full((len(added), len(plan.latest)), NEVER)
        at, times = np.arange(len(added)), self._times[self._moments & 0xFFFFFFFF]
        for place, measure in enumerate(plan.latest):
            newest = np.maximum.accumulate(np.where(added[:, plan.measures.index(measure)] > 0, at, -1))
            own = newest >= starts
            last[own, place] = times[newest[own]]
        return last


class _Filter:
    """Tells most visitors that have no events from those that have some.

    Args:
        max_visitors: Number of visitors at most.
    """

    def __init__(self, max_visitors: int) -> None:
        self._mask = (1 << (PLACES_PER_VISITOR * max_visitors).bit_length()) - 1
        self._seen = np.zeros(self._mask + 1, bool)

    def add(self, visitors: Int64[np.ndarray, " n"]) -> None:
        """Remembers visitors."""
        self._seen[visitors & self._mask] = True

    def __contains__(self, visitor: int) -> bool:
        return bool(self._seen[visitor & self._mask])


class _Generation:
    """Some events by their keys."""

    def __init__(self, keys: Iterable[str], max_events: int) -> None:
        self.n = 0
        self.tables: dict[str, list[_Table]] = {key: [] for key in keys}
        self.filters = {side: _Filter(max_events) for side in SIDES}


class RecentEvents:
    """The latest events by every key of history.

    Memory is bounded: events are kept in two halves, and when the newer one is full the older one is dropped. An event
    takes up to 1.5 KB with 25 keys, and less where a key counts nothing of it. Queries, customers and sessions are
    known by 64-bit hashes of their texts.

    Args:
        plans: The statistics of every key.
        max_events: Number of events that are kept at most; at least half as many are.
    """

    def __init__(self, plans: Mapping[str, KeyPlan], max_events: int) -> None:
        self._half = max(max_events // 2, 1)
        self._measures = tuple(dict.fromkeys(measure for plan in plans.values() for measure in plan.measures))
        names = [measure.name for measure in self._measures]
        self._keys = {key: _Key.of(plan, names) for key, plan in plans.items()}
        self._features = tuple(dict.fromkeys(key.feature for key in self._keys.values() if key.feature is not None))
        self._generations = [_Generation(self._keys, self._half)]
        # The newest events of the newest generation.
        self._tail = self._rows([])

    @property
    def n_events(self) -> int:
        """Number of events that are kept."""
        return sum(generation.n for generation in self._generations)

    def knows(self, side: str, name: str | None) -> bool:
        """Whether recent events may add to the products, or to this query, customer or session."""
        if side == "product":
            return self.n_events > 0
        if name is None:
            return False
        visitor = hash(name)
        return any(visitor in generation.filters[side] for generation in self._generations)

    def add(self, events: Sequence[HistoryEvent]) -> None:
        """Adds events in any order.

        Args:
            events: The events; those of a page, or thousands at once when a service starts.
        """
        start = 0
        while start < len(events):
            newest = self._generations[-1]
            if newest.n >= self._half:
                self._sort_tail()
                newest = _Generation(self._keys, self._half)
                self._generations = [self._generations[-1], newest]
            some = events[start : start + self._half - newest.n]
            rows = self._rows(some)
            for side, visitors in rows.visitors.items():
                newest.filters[side].add(visitors)
            newest.n += len(some)
            start += len(some)
            self._tail = self._tail.followed_by(rows)
        # When a service starts, it adds thousands at a time: sorting waits until the last of them.
        if len(events) < LARGE and len(self._tail) >= TAIL:
            self._sort_tail()
        # Between pages at most one table is merged that takes longer; what is left over is merged by the next calls.
        self._merge(max_large=1 if 0 < len(events) < TAIL else None)

    def add_to(
        self,
        key: str,
        ts_us: int,
        name: str | None,
        rows: Sequence[int],
        sums: Int64[np.ndarray, "offsets_plus_1 rows n_measures"],
        latest_us: Int64[np.ndarray, "n_latest rows"],
    ) -> None:
        """Adds the recent events to the running sums of the mapped tables.

        Args:
            key: The key.
            ts_us: Time of the search.
            name: The query, customer or session; None for none.
            rows: The product or its code in each row; for a query, customer or session alone, one row of 0.
            sums: The sums of `HistoryTable.before`; changed in place.
            latest_us: Its latest times; changed in place.
        """
        own = self._keys[key]
        if own.side is not None and name is None:
            return
        if len(self._tail) >= TAIL:
            self._sort_tail()
            self._merge(max_large=None)
        visitor = 0 if own.side is None else hash(name)
        seconds = np.array(rows, np.int64)
        for generation in self._generations:
            for table in generation.tables[key]:
                table.add_to(visitor, ts_us, seconds, sums, latest_us)
        self._add_tail_to(own, visitor, ts_us, seconds, sums, latest_us)

    def _rows(self, events: Sequence[HistoryEvent]) -> _Rows:
        def column(values: Iterable[int]) -> Int64[np.ndarray, " n"]:
            return np.fromiter(values, np.int64, len(events))

        visitors = {
            "query": (each.query for each in events),
            "customer": (each.customer_id for each in events),
            "session": (each.session_id for each in events),
        }
        return _Rows(
            ts_us=column(each.ts_us for each in events),
            product=column(each.product_idx for each in events),
            codes={name: column(each.codes.get(name, -1) for each in events) for name in self._features},
            visitors={
                side: column(NOBODY if name is None else hash(name) for name in names)
                for side, names in visitors.items()
            },
            values=self._values(events),
        )

    def _values(self, events: Sequence[HistoryEvent]) -> Int64[np.ndarray, "n n_measures"]:
        places: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            places.setdefault(event.kind, []).append(place)
        values = np.zeros((len(events), len(self._measures)), np.int64)
        for column, measure in enumerate(self._measures):
            rows = places.get(measure.kind)
            if rows is not None:
                values[rows, column] = [measure.of_event(events[row]) for row in rows]
        return values

    def _sort_tail(self) -> None:
        """Turns the tail into a table of every key."""
        rows, newest = self._tail, self._generations[-1]
        for name, key in self._keys.items():
            chosen = key.chosen(rows)
            if len(chosen):
                columns = (key.visitors(rows), key.seconds(rows), rows.ts_us, rows.values[:, key.columns])
                newest.tables[name].append(_Table(key.plan, *(each[chosen] for each in columns)))
        self._tail = self._rows([])

    def _merge(self, max_large: int | None) -> None:
        """Merges tables of similar size, so that their number grows with the logarithm of the number of events.

        The tables of the older half, which gets no more events, become one.
        """
        n_large = 0
        for generation in self._generations:
            gets_more = generation is self._generations[-1]
            for tables in generation.tables.values():
                for place in range(len(tables) - 1, 0, -1):
                    older, newer = tables[place - 1 : place + 1]
                    if gets_more and len(older) > 2 * len(newer):
                        continue
                    if len(older) + len(newer) >= LARGE:
                        if n_large == max_large:
                            continue
                        n_large += 1
                    tables[place - 1 : place + 1] = [older.merged(newer)]

    def _add_tail_to(
        self,
        key: _Key,
        visitor: int,
        ts_us: int,
        seconds: Int64[np.ndarray, " rows"],
        sums: Int64[np.ndarray, "offsets_plus_1 rows n_measures"],
        latest_us: Int64[np.ndarray, "n_latest rows"],
    ) -> None:
        tail = self._tail
        own = np.flatnonzero(key.visitors(tail) == visitor)
        if not len(own):
            return
        of_row: Bool[np.ndarray, "rows own"] = seconds[:, None] == key.seconds(tail)[own]
        # An unknown product or code has no history.
        rows, events = np.nonzero(of_row & (seconds >= 0)[:, None])
        if not len(rows):
            return
        events = own[events]
        values, times_us = tail.values[events][:, key.columns], tail.ts_us[events]
        for place, offset_us in enumerate(key.plan.offsets_us):
            before = times_us < ts_us - offset_us
            np.add.at(sums[place], rows[before], values[before])
        for place, measure in enumerate(key.plan.latest):
            known_us = times_us + key.plan.known_after_us(measure)
            counts = (known_us < ts_us) & (values[:, key.plan.measures.index(measure)] > 0)
            np.maximum.at(latest_us[place], rows[counts], known_us[counts])
