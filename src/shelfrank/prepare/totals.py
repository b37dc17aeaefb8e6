"""Point-in-time totals: what had happened to a key before each search, as integer sums on any ibis engine.

A total sums one kind of happening over the rows of one key whose time lies strictly before the search's own, so
neither the search's own rows nor anything later can reach it. Totals are integers: every engine, any order of rows
and any number of threads give the same bits. `history.py` turns them into features.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

# ibis's own annotations reject its operators and column methods.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false

from collections.abc import Iterable
from dataclasses import dataclass

import ibis

from shelfrank.config import HistoryConfig
from shelfrank.prepare.index import IndexedLog

MILLIONTHS = 1_000_000

KEYS = {
    "product": ("product_idx",),
    "query": ("query_idx",),
    "query_product": ("query_idx", "product_idx"),
    "customer": ("customer_key",),
    "customer_product": ("customer_key", "product_idx"),
    "session": ("session_key",),
    "session_product": ("session_key", "product_idx"),
}
"""Timeline columns of each key; `query|<feature>` and `customer|<feature>` pair with a product feature's code."""


@dataclass(frozen=True, order=True)
class Total:
    """One sum or maximum.

    Attributes:
        key: A name in `KEYS`, or `query|` or `customer|` with an affinity feature's name.
        of: What is summed: `impression`, a task, `event`, `engaged`, `attention` (millionths),
            `clicked_price` (millionths of ln price), or `clicked_priced`; or `last_us`, the latest moment of
            engagement.
    """

    key: str
    of: str

    @property
    def column(self) -> str:
        """Its column in a batch of rows."""
        return f"{self.key}.{self.of}"


@dataclass(frozen=True)
class HistoryPlan:
    """What a log has.

    Attributes:
        tasks: Tasks whose labels the log has.
        affinity: Product features, as integer codes `<name>_code`, whose values are matched with past engagement.
        has_events: Whether the log has events outside its result pages.
        has_sessions: Whether the log has sessions.
        has_price: Whether rows carry `price`.
    """

    tasks: tuple[str, ...]
    affinity: tuple[str, ...]
    has_events: bool
    has_sessions: bool
    has_price: bool


def timeline(log: IndexedLog, codes: ibis.Table, plan: HistoryPlan, config: HistoryConfig) -> ibis.Table:
    """One narrow row per impression and, marked `row_id = -1`, one per happening that is history only.

    Args:
        log: The indexed log; its rows carry `row_id` and, where the log has prices, `price`.
        codes: `product_idx` with an integer code for each affinity feature.
        plan: What the log has.
        config: `outcome_delay_s` moves outcomes to rows of their own at a later time.

    Returns:
        `row_id`, keys, `ts_us`, and what happened: `impression`, `attention`, the tasks, `event`, `engaged`, prices of
        clicks.
    """
    delayed = config.outcome_delay_s > 0
    one, zero = ibis.literal(1, "int8"), ibis.literal(0, "int8")
    outcomes = {task: log.rows[task].fill_null(0).cast("int8") for task in plan.tasks}
    nothing = dict.fromkeys(plan.tasks, zero)
    price = {"log_price": _log_price(log.rows.price)} if plan.has_price else {}
    keys = ("search_idx", "product_idx", "query_idx", "customer_idx", "session_idx")
    rows = log.rows.select(
        "row_id",
        "ts_us",
        *keys,
        **price,
        **(nothing if delayed else outcomes),
        attention=_attention(log.rows.position),
        impression=one,
        event=zero,
    )
    history_only = {"row_id": ibis.literal(-1, "int64"), "attention": ibis.literal(0, "int32")}
    if delayed:
        late = {"ts_us": log.rows.ts_us + round(config.outcome_delay_s * 1e6)}
        happened = log.rows.select(*keys, **late, **price, **outcomes, **history_only, impression=zero, event=zero)
        rows = rows.union(happened.filter(sum(happened[task] for task in plan.tasks) > 0).select(rows.columns))
    if log.events is not None:
        no_price = {"log_price": ibis.null("int64")} if plan.has_price else {}
        nowhere = ibis.literal(-1, "int32")
        taken = log.events.select(
            "ts_us",
            "product_idx",
            "customer_idx",
            "session_idx",
            search_idx=nowhere,
            query_idx=nowhere,
            **history_only,
            **no_price,
            **nothing,
            impression=zero,
            event=one,
        )
        rows = rows.union(taken.select(rows.columns))
    if plan.affinity:
        rows = rows.left_join(codes, "product_idx").drop("product_idx_right")
    # An anonymous visitor has no past of its own: a key that no other search shares keeps the pasts apart.
    own = -2 - rows.search_idx
    clicks = rows.click if "click" in plan.tasks else zero
    priced = {}
    if plan.has_price:
        counts = ((clicks > 0) & rows.log_price.notnull()).cast("int8")
        priced = {"clicked_priced": counts, "clicked_price": counts * rows.log_price.fill_null(0)}
    rows = rows.mutate(
        customer_key=(rows.customer_idx < 0).ifelse(own, rows.customer_idx),
        session_key=(rows.session_idx < 0).ifelse(own, rows.session_idx),
        engaged=(clicks + rows.event).cast("int8"),
        **priced,
    )
    return rows.drop("search_idx", "customer_idx", "session_idx", *(["log_price"] if plan.has_price else []))


def totals_of_key(rows: ibis.Table, key: str, totals: Iterable[Total]) -> ibis.Table:
    """All totals of one key for every impression, by `row_id`, which is not among the columns."""
    columns = KEYS.get(key)
    if columns is None:
        side, _, feature = key.partition("|")
        columns = (*KEYS[side], f"{feature}_code")
    before = ibis.range_window(preceding=(None, 1), group_by=[rows[name] for name in columns], order_by=rows.ts_us)
    made = {}
    for total in totals:
        if total.of == "last_us":
            made[total.column] = (rows.engaged > 0).ifelse(rows.ts_us, 0).max().over(before).fill_null(0)
        else:
            wide = "int64" if total.of in {"attention", "clicked_price"} else "int32"
            made[total.column] = rows[total.of].cast("int64").sum().over(before).fill_null(0).cast(wide)
    table = rows.select("row_id", **made)
    return table.filter(table.row_id >= 0).order_by("row_id").drop("row_id")


def _attention(position: ibis.Value) -> ibis.Value:
    """Millionths of the attention that a position gets, 1 / log2(1 + position): the discount of NDCG."""
    return (MILLIONTHS / (1.0 + position).log2()).round().cast("int32")


def _log_price(price: ibis.Value) -> ibis.Value:
    # Numerics: whole millionths add up to the same sum in any order.
    return ((price > 0).ifelse(price, ibis.null("float64")).ln() * MILLIONTHS).round().cast("int64")
