"""What the log adds to the lexicon: synonyms of types and an estimate of relevance, each learned from the past."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Int64

from shelfrank.features.understanding.arrays import contains, pack
from shelfrank.features.understanding.catalogue import NONE
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
UNHEARD = 2**31 - 1
"""The number of a noun that no search was for; the log says nothing of it, now or later."""


@dataclass(frozen=True)
class ShownRows:
    """Products that were shown in training searches, one row each.

    Attributes:
        query_idx: The place of the row's query in the readings.
        product_idx: The place of its product in the coded products.
        search_idx: Its search, as any number of its own.
        times_us: When the search was.
        positions: Its position, from 1.
        labels: Its labels, -1 for a missing one; the first task is the one that synonyms are learned from.
        blocks: The block of time of its search, from 0.
    """

    query_idx: Int32[np.ndarray, " rows"]
    product_idx: Int32[np.ndarray, " rows"]
    search_idx: Int32[np.ndarray, " rows"]
    times_us: Int64[np.ndarray, " rows"]
    positions: Int32[np.ndarray, " rows"]
    labels: Int8[np.ndarray, "rows tasks"]
    blocks: Int32[np.ndarray, " rows"]


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

    @classmethod
    def of_no_log(cls, n_tasks: int) -> "LearnedRelevance":
        """The state before anything is learned: nouns mean what the catalogue says, and every relevance is the mean."""
        synonyms = TypeSynonyms([], {"keys": np.empty(0, np.int64), "same": np.empty(0, np.float32)})
        return cls(synonyms, RelevanceEstimate(np.ones((n_tasks, N_CELLS), np.float32)))

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
        pairs = _pairs(reader, readings, self.synonyms.noun_number, query_idx, product_idx, comparison)
        same = self.synonyms.same(pairs.noun, pairs.kind, pairs.otherwise())
        return LearnedColumns(same, self.estimate.of(pairs.relations(same), pairs.answers))


@dataclass(frozen=True)
class Stage:
    """What was learned from the searches up to some time.

    Attributes:
        known_us: When the last label that it was learned from was known; it serves later searches only.
        learned: What was learned.
    """

    known_us: int
    learned: LearnedRelevance


def learn_stages(reader: QueryReader, readings: QueryReadings, rows: ShownRows, delay_us: int = 0) -> tuple[Stage, ...]:
    """Learns from training searches at the end of each block of time.

    The synonyms beneath the relevance of a block are those of the blocks before it, as its own searches had them.

    Args:
        reader: Read the queries.
        readings: The queries.
        rows: The training searches.
        delay_us: How long after a search its labels are known.

    Returns:
        The stages, the earliest first.
    """
    # A block of which no search was drawn teaches nothing and has no end.
    rows = replace(rows, blocks=np.unique(rows.blocks, return_inverse=True)[1].astype(np.int32))
    fit = _Fit(reader, readings, rows)
    ends = np.full(int(rows.blocks.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(ends, rows.blocks, rows.times_us)
    return tuple(
        Stage(int(end) + delay_us, LearnedRelevance(fit.synonyms(block + 1), fit.estimate(block + 1)))
        for block, end in enumerate(ends.tolist())
    )


def stages_to_plain(stages: Sequence[Stage]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Texts and arrays, to be stored."""
    arrays = {"known_us": np.array([stage.known_us for stage in stages], np.int64)}
    for at, stage in enumerate(stages):
        learned = stage.learned
        arrays |= {f"{name}{at}": array for name, array in learned.synonyms.arrays.items()}
        arrays[f"rates{at}"] = learned.estimate.rates
    return {"nouns": stages[0].learned.synonyms.nouns if stages else []}, arrays


def stages_of_plain(names: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[Stage, ...]:
    """From what `stages_to_plain` gave."""
    return tuple(
        Stage(
            int(known_us),
            LearnedRelevance(
                TypeSynonyms(names["nouns"], {name: arrays[f"{name}{at}"] for name in ("keys", "same")}),
                RelevanceEstimate(arrays[f"rates{at}"]),
            ),
        )
        for at, known_us in enumerate(arrays["known_us"].tolist())
    )


class _Fit:
    """Everything that is learned from the first blocks; each number of blocks once."""

    def __init__(self, reader: QueryReader, readings: QueryReadings, rows: ShownRows) -> None:
        nouns = sorted({noun for noun in readings.nouns if noun is not None})
        number = {noun: at for at, noun in enumerate(nouns)}
        comparison = readings.compare(rows.query_idx, rows.product_idx)
        pairs = _pairs(reader, readings, number, rows.query_idx, rows.product_idx, comparison)
        self._nouns, self._rows, self._pairs = nouns, rows, pairs
        self._position = position_groups(rows.positions)
        self._otherwise = pairs.otherwise()
        both = np.flatnonzero(pairs.has_both)
        self._both = both
        self._keys, first, self._pair = np.unique(
            pack(pairs.noun[both], pairs.kind[both]), return_index=True, return_inverse=True
        )
        self._is_exact = pairs.is_exact[both][first]
        # A page shows what shares a word for that word's sake, whether it means the same or not.
        kinds = [set(reader.lexicon.terms[kind]) for kind in (self._keys & 0xFFFFFFFF).tolist()]
        words = [set(noun.split()) for noun in nouns]
        self._shares = np.array([bool(words[n] & k) for n, k in zip(self._keys >> 32, kinds, strict=True)], dtype=bool)
        self._reverse = _reverse(self._keys, nouns, reader)
        # Examination and the other answers are told apart from the type by its catalogue's status alone.
        self._cell = pairs.comparison.type_status.astype(np.int64) * N_ANSWERS + pairs.answers
        self.synonyms = cache(self._synonyms)
        self.estimate = cache(self._estimate)

    def _relations(self, block: int) -> Int32[np.ndarray, " own"]:
        """The type relations of the rows of one block by the synonyms of the blocks before it."""
        same = self._otherwise.astype(np.float32)
        own = self._rows.blocks == block
        if block:
            pairs = self._pairs
            same[own] = self.synonyms(block).same(pairs.noun[own], pairs.kind[own], self._otherwise[own])
        return self._pairs.relations(same)[own]

    def _synonyms(self, n_blocks: int) -> TypeSynonyms:
        labels = self._rows.labels[:, 0]
        used = (self._rows.blocks < n_blocks) & (labels >= 0)
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
        # Other words of a query may say more of the category, so that the nearest of a pair's rows counts.
        group = np.zeros(n_pairs, np.int32)
        np.maximum.at(group, pair, self._pairs.group[own])
        seen = n_shown > 0
        counts = PairCounts(
            keys=self._keys[seen],
            n_searches=np.where(self._shares, 0, n_searches)[seen].astype(np.float64),
            n_pages=np.bincount(shows >> 32, minlength=n_pairs)[seen].astype(np.float64),
            clicks=np.bincount(pair, labels[own], minlength=n_pairs)[seen].astype(np.float64),
            expected=np.bincount(pair, expected[own], minlength=n_pairs)[seen].astype(np.float64),
            is_exact=self._is_exact[seen],
            group=group[seen],
        )
        place = np.where(seen, np.cumsum(seen) - 1, NONE)
        reverse = np.where(self._reverse[seen] == NONE, NONE, place[self._reverse[seen]])
        return TypeSynonyms.fit(self._nouns, counts, reverse)

    def _estimate(self, n_blocks: int) -> RelevanceEstimate:
        n_tasks, shape = self._rows.labels.shape[1], (len(POSITIONS), N_CELLS)
        shown, positives = np.zeros((n_tasks, *shape)), np.zeros((n_tasks, *shape))
        for block in range(n_blocks):
            own = np.flatnonzero(self._rows.blocks == block)
            at = self._position[own] * N_CELLS + self._relations(block) * N_ANSWERS + self._pairs.answers[own]
            for task in range(n_tasks):
                labels = self._rows.labels[own, task]
                known = labels >= 0
                shown[task] += np.bincount(at[known], minlength=shape[0] * N_CELLS).reshape(shape)
                positives[task] += np.bincount(at[known], labels[known], minlength=shape[0] * N_CELLS).reshape(shape)
        return RelevanceEstimate.fit(positives, shown)


def _pairs(
    reader: QueryReader,
    readings: QueryReadings,
    noun_number: Mapping[str, int],
    query_idx: Int32[np.ndarray, " rows"],
    product_idx: Int32[np.ndarray, " rows"],
    comparison: Comparison,
) -> _Pairs:
    numbers = [NONE if noun is None else noun_number.get(noun, UNHEARD) for noun in readings.nouns]
    noun = np.array(numbers, np.int32)[query_idx]
    terms = readings.noun_terms
    asked, kind = terms[query_idx], reader.products.types[product_idx]
    group = np.where(comparison.category_probability >= NEAR_FROM, NEAR, FAR)
    group = np.where(reader.is_kind_of(kind, asked), KIND_OF, group).astype(np.int32)
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
