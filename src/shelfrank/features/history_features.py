"""Point-in-time features from totals: rates, shares, recency; the same functions serve offline and online.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Num

from shelfrank.config import HistoryConfig
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.features.history_stats import MILLIONTHS, PRICE, HistoryPlan, Total

HOUR_US = 3_600_000_000
NO_HISTORY_ENGAGEMENTS = 2.0

Columns = Mapping[str, Num[np.ndarray, " _"]]
"""Columns of a batch of rows: totals by `Total.column`, and `ts_us`, `position`, `search_idx`, `price`."""


@dataclass(frozen=True)
class Made:
    """A feature that is computed.

    Attributes:
        feature: Its declaration.
        totals: What it is computed from.
        compute: The formula, over the columns of some rows.
        whole_pages: Whether the formula needs every row of a page, kept or not.
        has_price: Whether the formula reads `price`.
        unknown: What it comes to, before encoding, of a value of these features that no row had before, or of no price.
    """

    feature: Feature
    totals: tuple[Total, ...]
    compute: Callable[[Columns], Num[np.ndarray, " rows"]]
    whole_pages: bool = False
    has_price: bool = False
    unknown: float = 0.0

    @property
    def declared(self) -> frozenset[str]:
        """The declared features whose values it depends on."""
        affinities = {total.key.partition("|")[2] for total in self.totals} - {""}
        return frozenset(affinities | ({PRICE} if self.has_price else set()))


def history_features(plan: HistoryPlan, config: HistoryConfig) -> list[Made]:
    """Every history feature that the log and the config allow."""
    clicks = tuple(task for task in plan.tasks if task == "click")
    made: list[Made] = []
    if config.product:
        made += _rates("product", Side.PRODUCT, plan.tasks, plan, config)
    if config.query:
        made += _rates("query", Side.QUERY, clicks, plan, config)
    if config.query_product:
        made += _rates("query_product", Side.INTERACTION, plan.tasks, plan, config)
        made += [_backed_off_rate(task, plan, config) for task in plan.tasks]
        made += _shares("query", Side.INTERACTION, plan)
    if config.customer:
        made += _personal("customer", plan)
        made += _shares("customer", Side.CUSTOMER, plan)
        if plan.has_price and clicks:
            made.append(_price_distance())
    if config.session and plan.has_sessions:
        made += _personal("session", plan)
    return made


def _rates(key: str, side: Side, tasks: Sequence[str], plan: HistoryPlan, config: HistoryConfig) -> list[Made]:
    made: list[Made] = []
    for days in (0.0, *config.windows_days):
        suffix = f"_{days:g}d" if days else ""
        shown = Total(key, "impression", days)
        made.append(_count(f"{key}_impressions{suffix}", side, shown))
        for task in tasks:
            count = Total(key, task, days)
            known = _known(key, task, days, plan)
            rate = _smoothed_rate(count, known, config.prior_strength, _prior(config, task))
            made.append(_count(f"{key}_{task}s{suffix}", side, count))
            made.append(_number(f"{key}_{task}_rate{suffix}", side, (count, known), rate))
    if "click" in tasks and key != "query":
        count, attention = Total(key, "click"), Total(key, "attention")
        lift = _smoothed_lift(count, attention, config.prior_strength, _prior(config, "click"))
        made.append(_number(f"{key}_click_lift", side, (count, attention), lift))
    return made


def _known(key: str, task: str, days: float, plan: HistoryPlan) -> Total:
    """Impressions that tell something about a task: those whose label is known."""
    return Total(key, f"known_{task}" if task in plan.partly else "impression", days)


def _prior(config: HistoryConfig, task: str) -> float:
    return {str(name): rate for name, rate in config.prior_rates.items()}.get(task, 0.0)


def _backed_off_rate(task: str, plan: HistoryPlan, config: HistoryConfig) -> Made:
    """The pair's rate with a prior of its own: the mean of the product's and the query's, so unseen pairs differ."""
    strength, prior = config.prior_strength, _prior(config, task)
    totals = {key: (Total(key, task), _known(key, task, 0.0, plan)) for key in ("query_product", "product", "query")}

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        of_product, of_query = (_smoothed_rate(*totals[key], strength, prior)(columns) for key in ("product", "query"))
        count, shown = (columns[total.column] for total in totals["query_product"])
        return (count + strength * (of_product + of_query) / 2) / (shown + strength)

    name = f"query_product_{task}_rate_backed_off"
    return _number(name, Side.INTERACTION, tuple(total for pair in totals.values() for total in pair), compute)


def _smoothed_rate(count: Total, shown: Total, strength: float, prior: float) -> Callable[[Columns], np.ndarray]:
    return lambda columns: (columns[count.column] + strength * prior) / (columns[shown.column] + strength)


def _smoothed_lift(count: Total, attention: Total, strength: float, prior: float) -> Callable[[Columns], np.ndarray]:
    """Clicks per unit of attention: what is shown low is clicked less, however good it is."""
    return lambda columns: (
        (columns[count.column] + strength * prior) / (columns[attention.column] / MILLIONTHS + strength)
    )


def _shares(key: str, side: Side, plan: HistoryPlan) -> list[Made]:
    """How much of the key's past engagement went to products like this one."""
    every = Total(key, "engaged")
    made: list[Made] = []
    for feature in plan.affinity:
        same = Total(f"{key}|{feature}", "engaged")
        made.append(_number(f"{key}_{feature}_share", side, (same, every), _share(same, every)))
        made.append(_count(f"{key}_{feature}_engaged", side, same))
    return made


def _share(same: Total, every: Total) -> Callable[[Columns], np.ndarray]:
    # A share of few engagements says little: two more elsewhere pull it to 0, the value of no history.
    return lambda columns: columns[same.column] / (columns[every.column] + NO_HISTORY_ENGAGEMENTS)


def _personal(key: str, plan: HistoryPlan) -> list[Made]:
    """What this customer or session did before, and did with this product; 0 always means no history."""
    pair = f"{key}_product"
    last, last_pair = Total(key, "last_us"), Total(pair, "last_us")
    side = Side.CUSTOMER
    made = [
        _count(f"{key}_impressions", side, Total(key, "impression")),
        _count(f"{key}_engaged", side, Total(key, "engaged")),
        _number(f"{key}_recency", side, (last,), _recency(last)),
        _count(f"{pair}_impressions", side, Total(pair, "impression")),
        _count(f"{pair}_engaged", side, Total(pair, "engaged")),
        _number(f"{pair}_recency", side, (last_pair,), _recency(last_pair)),
        _number(f"{pair}_is_last", side, (last, last_pair), _is_last(last, last_pair)),
    ]
    if plan.has_events and "click" in plan.tasks:
        made.append(_count(f"{pair}_clicks", side, Total(pair, "click")))
    for task in plan.tasks:
        if task != "click":
            made.append(_count(f"{key}_{task}s", side, Total(key, task)))
            made.append(_count(f"{pair}_{task}s", side, Total(pair, task)))
    return made


def _recency(last: Total) -> Callable[[Columns], np.ndarray]:
    """1 just after the last engagement, 1/2 an hour later, 0 where there was none."""

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        at_us = columns[last.column]
        passed_hours = (columns["ts_us"] - at_us) / HOUR_US
        return np.where(at_us > 0, 1.0 / (1.0 + np.where(at_us > 0, passed_hours, 0.0)), 0.0)

    return compute


def _is_last(last: Total, last_pair: Total) -> Callable[[Columns], np.ndarray]:
    return lambda columns: (columns[last_pair.column] > 0) & (columns[last_pair.column] == columns[last.column])


def _price_distance() -> Made:
    total, count = Total("customer", "clicked_price"), Total("customer", "clicked_priced")

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        price = columns["price"]
        known = (price > 0) & (columns[count.column] > 0)
        usual = columns[total.column] / (MILLIONTHS * np.maximum(columns[count.column], 1))
        return np.where(known, np.log(np.where(price > 0, price, 1.0)) - usual, 0.0)

    return replace(_number("customer_price_distance", Side.CUSTOMER, (total, count), compute), has_price=True)


def _count(name: str, side: Side, total: Total) -> Made:
    feature = Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=True, default=_nothing_known(side))
    return Made(feature, (total,), lambda columns: columns[total.column])


def _number(name: str, side: Side, totals: tuple[Total, ...], compute: Callable[[Columns], np.ndarray]) -> Made:
    feature = Feature(name=name, side=side, kind=Kind.NUMERICAL, default=_nothing_known(side))
    return Made(feature, totals, compute)


def _nothing_known(side: Side) -> float | None:
    """What a feature is for a visitor without a past, which is what a neutral customer has."""
    return 0.0 if side is Side.CUSTOMER else None
