"""Which product types a query's noun means, learned from the log: `settee` means sofas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from shelfrank.features.understanding.arrays import find, pack
from shelfrank.features.understanding.catalogue import NONE

FAR, NEAR, KIND_OF = range(3)
"""Groups of pairs: noun and type are of other categories, are of one, or the type is a kind of the noun."""
PRIORS = (0.01, 0.2, 0.6)
"""Probability that noun and type of each group mean the same, before the log says how often they do."""
LIFTS_OTHER = (0.1, 0.25, 0.25)
"""Clicks on what does not mean the same, as a share of those on what does, likewise."""
NEAR_FROM = 0.1
"""Least probability of the type's category, given the query, in which they are near."""
MAX_SEARCHES = 15.0
"""Searches of a pair that count at most, since searches are less independent than they are many."""
MAX_EXPECTED = 10.0
"""Clicks that are expected of a pair, at most, for the same reason."""
ROUNDS = 30
SAME_FROM = 0.5


@dataclass(frozen=True)
class PairCounts:
    """What a log says of pairs of a query's noun and a product's type; all arrays are in the order of the pairs.

    Attributes:
        keys: Noun and type, ascending.
        n_searches: Searches for the noun; 0 where noun and type share a word, which explains their pages.
        n_pages: Those whose page shows a product of the type that matches no other part of the query: the engine takes
            noun and type for the same.
        clicks: Clicks on the type's products in searches for the noun.
        expected: The clicks to expect by position and by what else the products match, were all types alike.
        is_exact: Whether the noun is the type.
        group: `FAR`, `NEAR` or `KIND_OF`.
    """

    keys: Int64[np.ndarray, " pairs"]
    n_searches: Float64[np.ndarray, " pairs"]
    n_pages: Float64[np.ndarray, " pairs"]
    clicks: Float64[np.ndarray, " pairs"]
    expected: Float64[np.ndarray, " pairs"]
    is_exact: np.ndarray
    group: np.ndarray


class TypeSynonyms:
    """The probability that a query with a noun means products of a type.

    Two kinds of pairs are supposed, those that mean the same and those that do not. The first have more clicks against
    what is expected, and more of them are pairs that the engine itself shows for each other. How much more is itself
    estimated, by expectation maximisation: an engine that knows no synonyms shows both kinds alike, and then its pages
    say nothing. A pair and its reverse support each other.

    Args:
        nouns: Every noun of the log.
        arrays: `keys` of noun and type, ascending, and `same`, their probabilities.
    """

    def __init__(self, nouns: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
        self.nouns, self.arrays = list(nouns), dict(arrays)
        self.noun_number = {noun: at for at, noun in enumerate(self.nouns)}

    def same(
        self,
        nouns: Int32[np.ndarray, " pairs"],
        types: Int32[np.ndarray, " pairs"],
        otherwise: Float64[np.ndarray, " pairs"],
    ) -> Float32[np.ndarray, " pairs"]:
        """The probability that a noun means a type.

        Args:
            nouns: Each pair's noun by its number here; `NONE` for one that the log has not.
            types: Its type; `NONE` for none.
            otherwise: The probability of a pair of which the log says nothing.

        Returns:
            The probabilities.
        """
        known = find(self.arrays["keys"], self.arrays["same"], pack(nouns, np.maximum(types, 0)), np.nan)
        said = (nouns != NONE) & (types != NONE) & ~np.isnan(known)
        return np.where(said, known, otherwise).astype(np.float32)

    def meant_by(self, noun: str, types: list[str]) -> list[tuple[str, float]]:
        """The types that a noun means, the likeliest first, given the texts of the lexicon's terms."""
        number = self.noun_number.get(noun)
        if number is None:
            return []
        keys, same = self.arrays["keys"], self.arrays["same"]
        own = (keys >> 32 == number) & (same >= SAME_FROM)
        found = [(types[key], float(value)) for key, value in zip(keys[own] & 0xFFFFFFFF, same[own], strict=True)]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    @classmethod
    def fit(cls, nouns: Sequence[str], counts: PairCounts, reverse: Int64[np.ndarray, " pairs"]) -> "TypeSynonyms":
        """Estimates the probabilities.

        Args:
            nouns: Every noun.
            counts: What the log says of pairs.
            reverse: The place of each pair's reverse; `NONE` for none.

        Returns:
            The synonyms.
        """
        if not len(counts.keys):
            return cls(nouns, {"keys": np.empty(0, np.int64), "same": np.empty(0, np.float32)})
        n = np.minimum(counts.n_searches, MAX_SEARCHES)
        pages = counts.n_pages * n / np.maximum(counts.n_searches, 1.0)
        expected = np.minimum(counts.expected, MAX_EXPECTED)
        clicks = counts.clicks * expected / np.maximum(counts.expected, 1e-9)
        exact, open_ = counts.is_exact, ~counts.is_exact
        groups = [open_ & (counts.group == group) for group in range(len(PRIORS))]
        shares = list(PRIORS)
        lift_same = _share(clicks[exact].sum(), expected[exact].sum(), 1.0, 1.0)
        page_same, page_other = 0.4, 0.02
        lifts_other = [share * lift_same for share in LIFTS_OTHER]
        known_same, known_other = 0.5, 0.05
        same = np.zeros(len(n))
        for _ in range(ROUNDS):
            prior = np.select(groups, [np.log(share / (1 - share)) for share in shares], 0.0)
            shows = np.exp(np.clip(_page_odds(pages, n, page_same, page_other), -50, 50))
            if_same, if_other = known_same * shows, known_other * shows
            own = np.log((if_same + 1 - known_same) / (if_other + 1 - known_other))
            lift_other = np.select(groups, lifts_other, lift_same)
            own = own + clicks * np.log(lift_same / lift_other) - expected * (lift_same - lift_other)
            odds = prior + own + np.where(reverse == NONE, 0.0, own[reverse])
            same = np.where(exact, 1.0, 1 / (1 + np.exp(-np.clip(odds, -30, 30))))
            told = open_ & (n > 0)
            shown_same = (if_same / (if_same + 1 - known_same) * same)[told]
            shown_other = (if_other / (if_other + 1 - known_other) * (1 - same))[told]
            shown = shown_same + shown_other
            known_same = _share(shown_same.sum(), same[told].sum(), 0.3, 5.0)
            known_other = min(_share(shown_other.sum(), (1 - same)[told].sum(), 0.05, 5.0), known_same)
            page_same = _share((shown * pages[told]).sum(), (shown * n[told]).sum(), 0.4, 20.0)
            page_other = _share(((1 - shown) * pages[told]).sum(), ((1 - shown) * n[told]).sum(), 0.02, 20.0)
            lift_same = _share((same * clicks).sum(), (same * expected).sum(), 1.0, 1.0)
            # What means the same is clicked and shown no less; without a difference nothing is learned.
            lifts_other = [
                min(
                    _share(((1 - same) * clicks)[own].sum(), ((1 - same) * expected)[own].sum(), at * lift_same, 5.0),
                    lift_same,
                )
                for own, at in zip(groups, LIFTS_OTHER, strict=True)
            ]
            page_other = min(page_other, page_same)
            shares = [
                _share(same[own].sum(), float(own.sum()), at, 20.0) for own, at in zip(groups, PRIORS, strict=True)
            ]
        return cls(nouns, {"keys": counts.keys, "same": same.astype(np.float32)})


def _page_odds(
    pages: Float64[np.ndarray, " pairs"], n: Float64[np.ndarray, " pairs"], same: float, other: float
) -> Float64[np.ndarray, " pairs"]:
    return pages * np.log(same / other) + (n - pages) * np.log((1 - same) / (1 - other))


def _share(successes: float, trials: float, prior: float, weight: float) -> float:
    """A share drawn to a prior one that counts as some trials."""
    return float((successes + weight * prior) / (trials + weight))
