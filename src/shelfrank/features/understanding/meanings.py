"""Which terms name a value of a declared attribute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from shelfrank.features.understanding.arrays import find, lower_bound, pack
from shelfrank.features.understanding.catalogue import NONE, Values
from shelfrank.features.understanding.phrases import Term

MIN_PRODUCTS = 5
"""Products with a term, and a value, before it can be said to predict one."""
MIN_PRECISION = 0.75
MIN_LIFT = 1.5
SURE_PRECISION = 0.9
MAX_BESIDE = 0.5
"""Most titles that name a value of the attribute beside the term, as a share of what its categories would give."""
MIN_BESIDE = 3.0
"""Titles that must be expected to name one, before their absence says anything."""


@dataclass(frozen=True)
class Incidence:
    """Which products have which terms in their titles: distinct pairs, ordered by term.

    Attributes:
        terms: The term of each pair.
        products: Its product.
        n_terms: Number of terms.
    """

    terms: Int64[np.ndarray, " pairs"]
    products: Int64[np.ndarray, " pairs"]
    n_terms: int

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], n_terms: int) -> "Incidence":
        """The pairs of products' terms."""
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        keys = np.unique(pack(np.array([term for row in rows for term in row], np.int64), owner))
        return cls(keys >> 32, keys & 0xFFFFFFFF, n_terms)

    def counts(self) -> Int64[np.ndarray, " terms"]:
        """Products of each term."""
        return np.bincount(self.terms, minlength=self.n_terms)


def attribute_meanings(
    has: Incidence,
    codes: Sequence[Int32[np.ndarray, " products"]],
    values: Sequence[Values],
    category: Int32[np.ndarray, " products"],
    number: dict[Term, int],
    ignored: Bool[np.ndarray, " terms"],
) -> tuple[Int32[np.ndarray, " terms"], Int32[np.ndarray, " terms"]]:
    """The attribute and the value that each term names; `NONE` for other terms.

    Args:
        has: Terms of the products' titles.
        codes: For each attribute, the products' values.
        values: For each attribute, its values.
        category: The products' categories.
        number: The place of each term.
        ignored: Terms that never name a value.

    Returns:
        The attribute of each term, and its value.
    """
    term_attribute, term_value = np.full(has.n_terms, NONE, np.int32), np.full(has.n_terms, NONE, np.int32)
    literal = [_literals(has, own, some.words, number) for own, some in zip(codes, values, strict=True)]
    best = np.full(has.n_terms, -1.0)
    for attribute, (own, value) in enumerate(zip(codes, literal, strict=True)):
        # A term that is a value of two attributes names the one that has more products of it.
        n_of_value = np.bincount(own[own != NONE], minlength=max(len(values[attribute]), 1))
        support = np.where(value != NONE, n_of_value[value], -1.0)
        better = support > best
        best[better], term_attribute[better], term_value[better] = support[better], attribute, value[better]
    is_literal = term_attribute != NONE
    best = np.zeros(has.n_terms)
    for attribute, own in enumerate(codes):
        value, lift = _predicted(has, own, category, is_literal & (term_attribute == attribute))
        better = ~is_literal & ~ignored & (lift > best)
        best[better], term_attribute[better], term_value[better] = lift[better], attribute, value[better]
    return term_attribute, term_value


def _literals(
    has: Incidence, codes: Int32[np.ndarray, " products"], words: Sequence[Term], number: dict[Term, int]
) -> Int32[np.ndarray, " terms"]:
    """The value that a term is, unless more products of other values than of it have the term in their title."""
    value_of = np.full(has.n_terms, NONE, np.int32)
    for value, term in enumerate(words):
        if term in number:
            value_of[number[term]] = value
    named, had = value_of[has.terms], codes[has.products]
    told = (named != NONE) & (had != NONE)
    for_it = np.bincount(has.terms[told & (named == had)], minlength=has.n_terms)
    against = np.bincount(has.terms[told & (named != had)], minlength=has.n_terms)
    return np.where(against > for_it, NONE, value_of).astype(np.int32)


def _predicted(
    has: Incidence,
    codes: Int32[np.ndarray, " products"],
    category: Int32[np.ndarray, " products"],
    literals: Bool[np.ndarray, " terms"],
) -> tuple[Int32[np.ndarray, " terms"], Float64[np.ndarray, " terms"]]:
    """The value that each term predicts and its lift; a lift of 0 where it predicts none.

    A term predicts a value where most of its products have it, more of them than their categories make likely, and
    where titles do not name a value of the attribute beside it: `cream` stands in the place of `beige`, whereas `tent`
    stands beside `nylon`, however many tents are of nylon.
    """
    n_terms = has.n_terms
    known = codes[has.products] != NONE
    term, product = has.terms[known], has.products[known]
    group = category[product].astype(np.int64) + 1
    pairs, count = np.unique(pack(term, codes[product]), return_counts=True)
    n_of_term = np.bincount(term, minlength=n_terms)
    top, value = np.zeros(n_terms, np.int64), np.full(n_terms, NONE, np.int32)
    order = np.argsort(count, kind="stable")
    top[pairs[order] >> 32], value[pairs[order] >> 32] = count[order], pairs[order] & 0xFFFFFFFF
    # By category: products, those of each value, those whose title names some value.
    all_known = codes != NONE
    all_groups = category[all_known].astype(np.int64) + 1
    size = np.bincount(all_groups, minlength=int(category.max(initial=-1)) + 2)
    keys, n_of_key = np.unique(pack(all_groups, codes[all_known]), return_counts=True)
    names_one = np.zeros(len(codes), dtype=bool)
    names_one[has.products[literals[has.terms]]] = True
    naming = np.bincount(all_groups, weights=names_one[all_known], minlength=len(size))
    chance = find(keys, n_of_key, pack(group, np.maximum(value[term], 0)), 0) / size[group]
    expected = np.bincount(term, weights=chance, minlength=n_terms)
    beside = np.bincount(term, weights=names_one[product], minlength=n_terms)
    expected_beside = np.bincount(term, weights=(naming / np.maximum(size, 1))[group], minlength=n_terms)
    n_groups = np.bincount(np.unique(pack(term, group)) >> 32, minlength=n_terms)
    precision = lower_bound(top, n_of_term)
    lift = precision * n_of_term / np.maximum(expected, 1e-9)
    told = expected_beside >= MIN_BESIDE
    stands_for_one = np.where(
        told, beside <= MAX_BESIDE * expected_beside, (precision >= SURE_PRECISION) & (n_groups > 1)
    )
    accepted = (n_of_term >= MIN_PRODUCTS) & (precision >= MIN_PRECISION) & (lift >= MIN_LIFT) & stands_for_one
    return value, np.where(accepted, lift, 0.0)
