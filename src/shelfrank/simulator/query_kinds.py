"""Whether a search speaks in the words of the products it is for, in other words for the same thing, or misspelt."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, Shaped

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.queries import N_CLEAN, Intents
from shelfrank.simulator.retrieval import words_of
from shelfrank.simulator.visits import forms_of

QUERY_KINDS = ("plain", "synonym", "typo")
SYNONYM_BELOW = 0.5
"""A search goes by a synonym where fewer of the right products than this share have its noun in their titles."""


class QueryKinds:
    """Tells the kinds of queries apart.

    Args:
        catalogue: The shop's products.
        titles: Their titles.
        intents: What queries express.
    """

    def __init__(self, catalogue: Catalogue, titles: list[str], intents: Intents) -> None:
        self._catalogue = catalogue
        self._intents = intents
        self._title_words = [frozenset(words_of(title)) for title in titles]
        nouns, self._noun = np.unique(np.array(intents.nouns), return_inverse=True)
        self._noun_words = [frozenset(words_of(noun)) for noun in nouns.tolist()]
        wordings = zip(intents.texts, intents.meant, strict=True)
        self._differs = np.array([words_of(text) != words_of(meant) for text, meant in wordings])

    def tell(
        self,
        searches: Shaped[np.ndarray, " searches"],
        search: Int64[np.ndarray, " rows"],
        product: Int32[np.ndarray, " rows"],
    ) -> dict[str, pa.Array]:
        """What each search's query is like, given the products shown.

        A product is right where it is of the type that the query names. Words are compared as the shop's engine
        does, and the noun as it was meant.

        - `typo`: a slip of the fingers that left other words than were meant.
        - `synonym`: any other query that names a type, where fewer than half of the right products shown have its
          noun in their titles.
        - `plain`: all others. That holds also where no right product is shown: then no reading of the words can
          put one first.

        Args:
            searches: Rows of `visits.SEARCH`.
            search: Each row's place among the searches.
            product: The product shown in each row.

        Returns:
            For each search `query_kind`; `misspelt`, whether a finger slipped; `noun`, null where the query names no
            type; `words_shared`, the share of the right products shown that have the noun in their titles, null
            where there are none.
        """
        n, forms, kind = len(searches), forms_of(searches), self._intents.kind[searches["intent"]]
        right = self._catalogue.kind[product] == kind[search]
        search, product = search[right], product[right]
        n_right = np.bincount(search, minlength=n)
        n_sharing = np.bincount(search, weights=self._titles_hold(self._noun[forms[search]], product), minlength=n)
        known = n_right > 0
        words_shared = n_sharing / np.maximum(n_right, 1)
        misspelt = searches["wording"] >= N_CLEAN
        typo = misspelt & self._differs[forms]
        synonym = ~typo & known & (words_shared < SYNONYM_BELOW)
        plain_synonym_typo = np.where(typo, 2, np.where(synonym, 1, 0))
        nouns = np.array([self._intents.nouns[form] for form in forms.tolist()], dtype=object)
        return {
            "query_kind": pa.array(np.array(QUERY_KINDS, dtype=object)[plain_synonym_typo], pa.string()),
            "misspelt": pa.array(misspelt),
            "noun": pa.array(nouns, pa.string(), mask=kind < 0),
            "words_shared": pa.array(words_shared, mask=~known),
        }

    def _titles_hold(
        self, noun: Int64[np.ndarray, " rows"], product: Int32[np.ndarray, " rows"]
    ) -> Bool[np.ndarray, " rows"]:
        """Whether all words of each row's noun stand in its product's title."""
        # The same noun meets the same product many times.
        pairs, pair_of_row = np.unique(noun * self._catalogue.n_products + product, return_inverse=True)
        nouns, products = np.divmod(pairs, self._catalogue.n_products)
        each = zip(nouns.tolist(), products.tolist(), strict=True)
        holds = [self._noun_words[one_noun] <= self._title_words[one_product] for one_noun, one_product in each]
        return np.array(holds, dtype=bool)[pair_of_row]
