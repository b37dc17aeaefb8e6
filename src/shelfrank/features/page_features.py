"""What a product's page tells: its size, how the price compares, and, if declared, the upstream order.

Every formula sees whole pages: rows lie grouped by search.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind, Side
from shelfrank.data.prepared import Column
from shelfrank.features.encoder import Encoder
from shelfrank.features.history_features import Columns, Made, history_features
from shelfrank.features.history_stats import HistoryPlan, Total


def computed_features(plan: HistoryPlan, config: PrepareConfig) -> list[Made]:
    """Every feature that a config makes of the history and the page, offline and online."""
    made = history_features(plan, config.history)
    if config.page:
        made += page_features(plan)
    if config.upstream_order:
        made += upstream_features(plan, config.history.session)
    return made


def numerical_columns(encoder: Encoder, made: Sequence[Made]) -> list[Column]:
    """The columns of the numerical features, those that are computed of declared ones with these."""
    computed = {each.feature.name: each for each in made if each.declared}
    columns: list[Column] = []
    for encoding in encoder.numerical:
        some = encoding.columns()
        if (each := computed.get(encoding.name)) is not None:
            missing = float(encoding.transform(np.array([each.unknown]))[0, 0])
            some[0] = replace(some[0], missing=missing, made_of=tuple(sorted(each.declared)))
        columns += some
    return columns


def totals_by_key(made: Iterable[Made]) -> dict[str, list[Total]]:
    """The totals that some features are computed from, in order, by the key of their history."""
    by_key: dict[str, list[Total]] = {}
    for total in sorted({total for each in made for total in each.totals}):
        by_key.setdefault(total.key, []).append(total)
    return by_key


def page_features(plan: HistoryPlan) -> list[Made]:
    """Page size and the price among the page's prices; nothing here depends on the order shown."""
    made = [_number("page_size", Side.CONTEXT, _page_size)]
    if plan.has_price:
        made.append(replace(_number("page_price_rank", Side.INTERACTION, _price_rank), has_price=True, unknown=0.5))
        made.append(
            replace(_number("page_price_to_mean", Side.INTERACTION, _price_to_mean), has_price=True, unknown=1.0)
        )
        made.append(
            replace(_number("page_price_to_least", Side.INTERACTION, _price_to_least), has_price=True, unknown=1.0)
        )
    return made


def upstream_features(plan: HistoryPlan, with_session: bool) -> list[Made]:
    """The engine's order before re-ranking, and where it puts a product next to the one the visitor last touched."""
    made = [
        _number("upstream_position", Side.CONTEXT, lambda columns: columns["position"], log1p=True),
        _number("upstream_reciprocal_position", Side.CONTEXT, lambda columns: 1.0 / columns["position"]),
    ]
    if with_session and plan.has_sessions:
        totals = (Total("session", "last_us"), Total("session_product", "last_us"))
        for name, compute in (
            ("session_last_distance", _last_distance),
            ("session_last_nearness", _last_nearness),
            ("session_next_after_last", _next_after_last),
        ):
            feature = Feature(name=name, side=Side.CUSTOMER, kind=Kind.NUMERICAL, default=0.0)
            made.append(Made(feature, totals, compute, whole_pages=True))
    return made


def _page_size(columns: Columns) -> Int64[np.ndarray, " rows"]:
    sizes = _pages(columns)[1]
    return np.repeat(sizes, sizes)


def _price_rank(columns: Columns) -> Float64[np.ndarray, " rows"]:
    """Share of the page's other known prices that are lower; 1/2 where the price is missing or the only one."""
    starts, sizes = _pages(columns)
    price, page = columns["price"], np.repeat(np.arange(len(starts)), sizes)
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
    price = columns["price"]
    known = np.isfinite(price)
    total = np.add.reduceat(np.where(known, price, 0.0), starts)
    mean = total / np.maximum(np.add.reduceat(known.astype(np.int64), starts), 1)
    return _ratio(price, np.repeat(mean, sizes))


def _price_to_least(columns: Columns) -> Float64[np.ndarray, " rows"]:
    starts, sizes = _pages(columns)
    price = columns["price"]
    least = np.minimum.reduceat(np.where(np.isfinite(price), price, np.inf), starts)
    return _ratio(price, np.repeat(least, sizes))


def _ratio(price: Num[np.ndarray, " rows"], to: Num[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    known = np.isfinite(price) & np.isfinite(to) & (to > 0)
    return np.where(known, np.where(known, price, 1.0) / np.where(known, to, 1.0), 1.0)


def _last_position(columns: Columns) -> Float64[np.ndarray, " rows"]:
    """Position, on this page, of the product the session touched last; NaN where it is not on the page."""
    starts, sizes = _pages(columns)
    last, last_pair = columns["session.last_us"], columns["session_product.last_us"]
    here = np.where((last_pair > 0) & (last_pair == last), columns["position"], 0)
    found = np.repeat(np.maximum.reduceat(here, starts), sizes)
    return np.where(found > 0, found, np.nan)


def _last_distance(columns: Columns) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(columns["position"] - _last_position(columns))


def _last_nearness(columns: Columns) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(1.0 / (1.0 + np.abs(columns["position"] - _last_position(columns))))


def _next_after_last(columns: Columns) -> Bool[np.ndarray, " rows"]:
    return columns["position"] - _last_position(columns) == 1


def _pages(columns: Columns) -> tuple[Int64[np.ndarray, " pages"], Int64[np.ndarray, " pages"]]:
    search_idx = columns["search_idx"]
    starts = np.flatnonzero(np.concatenate([[True], search_idx[1:] != search_idx[:-1]]))
    return starts, np.diff(np.concatenate([starts, [len(search_idx)]]))


def _number(name: str, side: Side, compute: Callable[[Columns], np.ndarray], log1p: bool = False) -> Made:
    return Made(Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=log1p), (), compute, whole_pages=True)
