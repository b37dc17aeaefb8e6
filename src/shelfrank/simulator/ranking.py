"""The shop's own ranking: text match, past sales, rating, merchandising, and random noise per request."""

import numpy as np
from jaxtyping import Int32, Int64

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import exp, geometric, normal
from shelfrank.simulator.retrieval import TextSearch
from shelfrank.simulator.visits import PHONE

BLOCK = 4_096
MEAN_RATING = 4.1
SCROLL_STEP = 0.04


def rank_pages(
    config: StorefrontConfig,
    catalogue: Catalogue,
    engine: TextSearch,
    forms: Int32[np.ndarray, " searches"],
    day: Int32[np.ndarray, " searches"],
    device: Int32[np.ndarray, " searches"],
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " rows"], Int32[np.ndarray, " rows"], Int32[np.ndarray, " rows"]]:
    """The shown products of each search, in the shop's order.

    A page loads in blocks as the customer scrolls, so it may show fewer products than the engine finds. Products before
    their launch are never shown.

    Args:
        config: The shop.
        catalogue: Its products.
        engine: Its text matching.
        forms: The wording of each query.
        day: The day of each search.
        device: The device of each search.
        rng: The random generator.

    Returns:
        For every shown product, grouped by search: the index of the search, the product, and the position from 1. A
        search without results has no row.
    """
    ranking = config.ranking
    scroll = ranking.scroll_on + np.where(device == PHONE, -SCROLL_STEP, SCROLL_STEP)
    blocks = geometric(rng, np.clip(scroll, 0, 1 - 1e-6))
    depth = np.minimum(ranking.block * blocks, config.candidates).astype(np.int32)
    rating = np.nan_to_num(catalogue.rating, nan=MEAN_RATING) - MEAN_RATING
    lasting = ranking.rating * rating + ranking.merchandising * catalogue.merchandising
    parts: list[tuple[Int64[np.ndarray, " rows"], Int32[np.ndarray, " rows"], Int32[np.ndarray, " rows"]]] = []
    for start in range(0, len(forms), BLOCK):
        rows = slice(start, start + BLOCK)
        products, matches = engine.find(forms[rows])
        age_days = day[rows, None] - catalogue.launch_day[products]
        known = 1 - exp(-np.maximum(age_days, 0) / ranking.popularity_days)
        # New products start below the average: a product without sales is not popular.
        popularity = known * catalogue.demand[products] - (1 - known)
        noise = ranking.randomisation * normal(rng, products.shape).astype(np.float32)
        scores = ranking.text * matches + ranking.popularity * popularity + lasting[products] + noise
        sellable = (products >= 0) & (age_days >= 0)
        order = np.argsort(np.where(sellable, -scores, np.inf), axis=1, kind="stable")[:, : config.candidates]
        n_shown = np.minimum(depth[rows], np.sum(sellable, axis=1))
        place = np.arange(order.shape[1])
        shown = place < n_shown[:, None]
        search, column = np.nonzero(shown)
        parts.append((search + start, products[search, order[search, column]], (column + 1).astype(np.int32)))
    search, product, position = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return search, product, position
