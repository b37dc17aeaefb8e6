"""The intent that a customer expresses: popular ones of the category, biased towards the actual need."""

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from shelfrank.simulator.assortment import ATTRIBUTES
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import gumbel
from shelfrank.simulator.queries import Intents
from shelfrank.simulator.randomness import hashed_uniform

N_PROPOSALS = 8
"""Intents drawn by popularity, of which the customer expresses the best match."""
MATCH_UTILITY = {"kind": 2.5, "brand": 1.5, "color": 1.2, "age_group": 2.0}
MISMATCH_UTILITY = {"kind": -2.5, "brand": -0.5, "color": -1.0, "age_group": -2.5}
"""Utility of a proposal that states the sought value, or another one."""
SAME_KIND_UTILITY = 1.5
NARROWER_UTILITY = 0.7
REPEAT_UTILITY = -2.5
"""Further searches of a visit keep the product type, become narrower, and seldom repeat."""


def choose_intents(
    config: StorefrontConfig,
    intents: Intents,
    favorite_brand: Int32[np.ndarray, " searches"],
    searches: Shaped[np.ndarray, " searches"],
    previous: Int32[np.ndarray, " searches"] | None,
    habit: Bool[np.ndarray, " searches"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, " searches"]:
    """Chooses the intent of each search.

    Args:
        config: The shop.
        intents: All intents.
        favorite_brand: Each searcher's brand of habit in the department of the search.
        searches: Rows of `visits.SEARCH` with their needs.
        previous: Intent of the visit's previous search; None for the first search.
        habit: Whether the customer expresses the need as usual.
        rng: The random generator.

    Returns:
        The chosen intents.
    """
    n, category = len(searches), searches["category"]
    proposals = np.arange(N_PROPOSALS)
    usual = hashed_uniform(config.seed, 7, searches["customer"][:, None], category[:, None], proposals)
    draws = np.where(habit[:, None], usual, rng.random((n, N_PROPOSALS)))
    cumulative = np.concatenate([[0.0], intents.cumulative])
    low, high = cumulative[intents.start[category]], cumulative[intents.start[category + 1]]
    found = np.searchsorted(intents.cumulative, low[:, None] + draws * (high - low)[:, None], side="right")
    options = np.minimum(found, intents.start[category + 1][:, None] - 1)
    sought = {
        "kind": searches["kind"],
        "brand": favorite_brand,
        "color": searches["color"],
        "age_group": searches["age_group"],
    }
    liking = gumbel(rng, options.shape).astype(np.float32) * np.where(habit, 0.3, 1.0)[:, None]
    for name, value in sought.items():
        named = intents.kind[options] if name == "kind" else intents.stated[options, ATTRIBUTES.index(name)]
        effect = np.where(named == value[:, None], MATCH_UTILITY[name], MISMATCH_UTILITY[name])
        liking += config.queries.taste * np.where(named < 0, 0.0, effect)
    if previous is not None:
        before = previous[:, None]
        kind = intents.kind[options]
        liking += SAME_KIND_UTILITY * ((kind == intents.kind[before]) & (kind >= 0))
        liking += NARROWER_UTILITY * (intents.n_stated[options] > intents.n_stated[before])
        liking += REPEAT_UTILITY * (options == before)
    return options[np.arange(n), np.argmax(liking, axis=1)].astype(np.int32)
