"""What happened since the log was read, in memory, added to the running sums of the mapped tables."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from shelfrank.features.history_stats import MILLIONTHS
from shelfrank.features.history_table import KeyTotals


@dataclass(frozen=True)
class Happening:
    """An event with its keys.

    Attributes:
        ts_us: When.
        product_idx: The product.
        codes: Codes of the product's affinity features, by name.
        query: The query of the results page; None where there is none.
        customer_id: None is an anonymous visitor.
        session_id: None says nothing about the visit.
        happened: What it adds to which sums.
    """

    ts_us: int
    product_idx: int
    codes: Mapping[str, int]
    query: str | None
    customer_id: str | None
    session_id: str | None
    happened: Mapping[str, int]


class _Series:
    """Running sums of one group in order of time; late arrivals are put where they belong."""

    __slots__ = ("engaged_us", "events_us", "sums", "times_us", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.times_us, self.sums = array("q"), array("q")
        self.engaged_us, self.events_us = array("q"), array("q")

    def add(self, ts_us: int, values: Sequence[int], engaged: bool, event: bool) -> None:
        width, times_us, sums = self.width, self.times_us, self.sums
        at = bisect_left(times_us, ts_us)
        if at == len(times_us) or times_us[at] != ts_us:
            times_us.insert(at, ts_us)
            before = sums[(at - 1) * width : at * width] if at else array("q", bytes(8 * width))
            sums[at * width : at * width] = before
        for start in range(at * width, len(sums), width):
            for place, value in enumerate(values):
                sums[start + place] += value
        for some, kept in ((engaged, self.engaged_us), (event, self.events_us)):
            if some:
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


class Recent:
    """The latest events by every key of history.

    Memory is bounded: events are kept in two halves, and when the newer one is full the older one is forgotten. An
    event takes about 2 KB.

    Args:
        plans: The totals of every key.
        most: Events that are kept at most; at least half as many are.
    """

    def __init__(self, plans: Mapping[str, KeyTotals], most: int) -> None:
        self._plans, self._half = plans, max(most // 2, 1)
        self._generations = [_Generation()]
        self._parts: dict[str, list[str]] = {}
        for key in plans:
            side, _, feature = key.partition("|")
            if feature:
                self._parts.setdefault(side, []).append(feature)

    @property
    def n_events(self) -> int:
        """Events that are kept."""
        return sum(generation.n for generation in self._generations)

    def knows(self, side: str, name: str | None) -> bool:
        """Whether anything recent may be of products, or of this query, customer or session."""
        if side == "product":
            return self.n_events > 0
        return name is not None and any(name in generation.of[side] for generation in self._generations)

    def add(self, happening: Happening) -> None:
        """Takes in one event."""
        newest = self._generations[-1]
        if newest.n >= self._half:
            newest = _Generation()
            self._generations = [self._generations[-1], newest]
        newest.n += 1
        if "product" in self._plans:
            self._put(newest.products, happening.product_idx, "product", happening)
        for side, name in (
            ("query", happening.query),
            ("customer", happening.customer_id),
            ("session", happening.session_id),
        ):
            if name is not None:
                self._add_to_visitor(newest.of[side], side, name, happening)

    def add_to(
        self,
        key: str,
        moment_us: int,
        name: str | None,
        rows: Sequence[int],
        sums: Int64[np.ndarray, "backs_plus_1 rows n_summed"],
        last: Int64[np.ndarray, "2 rows"],
    ) -> None:
        """Adds to what the mapped tables say of a key.

        Args:
            key: The key.
            moment_us: The moment asked for.
            name: The query, customer or session; None for none.
            rows: The product or its code in each row; for a query, customer or session alone, one row of anything.
            sums: What `PastTable.before` found; changed in place.
            last: The same of the latest engagement.
        """
        plan = self._plans[key]
        wheres: list[tuple[int, int]] = []
        pieces: list[array[int]] = []
        for generation in self._generations:
            for row, series in self._series(generation, key, name, rows):
                for place, back_us in enumerate(plan.backs_us):
                    end = bisect_left(series.times_us, moment_us - back_us)
                    if not end:
                        break
                    wheres.append((place, row))
                    pieces.append(series.sums[(end - 1) * series.width : end * series.width])
                if plan.has_last:
                    for place, kept, back_us in ((0, series.engaged_us, plan.delay_us), (1, series.events_us, 0)):
                        end = bisect_left(kept, moment_us - back_us)
                        if end:
                            last[place, row] = max(int(last[place, row]), kept[end - 1] + back_us)
        if pieces:
            backs, places = np.array(wheres, np.intp).T
            values = np.frombuffer(b"".join(pieces), np.int64).reshape(len(pieces), -1)
            np.add.at(sums, (backs, places), values)

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

    def _add_to_visitor(self, of: dict[str, _Visitor], side: str, name: str, happening: Happening) -> None:
        if name not in of:
            of[name] = _Visitor(_Series(len(self._plans[side].summed) if side in self._plans else 0))
        visitor = of[name]
        if side in self._plans:
            self._add(visitor.own, side, happening)
        if f"{side}_product" in self._plans:
            self._put(visitor.products, happening.product_idx, f"{side}_product", happening)
        for feature in self._parts.get(side, ()):
            if feature in happening.codes:
                codes = visitor.codes.setdefault(feature, {})
                self._put(codes, happening.codes[feature], f"{side}|{feature}", happening)

    def _put(self, series: dict[int, _Series], idx: int, key: str, happening: Happening) -> None:
        if idx not in series:
            series[idx] = _Series(len(self._plans[key].summed))
        self._add(series[idx], key, happening)

    def _add(self, series: _Series, key: str, happening: Happening) -> None:
        plan, happened = self._plans[key], happening.happened
        values = [happened.get(of, 0) for of in plan.summed]
        engaged, event = plan.has_last and happened.get(plan.task, 0) > 0, plan.has_last and "event" in happened
        if any(values) or engaged or event:
            series.add(happening.ts_us, values, engaged, event)


def attention(position: int | None) -> int:
    """Millionths of the attention that a position gets; see `history_offline`."""
    return round(MILLIONTHS / math.log2(1.0 + position)) if position else 0


def log_price(price: float | None) -> int | None:
    """Millionths of ln price; None where there is none."""
    return round(math.log(price) * MILLIONTHS) if price is not None and price > 0 else None
