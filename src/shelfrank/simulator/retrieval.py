"""The shop's text search, with the typical errors of such engines.

Words are compared without plural endings, so synonyms and misspelt words do not match; a spell checker and a query
classifier correct some of that, and the classifier is sometimes wrong.
"""

import math
import re
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int32, Int64

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.portable import log
from shelfrank.simulator.queries import N_CLEAN, N_WORDINGS, Intents
from shelfrank.simulator.randomness import hashed_uniform

CATEGORY_WEIGHT = 0.5
"""Weight of a word in the category's name, relative to the title."""
CLASSIFIED_WEIGHT = 0.9
"""Weight of the recognised product type, relative to the words of the query."""
MIN_MATCH = 0.25
"""Products below this share of the best match are not found."""
MAX_POSTINGS = 20_000
"""For a very common word the engine only considers the best-selling products."""

_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """The words of a text without plural endings, as the engine compares them."""
    return [_stem(word) for word in _WORD.findall(text.lower().replace("'s", ""))]


class TextSearch:
    """Finds products for wordings of queries, and caches the result of each wording.

    Args:
        config: The shop.
        catalogue: Its products.
        titles: Their titles.
        intents: The intents of queries.
    """

    def __init__(self, config: StorefrontConfig, catalogue: Catalogue, titles: list[str], intents: Intents) -> None:
        self.config = config
        self.catalogue = catalogue
        self.intents = intents
        self.width = 3 * config.candidates
        self._postings = _postings(catalogue, titles)
        self._kinds = _grouped(catalogue, catalogue.kind, len(catalogue.assortment.kinds))
        categories = catalogue.assortment.categories
        by_category = _grouped(catalogue, catalogue.category, len(categories))
        named: dict[str, list[Int32[np.ndarray, " found"]]] = {}
        for category, products in zip(categories, by_category, strict=True):
            for word in dict.fromkeys(words_of(category.name)):
                named.setdefault(word, []).append(products)
        self._category_words = {word: np.concatenate(parts) for word, parts in named.items()}
        self._score = np.zeros(catalogue.n_products, dtype=np.float32)
        n_forms = len(intents.texts)
        self._corrects = hashed_uniform(config.seed, 9, np.arange(n_forms)) < config.ranking.speller
        self._luck = hashed_uniform(config.seed, 10, np.arange(n_forms))
        self._is_cached = np.zeros(n_forms, dtype=bool)
        self._products = np.empty((n_forms, self.width), dtype=np.int32)
        self._matches = np.empty((n_forms, self.width), dtype=np.float32)

    def find(
        self, forms: Int32[np.ndarray, " searches"]
    ) -> tuple[Int32[np.ndarray, "searches width"], Float32[np.ndarray, "searches width"]]:
        """The matching products of each wording, with their scores.

        Args:
            forms: Wordings as indices into `Intents.texts`.

        Returns:
            Products, -1 after the last one, and their scores in [0, 1], ignoring launch days.
        """
        for form in np.unique(forms[~self._is_cached[forms]]).tolist():
            self._products[form], self._matches[form] = self._match(form)
            self._is_cached[form] = True
        return self._products[forms], self._matches[forms]

    def _match(self, form: int) -> tuple[Int32[np.ndarray, " width"], Float32[np.ndarray, " width"]]:
        score = self._score
        parts: list[Int32[np.ndarray, " found"]] = []
        words = self._read(form)
        rarity = [1 + len(score) / (1 + len(self._postings.get(word, ()))) for word in words]
        weights = log(np.array(rarity)).tolist()
        # Unlike `sum`, this rounds equally in every version of Python.
        total = math.fsum(weights)
        for word, weight in zip(words, weights, strict=True):
            for found, share in (
                (self._postings.get(word), 1.0),
                (self._category_words.get(word), CATEGORY_WEIGHT),
            ):
                if found is not None:
                    score[found] += weight * share
                    parts.append(found)
        kind = self._classify(form)
        if kind >= 0:
            score[self._kinds[kind]] += CLASSIFIED_WEIGHT * total
            parts.append(self._kinds[kind])
        products = np.full(self.width, -1, dtype=np.int32)
        matches = np.zeros(self.width, dtype=np.float32)
        top = score.max()
        if top > 0:
            found = np.flatnonzero(score >= MIN_MATCH * top)
            # Past sales break ties between equal matches.
            preference = score[found] + 0.05 * total * self.catalogue.demand[found]
            if len(found) > self.width:
                # The order of a partition, and so the noise of each product, would depend on the processor.
                found = found[np.argsort(-preference, kind="stable")[: self.width]]
            products[: len(found)] = found
            # Words can match both title and category, so scores are relative to the best one.
            matches[: len(found)] = score[found] / top
        for part in parts:
            score[part] = 0
        return products, matches

    def _read(self, form: int) -> list[str]:
        """The words that the engine searches for, after spell checking."""
        typed = list(dict.fromkeys(words_of(self.intents.texts[form])))
        known = [word for word in typed if word in self._postings or word in self._category_words]
        misspelt = form % N_WORDINGS >= N_CLEAN
        # Without a known word the spell checker always corrects.
        if misspelt and (self._corrects[form] or not known):
            meant = form - form % N_WORDINGS
            return list(dict.fromkeys(words_of(self.intents.texts[meant])))
        return known

    def _classify(self, form: int) -> int:
        """The product type that the engine recognises in the query, -1 for none."""
        intent = form // N_WORDINGS
        kind, draw = int(self.intents.kind[intent]), self._luck[form]
        if kind < 0:
            return -1
        ranking = self.config.ranking
        if draw < ranking.type_mistaken:
            start = self.catalogue.assortment.kind_start
            category = int(self.intents.category[intent])
            options = int(start[category + 1] - start[category])
            return int(start[category]) + (kind - int(start[category]) + 1) % options
        return kind if draw < ranking.type_mistaken + ranking.type_known else -1


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _postings(catalogue: Catalogue, titles: list[str]) -> dict[str, Int32[np.ndarray, " found"]]:
    number: dict[str, int] = {}
    owners: list[int] = []
    tokens: list[int] = []
    for product, title in enumerate(titles):
        for word in dict.fromkeys(words_of(title)):
            owners.append(product)
            tokens.append(number.setdefault(word, len(number)))
    products = np.array(owners, dtype=np.int32)
    groups = _grouped(catalogue, np.array(tokens, dtype=np.int64), len(number), products)
    return dict(zip(number, groups, strict=True))


def _grouped(
    catalogue: Catalogue,
    group: Int32[np.ndarray, " entries"] | Int64[np.ndarray, " entries"],
    n_groups: int,
    products: Int32[np.ndarray, " entries"] | None = None,
) -> list[Int32[np.ndarray, " found"]]:
    """The products of each group, best-selling first, up to `MAX_POSTINGS`."""
    members = np.arange(len(group), dtype=np.int32) if products is None else products
    order = np.lexsort((-catalogue.demand[members], group))
    bounds = np.searchsorted(group[order], np.arange(n_groups + 1))
    return [members[order[a:b]][:MAX_POSTINGS] for a, b in pairwise(bounds.tolist())]
