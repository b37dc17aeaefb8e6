"""Queries: intents from broad to narrow, each with several wordings, some misspelt."""

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
KIND_SHARE = 0.85
"""Share of intents that state a product type; the others state only the category."""
N_STATED_SHARES = np.array([0.12, 0.43, 0.33, 0.12])
"""Shares of the intents that state 0, 1, 2 and 3 attributes."""
KEYS = "qwertyuiopasdfghjklzxcvbnm"
"""The keyboard row by row: a typing error takes the letter to the right."""
ATTRIBUTE_WEIGHTS = np.array([0.24, 0.24, 0.2, 0.14, 0.08, 0.1])
"""Weight of each of `ATTRIBUTES` among those stated."""


@dataclass(frozen=True)
class Intents:
    """The intents of queries, sorted by category.

    Attributes:
        category: The category.
        kind: The stated product type, -1 for none.
        stated: By `ATTRIBUTES`, the stated value, -1 for none.
        cumulative: Running sum of popularity over all intents.
        start: Offsets of each category's intents, and the end of the last one.
        texts: The wordings, `N_WORDINGS` for each intent, misspelt ones last.
        meant: The same wordings without typing errors.
        nouns: The noun of each wording for the product type or, if none is stated, for the category; without typing
            errors.
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
        """Number of stated attributes of each intent."""
        return np.count_nonzero(self.stated >= 0, axis=1).astype(np.int32)


def make_intents(config: StorefrontConfig, catalogue: Catalogue) -> Intents:
    """Draws the intents and their wordings.

    Every intent describes a product, so that its attributes can occur together; that product may not be launched yet at
    the time of a search.

    Args:
        config: The shop.
        catalogue: Its products.

    Returns:
        The distinct intents, fewer than configured if many are equal.
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
    kind = np.where(rng.random(n) < KIND_SHARE, catalogue.kind[product], -1)
    values = np.stack([catalogue.attributes[name][product] for name in ATTRIBUTES], axis=1)
    # Weighted choice without repetition: the smallest of exponential draws with these rates.
    waits = np.where(values >= 0, exponential(rng, values.shape) / ATTRIBUTE_WEIGHTS, np.inf)
    place = np.argsort(np.argsort(waits, axis=1, kind="stable"), axis=1, kind="stable")
    stated = np.where((place < pick(rng.random(n), N_STATED_SHARES)[:, None]) & (values >= 0), values, -1)
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
    """The wording that each search uses, given a uniform draw."""
    typo = config.queries.typo
    shares = [(1 - typo) * share for share in CLEAN_SHARES] + [typo * share for share in TYPO_SHARES]
    return pick(draws, np.array(shares))


class _Wording(NamedTuple):
    """The text as typed, the intended text, and its noun, all in lower case."""

    text: str
    meant: str
    noun: str


def _popularity(
    config: StorefrontConfig, rows: Int32[np.ndarray, "intents columns"], rng: np.random.Generator
) -> Float64[np.ndarray, " intents"]:
    n_stated = np.sum(rows[:, 2:] >= 0, axis=1)
    # Broad intents tend to be the most popular of their category.
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
            # Lower digits of the same draw decide the place of the word.
            late = (draw[place] * 997) % 1 < (0.8 if name == "size" else 0.25)
            (after if late else before).append(f"for {word}" if late and name == "age_group" else word)
        # The first synonym is the most common.
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
