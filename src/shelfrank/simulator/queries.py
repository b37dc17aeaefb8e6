"""What people type: needs from broad to narrow, each worded in several ways, some misspelt."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32

from shelfrank.simulator.assortment import ATTRIBUTES, Assortment
from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import exponential, gumbel, power
from shelfrank.simulator.randomness import pick, stream
from shelfrank.simulator.titles import attribute_words

N_CLEAN = 3
CLEAN_SHARES = (0.55, 0.28, 0.17)
TYPO_SHARES = (0.6, 0.4)
N_WORDINGS = N_CLEAN + len(TYPO_SHARES)
NAMES_A_KIND = 0.85
"""Most needs name a product type; the rest only the category."""
BREADTH = np.array([0.12, 0.43, 0.33, 0.12])
"""Shares of the needs that state 0, 1, 2 and 3 attributes."""
KEYS = "qwertyuiopasdfghjklzxcvbnm"
"""The keyboard row by row: a slip of the finger takes the letter to the right."""
ATTRIBUTE_WEIGHTS = np.array([0.24, 0.24, 0.2, 0.14, 0.08, 0.1])
"""How often each of `ATTRIBUTES` is among those stated."""


@dataclass(frozen=True)
class Intents:
    """The needs that queries express, lying category by category.

    Attributes:
        category: The category each is about.
        kind: The product type that it names, -1 for none.
        stated: For each of `ATTRIBUTES`, the value that it asks for, -1 for none.
        cumulative: Running sum of popularity over all intents.
        start: Where each category's intents begin, and where the last one's end.
        texts: The wordings, `N_WORDINGS` for each intent, misspelt ones last.
        meant: The same wordings without the slips of the fingers.
        nouns: What each wording calls the product type or, where it names none, the category; spelt right.
    """

    category: Int32[np.ndarray, " intents"]
    kind: Int32[np.ndarray, " intents"]
    stated: Int32[np.ndarray, "intents attributes"]
    cumulative: Float64[np.ndarray, " intents"]
    start: Int32[np.ndarray, " bounds"]
    texts: list[str]
    meant: list[str]
    nouns: list[str]

    @property
    def n_stated(self) -> Int32[np.ndarray, " intents"]:
        """How many attributes each asks for."""
        return np.count_nonzero(self.stated >= 0, axis=1).astype(np.int32)


def make_intents(config: StorefrontConfig, catalogue: Catalogue) -> Intents:
    """Draws the needs and words them.

    Every need is taken from a product, so that what is sought together can exist together; the product that
    gave it may not be launched yet at the time of a search.

    Args:
        config: The shop.
        catalogue: Its products.

    Returns:
        The distinct needs; there are fewer than asked for where many came out alike.
    """
    rng = stream(config.seed, "intents")
    assortment, n = catalogue.assortment, config.queries.intents
    n_categories = len(assortment.categories)
    shelf = np.bincount(catalogue.category, minlength=n_categories) > 0
    category = np.sort(pick(rng.random(n), catalogue.category_weight * shelf))
    by_category = np.argsort(catalogue.category, kind="stable")
    first = np.searchsorted(catalogue.category[by_category], category)
    last = np.searchsorted(catalogue.category[by_category], category, side="right")
    product = by_category[first + (rng.random(n) * (last - first)).astype(np.int64)]
    kind = np.where(rng.random(n) < NAMES_A_KIND, catalogue.kind[product], -1)
    values = np.stack([catalogue.attributes[name][product] for name in ATTRIBUTES], axis=1)
    # Weighted choice without repetition: the smallest of exponential draws with these rates.
    waits = np.where(values >= 0, exponential(rng, values.shape) / ATTRIBUTE_WEIGHTS, np.inf)
    place = np.argsort(np.argsort(waits, axis=1, kind="stable"), axis=1, kind="stable")
    stated = np.where((place < pick(rng.random(n), BREADTH)[:, None]) & (values >= 0), values, -1)
    rows = np.unique(np.column_stack([category, kind, stated]), axis=0).astype(np.int32)
    popularity = _popularity(config, rows, rng)
    wordings = [wording for row in rows.tolist() for wording in _wordings(assortment, row[0], row[1], row[2:], rng)]
    return Intents(
        category=rows[:, 0].copy(),
        kind=rows[:, 1].copy(),
        stated=rows[:, 2:].copy(),
        cumulative=np.cumsum(popularity),
        start=np.searchsorted(rows[:, 0], np.arange(n_categories + 1)).astype(np.int32),
        texts=[wording.text for wording in wordings],
        meant=[wording.meant for wording in wordings],
        nouns=[wording.noun for wording in wordings],
    )


def draw_wordings(config: StorefrontConfig, draws: Float[np.ndarray, " searches"]) -> Int32[np.ndarray, " searches"]:
    """Which wording of its need each search uses, given a uniform draw."""
    typo = config.queries.typo
    shares = [(1 - typo) * share for share in CLEAN_SHARES] + [typo * share for share in TYPO_SHARES]
    return pick(draws, np.array(shares))


class _Wording(NamedTuple):
    """What is typed, what was meant to be typed, and the noun in it, all in lower case."""

    text: str
    meant: str
    noun: str


def _popularity(
    config: StorefrontConfig, rows: Int32[np.ndarray, "intents columns"], rng: np.random.Generator
) -> Float64[np.ndarray, " intents"]:
    n_stated = np.sum(rows[:, 2:] >= 0, axis=1)
    # Broad needs lead the ranking of their category, yet not strictly.
    key = n_stated + 0.5 * (rows[:, 1] < 0) + gumbel(rng, len(rows))
    order = np.lexsort((key, rows[:, 0]))
    starts = np.searchsorted(rows[:, 0], rows[order, 0])
    rank = np.empty(len(rows))
    rank[order] = np.arange(len(rows)) - starts
    return power(rank + 2.0, -config.queries.zipf)


def _wordings(
    assortment: Assortment, category: int, kind: int, stated: list[int], rng: np.random.Generator
) -> list[_Wording]:
    draws = rng.random((N_WORDINGS, len(ATTRIBUTES) + 4)).tolist()
    nouns = assortment.kinds[kind] if kind >= 0 else (assortment.categories[category].name,)
    wordings = []
    for number, draw in enumerate(draws):
        before, after = [], []
        for place, (name, value) in enumerate(zip(ATTRIBUTES, stated, strict=True)):
            if value < 0:
                continue
            words = attribute_words(assortment, name, value)
            word = words[int(draw[place] * len(words))]
            # The digits of a draw below those that chose the word say where it stands.
            late = (draw[place] * 997) % 1 < (0.8 if name == "size" else 0.25)
            (after if late else before).append(f"for {word}" if late and name == "age_group" else word)
        # The first word for a thing is the commonest.
        noun = nouns[int(draw[-1] * math.sqrt(draw[-1]) * len(nouns))]
        if kind >= 0 and draw[-2] < 0.2 and not noun.endswith("s"):
            noun += "s"
        meant = " ".join([*before, noun, *after]).lower()
        text = meant if number < N_CLEAN else _misspell(meant, draw[-3], draw[-4])
        wordings.append(_Wording(text, meant, noun.lower()))
    return wordings


def _misspell(text: str, where: float, how: float) -> str:
    """Swaps, drops, doubles or replaces one letter of one longer word."""
    places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text + text[-1]
    i = places[int(where * len(places))]
    if how < 0.35:
        swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        return swapped if swapped != text else text[:i] + text[i + 1 :]
    if how < 0.65:
        return text[:i] + text[i + 1 :]
    if how < 0.8:
        return text[:i] + text[i] + text[i:]
    return text[:i] + KEYS[(KEYS.find(text[i]) + 1) % len(KEYS)] + text[i + 1 :]
