"""How a query is read, and how a product answers it: match, conflict or unknown, for each attribute and slot."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from shelfrank.features.understanding.arrays import contains, pack
from shelfrank.features.understanding.catalogue import MAX_VALUE_TOKENS, NONE
from shelfrank.features.understanding.lexicon import Lexicon, unit_word
from shelfrank.features.understanding.phrases import JOINS, MAX_CHARACTER_PHRASE, STOP_WORDS, PhraseSplitter, Term
from shelfrank.features.understanding.products import CodedProducts
from shelfrank.features.understanding.speller import Speller
from shelfrank.features.understanding.tokens import MAX_QUERY_TOKENS, is_character, spelled, tokens, unit_of


class QueryPartKind(StrEnum):
    """What a part of a query is."""

    ATTRIBUTE = "attribute"
    TYPE = "type"
    SLOT = "slot"
    CATEGORY = "category"
    WORD = "word"
    UNKNOWN = "unknown"


MAX_PROBS = 1_000_000
"""Probabilities of queries and entries that are computed together, so that memory does not grow with the queries."""
KINDS = tuple(QueryPartKind)
_ATTRIBUTE, _TYPE, _SLOT, _CATEGORY, _WORD, _UNKNOWN = range(len(KINDS))


class Status(IntEnum):
    """How a product answers what a query names."""

    NOT_NAMED = 0
    MATCH = 1
    CONFLICT = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class QueryPart:
    """One word or phrase of a query.

    Attributes:
        text: The word or phrase as the catalogue writes it.
        kind: What it is.
        attribute: The attribute of which it names a value; None for other kinds.
        value: That value, or the category that it names.
        typed: What was typed, where it was respelled.
    """

    text: str
    kind: QueryPartKind
    attribute: str | None = None
    value: str | None = None
    typed: str | None = None

    def __str__(self) -> str:
        what = self.attribute or str(self.kind)
        value = f" = {self.value}" if self.value is not None and self.value != self.text else ""
        typed = f" (typed {self.typed})" if self.typed else ""
        return f"{self.text}{typed}: {what}{value}"


@dataclass(frozen=True)
class QueryReading:
    """How one query was read.

    Attributes:
        parts: Its words and phrases in order; words that only join others are left out.
        noun: What kind of product it asks for: its type, else, unless it names a category, its last word of which
            nothing is known; None without one.
        categories: The likeliest categories with their probabilities.
        types: The likeliest product types with their probabilities; empty where the query names none that is known.
    """

    parts: tuple[QueryPart, ...]
    noun: str | None
    categories: tuple[tuple[str, float], ...] = ()
    types: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.parts))

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "parts": [{**vars(part), "kind": part.kind.value} for part in self.parts],
            "categories": dict(self.categories),
            "types": dict(self.types),
        }


@dataclass(frozen=True)
class Comparison:
    """How products answer queries, one row a pair.

    Attributes:
        names: The columns of `statuses`: each attribute, then `type`, `category`, `slots` and `words`.
        statuses: A `Status` each; of several slots or words the worst one, a conflict before an unknown.
        n_match: Parts of the query that the product matches: attributes, the type, and each slot and word.
        n_conflict: Those that it contradicts.
        n_unknown: Those of which the catalogue does not say.
        category_probability: Probability that the query asks for the product's category.
        type_probability: Probability that it asks for the product's category and type.
        shares_word: Whether the product has any word of the query.
        share: Share of the query that the product has, each word weighted by how rare it is; what matches counts whole.
    """

    names: tuple[str, ...]
    statuses: UInt8[np.ndarray, "pairs columns"]
    n_match: UInt8[np.ndarray, " pairs"]
    n_conflict: UInt8[np.ndarray, " pairs"]
    n_unknown: UInt8[np.ndarray, " pairs"]
    category_probability: Float32[np.ndarray, " pairs"]
    type_probability: Float32[np.ndarray, " pairs"]
    shares_word: Bool[np.ndarray, " pairs"]
    share: Float32[np.ndarray, " pairs"]

    @property
    def type_status(self) -> UInt8[np.ndarray, " pairs"]:
        """How the products answer the type that the query names."""
        return self.statuses[:, -4]

    @property
    def category_status(self) -> UInt8[np.ndarray, " pairs"]:
        """How the products answer the category that the query names."""
        return self.statuses[:, -3]

    def other_conflicts(self) -> Int32[np.ndarray, " pairs"]:
        """Conflicts of anything but type and category."""
        return self.n_conflict - np.sum(self.statuses[:, -4:-2] == Status.CONFLICT, axis=1, dtype=np.int32)

    def other_unknowns(self) -> Int32[np.ndarray, " pairs"]:
        """Unknowns of anything but type and category."""
        return self.n_unknown - np.sum(self.statuses[:, -4:-2] == Status.UNKNOWN, axis=1, dtype=np.int32)


class KnownTerms(NamedTuple):
    """The terms of a query that the lexicon has, and those of them that are types, each in the query's order."""

    terms: tuple[int, ...]
    types: tuple[int, ...]


@dataclass
class _Parts:
    """Parts of queries in flat arrays, as they are gathered; `seen` has each different one once, to save memory."""

    kind: list[int] = field(default_factory=list)
    attribute: list[int] = field(default_factory=list)
    value: list[int] = field(default_factory=list)
    term: list[int] = field(default_factory=list)
    unit: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    n_words: list[int] = field(default_factory=list)
    per_query: list[int] = field(default_factory=list)
    seen: dict[tuple[Term, str | None], QueryPart] = field(default_factory=dict)


class QueryReader:
    """Reads queries by a lexicon, and compares them with its products.

    Reading a query depends on its text alone, and comparing it on it and the product alone, so that a pair has the same
    values wherever it stands.

    Args:
        lexicon: The lexicon.
        products: The coded products.
    """

    def __init__(self, lexicon: Lexicon, products: CodedProducts) -> None:
        self.lexicon, self.products = lexicon, products
        self.speller = Speller(lexicon, products)
        # By how few products have a word; the last is of words that none has.
        n_products = max(len(products), 1)
        n_of_word = np.append(lexicon.word_counts, 0)
        self.word_weights = np.log((n_products + 1.0) / (n_of_word + 0.5)).clip(min=1e-3).astype(np.float32)
        categories = [name for name in lexicon.category_of_name if 1 < len(name) <= MAX_VALUE_TOKENS]
        phrases = {term for term in lexicon.terms if len(term) > 1}
        self._splitter = PhraseSplitter(phrases.union(categories))
        # One entry for each category and type that go together.
        types = np.where(products.types == NONE, len(lexicon.terms), products.types)
        keys, self._entry, counts = np.unique(
            pack(products.categories + 1, types), return_inverse=True, return_counts=True
        )
        self._entry_category, self._entry_type = (keys >> 32) - 1, (keys & 0xFFFFFFFF).astype(np.int32)
        # The last is no product.
        counts[self._entry[-1]] -= 1
        in_category = np.bincount(products.categories[:-1] + 1, minlength=len(lexicon.categories) + 1)
        self._entry_share = counts / np.maximum(in_category[self._entry_category + 1], 1)
        kinds = {own: lexicon.kinds_of(own) for own in np.unique(products.types[products.types != NONE]).tolist()}
        pairs = [(own, kind) for own, of_own in kinds.items() for kind in of_own]
        self._kinds = np.unique(pack(*np.array(pairs, np.int64).reshape(-1, 2).T))
        self._entries_of_kind: dict[int, list[int]] = {}
        for entry, own in enumerate(self._entry_type.tolist()):
            for kind in kinds.get(own, ()):
                self._entries_of_kind.setdefault(kind, []).append(entry)

    def read(self, queries: Sequence[str]) -> "QueryReadings":
        """Reads queries; one without a word has no parts."""
        parts = _Parts()
        readings = [self._read(query, parts) for query in queries]
        return QueryReadings(self, readings, parts)

    def _read(self, query: str, flat: _Parts) -> list[QueryPart]:
        words, typed = self._respelled(tokens(query, MAX_QUERY_TOKENS))
        parts: list[QueryPart] = []
        n_before: int | None = None
        at = 0
        for term in self._with_characters_joined(self._splitter.split(words), query):
            was = " ".join(dict.fromkeys(each for each in typed[at : at + len(term)] if each is not None)) or None
            at += len(term)
            if not all(word in STOP_WORDS for word in term):
                parts.append(self._part(term, was, flat))
            elif n_before is None and any(word not in JOINS for word in term):
                n_before = len(parts) or None
        if self.lexicon.names["of_heads"]:
            self._keep_noun(parts, n_before, flat)
        flat.per_query.append(len(parts))
        return parts

    def _with_characters_joined(self, terms: list[Term], query: str) -> list[Term]:
        """The terms, where characters beside each other that mean nothing on their own are one.

        A product must have them beside each other, too; each on its own stands in many words.
        """
        found: list[Term] = []
        open_ = False
        for term in terms:
            number = self.lexicon.term_number.get(term, NONE)
            plain = len(term) == 1 and is_character(term[0]) and term[0] not in STOP_WORDS
            if plain and number != NONE:
                plain = self.lexicon.term_attribute[number] == NONE and not self.lexicon.is_type[number]
            if plain and open_ and len(found[-1]) < MAX_CHARACTER_PHRASE and found[-1][-1] + term[0] in query:
                found[-1] += term
            else:
                found.append(term)
            open_ = bool(plain)
        return found

    def _keep_noun(self, parts: list[QueryPart], n_before: int | None, flat: _Parts) -> None:
        """Keeps of several types the one that is the query's noun; the others say more of it, as in `sofa cover`.

        Args:
            parts: The query's parts, the last that were gathered.
            n_before: Those before its first preposition; None without one.
            flat: All parts.
        """
        types = [at for at, part in enumerate(parts) if part.kind is QueryPartKind.TYPE]
        own = [at for at in types if n_before is None or at < n_before] or types
        for at in types:
            if at != (own[-1] if self.lexicon.names["head_is_last"] else own[0]):
                parts[at] = replace(parts[at], kind=QueryPartKind.WORD)
                flat.kind[len(flat.kind) - len(parts) + at] = _WORD

    def _respelled(self, words: list[str]) -> tuple[list[str], list[str | None]]:
        """The words after respelling, and of each that was respelled what was typed."""
        found: list[str] = []
        typed: list[str | None] = []
        at = 0
        while at < len(words):
            word = words[at]
            joined = self.speller.joined(word, words[at + 1]) if at + 1 < len(words) else None
            if joined is not None:
                found.append(joined)
                typed.append(f"{word} {words[at + 1]}")
                at += 2
                continue
            meant = self.speller.respell(word, words[:at] + words[at + 1 :])
            found += meant or (word,)
            typed += [word] * len(meant) if meant else [None]
            at += 1
        return found, typed

    def _part(self, term: Term, typed: str | None, flat: _Parts) -> QueryPart:
        lexicon, text = self.lexicon, spelled(term)
        number = lexicon.term_number.get(term, NONE)
        attribute = value = NONE
        part = QueryPart(text, QueryPartKind.UNKNOWN, typed=typed)
        if number != NONE and lexicon.term_attribute[number] != NONE:
            attribute, value = int(lexicon.term_attribute[number]), int(lexicon.term_value[number])
            name = lexicon.values[attribute].names[value]
            part = QueryPart(text, QueryPartKind.ATTRIBUTE, lexicon.attributes[attribute], name, typed)
        elif number != NONE and lexicon.is_type[number]:
            part = QueryPart(text, QueryPartKind.TYPE, typed=typed)
        elif number != NONE and lexicon.in_slot[number]:
            part = QueryPart(text, QueryPartKind.SLOT, typed=typed)
        elif term in lexicon.category_of_name:
            value = lexicon.category_of_name[term]
            part = QueryPart(text, QueryPartKind.CATEGORY, value=lexicon.categories.names[value], typed=typed)
        required = lexicon.required_words(term)
        if part.kind is QueryPartKind.UNKNOWN and len(lexicon.words) not in required:
            part = QueryPart(text, QueryPartKind.WORD, typed=typed)
        flat.kind.append(KINDS.index(part.kind))
        flat.attribute.append(attribute)
        flat.value.append(value)
        flat.term.append(number)
        unit = unit_of(term[0]) if len(term) == 1 else None
        unit_number = NONE if unit is None else lexicon.word_number.get(unit_word(unit), NONE)
        flat.unit.append(unit_number)
        flat.words += required
        flat.n_words.append(len(required))
        return flat.seen.setdefault((term, typed), part)

    def is_kind_of(self, own: Int32[np.ndarray, " *n"], asked: Int32[np.ndarray, " *n"]) -> Bool[np.ndarray, " *n"]:
        """Whether products' types are the types asked for or kinds of them."""
        return contains(self._kinds, pack(np.maximum(own, 0), np.maximum(asked, 0))) & (own != NONE) & (asked != NONE)

    def entry_probs(
        self, queries: Sequence[KnownTerms]
    ) -> tuple[Float64[np.ndarray, "queries entries"], Float64[np.ndarray, "queries entries"]]:
        """Of each category and type that go together: the category's probability, and that of both.

        Args:
            queries: The known terms of each query.

        Returns:
            The probabilities.
        """
        shape = len(queries), len(self._entry_share)
        if not len(self.lexicon.categories):
            of_category = np.ones(shape)
        else:
            probs = np.exp(self.lexicon.category_log_probs([query.terms for query in queries]))
            # The last stands for no category.
            of_category = np.pad(probs, [(0, 0), (0, 1)]).take(self._entry_category, axis=1)
        of_both = of_category * self._entry_share
        for row, query in enumerate(queries):
            named = [entry for term in query.types for entry in self._entries_of_kind.get(term, ())]
            if named:
                of_named = np.zeros(shape[1])
                of_named[named] = of_both[row, named]
                of_both[row] = of_named / max(float(of_named.sum()), 1e-30)
        return of_category, of_both

    @property
    def entries(
        self,
    ) -> tuple[Int64[np.ndarray, " entries"], Int32[np.ndarray, " entries"], Int64[np.ndarray, " products"]]:
        """Category and type of each entry, and each product's entry; the type of none is the number of terms."""
        return self._entry_category, self._entry_type, self._entry


class QueryReadings:
    """Some queries that were read.

    Args:
        reader: Read them.
        readings: The parts of each.
        flat: The same in arrays.
    """

    def __init__(self, reader: QueryReader, readings: Sequence[Sequence[QueryPart]], flat: _Parts) -> None:
        self._reader, self._readings = reader, readings
        self._kind = np.array(flat.kind, np.int32)
        self._attribute = np.array(flat.attribute, np.int32)
        self._value = np.array(flat.value, np.int32)
        self._term = np.array(flat.term, np.int32)
        self._unit = np.array(flat.unit, np.int32)
        self._words = np.array(flat.words, np.int32)
        self._starts = np.concatenate([[0], np.cumsum(np.array(flat.per_query, np.int64))])
        self._word_starts = np.concatenate([[0], np.cumsum(np.array(flat.n_words, np.int64))])
        self.nouns: list[str | None] = [_noun(parts) for parts in readings]
        known = reader.lexicon.term_of_text
        self.noun_terms = np.array([known.get(noun, NONE) if noun else NONE for noun in self.nouns], np.int32)

    def __len__(self) -> int:
        return len(self._readings)

    def reading(self, query: int, n_likeliest: int = 3) -> QueryReading:
        """How one of the queries was read, for people to see; without likeliest ones its parts and noun alone."""
        if not n_likeliest:
            return QueryReading(tuple(self._readings[query]), self.nouns[query])
        reader, lexicon = self._reader, self._reader.lexicon
        known = self._term_sets[1][self._term_sets[0][query]]
        categories: tuple[tuple[str, float], ...] = ()
        if known.terms and len(lexicon.categories):
            probs = np.exp(lexicon.category_log_probs([known.terms])[0])
            best = np.argsort(-probs, kind="stable")[:n_likeliest]
            categories = tuple((lexicon.categories.names[at], float(probs[at])) for at in best)
        kinds: dict[str, float] = {}
        if known.types:
            both = reader.entry_probs([known])[1][0]
            entry_type = reader.entries[1]
            for at in np.flatnonzero(both > 0).tolist():
                if entry_type[at] < len(lexicon.terms):
                    name = spelled(lexicon.terms[entry_type[at]])
                    kinds[name] = kinds.get(name, 0.0) + float(both[at])
        likeliest = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:n_likeliest]
        return QueryReading(tuple(self._readings[query]), self.nouns[query], categories, tuple(likeliest))

    def compare(self, query_idx: Int32[np.ndarray, " pairs"], product_idx: Int32[np.ndarray, " pairs"]) -> Comparison:
        """How products answer queries, both given by their places.

        Args:
            query_idx: The query of each pair.
            product_idx: Its product.

        Returns:
            One row a pair.
        """
        names = (*self._reader.lexicon.attributes, "type", "category", "slots", "words")
        statuses = np.zeros((len(query_idx), len(names)), np.uint8)
        counts = np.zeros((4, len(query_idx)), np.uint8)
        share_word = np.zeros(len(query_idx), dtype=bool)
        weights = np.zeros((2, len(query_idx)), np.float32)
        n_parts = self._starts[query_idx + 1] - self._starts[query_idx]
        for place in range(int(n_parts.max(initial=0))):
            rows = np.flatnonzero(n_parts > place)
            self._compare_part(
                rows, self._starts[query_idx[rows]] + place, product_idx[rows], statuses, counts, share_word, weights
            )
        for column in range(len(names) - 2):
            for status in (Status.MATCH, Status.CONFLICT, Status.UNKNOWN):
                counts[status] += statuses[:, column] == status
        category, both = self._probabilities(query_idx, product_idx)
        return Comparison(
            names,
            statuses,
            counts[Status.MATCH],
            counts[Status.CONFLICT],
            counts[Status.UNKNOWN],
            category,
            both,
            share_word,
            weights[0] / np.maximum(weights[1], 1e-6),
        )

    def _compare_part(
        self,
        rows: Int64[np.ndarray, " n"],
        part: Int64[np.ndarray, " n"],
        product: Int32[np.ndarray, " n"],
        statuses: UInt8[np.ndarray, "pairs columns"],
        counts: UInt8[np.ndarray, "statuses pairs"],
        share_word: Bool[np.ndarray, " pairs"],
        weights: Float32[np.ndarray, "two pairs"],
    ) -> None:
        products, lexicon = self._reader.products, self._reader.lexicon
        weight, had = self._have_words(part, product)
        has = had >= weight
        share_word[rows] |= had > 0
        kind, first_other = self._kind[part], len(lexicon.attributes)
        status = np.where(has, _MATCHES, _IS_UNKNOWN)
        kinds = set(kind.tolist())
        if _ATTRIBUTE in kinds:
            at = np.flatnonzero(kind == _ATTRIBUTE)
            attribute, value = self._attribute[part[at]], self._value[part[at]]
            own, of_list = products.attributes[product[at], attribute], lexicon.is_list[attribute]
            listed = of_list & products.lists(product[at], lexicon.value_starts[attribute] + value)
            status[at] = _answer(has[at] | np.where(of_list, listed, own == value), own)
            # Of several values of one attribute, one that matches is enough; likewise of several types. A list should
            # have each.
            _keep_best(statuses, rows[at[~of_list]], attribute[~of_list], status[at[~of_list]])
            _keep_worst_value(statuses, rows[at[of_list]], attribute[of_list], status[at[of_list]])
        if _TYPE in kinds:
            at = np.flatnonzero(kind == _TYPE)
            own = products.types[product[at]]
            asked = self._reader.is_kind_of(own, self._term[part[at]])
            status[at] = _answer(asked | (has[at] & (own == NONE)), own)
            _keep_best(statuses, rows[at], np.full(len(at), first_other), status[at])
        if _CATEGORY in kinds:
            at = np.flatnonzero(kind == _CATEGORY)
            own = products.categories[product[at]]
            status[at] = _answer((own == self._value[part[at]]) | (has[at] & (own == NONE)), own)
            _keep_best(statuses, rows[at], np.full(len(at), first_other + 1), status[at])
        if _SLOT in kinds:
            at = np.flatnonzero(kind == _SLOT)
            slot = lexicon.slots(products.categories[product[at]], self._term[part[at]])
            filled = np.where(slot == NONE, NONE, products.slots[product[at], np.maximum(slot, 0)])
            status[at] = self._other_measure(_answer(has[at], filled), part[at], product[at])
            _keep_worst(statuses, counts, rows[at], first_other + 2, status[at])
        if _WORD in kinds or _UNKNOWN in kinds:
            at = np.flatnonzero((kind == _WORD) | (kind == _UNKNOWN))
            status[at] = self._other_measure(status[at], part[at], product[at])
            _keep_worst(statuses, counts, rows[at], first_other + 3, status[at])
        weights[0, rows] += np.where(status == _MATCHES, weight, had)
        weights[1, rows] += weight

    def _other_measure(
        self, status: UInt8[np.ndarray, " n"], part: Int64[np.ndarray, " n"], product: Int32[np.ndarray, " n"]
    ) -> UInt8[np.ndarray, " n"]:
        """The statuses, where an unknown measure is a conflict if the product has another one of its unit."""
        at = np.flatnonzero((self._unit[part] != NONE) & (status == _IS_UNKNOWN))
        if len(at):
            other = self._reader.products.have(product[at], self._unit[part[at]])
            status[at] = np.where(other, _CONFLICTS, _IS_UNKNOWN)
        return status

    def _have_words(
        self, part: Int64[np.ndarray, " n"], product: Int32[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """The weights of the words of parts, and of those that products have."""
        n_words = self._word_starts[part + 1] - self._word_starts[part]
        weight, had = np.zeros(len(part), np.float32), np.zeros(len(part), np.float32)
        for place in range(int(n_words.max(initial=0))):
            at = np.flatnonzero(n_words > place)
            words = self._words[self._word_starts[part[at]] + place]
            own = self._reader.word_weights[words]
            weight[at] += own
            had[at] += np.where(self._reader.products.have(product[at], words), own, np.float32(0))
        return weight, had

    @cached_property
    def _term_sets(self) -> tuple[Int64[np.ndarray, " queries"], list[KnownTerms]]:
        """The number of each query's known terms, and these, each different ones once."""
        number: dict[KnownTerms, int] = {}
        starts, terms = self._starts.tolist(), self._term.tolist()
        is_type = (self._kind == _TYPE).tolist()
        of_query = np.empty(len(self), np.int64)
        for query, (start, end) in enumerate(pairwise(starts)):
            known = [at for at in range(start, end) if terms[at] != NONE]
            own = KnownTerms(
                tuple(dict.fromkeys(terms[at] for at in known)),
                tuple(dict.fromkeys(terms[at] for at in known if is_type[at])),
            )
            of_query[query] = number.setdefault(own, len(number))
        return of_query, list(number)

    def _probabilities(
        self, query_idx: Int32[np.ndarray, " pairs"], product_idx: Int32[np.ndarray, " pairs"]
    ) -> tuple[Float32[np.ndarray, " pairs"], Float32[np.ndarray, " pairs"]]:
        category, both = np.empty(len(query_idx), np.float32), np.empty(len(query_idx), np.float32)
        entry = self._reader.entries[2][product_idx]
        of_query, sets = self._term_sets
        own = of_query[query_idx]
        order = np.argsort(own, kind="stable")
        numbers, starts = np.unique(own[order], return_index=True)
        starts = np.append(starts, len(order))
        at_once = max(MAX_PROBS // len(self._reader.entries[0]), 1)
        for first in range(0, len(numbers), at_once):
            some = numbers[first : first + at_once]
            bounds = starts[first : first + at_once + 1]
            rows = order[bounds[0] : bounds[-1]]
            of_category, of_both = self._reader.entry_probs([sets[number] for number in some.tolist()])
            at = np.repeat(np.arange(len(some)), np.diff(bounds)), entry[rows]
            category[rows], both[rows] = of_category[at], of_both[at]
        return category, both


_MATCHES, _CONFLICTS, _IS_UNKNOWN = (np.uint8(status) for status in (Status.MATCH, Status.CONFLICT, Status.UNKNOWN))
_WORSE = np.array([0, 1, 3, 2])
"""Order of the statuses, the worst last."""
_BETTER = np.array([0, 3, 2, 1])
"""Order of the statuses, the best last; a conflict says more than an unknown, and no product has both."""


def _answer(matches: Bool[np.ndarray, " n"], own: Int32[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """A match, else a conflict where the product has a value of its own, else an unknown."""
    return np.where(matches, _MATCHES, np.where(own == NONE, _IS_UNKNOWN, _CONFLICTS))


def _keep_worst(
    statuses: UInt8[np.ndarray, "pairs columns"],
    counts: UInt8[np.ndarray, "statuses pairs"],
    rows: Int64[np.ndarray, " n"],
    column: int,
    status: UInt8[np.ndarray, " n"],
) -> None:
    worse = _WORSE[status] > _WORSE[statuses[rows, column]]
    statuses[rows[worse], column] = status[worse]
    # A row stands here once, so that it is counted once.
    counts[status, rows] += np.uint8(1)


def _keep_worst_value(
    statuses: UInt8[np.ndarray, "pairs columns"],
    rows: Int64[np.ndarray, " n"],
    columns: np.ndarray,
    status: UInt8[np.ndarray, " n"],
) -> None:
    worse = _WORSE[status] > _WORSE[statuses[rows, columns]]
    statuses[rows[worse], columns[worse]] = status[worse]


def _keep_best(
    statuses: UInt8[np.ndarray, "pairs columns"],
    rows: Int64[np.ndarray, " n"],
    columns: np.ndarray,
    status: UInt8[np.ndarray, " n"],
) -> None:
    better = _BETTER[status] > _BETTER[statuses[rows, columns]]
    statuses[rows[better], columns[better]] = status[better]


def _noun(parts: Sequence[QueryPart]) -> str | None:
    types = [part.text for part in parts if part.kind is QueryPartKind.TYPE]
    if types or any(part.kind is QueryPartKind.CATEGORY for part in parts):
        return types[-1] if types else None
    others = [part.text for part in parts if part.kind in (QueryPartKind.WORD, QueryPartKind.UNKNOWN)]
    return others[-1] if others else None
