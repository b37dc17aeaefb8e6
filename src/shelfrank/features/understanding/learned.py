"""What the log adds to the lexicon: synonyms of types and an estimate of relevance, both cross-fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Int64

from shelfrank.features.understanding.arrays import contains, pack
from shelfrank.features.understanding.catalogue import NONE
from shelfrank.features.understanding.folds import Scheme, learned_from
from shelfrank.features.understanding.reading import Comparison, QueryReader, QueryReadings
from shelfrank.features.understanding.relevance import (
    N_ANSWERS,
    N_CELLS,
    POSITIONS,
    RelevanceEstimate,
    answer_groups,
    examination,
    position_groups,
    relation_groups,
)
from shelfrank.features.understanding.synonyms import FAR, KIND_OF, NEAR, NEAR_FROM, PRIORS, PairCounts, TypeSynonyms

N_TYPE_ANSWERS = 4


@dataclass(frozen=True)
class ShownRows:
    """Products that were shown in training searches, one row each.

    Attributes:
        query_idx: The place of the row's query in the readings.
        product_idx: The place of its product in the coded products.
        search_idx: Its search, as any number of its own.
        positions: Its position, from 1.
        labels: Its labels, -1 for a missing one; the first task is the one that synonyms are learned from.
        folds: The fold of its search.
    """

    query_idx: Int32[np.ndarray, " rows"]
    product_idx: Int32[np.ndarray, " rows"]
    search_idx: Int32[np.ndarray, " rows"]
    positions: Int32[np.ndarray, " rows"]
    labels: Int8[np.ndarray, "rows tasks"]
    folds: Int32[np.ndarray, " rows"]


@dataclass(frozen=True)
class LearnedColumns:
    """What is learned of pairs of queries and products.

    Attributes:
        same: The probability that the query's noun means the product's type.
        relevance: The rate of each task's labels that the pair's answers make likely, in multiples of the mean.
    """

    same: Float32[np.ndarray, " rows"]
    relevance: Float32[np.ndarray, "rows tasks"]


@dataclass(frozen=True)
class _Pairs:
    """Pairs of queries and products as what is learned sees them."""

    noun: Int32[np.ndarray, " rows"]
    kind: Int32[np.ndarray, " rows"]
    is_exact: Bool[np.ndarray, " rows"]
    group: Int32[np.ndarray, " rows"]
    answers: Int32[np.ndarray, " rows"]
    comparison: Comparison

    @property
    def has_both(self) -> Bool[np.ndarray, " rows"]:
        return (self.noun >= 0) & (self.kind != NONE)

    def otherwise(self) -> Float64[np.ndarray, " rows"]:
        """The probability that noun and type mean the same, of a pair of which the log says nothing."""
        return np.where(self.is_exact, 1.0, np.array(PRIORS)[self.group])

    def relations(self, same: Float32[np.ndarray, " rows"]) -> Int32[np.ndarray, " rows"]:
        return relation_groups(self.comparison, same, self.is_exact, self.group == KIND_OF, self.has_both)


class LearnedRelevance:
    """Synonyms and relevance as a log of searches teaches them.

    Args:
        synonyms: The synonyms.
        estimate: The relevance.
    """

    def __init__(self, synonyms: TypeSynonyms, estimate: RelevanceEstimate) -> None:
        self.synonyms, self.estimate = synonyms, estimate

    def compute(
        self,
        reader: QueryReader,
        readings: QueryReadings,
        query_idx: Int32[np.ndarray, " rows"],
        product_idx: Int32[np.ndarray, " rows"],
        comparison: Comparison,
    ) -> LearnedColumns:
        """The columns of pairs that were not learned from.

        Args:
            reader: Read the queries.
            readings: The queries.
            query_idx: The query of each row.
            product_idx: Its product.
            comparison: How the products answer.

        Returns:
            The columns.
        """
        noun_number = self.synonyms.noun_number
        # A noun that the log has not still is the product's type or not.
        numbers = np.array(
            [noun_number.get(noun, NONE) if noun is not None else NONE for noun in readings.nouns], np.int32
        )
        pairs = _pairs(reader, readings, numbers, query_idx, product_idx, comparison)
        same = self.synonyms.same(pairs.noun, pairs.kind, pairs.otherwise())
        return LearnedColumns(same, self.estimate.of(pairs.relations(same), pairs.answers))

    @classmethod
    def fit(
        cls, reader: QueryReader, readings: QueryReadings, rows: ShownRows, scheme: Scheme = "others"
    ) -> tuple["LearnedRelevance", LearnedColumns]:
        """Learns from training searches, and gives their own columns without help from their own labels.

        The rows of a fold get what is learned from the folds that `scheme` allows; what is learned from several folds
        is itself cross-fitted among them. So no label reaches a value of its own fold on any way.

        Args:
            reader: Read the queries.
            readings: The queries.
            rows: The training searches, and none that is later.
            scheme: Which folds a fold is learned from.

        Returns:
            What is learned of all rows, for later searches; and the columns of the rows.
        """
        nouns = sorted({noun for noun in readings.nouns if noun is not None})
        number = {noun: at for at, noun in enumerate(nouns)}
        numbers = np.array([number.get(noun, NONE) if noun is not None else NONE for noun in readings.nouns], np.int32)
        comparison = readings.compare(rows.query_idx, rows.product_idx)
        pairs = _pairs(reader, readings, numbers, rows.query_idx, rows.product_idx, comparison)
        fit = _Fit(reader, nouns, rows, pairs, scheme)
        same = np.empty(len(rows.folds), np.float32)
        relevance = np.empty((len(rows.folds), rows.labels.shape[1]), np.float32)
        folds = frozenset(np.unique(rows.folds).tolist())
        for fold in sorted(folds):
            own, allowed = np.flatnonzero(rows.folds == fold), learned_from(scheme, folds, fold)
            same[own] = fit.same(allowed, fold)
            relevance[own] = fit.estimate(allowed).of(fit.relations(allowed, fold), pairs.answers[own])
        return cls(fit.synonyms(folds), fit.estimate(folds)), LearnedColumns(same, relevance)

    def to_plain(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Texts and arrays, to be stored."""
        names, arrays = self.synonyms.to_plain()
        return names, {**arrays, "rates": self.estimate.rates}

    @classmethod
    def of_plain(cls, names: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "LearnedRelevance":
        """From what `to_plain` gave."""
        synonyms = TypeSynonyms(names["nouns"], {name: arrays[name] for name in ("keys", "same")})
        return cls(synonyms, RelevanceEstimate(arrays["rates"]))


class _Fit:
    """Everything that is learned from subsets of folds; each subset once."""

    def __init__(
        self, reader: QueryReader, nouns: Sequence[str], rows: ShownRows, pairs: _Pairs, scheme: Scheme
    ) -> None:
        self._nouns, self._rows, self._pairs = nouns, rows, pairs
        self._scheme: Scheme = scheme
        self._position = position_groups(rows.positions)
        self._otherwise = pairs.otherwise()
        both = np.flatnonzero(pairs.has_both)
        self._both = both
        self._keys, first, self._pair = np.unique(
            pack(pairs.noun[both], pairs.kind[both]), return_index=True, return_inverse=True
        )
        self._is_exact = pairs.is_exact[both][first]
        # Other words of a query may say more of the category, so that the nearest of a pair's rows counts.
        self._group = np.zeros(len(self._keys), np.int32)
        np.maximum.at(self._group, self._pair, pairs.group[both])
        # A page shows what shares a word for that word's sake, whether it means the same or not.
        kinds = [set(reader.lexicon.terms[kind]) for kind in (self._keys & 0xFFFFFFFF).tolist()]
        words = [set(noun.split()) for noun in nouns]
        self._shares = np.array([bool(words[n] & k) for n, k in zip(self._keys >> 32, kinds, strict=True)], dtype=bool)
        self._reverse = _reverse(self._keys, nouns, reader)
        # Examination and the other answers are told apart from the type by its catalogue's status alone.
        self._cell = pairs.comparison.type_status.astype(np.int64) * N_ANSWERS + pairs.answers
        self.synonyms = cache(self._synonyms)
        self.estimate = cache(self._estimate)

    def same(self, learned: frozenset[int], fold: int) -> Float32[np.ndarray, " own"]:
        """The probabilities of the rows of one fold by synonyms of some folds."""
        own = self._rows.folds == fold
        return self.synonyms(learned).same(self._pairs.noun[own], self._pairs.kind[own], self._otherwise[own])

    def relations(self, learned: frozenset[int], fold: int) -> Int32[np.ndarray, " own"]:
        """The type relations of the rows of one fold by synonyms of some folds."""
        same = self._otherwise.astype(np.float32)
        own = self._rows.folds == fold
        same[own] = self.same(learned, fold)
        return self._pairs.relations(same)[own]

    def _among(self, folds: frozenset[int]) -> Bool[np.ndarray, " rows"]:
        return np.isin(self._rows.folds, sorted(folds))

    def _synonyms(self, folds: frozenset[int]) -> TypeSynonyms:
        labels = self._rows.labels[:, 0]
        used = self._among(folds) & (labels >= 0)
        expected = np.zeros(len(labels))
        if used.any():
            n_cells = N_TYPE_ANSWERS * N_ANSWERS
            at = self._position[used] * n_cells + self._cell[used]
            shape = len(POSITIONS), n_cells
            shown = np.bincount(at, minlength=shape[0] * n_cells).reshape(shape).astype(np.float64)
            positives = np.bincount(at, labels[used], minlength=shape[0] * n_cells).reshape(shape).astype(np.float64)
            status, answers = np.divmod(np.arange(n_cells), N_ANSWERS)
            position, factors = examination(positives, shown, np.stack([status, answers]))
            expected[used] = position[self._position[used]] * factors[1][self._cell[used]]
        own = self._both[used[self._both]]
        pair, n_pairs = self._pair[used[self._both]], len(self._keys)
        search = self._rows.search_idx[own]
        comparison = self._pairs.comparison
        of_engine = ~comparison.shares_word[own] & (comparison.n_match[own] == 0)
        shows = np.unique(pack(pair[of_engine], search[of_engine]))
        asked = np.unique(pack(self._pairs.noun[own], search))
        n_searches = np.bincount(asked >> 32, minlength=len(self._nouns))[self._keys >> 32]
        n_shown = np.bincount(pair, minlength=n_pairs)
        seen = n_shown > 0
        counts = PairCounts(
            keys=self._keys[seen],
            n_searches=np.where(self._shares, 0, n_searches)[seen].astype(np.float64),
            n_pages=np.bincount(shows >> 32, minlength=n_pairs)[seen].astype(np.float64),
            clicks=np.bincount(pair, labels[own], minlength=n_pairs)[seen].astype(np.float64),
            expected=np.bincount(pair, expected[own], minlength=n_pairs)[seen].astype(np.float64),
            is_exact=self._is_exact[seen],
            group=self._group[seen],
        )
        place = np.where(seen, np.cumsum(seen) - 1, NONE)
        reverse = np.where(self._reverse[seen] == NONE, NONE, place[self._reverse[seen]])
        return TypeSynonyms.fit(self._nouns, counts, reverse)

    def _estimate(self, folds: frozenset[int]) -> RelevanceEstimate:
        n_tasks, shape = self._rows.labels.shape[1], (len(POSITIONS), N_CELLS)
        shown, positives = np.zeros((n_tasks, *shape)), np.zeros((n_tasks, *shape))
        for fold in sorted(folds):
            own = np.flatnonzero(self._rows.folds == fold)
            relations = self.relations(learned_from(self._scheme, folds, fold), fold)
            at = self._position[own] * N_CELLS + relations * N_ANSWERS + self._pairs.answers[own]
            for task in range(n_tasks):
                labels = self._rows.labels[own, task]
                known = labels >= 0
                shown[task] += np.bincount(at[known], minlength=shape[0] * N_CELLS).reshape(shape)
                positives[task] += np.bincount(at[known], labels[known], minlength=shape[0] * N_CELLS).reshape(shape)
        return RelevanceEstimate.fit(positives, shown)


def _pairs(
    reader: QueryReader,
    readings: QueryReadings,
    numbers: Int32[np.ndarray, " queries"],
    query_idx: Int32[np.ndarray, " rows"],
    product_idx: Int32[np.ndarray, " rows"],
    comparison: Comparison,
) -> _Pairs:
    terms = readings.noun_terms
    asked, kind = terms[query_idx], reader.products.types[product_idx]
    group = np.where(comparison.category_probability >= NEAR_FROM, NEAR, FAR)
    group = np.where(reader.is_kind_of(kind, asked), KIND_OF, group).astype(np.int32)
    # A noun that only the lexicon knows is not among those of the log, but it is a noun.
    noun = np.where((numbers[query_idx] == NONE) & (asked != NONE), 2**31 - 1, numbers[query_idx]).astype(np.int32)
    return _Pairs(noun, kind, (asked == kind) & (kind != NONE), group, answer_groups(comparison), comparison)


def _reverse(
    keys: Int64[np.ndarray, " pairs"], nouns: Sequence[str], reader: QueryReader
) -> Int64[np.ndarray, " pairs"]:
    """The place of the pair of each type's own noun with the noun's own type; `NONE` where there is none."""
    lexicon = reader.lexicon
    term_of_noun = np.array([lexicon.term_of_text.get(noun, NONE) for noun in nouns], np.int64)
    noun_of_term = np.full(len(lexicon.terms), NONE, np.int64)
    noun_of_term[term_of_noun[term_of_noun != NONE]] = np.flatnonzero(term_of_noun != NONE)
    other, kind = noun_of_term[keys & 0xFFFFFFFF], term_of_noun[keys >> 32]
    wanted = pack(np.maximum(other, 0), np.maximum(kind, 0))
    found = (other != NONE) & (kind != NONE) & contains(keys, wanted)
    return np.where(found, np.searchsorted(keys, wanted), NONE)
