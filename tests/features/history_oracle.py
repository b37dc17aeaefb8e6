"""Every computed feature in plain loops: for each row, look at everything that happened strictly before its search."""

import math
from dataclasses import dataclass
from typing import Any

from random_log import Tables
from shelfrank.config import PrepareConfig
from shelfrank.core.schema import TASKS

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@dataclass
class PastEvent:
    us: int
    search: str | None
    product: str
    query: str | None
    customer: Any
    session: Any
    price: float | None
    impression: int
    position: int
    event: int
    outcomes: dict[str, int]
    known: tuple[str, ...]
    engaging: str

    @property
    def engaged(self) -> int:
        return self.outcomes.get(self.engaging, 0) + self.event


def microseconds(row: dict[str, Any]) -> int:
    moment = row["timestamp"]
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def expected_features(tables: Tables, config: PrepareConfig, affinity: tuple[str, ...]) -> list[dict[str, Any]]:
    """The computed features of each impression, with its `search_id` and `product_id`."""
    rows, products = tables["impressions"], {row["product_id"]: row for row in tables["products"]}
    tasks = tuple(task for task in TASKS if any(row[task] is not None for row in rows))
    events = _events(tables, tasks, config)
    made = []
    for row in rows:
        now = _impression(row, products)
        past = [h for h in events if h.us < now.us and h.search != now.search]
        values: dict[str, Any] = {"search_id": row["search_id"], "product_id": row["product_id"]}
        values |= _rates_and_shares(now, past, products, tasks, config, affinity)
        for key, wanted in (("customer", config.history.customer), ("session", config.history.session)):
            if wanted and (key == "customer" or "session_id" in row):
                values |= _personal(key, now, past, tasks, bool(tables["events"]))
        if config.history.customer and "click" in tasks:
            values["customer_price_distance"] = _price_distance(now, past)
        if config.history.taste and "click" in tasks:
            levels = {} if "price" in row else _price_levels(tables["products"])
            if config.history.customer:
                values |= _taste("customer", tasks, now, past, products, affinity, levels, config)
            if config.history.session and "session_id" in row:
                values |= _taste("session", ("click",), now, past, products, affinity, levels, config)
        if config.page:
            values |= _page(now, [_impression(r, products).price for r in rows if r["search_id"] == now.search])
        if config.upstream_order:
            page = [r for r in rows if r["search_id"] == now.search]
            values |= _upstream(row, now, page, past, config.history.session and "session_id" in row)
        made.append(values)
    return made


def _impression(row: dict[str, Any], products: dict[str, dict[str, Any]]) -> PastEvent:
    alone = ("nobody", row["search_id"])
    return PastEvent(
        us=microseconds(row),
        search=row["search_id"],
        product=row["product_id"],
        query=row["query"],
        customer=row["customer_id"] or alone,
        session=row.get("session_id") or alone,
        price=row["price"] if "price" in row else products[row["product_id"]]["price"],
        impression=1,
        position=row["position"],
        event=0,
        outcomes={},
        known=tuple(task for task in TASKS if row[task] is not None),
        engaging="",
    )


def _events(tables: Tables, tasks: tuple[str, ...], config: PrepareConfig) -> list[PastEvent]:
    products = {row["product_id"]: row for row in tables["products"]}
    delay_us = round(config.history.outcome_delay_s * 1e6)
    made = []
    for row in tables["impressions"]:
        shown, acted = _impression(row, products), _impression(row, products)
        acted.outcomes, acted.impression = {task: row[task] or 0 for task in tasks}, 0
        acted.engaging = tasks[0]
        acted.us += delay_us
        made += [shown, acted]
    for index, row in enumerate(tables["events"]):
        customer, session = row.get("customer_id") or ("event", index), row.get("session_id") or ("event", index)
        made.append(
            PastEvent(microseconds(row), None, row["product_id"], None, customer, session, None, 0, 0, 1, {}, (), "")
        )
    return made


def _rates_and_shares(
    now: PastEvent,
    past: list[PastEvent],
    products: dict[str, dict[str, Any]],
    tasks: tuple[str, ...],
    config: PrepareConfig,
    affinity: tuple[str, ...],
) -> dict[str, float]:
    history, values = config.history, {}
    priors = {str(task): rate for task, rate in history.prior_rates.items()}
    of_product = [h for h in past if h.product == now.product]
    of_query = [h for h in past if h.query == now.query]
    of_pair = [h for h in of_query if h.product == now.product]
    of_customer = [h for h in past if h.customer == now.customer]
    windows = [(0.0, ""), *((days, f"_{days:g}d") for days in history.windows_days)]
    for name, wanted, some, counted in (
        ("product", history.product, of_product, tasks),
        ("query", history.query, of_query, tuple(task for task in tasks if task == "click")),
        ("query_product", history.query_product, of_pair, tasks),
    ):
        if wanted:
            for days, suffix in windows:
                recent = [h for h in some if not days or h.us >= now.us - round(days * DAY_US)]
                shown = sum(h.impression for h in recent)
                values[f"{name}_impressions{suffix}"] = shown
                for task in counted:
                    values[f"{name}_{task}s{suffix}"] = sum(h.outcomes.get(task, 0) for h in recent)
                    values[f"{name}_{task}_rate{suffix}"] = _rate(recent, task, config, priors[task])
            if name != "query" and "click" in tasks:
                clicked = sum(h.outcomes.get("click", 0) for h in some)
                attention = sum(
                    h.impression / math.log2(1 + h.position) for h in some if h.impression and "click" in h.known
                )
                strength = history.prior_strength
                values[f"{name}_click_lift"] = (clicked + strength * priors["click"]) / (attention + strength)
    for task in tasks if history.query_product else ():
        backed = (_rate(of_product, task, config, priors[task]) + _rate(of_query, task, config, priors[task])) / 2
        values[f"query_product_{task}_rate_backed_off"] = _rate(of_pair, task, config, backed)
    for name, wanted, some in (("query", history.query_product, of_query), ("customer", history.customer, of_customer)):
        for feature in affinity if wanted else ():
            like = [h for h in some if products[h.product][feature] == products[now.product][feature]]
            same = sum(h.engaged for h in like)
            values[f"{name}_{feature}_engaged"] = same
            values[f"{name}_{feature}_share"] = same / (sum(h.engaged for h in some) + 2)
    return values


def _rate(some: list[PastEvent], task: str, config: PrepareConfig, prior: float) -> float:
    strength = config.history.prior_strength
    count, shown = sum(h.outcomes.get(task, 0) for h in some), sum(h.impression for h in some if task in h.known)
    return (count + strength * prior) / (shown + strength)


def _personal(
    key: str, now: PastEvent, past: list[PastEvent], tasks: tuple[str, ...], has_events: bool
) -> dict[str, float]:
    own = [h for h in past if getattr(h, key) == getattr(now, key)]
    pair = [h for h in own if h.product == now.product]
    last, last_pair = _last_us(own), _last_us(pair)
    values: dict[str, float] = {
        f"{key}_impressions": sum(h.impression for h in own),
        f"{key}_engaged": sum(h.engaged for h in own),
        f"{key}_recency": _recency(now, last),
        f"{key}_product_impressions": sum(h.impression for h in pair),
        f"{key}_product_engaged": sum(h.engaged for h in pair),
        f"{key}_product_recency": _recency(now, last_pair),
        f"{key}_product_is_last": float(last_pair is not None and last_pair == last),
    }
    if has_events and "click" in tasks:
        values[f"{key}_product_clicks"] = sum(h.outcomes.get("click", 0) for h in pair)
    for task in tasks:
        if task != "click":
            values[f"{key}_{task}s"] = sum(h.outcomes.get(task, 0) for h in own)
            values[f"{key}_product_{task}s"] = sum(h.outcomes.get(task, 0) for h in pair)
    return values


def _last_us(some: list[PastEvent]) -> int | None:
    return max((h.us for h in some if h.engaged), default=None)


def _recency(now: PastEvent, last: int | None) -> float:
    return 0.0 if last is None else 1 / (1 + (now.us - last) / HOUR_US)


def _price_distance(now: PastEvent, past: list[PastEvent]) -> float:
    clicks = [h.price or 0.0 for h in past if h.customer == now.customer and h.outcomes.get("click")]
    clicked, price = [math.log(price) for price in clicks if price > 0], now.price or 0.0
    return math.log(price) - sum(clicked) / len(clicked) if clicked and price > 0 else 0.0


def _page(now: PastEvent, prices: list[float | None]) -> dict[str, float]:
    known = [price for price in prices if price is not None]
    values = {"page_size": len(prices), "page_price_rank": 0.5, "page_price_to_mean": 1.0, "page_price_to_least": 1.0}
    if now.price is not None:
        mean = sum(known) / len(known)
        if len(known) > 1:
            values["page_price_rank"] = sum(price < now.price for price in known) / (len(known) - 1)
        values["page_price_to_mean"] = now.price / mean if mean else 1.0
        values["page_price_to_least"] = now.price / min(known) if min(known) else 1.0
    return values


def _upstream(
    row: dict[str, Any], now: PastEvent, page: list[dict[str, Any]], past: list[PastEvent], with_session: bool
) -> dict[str, float]:
    position = row["position"]
    values: dict[str, float] = {"upstream_position": position, "upstream_reciprocal_position": 1 / position}
    if with_session:
        own = [h for h in past if h.session == now.session]
        last = _last_us(own)
        touched = {h.product for h in own if h.engaged and h.us == last}
        after = [position - r["position"] for r in page if r["product_id"] in touched]
        # Several products may be touched at one moment: the lowest of them on the page counts.
        distance = min(after) if after else None
        values["session_last_distance"] = distance or 0
        values["session_last_nearness"] = 0.0 if distance is None else 1 / (1 + abs(distance))
        values["session_next_after_last"] = float(distance == 1)
    return values


def _price_levels(products: list[dict[str, Any]]) -> dict[str, float | None]:
    """The share of cheaper products, ties counted half, minus 1/2, in steps of 1/1000; None without a price."""
    prices = [row["price"] for row in products if row["price"] is not None]
    levels: dict[str, float | None] = {}
    for row in products:
        own = row["price"]
        if own is None:
            levels[row["product_id"]] = None
            continue
        below = sum(price < own for price in prices) + sum(price == own for price in prices) / 2
        levels[row["product_id"]] = round(1000 * (below / len(prices) - 0.5)) / 1000
    return levels


def _taste(
    key: str,
    tasks: tuple[str, ...],
    now: PastEvent,
    past: list[PastEvent],
    products: dict[str, dict[str, Any]],
    affinity: tuple[str, ...],
    levels: dict[str, float | None],
    config: PrepareConfig,
) -> dict[str, float]:
    values: dict[str, float] = {}
    own = [h for h in past if getattr(h, key) == getattr(now, key)]
    strength = config.history.prior_strength
    priors = {str(task): rate for task, rate in config.history.prior_rates.items()}
    for task in tasks:
        rate = (_outcomes(own, task) + strength * priors[task]) / (_attention(own, task) + strength)
        for feature in affinity:
            like = [h for h in own if products[h.product][feature] == products[now.product][feature]]
            observed, expected = _outcomes(like, task), rate * _attention(like, task)
            values[f"{key}_{feature}_{task}_lift"] = math.log(
                (observed + strength * rate) / (expected + strength * rate)
            )
    if not levels:
        return values
    level, attention = levels[now.product], _attention(own)
    shown = sum(_attention([h]) * (levels[h.product] or 0.0) for h in own) / attention if attention else 0.0
    for task in tasks:
        chosen = sum(h.outcomes.get(task, 0) * (levels[h.product] or 0.0) for h in own)
        mean = (chosen + 2 * shown) / (_outcomes(own, task) + 2)
        known = attention > 0 and level is not None
        values[f"{key}_price_level_{task}_fit"] = (mean - shown) * ((level or 0.0) - shown) if known else 0.0
        if task == "click":
            values[f"{key}_price_level_distance"] = (level or 0.0) - mean if known else 0.0
    return values


def _outcomes(some: list[PastEvent], task: str) -> int:
    return sum(h.outcomes.get(task, 0) for h in some)


def _attention(some: list[PastEvent], task: str = "click") -> float:
    return sum(1 / math.log2(1 + h.position) for h in some if h.impression and task in h.known)
