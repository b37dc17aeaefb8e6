"""Features of a results page: its size, how prices compare, and, if configured, the upstream order.

Every formula sees whole pages: rows lie grouped by search.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num, Shaped

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import PRICE, Feature, Kind, Side
from shelfrank.data.prepared import Column
from shelfrank.features.encoder import Encoder
from shelfrank.features.history_features import Columns, ComputedFeature, Formula, history_features
from shelfrank.features.history_stats import HistoryPlan, KeyStat
from shelfrank.features.taste import taste_features


def computed_features(plan: HistoryPlan, config: PrepareConfig) -> list[ComputedFeature]:
    """Every feature that a config computes from history and page, offline and online."""
    return [each for group in grouped_features(plan, config).values() for each in group]


def grouped_features(plan: HistoryPlan, config: PrepareConfig) -> dict[str, list[ComputedFeature]]:
    """The features of `computed_features` by group: `history`, `taste` and `page`, those that have any."""
    taste: list[ComputedFeature] = []
    if config.history.taste and "click" in plan.tasks:
        if config.history.customer:
            taste += taste_features("customer", plan.tasks, plan, config.history)
        if config.history.session and plan.has_sessions:
            # A session is too short for more than clicks.
            taste += taste_features("session", ("click",), plan, config.history)
    page = page_features(plan) if config.page else []
    if config.upstream_order:
        page += upstream_features(plan, config.history.session)
    groups = {"history": history_features(plan, config.history), "taste": taste, "page": page}
    return {name: features for name, features in groups.items() if features}


def numerical_columns(encoder: Encoder, features: Sequence[ComputedFeature]) -> list[Column]:
    """The columns of the numerical features; a computed one names the declared features that it is computed from."""
    computed = {each.feature.name: each for each in features if each.declared}
    columns: list[Column] = []
    for encoding in encoder.numerical:
        some = encoding.columns()
        if (each := computed.get(encoding.name)) is not None:
            missing = float(encoding.transform(np.array([each.unknown]))[0, 0])
            some[0] = replace(some[0], missing=missing, made_of=tuple(sorted(each.declared)))
        columns += some
    return columns


def page_features(plan: HistoryPlan) -> list[ComputedFeature]:
    """Page size and the price among the page's prices; nothing here depends on the shown order."""
    features = [_number("page_size", Side.CONTEXT, _page_size)]
    if plan.has_price:
        features.append(replace(_number("page_price_rank", Side.INTERACTION, _price_rank), has_price=True, unknown=0.5))
        features.append(
            replace(_number("page_price_to_mean", Side.INTERACTION, _price_to_mean), has_price=True, unknown=1.0)
        )
        features.append(
            replace(_number("page_price_to_least", Side.INTERACTION, _price_to_least), has_price=True, unknown=1.0)
        )
    return features


def upstream_features(plan: HistoryPlan, with_session: bool) -> list[ComputedFeature]:
    """Positions in the engine's order, and their distance from the product that the session touched last."""
    features = [
        _number("upstream_position", Side.CONTEXT, lambda columns: columns["position"], log1p=True),
        _number("upstream_reciprocal_position", Side.CONTEXT, lambda columns: 1.0 / columns["position"]),
    ]
    if with_session and plan.has_sessions:
        stats = (plan.stat("session", "last_us"), plan.stat("session_product", "last_us"))
        for name, formula in (
            ("session_last_distance", _distance),
            ("session_last_nearness", _nearness),
            ("session_next_after_last", _is_next),
        ):
            feature = Feature(name=name, side=Side.CUSTOMER, kind=Kind.NUMERICAL, default=0.0)
            features.append(ComputedFeature(feature, stats, _beyond_last(*stats, formula), whole_pages=True))
    return features


def _page_size(columns: Columns) -> Int64[np.ndarray, " rows"]:
    sizes = _pages(columns)[1]
    return np.repeat(sizes, sizes)


def _price_rank(columns: Columns) -> Float64[np.ndarray, " rows"]:
    """Share of the page's other known prices that are lower; 1/2 where the price is missing or the only one."""
    starts, sizes = _pages(columns)
    price, page = columns[PRICE], np.repeat(np.arange(len(starts)), sizes)
    known = np.isfinite(price)
    n_known = np.repeat(np.add.reduceat(known.astype(np.int64), starts), sizes)
    order = np.lexsort((np.where(known, price, np.inf), page))
    in_order, pages_in_order = np.where(known, price, np.inf)[order], page[order]
    new_value = np.ones(len(price), dtype=bool)
    new_value[1:] = (in_order[1:] != in_order[:-1]) | (pages_in_order[1:] != pages_in_order[:-1])
    first_equal = np.maximum.accumulate(np.where(new_value, np.arange(len(price)), 0))
    n_lower = np.empty(len(price), dtype=np.int64)
    n_lower[order] = first_equal - starts[pages_in_order]
    return np.where(known & (n_known > 1), n_lower / np.maximum(n_known - 1, 1), 0.5)


def _price_to_mean(columns: Columns) -> Float64[np.ndarray, " rows"]:
    starts, sizes = _pages(columns)
    price = columns[PRICE]
    known = np.isfinite(price)
    total = np.add.reduceat(np.where(known, price, 0.0), starts)
    mean = total / np.maximum(np.add.reduceat(known.astype(np.int64), starts), 1)
    return _ratio(price, np.repeat(mean, sizes))


def _price_to_least(columns: Columns) -> Float64[np.ndarray, " rows"]:
    starts, sizes = _pages(columns)
    price = columns[PRICE]
    least = np.minimum.reduceat(np.where(np.isfinite(price), price, np.inf), starts)
    return _ratio(price, np.repeat(least, sizes))


def _ratio(price: Num[np.ndarray, " rows"], to: Num[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    known = np.isfinite(price) & np.isfinite(to) & (to > 0)
    return np.where(known, np.where(known, price, 1.0) / np.where(known, to, 1.0), 1.0)


def _beyond_last(last: KeyStat, last_pair: KeyStat, formula: Callable[[np.ndarray], np.ndarray]) -> Formula:
    """A formula of the positions from the product that the session touched last; NaN where the page lacks it."""

    def compute(columns: Columns) -> Shaped[np.ndarray, " rows"]:
        starts, sizes = _pages(columns)
        at_us, at_us_pair = columns[last.column], columns[last_pair.column]
        here = np.where((at_us_pair > 0) & (at_us_pair == at_us), columns["position"], 0)
        last_position = np.repeat(np.maximum.reduceat(here, starts), sizes)
        return formula(columns["position"] - np.where(last_position > 0, last_position, np.nan))

    return compute


def _distance(positions: Float64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(positions)


def _nearness(positions: Float64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(1.0 / (1.0 + np.abs(positions)))


def _is_next(positions: Float64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    return positions == 1


def _pages(columns: Columns) -> tuple[Int64[np.ndarray, " pages"], Int64[np.ndarray, " pages"]]:
    search_idx = columns["search_idx"]
    starts = np.flatnonzero(np.concatenate([[True], search_idx[1:] != search_idx[:-1]]))
    return starts, np.diff(np.concatenate([starts, [len(search_idx)]]))


def _number(name: str, side: Side, compute: Callable[[Columns], np.ndarray], log1p: bool = False) -> ComputedFeature:
    return ComputedFeature(
        Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=log1p), (), compute, whole_pages=True
    )
