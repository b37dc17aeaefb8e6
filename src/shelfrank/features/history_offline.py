"""Point-in-time statistics of a log's rows: what had happened to a key before each search, as integers.

A statistic sums a measure over the rows of one key whose time lies strictly before the search's own, so neither the
search's own rows nor anything later can reach it; a window leaves out older rows. The engine sorts each key's rows by
time, and differences of running sums give every statistic at once. Integers give the same bits on every engine, in any
order of rows and with any number of threads. `history_features.py` turns them into features.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

# ibis's own annotations reject its operators and column methods.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false

from collections.abc import Iterable
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, Num

from shelfrank.engine.base import ROW, Engine
from shelfrank.features.history_stats import OUTSIDE, HistoryEvent, HistoryPlan, KeyPlan, Measure
from shelfrank.features.index import IndexedLog
from shelfrank.features.levels import Levels
from shelfrank.features.plan import Plan


def timeline(
    log: IndexedLog, rows: ibis.Table, codes: ibis.Table, plan: HistoryPlan, measures: Iterable[Measure]
) -> ibis.Table:
    """One narrow row per impression and, with `row` -1, one per event outside the results pages.

    Args:
        log: The indexed log, for its events.
        rows: The log's rows with their number and, where the log has prices, `price`.
        codes: `product_idx` with an integer code for each affinity feature.
        plan: The history that the log allows.
        measures: The measures that are needed; one may be given again.

    Returns:
        `row`, keys, `ts_us` and a column for each measure.
    """
    needed = {measure.name: measure for measure in measures}
    keys = ("search_idx", "product_idx", "query_idx", "customer_idx", "session_idx")
    moments = rows.select(ROW, "ts_us", *keys, **{name: _read(each, rows) for name, each in needed.items()})
    if log.events is not None:
        nowhere = ibis.literal(-1, "int32")
        outside = HistoryEvent(ts_us=0, kind=OUTSIDE, product_idx=-1)
        events = log.events.select(
            "ts_us",
            "product_idx",
            "customer_idx",
            "session_idx",
            search_idx=nowhere,
            query_idx=nowhere,
            **{ROW: ibis.literal(-1, "int64")},
            **{name: ibis.literal(each.of_event(outside), each.dtype) for name, each in needed.items()},
        )
        moments = moments.union(events.select(moments.columns))
    if plan.affinity:
        moments = moments.left_join(codes, "product_idx").drop("product_idx_right")
    # An anonymous visitor has no past of its own: a key that no other search shares keeps the pasts apart.
    own = -2 - moments.search_idx
    return moments.mutate(
        customer_key=(moments.customer_idx < 0).ifelse(own, moments.customer_idx),
        session_key=(moments.session_idx < 0).ifelse(own, moments.session_idx),
    )


def _read(measure: Measure, rows: ibis.Table) -> ibis.Value:
    value = measure.of_rows(rows)
    return ibis.literal(value, measure.dtype) if isinstance(value, int) else value.cast(measure.dtype)


def with_numbers(rows: ibis.Table, indexed: IndexedLog, engine: Engine, plan: Plan) -> ibis.Table:
    """The rows with `price` as a float, where the log has prices, and with levels, those that are unknown as 0."""
    rows = _with_price(rows, indexed, plan)
    if not plan.history.levels:
        return rows
    products = engine.collect(indexed.products.order_by("product_idx"))
    levels = Levels.of_catalogue(products, plan.history.levels, plan.product_features)
    columns = levels.of_products(products, plan.product_features)
    whole = {name: np.nan_to_num(values).astype(np.int32) for name, values in columns.items()}
    shared = engine.share(pa.table({"product_idx": products["product_idx"], **whole}), "levels")
    return rows.left_join(shared, "product_idx").drop("product_idx_right")


def _with_price(rows: ibis.Table, indexed: IndexedLog, plan: Plan) -> ibis.Table:
    if not plan.history.has_price:
        return rows
    if plan.price_in_rows:
        return rows.mutate(price=rows.price.cast("float64"))
    prices = indexed.products.select("product_idx", price=indexed.products.price.cast("float64"))
    return rows.left_join(prices, "product_idx").drop("product_idx_right")


def product_codes(indexed: IndexedLog, engine: Engine, plan: Plan) -> ibis.Table:
    """`product_idx` with an integer code of its value of each affinity feature, `<name>_code`."""
    names = plan.history.affinity
    products = engine.collect(indexed.products.select("product_idx", *names).order_by("product_idx"))
    spellings = {feature.name: feature.spelling for feature in plan.product_features}
    codes = {f"{name}_code": _codes(spellings[name].column(products[name])) for name in names}
    return engine.share(pa.table({"product_idx": products["product_idx"], **codes}), "codes")


def _codes(categories: pa.ChunkedArray) -> pa.Array:
    """A number for each category in their order; the missing one, if there is one, has the last."""
    known = pc.unique(categories.drop_null()).sort()
    codes = pc.index_in(categories, value_set=known)
    return pc.fill_null(codes, len(known)).combine_chunks().cast(pa.int32())


@dataclass(frozen=True)
class StatsOfGroups:
    """Computes all statistics of some keys for rows of whole groups, as an engine hands them over (Paper: Sec. 3.3).

    Attributes:
        plans: The statistics of each key. All keys begin with the column that makes the groups, so that their own
            groups are parts of these.
    """

    plans: tuple[KeyPlan, ...]

    @property
    def schema(self) -> pa.Schema:
        """The number of each impression's row, and its statistics."""
        stats = (each for plan in self.plans for each in plan.stats)
        return pa.schema([(ROW, pa.int64()), *((each.column, pa.from_numpy_dtype(each.stat.dtype)) for each in stats)])

    def __call__(self, groups: pa.RecordBatch) -> pa.RecordBatch:
        """The statistics of the groups' impressions; each group is in order of time."""
        columns = {name: groups[name].to_numpy(zero_copy_only=False) for name in groups.schema.names}
        is_row = columns[ROW] >= 0
        computed: dict[str, np.ndarray] = {ROW: columns[ROW][is_row]}
        # Numerics: group and time make one sorted number of 62 bits; spans of years leave room for fewer groups.
        span_us = 4 * (int(np.ptp(columns["ts_us"])) + 2) if groups.num_rows else 4
        max_groups = max((1 << 62) // span_us, 1)
        for plan in self.plans:
            used = {name: columns[name] for name in (ROW, "ts_us", *(measure.name for measure in plan.measures))}
            key, order = _in_order(columns, plan.key_columns)
            places = None
            if order is not None:
                key = key[order]
                used = {name: values[order] for name, values in used.items()}
                places = (np.cumsum(is_row) - 1)[order[is_row[order]]]
            begins = np.ones(len(key), dtype=bool)
            begins[1:] = key[1:] != key[:-1]
            starts = np.flatnonzero(begins)
            parts = []
            for first in range(0, len(starts), max_groups):
                end = starts[first + max_groups] if first + max_groups < len(starts) else groups.num_rows
                part = {name: values[starts[first] : end] for name, values in used.items()}
                parts.append(_stats_of_parts(plan, part, begins[starts[first] : end], span_us))
            for each in plan.stats:
                values = np.concatenate([np.empty(0, each.stat.dtype), *(part[each.column] for part in parts)])
                computed[each.column] = values
                if places is not None:
                    computed[each.column] = np.empty_like(values)
                    computed[each.column][places] = values
        return pa.record_batch([pa.array(computed[name]) for name in self.schema.names], self.schema)


def _in_order(
    columns: dict[str, Num[np.ndarray, " moments"]], names: tuple[str, ...]
) -> tuple[Int64[np.ndarray, " moments"], Int64[np.ndarray, " moments"] | None]:
    """One number for each key, and the order that puts equal ones together and leaves each in order of time.

    Args:
        columns: Moments whose first key column is already in order.
        names: The key columns, one or two.

    Returns:
        The numbers and the order; None where the moments are in it.
    """
    first, *others = (columns[name].astype(np.int64) for name in names)
    if not others:
        return first, None
    (second,) = others
    changes = np.zeros(len(first), np.int64)
    changes[1:] = first[1:] != first[:-1]
    second = second - second.min(initial=0)
    key = np.cumsum(changes) * (int(second.max(initial=0)) + 1) + second
    # A stable sort of 16 bits counts instead of comparing, so that three of them cost less than one of 64 bits.
    order = np.argsort(key.astype(np.uint16), kind="stable")
    for shift in (16, 32, 48):
        if int(key.max(initial=0)) >> shift:
            order = order[np.argsort((key >> shift).astype(np.uint16)[order], kind="stable")]
    return key, order


def _stats_of_parts(
    plan: KeyPlan, columns: dict[str, Num[np.ndarray, " moments"]], begins: Bool[np.ndarray, " moments"], span_us: int
) -> dict[str, Num[np.ndarray, " rows"]]:
    past = _Past(columns, begins, span_us)
    computed = {}
    for each in plan.stats:
        stat = each.stat
        if stat.combine == "latest":
            times = [past.latest(part.name, plan.known_after_us(part)) for part in stat.parts]
            values = np.maximum.reduce(times)
        else:
            sums = [
                past.sum(part.name, plan.known_after_us(part), plan.window_us(part, each.days) if each.days else None)
                for part in stat.parts
            ]
            values = np.add.reduce(sums)
        computed[each.column] = values.astype(stat.dtype)
    return computed


class _Past:
    """Running sums over sorted groups, and where each impression's past begins and ends in them."""

    def __init__(
        self, columns: dict[str, Num[np.ndarray, " moments"]], begins: Bool[np.ndarray, " moments"], span_us: int
    ) -> None:
        self.columns = columns
        self.rows = np.flatnonzero(columns[ROW] >= 0)
        since_first = columns["ts_us"] - columns["ts_us"].min(initial=np.iinfo(np.int64).max)
        self._longest_us = span_us // 4
        group = np.cumsum(begins) - 1
        self._time = group * span_us + 2 * self._longest_us + since_first
        self._row_time = self._time[self.rows]
        self._group_start = np.flatnonzero(begins)[group[self.rows]]
        self._bounds: dict[int, Int64[np.ndarray, " rows"]] = {}
        self._sums: dict[str, Int64[np.ndarray, " moments_plus_1"]] = {}

    def sum(self, measure: str, end_us: int, begin_us: int | None) -> Int64[np.ndarray, " rows"]:
        """Sum over the times from one offset before each impression to strictly before another.

        Args:
            measure: What is summed.
            end_us: Offset at which the sum ends.
            begin_us: Offset at which it begins; None is the beginning of all time.

        Returns:
            The sums.
        """
        if measure not in self._sums:
            self._sums[measure] = np.zeros(len(self._time) + 1, dtype=np.int64)
            np.cumsum(self.columns[measure], out=self._sums[measure][1:])
        sums = self._sums[measure]
        begin = self._group_start if begin_us is None else self._before(begin_us)
        return sums[self._before(end_us)] - sums[begin]

    def latest(self, measure: str, known_after_us: int) -> Int64[np.ndarray, " rows"]:
        """The latest time, strictly before each impression, at which a measure above 0 became known; 0 if never."""
        values = self.columns[measure]
        latest = np.maximum.accumulate(np.where(values > 0, np.arange(len(values)), -1))
        end = self._before(known_after_us)
        at = np.where(end > self._group_start, latest[np.maximum(end, 1) - 1], -1)
        return np.where(at >= self._group_start, self.columns["ts_us"][at] + known_after_us, 0)

    def _before(self, offset_us: int) -> Int64[np.ndarray, " rows"]:
        """The number of rows of the timeline strictly before the time at this offset before each impression."""
        # An offset longer than the whole span of times stays within the group's own range of numbers.
        offset_us = min(offset_us, self._longest_us)
        if offset_us not in self._bounds:
            self._bounds[offset_us] = np.searchsorted(self._time, self._row_time - offset_us)
        return self._bounds[offset_us]
