"""Which of a category's needs a customer puts into words: popular ones, bent towards what is sought."""

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from shelfrank.simulator.assortment import ATTRIBUTES
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import gumbel
from shelfrank.simulator.queries import Intents
from shelfrank.simulator.randomness import hashed_uniform

N_PROPOSALS = 8
"""Needs drawn by popularity, of which the customer words the one that suits best."""
SUITS = {"kind": 2.5, "brand": 1.5, "color": 1.2, "age_group": 2.0}
MISFITS = {"kind": -2.5, "brand": -0.5, "color": -1.0, "age_group": -2.5}
"""What naming a value does to the liking for a proposal where it is, or is not, the one sought."""
SAME_KIND_AGAIN = 1.5
NARROWER_AGAIN = 0.7
SAME_AGAIN = -2.5
"""Further searches of a visit stay with the product type, become narrower, and seldom repeat."""


def choose_intents(
    config: StorefrontConfig,
    intents: Intents,
    favorite_brand: Int32[np.ndarray, " searches"],
    searches: Shaped[np.ndarray, " searches"],
    previous: Int32[np.ndarray, " searches"] | None,
    habit: Bool[np.ndarray, " searches"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, " searches"]:
    """Chooses what each search expresses.

    Args:
        config: The shop.
        intents: All needs.
        favorite_brand: Each searcher's brand of habit in the department of the search.
        searches: Rows of `visits.SEARCH` with their needs.
        previous: What the visit's last search expressed, from the second search on.
        habit: Whether the customer words the need as always.
        rng: The draws.

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
        effect = np.where(named == value[:, None], SUITS[name], MISFITS[name])
        liking += config.queries.taste * np.where(named < 0, 0.0, effect)
    if previous is not None:
        before = previous[:, None]
        kind = intents.kind[options]
        liking += SAME_KIND_AGAIN * ((kind == intents.kind[before]) & (kind >= 0))
        liking += NARROWER_AGAIN * (intents.n_stated[options] > intents.n_stated[before])
        liking += SAME_AGAIN * (options == before)
    return options[np.arange(n), np.argmax(liking, axis=1)].astype(np.int32)
