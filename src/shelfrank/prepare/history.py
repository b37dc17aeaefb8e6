"""Point-in-time statistics: what was known of product, query, customer and session before each search.

Every statistic is a sum or a maximum over the rows of one key whose time lies strictly before the search's own, so
neither the search's own rows nor anything later can reach it. All are expressions that any ibis engine can run.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ibis

from shelfrank.config import HistoryConfig
from shelfrank.prepare.index import IndexedLog
from shelfrank.schema import TASKS, Feature, Kind, Side

HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class HistoryPlan:
    """Which statistics a log allows.

    Attributes:
        tasks: Tasks whose labels the log has.
        affinity: Product columns, as integer codes `<name>_code`, whose values are matched with past clicks.
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
    """One narrow row per impression and, marked `row_id = -1`, one per event that is history only.

    Args:
        log: The indexed log; its rows carry `row_id`.
        codes: `product_idx` with an integer code for each affinity feature.
        plan: What the log has.
        config: `outcome_delay_s` moves outcomes to rows of their own at a later time.

    Returns:
        Keys, `ts_us`, and what happened: `impression`, `click`, `add_to_cart`, `purchase`, `event`.
    """
    keys = ("ts_us", "search_idx", "product_idx", "query_idx", "customer_idx", "session_idx")
    price = ("price",) if plan.has_price else ()
    outcomes = {task: log.rows[task].fill_null(0).cast("int8") for task in plan.tasks}
    nothing = {task: ibis.literal(0, "int8") for task in plan.tasks}
    one, zero = ibis.literal(1, "int8"), ibis.literal(0, "int8")
    positions = {"position": log.rows["position"].cast("int32")}
    no_position = {"position": ibis.literal(0, "int32")}
    delayed = config.outcome_delay_s > 0
    rows = log.rows.select(
        "row_id", *keys, *price, **positions, **(nothing if delayed else outcomes), impression=one, event=zero
    )
    history_only = {"row_id": ibis.literal(-1, "int64")}
    if delayed:
        clicked = log.rows.filter(log.rows["click"] == 1)
        late = {"ts_us": clicked["ts_us"] + round(config.outcome_delay_s * 1e6)}
        rest = [key for key in keys if key != "ts_us"]
        rows = rows.union(
            clicked.select(
                *rest,
                *price,
                **late,
                **history_only,
                **no_position,
                impression=zero,
                event=zero,
                **{task: clicked[task].fill_null(0).cast("int8") for task in plan.tasks},
            ).select(rows.columns)
        )
    if log.events is not None:
        prices = {"price": ibis.null("float64")} if plan.has_price else {}
        minus_one = ibis.literal(-1, "int32")
        rows = rows.union(
            log.events.select(
                "ts_us",
                "product_idx",
                "customer_idx",
                "session_idx",
                search_idx=minus_one,
                query_idx=minus_one,
                **history_only,
                **no_position,
                **prices,
                **nothing,
                impression=zero,
                event=one,
            ).select(rows.columns)
        )
    rows = rows.left_join(codes, "product_idx").drop("product_idx_right") if plan.affinity else rows
    # An anonymous visitor has no past of its own: a key that no other search shares keeps the pasts apart.
    own = -2 - rows.search_idx
    return rows.mutate(
        customer_key=(rows.customer_idx < 0).ifelse(own, rows.customer_idx),
        session_key=(rows.session_idx < 0).ifelse(own, rows.session_idx),
        engaged=(rows.click + rows.event) if "click" in plan.tasks else rows.event,
    )


@dataclass(frozen=True)
class Statistic:
    """One feature that history makes."""

    feature: Feature
    value: ibis.Value


def statistics(rows: ibis.Table, plan: HistoryPlan, config: HistoryConfig) -> list[Statistic]:
    """Every statistic that the plan allows, as expressions over `timeline` rows."""
    made: list[Statistic] = []
    if config.product:
        made += _rates(rows, "product", ("product_idx",), Side.PRODUCT, plan.tasks, config)
    if config.query:
        made += _rates(rows, "query", ("query_idx",), Side.QUERY, ("click",) if "click" in plan.tasks else (), config)
    if config.query_product:
        made += _rates(rows, "query_product", ("query_idx", "product_idx"), Side.INTERACTION, plan.tasks, config)
        made += _shares(rows, "query", "query_idx", Side.INTERACTION, plan)
    if config.customer:
        made += _personal(rows, "customer", "customer_key", plan)
        made += _shares(rows, "customer", "customer_key", Side.CUSTOMER, plan)
    if config.session and plan.has_sessions:
        made += _personal(rows, "session", "session_key", plan)
    return made


def _before(rows: ibis.Table, keys: Sequence[str]) -> Callable[[ibis.Value], ibis.Value]:
    window = ibis.range_window(preceding=(None, 1), group_by=[rows[key] for key in keys], order_by=rows.ts_us)
    return lambda value: value.over(window)


def _sum_before(rows: ibis.Table, keys: Sequence[str], value: ibis.Value) -> ibis.Value:
    return _before(rows, keys)(value.cast("int64").sum()).fill_null(0)


def _rates(
    rows: ibis.Table, name: str, keys: Sequence[str], side: Side, tasks: Sequence[str], config: HistoryConfig
) -> list[Statistic]:
    shown = _sum_before(rows, keys, rows.impression)
    made = [_numerical(f"{name}_impressions", side, shown, log1p=True)]
    for task in tasks:
        count = _sum_before(rows, keys, rows[task])
        prior = config.prior_strength * config.prior_rates.get(task, 0.0)
        rate = (count + prior) / (shown + config.prior_strength)
        made.append(_numerical(f"{name}_{task}s", side, count, log1p=True))
        made.append(_numerical(f"{name}_{task}_rate", side, rate))
    return made


def _shares(rows: ibis.Table, name: str, key: str, side: Side, plan: HistoryPlan) -> list[Statistic]:
    """How much of the key's past engagement went to products like this one."""
    made: list[Statistic] = []
    for feature in plan.affinity:
        code = f"{feature}_code"
        same = _sum_before(rows, (key, code), rows.engaged)
        every = _sum_before(rows, (key,), rows.engaged)
        # A share of few clicks says little: two pseudo-clicks elsewhere pull it to 0, the value of no history.
        made.append(_numerical(f"{name}_{feature}_share", side, same / (every + 2.0)))
        made.append(_numerical(f"{name}_{feature}_engaged", side, same, log1p=True))
    return made


def _personal(rows: ibis.Table, name: str, key: str, plan: HistoryPlan) -> list[Statistic]:
    """What this customer or session did before, and did with this product; 0 always means no history."""
    side = Side.CUSTOMER
    own, pair = (key,), (key, "product_idx")
    shown, engaged = _sum_before(rows, own, rows.impression), _sum_before(rows, own, rows.engaged)
    acted_us = (rows.engaged > 0).ifelse(rows.ts_us, ibis.null("int64"))
    last = _before(rows, own)(acted_us.max())
    last_pair = _before(rows, pair)(acted_us.max())
    made = [
        _numerical(f"{name}_impressions", side, shown, log1p=True),
        _numerical(f"{name}_engaged", side, engaged, log1p=True),
        _numerical(f"{name}_recency", side, _recency(rows.ts_us - last)),
        _numerical(f"{name}_product_impressions", side, _sum_before(rows, pair, rows.impression), log1p=True),
        _numerical(f"{name}_product_engaged", side, _sum_before(rows, pair, rows.engaged), log1p=True),
        _numerical(f"{name}_product_recency", side, _recency(rows.ts_us - last_pair)),
        _numerical(f"{name}_product_is_last", side, (last_pair == last).fill_null(False).cast("int8")),
    ]
    if plan.has_events:
        clicks = _sum_before(rows, pair, rows.click) if "click" in plan.tasks else None
        if clicks is not None:
            made.append(_numerical(f"{name}_product_clicks", side, clicks, log1p=True))
    for task in plan.tasks:
        if task != "click":
            made.append(_numerical(f"{name}_{task}s", side, _sum_before(rows, own, rows[task]), log1p=True))
            made.append(_numerical(f"{name}_product_{task}s", side, _sum_before(rows, pair, rows[task]), log1p=True))
    if plan.has_price and name == "customer" and "click" in plan.tasks:
        made.append(_price_distance(rows, key))
    return made


def _price_distance(rows: ibis.Table, key: str) -> Statistic:
    log_price = (rows.price > 0).ifelse(rows.price, ibis.null("float64")).ln()
    clicked = (rows.click > 0) & log_price.notnull()
    # Numerics: whole millionths add up to the same sum in any order, so every run gives the same bits.
    millionths = (log_price * 1e6).round().cast("int64")
    total = _before(rows, (key,))(clicked.ifelse(millionths, 0).sum()).cast("float64") / 1e6
    count = _before(rows, (key,))(clicked.ifelse(1, 0).sum())
    usual = total / count.nullif(0)
    return _numerical("customer_price_distance", Side.CUSTOMER, (log_price - usual).fill_null(0.0))


def _recency(passed_us: ibis.Value) -> ibis.Value:
    """1 just after the last act, 1/2 an hour later, 0 where there was none."""
    return (1.0 / (1.0 + passed_us / float(HOUR_US))).fill_null(0.0)


def _numerical(name: str, side: Side, value: ibis.Value, log1p: bool = False) -> Statistic:
    return Statistic(Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=log1p), value.cast("float32").name(name))


def tasks_with_labels(rows: ibis.Table) -> tuple[str, ...]:
    """The tasks for which the log has at least one label that is not null."""
    counts = rows.aggregate(**{task: rows[task].count() for task in TASKS}).to_pyarrow().to_pylist()[0]
    return tuple(task for task in TASKS if counts[task])
