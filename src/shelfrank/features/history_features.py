"""Point-in-time features from history statistics: rates, shares, recency; the same formulas offline and online.

Paper: Sec. 3.3 (interaction features), Sec. 3.1 (customer history).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Num, Shaped

from shelfrank.config import HistoryConfig
from shelfrank.core.schema import PRICE, Feature, Kind, Side
from shelfrank.features.history_stats import MILLIONTHS, HistoryPlan, KeyStat

HOUR_US = 3_600_000_000
NO_HISTORY_ENGAGEMENTS = 2.0

Columns = Mapping[str, Num[np.ndarray, " _"]]
"""Columns of a batch of rows: statistics by `KeyStat.column`, and `ts_us`, `position`, `search_idx`, `price`."""

Formula = Callable[[Columns], Shaped[np.ndarray, " rows"]]


@dataclass(frozen=True)
class ComputedFeature:
    """A feature that is computed rather than declared.

    Attributes:
        feature: Its declaration.
        stats: The history statistics that the formula reads.
        compute: The formula, over the columns of some rows.
        whole_pages: Whether the formula needs every row of a page, sampled or not.
        has_price: Whether the formula reads `price`.
        level_of: Declared features on which a level depends that the formula reads.
        unknown: Its value, before encoding, where the price or level is missing or no earlier row had the same value of
            the features in `declared`.
    """

    feature: Feature
    stats: tuple[KeyStat, ...]
    compute: Formula
    whole_pages: bool = False
    has_price: bool = False
    level_of: tuple[str, ...] = ()
    unknown: float = 0.0

    @property
    def declared(self) -> frozenset[str]:
        """The declared features on which its value depends."""
        affinities = {stat.key.partition("|")[2] for stat in self.stats} - {""}
        return frozenset(affinities | ({PRICE} if self.has_price else set()) | set(self.level_of))


def history_features(plan: HistoryPlan, config: HistoryConfig) -> list[ComputedFeature]:
    """Every history feature that the log and the config allow (Paper: Sec. 3.1)."""
    clicks = tuple(task for task in plan.tasks if task == "click")
    features: list[ComputedFeature] = []
    if config.product:
        features += _rates("product", Side.PRODUCT, plan.tasks, plan, config)
    if config.query:
        features += _rates("query", Side.QUERY, clicks, plan, config)
    if config.query_product:
        features += _rates("query_product", Side.INTERACTION, plan.tasks, plan, config)
        features += [_backed_off_rate(task, plan, config) for task in plan.tasks]
        features += _shares("query", Side.INTERACTION, plan)
    if config.customer:
        features += _personal("customer", plan)
        features += _shares("customer", Side.CUSTOMER, plan)
        if plan.has_price and clicks:
            features.append(_price_distance(plan))
    if config.session and plan.has_sessions:
        features += _personal("session", plan)
    return features


def _rates(
    key: str, side: Side, tasks: Sequence[str], plan: HistoryPlan, config: HistoryConfig
) -> list[ComputedFeature]:
    features: list[ComputedFeature] = []
    for days in (0.0, *config.windows_days):
        suffix = f"_{days:g}d" if days else ""
        shown = plan.stat(key, "impression", days)
        features.append(_count(f"{key}_impressions{suffix}", side, shown))
        for task in tasks:
            count = plan.stat(key, task, days)
            known = _known(key, task, days, plan)
            rate = _smoothed_rate(count, known, config.prior_strength, prior_rate(config, task))
            features.append(_count(f"{key}_{task}s{suffix}", side, count))
            features.append(number_feature(f"{key}_{task}_rate{suffix}", side, (count, known), rate))
    if "click" in tasks and key != "query":
        count, attention = plan.stat(key, "click"), plan.stat(key, "attention")
        lift = _smoothed_lift(count, attention, config.prior_strength, prior_rate(config, "click"))
        features.append(number_feature(f"{key}_click_lift", side, (count, attention), lift))
    return features


def _known(key: str, task: str, days: float, plan: HistoryPlan) -> KeyStat:
    """Impressions whose label of the task is known."""
    return plan.stat(key, f"known_{task}" if task in plan.partly else "impression", days)


def prior_rate(config: HistoryConfig, task: str) -> float:
    """The task's rate that a key without history is given."""
    return {str(name): rate for name, rate in config.prior_rates.items()}.get(task, 0.0)


def _backed_off_rate(task: str, plan: HistoryPlan, config: HistoryConfig) -> ComputedFeature:
    """The pair's rate with a prior of its own: the mean of the product's and the query's, so unseen pairs differ."""
    strength, prior = config.prior_strength, prior_rate(config, task)
    stats = {key: (plan.stat(key, task), _known(key, task, 0.0, plan)) for key in ("query_product", "product", "query")}

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        of_product, of_query = (_smoothed_rate(*stats[key], strength, prior)(columns) for key in ("product", "query"))
        count, shown = (columns[stat.column] for stat in stats["query_product"])
        return (count + strength * (of_product + of_query) / 2) / (shown + strength)

    name = f"query_product_{task}_rate_backed_off"
    return number_feature(name, Side.INTERACTION, tuple(stat for pair in stats.values() for stat in pair), compute)


def _smoothed_rate(count: KeyStat, shown: KeyStat, strength: float, prior: float) -> Formula:
    return lambda columns: (columns[count.column] + strength * prior) / (columns[shown.column] + strength)


def _smoothed_lift(count: KeyStat, attention: KeyStat, strength: float, prior: float) -> Formula:
    """Clicks per unit of attention, which corrects for low positions being clicked less."""
    return lambda columns: (
        (columns[count.column] + strength * prior) / (columns[attention.column] / MILLIONTHS + strength)
    )


def _shares(key: str, side: Side, plan: HistoryPlan) -> list[ComputedFeature]:
    """Share of the key's past engagement with products of the same category."""
    every = plan.stat(key, "engaged")
    features: list[ComputedFeature] = []
    for feature in plan.affinity:
        same = plan.stat(f"{key}|{feature}", "engaged")
        features.append(number_feature(f"{key}_{feature}_share", side, (same, every), _share(same, every)))
        features.append(_count(f"{key}_{feature}_engaged", side, same))
    return features


def _share(same: KeyStat, every: KeyStat) -> Formula:
    # A share of few engagements says little: two more elsewhere pull it to 0, the value of no history.
    return lambda columns: columns[same.column] / (columns[every.column] + NO_HISTORY_ENGAGEMENTS)


def _personal(key: str, plan: HistoryPlan) -> list[ComputedFeature]:
    """The past of the customer or session, in all and with this product; 0 always means no history."""
    pair = f"{key}_product"
    last, last_pair = plan.stat(key, "last_us"), plan.stat(pair, "last_us")
    side = Side.CUSTOMER
    features = [
        _count(f"{key}_impressions", side, plan.stat(key, "impression")),
        _count(f"{key}_engaged", side, plan.stat(key, "engaged")),
        number_feature(f"{key}_recency", side, (last,), _recency(last)),
        _count(f"{pair}_impressions", side, plan.stat(pair, "impression")),
        _count(f"{pair}_engaged", side, plan.stat(pair, "engaged")),
        number_feature(f"{pair}_recency", side, (last_pair,), _recency(last_pair)),
        number_feature(f"{pair}_is_last", side, (last, last_pair), _is_last(last, last_pair)),
    ]
    if plan.has_events and "click" in plan.tasks:
        features.append(_count(f"{pair}_clicks", side, plan.stat(pair, "click")))
    for task in plan.tasks:
        if task != "click":
            features.append(_count(f"{key}_{task}s", side, plan.stat(key, task)))
            features.append(_count(f"{pair}_{task}s", side, plan.stat(pair, task)))
    return features


def _recency(last: KeyStat) -> Formula:
    """1 just after the last engagement, 1/2 an hour later, 0 where there was none."""

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        at_us = columns[last.column]
        passed_hours = (columns["ts_us"] - at_us) / HOUR_US
        return np.where(at_us > 0, 1.0 / (1.0 + np.where(at_us > 0, passed_hours, 0.0)), 0.0)

    return compute


def _is_last(last: KeyStat, last_pair: KeyStat) -> Formula:
    return lambda columns: (columns[last_pair.column] > 0) & (columns[last_pair.column] == columns[last.column])


def _price_distance(plan: HistoryPlan) -> ComputedFeature:
    log_prices, count = plan.stat("customer", "clicked_price"), plan.stat("customer", "clicked_priced")

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        price = columns[PRICE]
        known = (price > 0) & (columns[count.column] > 0)
        usual = columns[log_prices.column] / (MILLIONTHS * np.maximum(columns[count.column], 1))
        return np.where(known, np.log(np.where(price > 0, price, 1.0)) - usual, 0.0)

    feature = number_feature("customer_price_distance", Side.CUSTOMER, (log_prices, count), compute)
    return replace(feature, has_price=True)


def _count(name: str, side: Side, stat: KeyStat) -> ComputedFeature:
    feature = Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=True, default=_no_history(side))
    return ComputedFeature(feature, (stat,), lambda columns: columns[stat.column])


def number_feature(name: str, side: Side, stats: tuple[KeyStat, ...], compute: Formula) -> ComputedFeature:
    """A number that is computed from statistics; a customer's is 0 without history."""
    feature = Feature(name=name, side=side, kind=Kind.NUMERICAL, default=_no_history(side))
    return ComputedFeature(feature, stats, compute)


def _no_history(side: Side) -> float | None:
    """The value for a visitor without a past, which is also that of the neutral customer."""
    return 0.0 if side is Side.CUSTOMER else None
