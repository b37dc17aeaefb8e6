"""Events since the log was read, in memory, added to the running sums of the mapped tables."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from shelfrank.features.history_stats import HistoryEvent, KeyPlan


class _Series:
    """Running sums of one group in order of time; late arrivals are inserted at their time."""

    __slots__ = ("latest_us", "sums", "times_us", "width")

    def __init__(self, n_measures: int, n_latest: int) -> None:
        self.width = n_measures
        self.times_us, self.sums = array("q"), array("q")
        self.latest_us = [array("q") for _ in range(n_latest)]

    def add(self, ts_us: int, values: Sequence[int], latest: Sequence[bool]) -> None:
        width, times_us, sums = self.width, self.times_us, self.sums
        at = bisect_left(times_us, ts_us)
        if at == len(times_us) or times_us[at] != ts_us:
            times_us.insert(at, ts_us)
            before = sums[(at - 1) * width : at * width] if at else array("q", bytes(8 * width))
            sums[at * width : at * width] = before
        for start in range(at * width, len(sums), width):
            for place, value in enumerate(values):
                sums[start + place] += value
        for counts, kept in zip(latest, self.latest_us, strict=True):
            if counts:
                kept.insert(bisect_right(kept, ts_us), ts_us)


@dataclass
class _Visitor:
    """The series of one query, customer or session: its own, and those of its products and of their categories."""

    own: _Series
    products: dict[int, _Series] = field(default_factory=dict)
    codes: dict[str, dict[int, _Series]] = field(default_factory=dict)


class _Generation:
    """Some events by their keys."""

    def __init__(self) -> None:
        self.n = 0
        self.products: dict[int, _Series] = {}
        self.of: dict[str, dict[str, _Visitor]] = {"query": {}, "customer": {}, "session": {}}


class RecentEvents:
    """The latest events by every key of history.

    Memory is bounded: events are kept in two halves, and when the newer one is full the older one is dropped. An event
    takes about 2 KB.

    Args:
        plans: The statistics of every key.
        max_events: Number of events that are kept at most; at least half as many are.
    """

    def __init__(self, plans: Mapping[str, KeyPlan], max_events: int) -> None:
        self._plans, self._half = plans, max(max_events // 2, 1)
        self._measures = tuple(dict.fromkeys(measure for plan in plans.values() for measure in plan.measures))
        self._generations = [_Generation()]
        self._parts: dict[str, list[str]] = {}
        for key in plans:
            side, _, feature = key.partition("|")
            if feature:
                self._parts.setdefault(side, []).append(feature)

    @property
    def n_events(self) -> int:
        """Number of events that are kept."""
        return sum(generation.n for generation in self._generations)

    def knows(self, side: str, name: str | None) -> bool:
        """Whether recent events may add to the products, or to this query, customer or session."""
        if side == "product":
            return self.n_events > 0
        return name is not None and any(name in generation.of[side] for generation in self._generations)

    def add(self, event: HistoryEvent) -> None:
        """Adds one event."""
        values = {measure.name: measure.of_event(event) for measure in self._measures}
        newest = self._generations[-1]
        if newest.n >= self._half:
            newest = _Generation()
            self._generations = [self._generations[-1], newest]
        newest.n += 1
        if "product" in self._plans:
            self._put(newest.products, event.product_idx, "product", event, values)
        for side, name in (
            ("query", event.query),
            ("customer", event.customer_id),
            ("session", event.session_id),
        ):
            if name is not None:
                self._add_to_visitor(newest.of[side], side, name, event, values)

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
            rows: The product or its code in each row; for a query, customer or session alone, one row of any value.
            sums: The sums of `HistoryTable.before`; changed in place.
            latest_us: Its latest times; changed in place.
        """
        plan = self._plans[key]
        wheres: list[tuple[int, int]] = []
        pieces: list[array[int]] = []
        for generation in self._generations:
            for row, series in self._series(generation, key, name, rows):
                for place, offset_us in enumerate(plan.offsets_us):
                    end = bisect_left(series.times_us, ts_us - offset_us)
                    if not end:
                        break
                    wheres.append((place, row))
                    pieces.append(series.sums[(end - 1) * series.width : end * series.width])
                for place, (measure, kept) in enumerate(zip(plan.latest, series.latest_us, strict=True)):
                    known_after_us = plan.known_after_us(measure)
                    end = bisect_left(kept, ts_us - known_after_us)
                    if end:
                        latest_us[place, row] = max(int(latest_us[place, row]), kept[end - 1] + known_after_us)
        if pieces:
            offsets, places = np.array(wheres, np.intp).T
            values = np.frombuffer(b"".join(pieces), np.int64).reshape(len(pieces), -1)
            np.add.at(sums, (offsets, places), values)

    def _series(
        self, generation: _Generation, key: str, name: str | None, rows: Sequence[int]
    ) -> Iterable[tuple[int, _Series]]:
        if key == "product":
            found = generation.products
        else:
            side = key.partition("|")[0].removesuffix("_product")
            visitor = generation.of[side].get(name) if name is not None else None
            if visitor is None:
                return
            if key == side:
                yield 0, visitor.own
                return
            found = visitor.products if key == f"{side}_product" else visitor.codes.get(key.partition("|")[2], {})
        if not found:
            return
        for row, wanted in enumerate(rows):
            series = found.get(wanted)
            if series is not None:
                yield row, series

    def _add_to_visitor(
        self, of: dict[str, _Visitor], side: str, name: str, event: HistoryEvent, values: Mapping[str, int]
    ) -> None:
        if name not in of:
            of[name] = _Visitor(self._new_series(side))
        visitor = of[name]
        if side in self._plans:
            self._add(visitor.own, side, event.ts_us, values)
        if f"{side}_product" in self._plans:
            self._put(visitor.products, event.product_idx, f"{side}_product", event, values)
        for feature in self._parts.get(side, ()):
            if feature in event.codes:
                codes = visitor.codes.setdefault(feature, {})
                self._put(codes, event.codes[feature], f"{side}|{feature}", event, values)

    def _put(
        self, series: dict[int, _Series], idx: int, key: str, event: HistoryEvent, values: Mapping[str, int]
    ) -> None:
        if idx not in series:
            series[idx] = self._new_series(key)
        self._add(series[idx], key, event.ts_us, values)

    def _new_series(self, key: str) -> _Series:
        plan = self._plans.get(key)
        return _Series(0, 0) if plan is None else _Series(len(plan.measures), len(plan.latest))

    def _add(self, series: _Series, key: str, ts_us: int, values: Mapping[str, int]) -> None:
        plan = self._plans[key]
        summed = [values[measure.name] for measure in plan.measures]
        if any(summed):
            series.add(ts_us, summed, [values[measure.name] > 0 for measure in plan.latest])
