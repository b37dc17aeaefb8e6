"""Classifies queries: in the words of the matching products, with a synonym, or misspelt."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, Shaped

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.queries import N_CLEAN, Intents
from shelfrank.simulator.retrieval import words_of
from shelfrank.simulator.visits import forms_of

QUERY_KINDS = ("plain", "synonym", "typo")
MAX_SYNONYM_SHARE = 0.5
"""Share of the matching products with the query's noun in their titles below which the noun is a synonym."""


class QueryKinds:
    """Classifies queries by their words.

    Args:
        catalogue: The shop's products.
        titles: Their titles.
        intents: The intents of queries.
    """

    def __init__(self, catalogue: Catalogue, titles: list[str], intents: Intents) -> None:
        self._catalogue = catalogue
        self._intents = intents
        self._title_words = [frozenset(words_of(title)) for title in titles]
        nouns, self._noun = np.unique(np.array(intents.nouns), return_inverse=True)
        self._noun_words = [frozenset(words_of(noun)) for noun in nouns.tolist()]
        wordings = zip(intents.texts, intents.meant, strict=True)
        self._differs = np.array([words_of(text) != words_of(meant) for text, meant in wordings])

    def classify(
        self,
        searches: Shaped[np.ndarray, " searches"],
        search: Int64[np.ndarray, " rows"],
        product: Int32[np.ndarray, " rows"],
    ) -> dict[str, pa.Array]:
        """Classifies each search's query, given the shown products.

        A product matches if it has the type that the query states. Words are compared like the shop's engine does, and
        the noun without typing errors.

        - `typo`: a typing error that changed the words.
        - `synonym`: any other query that states a type, if fewer than half of the matching shown products have its noun
          in their titles.
        - `plain`: all others, also if no matching product is shown, since no text ranker can put one first.

        Args:
            searches: Rows of `visits.SEARCH`.
            search: Index of each row's search.
            product: The shown product of each row.

        Returns:
            For each search `query_kind`; `misspelt`, whether there is a typing error; `noun`, null if the query states
            no type; `words_shared`, the share of the matching shown products with the noun in their titles, null if
            there are none.
        """
        n, forms, kind = len(searches), forms_of(searches), self._intents.kind[searches["intent"]]
        matches = self._catalogue.kind[product] == kind[search]
        search, product = search[matches], product[matches]
        n_matching = np.bincount(search, minlength=n)
        n_sharing = np.bincount(search, weights=self._titles_hold(self._noun[forms[search]], product), minlength=n)
        known = n_matching > 0
        words_shared = n_sharing / np.maximum(n_matching, 1)
        misspelt = searches["wording"] >= N_CLEAN
        typo = misspelt & self._differs[forms]
        synonym = ~typo & known & (words_shared < MAX_SYNONYM_SHARE)
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
        """Whether each product's title contains all words of its row's noun."""
        # Pairs of a noun and a product repeat often.
        pairs, pair_of_row = np.unique(noun * self._catalogue.n_products + product, return_inverse=True)
        nouns, products = np.divmod(pairs, self._catalogue.n_products)
        each = zip(nouns.tolist(), products.tolist(), strict=True)
        holds = [self._noun_words[one_noun] <= self._title_words[one_product] for one_noun, one_product in each]
        return np.array(holds, dtype=bool)[pair_of_row]
