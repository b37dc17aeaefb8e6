"""Point-in-time totals: what had happened to a key before each search, as integer sums.

A total sums one kind of happening over the rows of one key whose time lies strictly before the search's own, so
neither the search's own rows nor anything later can reach it; a window leaves out what lies too far back. The engine
sorts each key's rows by time, and differences of running sums give every total at once. Totals are integers: every
engine, any order of rows and any number of threads give the same bits. `history.py` turns them into features.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

# ibis's own annotations reject its operators and column methods.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false

from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, Num, Shaped

from shelfrank.engine.base import ROW, Engine
from shelfrank.features.history_stats import DAY_US, LATE, MILLIONTHS, HistoryPlan, Total
from shelfrank.features.index import IndexedLog
from shelfrank.features.plan import Plan


def timeline(log: IndexedLog, rows: ibis.Table, codes: ibis.Table, plan: HistoryPlan) -> ibis.Table:
    """One narrow row per impression and, with `row` -1, one per happening that is history only.

    Args:
        log: The indexed log, for its events.
        rows: The log's rows with their number and, where the log has prices, `price`.
        codes: `product_idx` with an integer code for each affinity feature.
        plan: What the log has.

    Returns:
        `row`, keys, `ts_us`, and what happened: `attention`, the tasks, `event`, and ln price in millionths.
    """
    zero = ibis.literal(0, "int8")
    price = {"log_price": _log_price(rows.price)} if plan.has_price else {}
    keys = ("search_idx", "product_idx", "query_idx", "customer_idx", "session_idx")
    moments = rows.select(
        ROW,
        "ts_us",
        *keys,
        **price,
        **{task: rows[task].fill_null(0).cast("int8") for task in plan.tasks},
        **{f"known_{task}": rows[task].notnull().cast("int8") for task in plan.partly},
        attention=_attention(rows, plan),
        event=zero,
    )
    if log.events is not None:
        nowhere = ibis.literal(-1, "int32")
        taken = log.events.select(
            "ts_us",
            "product_idx",
            "customer_idx",
            "session_idx",
            search_idx=nowhere,
            query_idx=nowhere,
            attention=ibis.literal(0, "int32"),
            event=ibis.literal(1, "int8"),
            **{ROW: ibis.literal(-1, "int64")},
            **({"log_price": ibis.null("int64")} if plan.has_price else {}),
            **dict.fromkeys((*plan.tasks, *(f"known_{task}" for task in plan.partly)), zero),
        )
        moments = moments.union(taken.select(moments.columns))
    if plan.affinity:
        moments = moments.left_join(codes, "product_idx").drop("product_idx_right")
    # An anonymous visitor has no past of its own: a key that no other search shares keeps the pasts apart.
    own = -2 - moments.search_idx
    return moments.mutate(
        customer_key=(moments.customer_idx < 0).ifelse(own, moments.customer_idx),
        session_key=(moments.session_idx < 0).ifelse(own, moments.session_idx),
    )


def with_price(rows: ibis.Table, indexed: IndexedLog, plan: Plan) -> ibis.Table:
    """The rows with `price` as a float, where the log has prices."""
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
class TotalsOfGroups:
    """Computes all totals of one key for rows of whole groups, as an engine hands them over.

    Attributes:
        keys: Columns that make a group.
        totals: What is computed.
        tasks: Tasks whose labels the log has; the first one, the click if it is there, counts as engagement.
        delay_us: Time after a search at which its clicks, carts and purchases count as known.
    """

    keys: tuple[str, ...]
    totals: tuple[Total, ...]
    tasks: tuple[str, ...]
    delay_us: int

    @property
    def schema(self) -> pa.Schema:
        """The number of each impression's row, and its totals."""
        columns = [(total.column, pa.from_numpy_dtype(total.dtype)) for total in self.totals]
        return pa.schema([(ROW, pa.int64()), *columns])

    def __call__(self, groups: pa.RecordBatch) -> pa.RecordBatch:
        """The totals of the groups' impressions."""
        columns = {name: groups[name].to_numpy(zero_copy_only=False) for name in groups.schema.names}
        begins = np.zeros(groups.num_rows, dtype=bool)
        begins[:1] = True
        for key in self.keys:
            begins[1:] |= columns[key][1:] != columns[key][:-1]
        starts = np.flatnonzero(begins)
        # Numerics: group and time make one sorted number of 62 bits; spans of years leave room for fewer groups.
        span_us = 4 * (int(np.ptp(columns["ts_us"])) + 2) if groups.num_rows else 4
        most = max((1 << 62) // span_us, 1)
        parts = []
        for first in range(0, len(starts), most):
            end = starts[first + most] if first + most < len(starts) else groups.num_rows
            part = {name: values[starts[first] : end] for name, values in columns.items()}
            parts.append(self._totals(part, begins[starts[first] : end], span_us))
        made = {name: np.concatenate([part[name] for part in parts]) for name in self.schema.names} if parts else {}
        return pa.record_batch([pa.array(made.get(name, np.empty(0))) for name in self.schema.names], self.schema)

    def _totals(
        self, columns: dict[str, Num[np.ndarray, " moments"]], begins: Bool[np.ndarray, " moments"], span_us: int
    ) -> dict[str, Num[np.ndarray, " rows"]]:
        past = _Past(columns, begins, span_us, self.delay_us)
        made = {ROW: columns[ROW][past.asked]}
        for total in self.totals:
            if total.of == "last_us":
                values = past.last_engagement(self.tasks[0])
            elif total.of == "engaged":
                values = past.total(self.tasks[0], total.days) + past.total("event", total.days)
            else:
                values = past.total(total.of, total.days)
            made[total.column] = values.astype(total.dtype)
        return made


class _Past:
    """Running sums over sorted groups, and where each impression's past begins and ends in them."""

    def __init__(
        self,
        columns: dict[str, Num[np.ndarray, " moments"]],
        begins: Bool[np.ndarray, " moments"],
        span_us: int,
        delay_us: int,
    ) -> None:
        self.columns, self.delay_us = columns, delay_us
        self.asked = np.flatnonzero(columns[ROW] >= 0)
        since_first = columns["ts_us"] - columns["ts_us"].min(initial=np.iinfo(np.int64).max)
        self._longest = span_us // 4
        group = np.cumsum(begins) - 1
        self._time = group * span_us + 2 * self._longest + since_first
        self._asked_time = self._time[self.asked]
        self._group_start = np.flatnonzero(begins)[group[self.asked]]
        self._bounds: dict[int, Int64[np.ndarray, " rows"]] = {}
        self._sums: dict[int, Int64[np.ndarray, " moments_plus_1"]] = {}

    def total(self, of: str, days: float) -> Int64[np.ndarray, " rows"]:
        """Sum over what was known strictly before each impression and, with a window, became known within it."""
        if of not in self._sums:
            self._sums[of] = np.zeros(len(self._time) + 1, dtype=np.int64)
            np.cumsum(happened(self.columns, of), out=self._sums[of][1:])
        sums = self._sums[of]
        delay_us = self.delay_us if of in LATE else 0
        begin = self._before(delay_us + round(days * DAY_US)) if days else self._group_start
        return sums[self._before(delay_us)] - sums[begin]

    def last_engagement(self, task: str) -> Int64[np.ndarray, " rows"]:
        """The latest moment, strictly before each impression, at which an engagement was known; 0 if never."""
        return np.maximum(self._last(task, self.delay_us), self._last("event", 0))

    def _last(self, of: str, delay_us: int) -> Int64[np.ndarray, " rows"]:
        times = happened(self.columns, of)
        latest = np.maximum.accumulate(np.where(times > 0, np.arange(len(times)), -1))
        end = self._before(delay_us)
        at = np.where(end > self._group_start, latest[np.maximum(end, 1) - 1], -1)
        return np.where(at >= self._group_start, self.columns["ts_us"][at] + delay_us, 0)

    def _before(self, back_us: int) -> Int64[np.ndarray, " rows"]:
        """How many moments lie strictly before the time that is so far back from each impression."""
        # A step further back than all the times there are stays within the group's own range of numbers.
        back_us = min(back_us, self._longest)
        if back_us not in self._bounds:
            self._bounds[back_us] = np.searchsorted(self._time, self._asked_time - back_us)
        return self._bounds[back_us]


def happened(columns: dict[str, Num[np.ndarray, " moments"]], of: str) -> Shaped[np.ndarray, " moments"]:
    """What a total of this kind sums, at each moment of a timeline."""
    if of == "impression":
        return columns[ROW] >= 0
    if of in {"clicked_price", "clicked_priced"}:
        # A missing price comes from the engine as NaN; whole millionths stay exact as a float.
        price = columns["log_price"].astype(np.float64)
        clicked = (columns["click"] > 0) & ~np.isnan(price)
        return clicked if of == "clicked_priced" else np.where(clicked, price, 0.0).astype(np.int64)
    return columns[of]


def _attention(rows: ibis.Table, plan: HistoryPlan) -> ibis.Value:
    """Millionths of the attention that a position gets, 1 / log2(1 + position): the discount of NDCG."""
    attention = (MILLIONTHS / (1.0 + rows.position).log2()).round().cast("int32")
    # Attention whose clicks are not known says nothing about clicks.
    return rows.click.notnull().ifelse(attention, 0) if "click" in plan.partly else attention


def _log_price(price: ibis.Value) -> ibis.Value:
    # Numerics: whole millionths add up to the same sum in any order.
    return ((price > 0).ifelse(price, ibis.null("float64")).ln() * MILLIONTHS).round().cast("int64")
