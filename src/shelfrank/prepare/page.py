"""What a product's page tells: its size, how the product's price compares, and, if declared, the upstream order."""

import ibis

from shelfrank.schema import Feature, Kind, Side


def page_features(rows: ibis.Table, has_price: bool) -> list[tuple[Feature, ibis.Value]]:
    """Page size and the price among the page's prices; nothing here depends on the order shown."""
    page = ibis.window(group_by=rows.search_idx)
    made = [_numerical("page_size", Side.CONTEXT, rows.product_idx.count().over(page))]
    if has_price:
        by_price = ibis.window(group_by=rows.search_idx, order_by=rows.price)
        rank = ibis.percent_rank().over(by_price)
        mean = rows.price.mean().over(page)
        least = rows.price.min().over(page)
        made.append(_numerical("page_price_rank", Side.INTERACTION, rows.price.notnull().ifelse(rank, 0.5)))
        made.append(_numerical("page_price_to_mean", Side.INTERACTION, (rows.price / mean.nullif(0)).fill_null(1.0)))
        made.append(_numerical("page_price_to_least", Side.INTERACTION, (rows.price / least.nullif(0)).fill_null(1.0)))
    return made


def upstream_features(rows: ibis.Table, sessions: bool) -> list[tuple[Feature, ibis.Value]]:
    """The engine's order before re-ranking, and where it puts a product next to the one the visitor last touched.

    Args:
        rows: Rows with `position` and, where there are sessions, `session_product_is_last`.
        sessions: Whether the session's last product is known.

    Returns:
        Features with their expressions.
    """
    made = [
        _numerical("upstream_position", Side.CONTEXT, rows.position, log1p=True),
        _numerical("upstream_reciprocal_position", Side.CONTEXT, 1.0 / rows.position),
    ]
    if sessions:
        page = ibis.window(group_by=rows.search_idx)
        last = (rows.session_product_is_last > 0).ifelse(rows.position, ibis.null("int32")).max().over(page)
        after = rows.position - last
        made.append(_numerical("session_last_distance", Side.CUSTOMER, after.fill_null(0)))
        near = (1.0 / (1.0 + after.abs())).fill_null(0.0)
        made.append(_numerical("session_last_nearness", Side.CUSTOMER, near))
        made.append(_numerical("session_next_after_last", Side.CUSTOMER, (after == 1).fill_null(False).cast("int8")))
    return made


def _numerical(name: str, side: Side, value: ibis.Value, log1p: bool = False) -> tuple[Feature, ibis.Value]:
    return Feature(name=name, side=side, kind=Kind.NUMERICAL, log1p=log1p), value.cast("float32").name(name)
