"""The lexicon of a catalogue: its phrases, and what each of them means, learned without a click."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from shelfrank.features.understanding.arrays import find, pack
from shelfrank.features.understanding.catalogue import MAX_VALUE_TOKENS, NONE, Catalogue, Values
from shelfrank.features.understanding.meanings import Incidence, attribute_meanings
from shelfrank.features.understanding.phrases import STOP_WORDS, PhraseSplitter, Term, learn_phrases
from shelfrank.features.understanding.slots import MAX_TERMS, MIN_TERM_COUNT, find_slots
from shelfrank.features.understanding.tokens import is_character, spelled, unit_of

MIN_TYPE_COVERAGE = 0.5
"""Least share of a category's titles that have a type, each weighted by how much its term is the category's own."""
MIN_SHARE_OF_WIDEST = 0.9
"""Slots that cover almost as much as the widest one: of these, the type is the one with the most terms."""
MAX_SLOTS = 8
"""Slots of one category, the type among them."""
MAX_TITLES = 20_000
"""Titles of one category that its slots are learned from."""
TYPE = 0
"""The slot of the product type in every category."""


class Lexicon:
    """What the words of a shop mean, learned from its catalogue alone.

    A term is a word or a phrase. It names a value of a declared attribute (literally, or because products with it have
    that value, as those in `cream` are beige), or it fills a slot of a category, such as the product type; or neither.
    `docs/understanding.md` says how each is learned. The order of the products has no influence.

    Args:
        names: Texts: `attributes`, `lists`, those of them with lists, `values` of each, `categories`, `terms`, `words`;
            `head_is_last`, and `of_heads`: whether the categories are the heads of titles.
        arrays: The arrays below, and `types`, the terms that are types.

    Attributes:
        attributes: Names of the declared attributes, those with lists of values last.
        is_list: Whether each is one with a list of values.
        values: Their values.
        value_starts: The number of each attribute's first value among those of all.
        categories: The categories.
        terms: The terms; arrays of terms are in their order.
        term_number: The place of each term.
        term_of_text: The same by the term as one text.
        words: Every word of a title or of a value, and every pair of characters that follow each other there.
        word_number: The place of each word.
        is_type: Whether a term is a product type, or what longer ones are a kind of (`boots` of `walking boots`).
        in_slot: Whether a term fills a slot of some category.
    """

    def __init__(self, names: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.names, self.arrays = dict(names), dict(arrays)
        self.attributes: list[str] = names["attributes"]
        self.is_list = np.array([name in names["lists"] for name in self.attributes], dtype=bool)
        self.values = [Values(own) for own in names["values"]]
        self.value_starts = np.cumsum([0, *map(len, self.values)])
        self.categories = Values(names["categories"])
        self.terms: list[Term] = [tuple(words) for words in names["terms"]]
        self.term_number = {term: at for at, term in enumerate(self.terms)}
        self.term_of_text = {spelled(term): at for at, term in enumerate(self.terms)}
        self.words: list[str] = names["words"]
        self.word_number = {word: at for at, word in enumerate(self.words)}
        self.is_type = np.zeros(len(self.terms), dtype=bool)
        self.is_type[arrays["types"]] = True
        self.in_slot = np.zeros(len(self.terms), dtype=bool)
        self.in_slot[arrays["slot_keys"] & 0xFFFFFFFF] = True
        self.splitter = PhraseSplitter(term for term in self.terms if len(term) > 1)
        self.category_of_name = {words: at for at, words in enumerate(self.categories.words)}

    @property
    def term_attribute(self) -> Int32[np.ndarray, " terms"]:
        """The attribute of which each term names a value; `NONE` for none."""
        return self.arrays["term_attribute"]

    @property
    def term_value(self) -> Int32[np.ndarray, " terms"]:
        """The value that each term names; `NONE` for none."""
        return self.arrays["term_value"]

    @property
    def word_counts(self) -> Int64[np.ndarray, " words"]:
        """Products of each word."""
        return self.arrays["word_counts"]

    @property
    def n_slots(self) -> int:
        """Slots of the category that has the most, the type among them."""
        return int(self.arrays["slots"].max(initial=TYPE)) + 1

    def slots(self, categories: Int32[np.ndarray, " n"], terms: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
        """The slot that each term fills in each category; `NONE` where it fills none."""
        return find(self.arrays["slot_keys"], self.arrays["slots"], pack(categories, np.maximum(terms, 0)), NONE)

    def slot_terms(self, category: int) -> list[list[str]]:
        """The terms of each slot of a category as texts, the product types first."""
        keys, slots = self.arrays["slot_keys"], self.arrays["slots"]
        own = (keys >> 32) == category
        found: list[list[str]] = [[] for _ in range(int(slots[own].max(initial=-1)) + 1)]
        for term, slot in zip((keys[own] & 0xFFFFFFFF).tolist(), slots[own].tolist(), strict=True):
            found[slot].append(" ".join(self.terms[term]))
        return found

    def category_log_probs(self, queries: Sequence[Sequence[int]]) -> Float64[np.ndarray, "queries categories"]:
        """Log of each category's probability, given terms of queries; naive Bayes over the products' terms."""
        sizes = self.arrays["category_sizes"]
        n_products = max(int(sizes.sum()), 1)
        prior = np.log((sizes + 0.5) / (n_products + 0.5 * len(sizes)))
        log_probs = np.tile(prior, (len(queries), 1))
        if not len(prior):
            return log_probs
        keys, counts = self.arrays["term_category_keys"], self.arrays["term_category_counts"]
        terms = np.unique(np.array([term for query in queries for term in query], np.int64))
        starts, ends = np.searchsorted(keys, terms << 32), np.searchsorted(keys, (terms + 1) << 32)
        of_terms = np.empty((len(terms), len(sizes)))
        for at, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            with_term = np.zeros(len(sizes))
            with_term[keys[start:end] & 0xFFFFFFFF] = counts[start:end]
            share = (with_term.sum() + 0.5) / (n_products + 1.0)
            of_terms[at] = np.log((with_term + share) / (sizes + 1.0))
        # Numerics: the terms of a query are added in its order, so that a query has the same bits in any company.
        for place in range(max(map(len, queries), default=0)):
            rows = [row for row, query in enumerate(queries) if len(query) > place]
            log_probs[rows] += of_terms[np.searchsorted(terms, [queries[row][place] for row in rows])]
        log_probs -= log_probs.max(axis=1, keepdims=True)
        return log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True))

    def kinds_of(self, term: int) -> set[int]:
        """The types that a type is a kind of, itself among them."""
        words, last = self.terms[term], self.names["head_is_last"]
        own = (self.term_number.get(shorter) for shorter in shorter_types([words], last))
        return {term, *(number for number in own if number is not None)}

    def required_words(self, term: Term) -> list[int]:
        """Words that a product with the term must have; one that no product has is `len(words)`."""
        return [self.word_number.get(word, len(self.words)) for word in with_pairs(term, singles=False)]

    @classmethod
    def learn(cls, catalogue: Catalogue) -> "Lexicon":
        """Learns the lexicon of a catalogue; an empty one gives a lexicon without terms."""
        texts = catalogue.title_tokens
        categories = Values.of(catalogue.category_column())
        category = categories.code(catalogue.category_column())
        values = [Values.of(column) for column in catalogue.attributes.values()]
        codes = [own.code(column) for own, column in zip(values, catalogue.attributes.values(), strict=True)]
        list_values = [Values.of([name for own in column for name in own or ()]) for column in catalogue.lists.values()]
        list_codes = [own.code_lists(column) for own, column in zip(list_values, catalogue.lists.values(), strict=True)]
        every = [*values, *list_values]
        named = {words for own in every for words in own.words if len(words) <= MAX_VALUE_TOKENS}
        phrases = learn_phrases(texts, category, named)
        phrases -= _beside_their_value(PhraseSplitter(phrases).split_all(texts), phrases - named, values, codes)
        rows = PhraseSplitter(phrases).split_all(texts)
        terms = sorted({term for row in rows for term in row} | named)
        number = {term: at for at, term in enumerate(terms)}
        has = Incidence.of([[number[term] for term in row] for row in rows], len(terms))
        ignored = np.array([len(term) == 1 and term[0] in STOP_WORDS for term in terms], dtype=bool)
        term_attribute, term_value = attribute_meanings(has, codes, values, category, number, ignored)
        for attribute, own in enumerate(list_values, len(values)):
            for value, words in enumerate(own.words):
                at = number.get(words, NONE)
                if at != NONE and term_attribute[at] == NONE:
                    term_attribute[at], term_value[at] = attribute, value
        of_head = _of_head(terms, categories, catalogue.head_is_last)
        slot_keys, slots = _slots(has, category, ignored | (term_attribute != NONE), of_head)
        types = {terms[term] for term in (slot_keys[slots == TYPE] & 0xFFFFFFFF).tolist()}
        last = head_is_last(types) if catalogue.head_is_last is None else catalogue.head_is_last
        shorter = {term for term in shorter_types(types, last) if not {term[0], term[-1]} & STOP_WORDS}
        if catalogue.head_is_last is not None:
            shorter |= {words for words in categories.words if len(words) == 1}
        # One that no title has on its own is no term yet.
        new = sorted(shorter - number.keys())
        terms += new
        number |= {term: len(number) + at for at, term in enumerate(new)}
        term_attribute, term_value = (
            np.append(own, np.full(len(new), NONE, np.int32)) for own in (term_attribute, term_value)
        )
        types |= {term for term in shorter if term_attribute[number[term]] == NONE}
        longer = {number[term]: shorter_types([term], last) & number.keys() for term in types}
        wider = _with_shorter(has, {term: [number[own] for own in found] for term, found in longer.items()})
        term_category_keys, term_category_counts = _term_categories(wider, codes, category, term_attribute, term_value)
        words = Counter(
            word
            for row in product_words(texts, [*values, categories], [*codes, category], list_values, list_codes)
            for word in row
        )
        names = {
            "attributes": [*catalogue.attributes, *catalogue.lists],
            "lists": list(catalogue.lists),
            "values": [own.names for own in every],
            "categories": categories.names,
            "terms": terms,
            "words": sorted(words),
            "head_is_last": last,
            "of_heads": catalogue.head_is_last is not None,
        }
        arrays = {
            "term_attribute": term_attribute,
            "term_value": term_value,
            "slot_keys": slot_keys,
            "slots": slots,
            "types": np.array(sorted(number[term] for term in types), np.int64),
            "term_category_keys": term_category_keys,
            "term_category_counts": term_category_counts,
            "category_sizes": np.bincount(category[category != NONE], minlength=len(categories)),
            "word_counts": np.array([words[word] for word in names["words"]], np.int64),
        }
        return cls(names, arrays)


def product_words(
    texts: Sequence[Sequence[str]],
    values: Sequence[Values],
    codes: Sequence[Int32[np.ndarray, " products"]],
    list_values: Sequence[Values],
    list_codes: Sequence[Sequence[Sequence[int]]],
) -> list[set[str]]:
    """The words of each product's title and attributes.

    Of characters also each pair that follow each other, of a number with a unit also the two apart.
    """
    rows = [set(with_units(with_pairs(row, singles=True))) for row in texts]
    for own, code in zip(values, codes, strict=True):
        words = _value_words(own)
        for row, value in zip(rows, code.tolist(), strict=True):
            if value != NONE:
                row |= words[value]
    for own, some in zip(list_values, list_codes, strict=True):
        words = _value_words(own)
        for row, numbers in zip(rows, some, strict=True):
            row.update(*(words[value] for value in numbers))
    return rows


def _value_words(values: Values) -> list[set[str]]:
    return [
        set(with_units(with_pairs(name, singles=True))) if len(name) <= MAX_VALUE_TOKENS else set()
        for name in values.words
    ]


def with_pairs(words: Sequence[str], singles: bool) -> list[str]:
    """Words, and of characters each pair that follow each other.

    Args:
        words: Tokens.
        singles: Whether characters that are in a pair are given on their own, too.

    Returns:
        The words: of 貂 皮 大 coat, without singles, 貂皮 皮大 coat.
    """
    pairs = [left + right for left, right in pairwise(words) if is_character(left) and is_character(right)]
    if singles or not pairs:
        return [*words, *pairs]
    paired = {character for pair in pairs for character in pair}
    return [word for word in words if word not in paired] + pairs


def with_units(words: Sequence[str]) -> list[str]:
    """Words, and of each number with a unit also the number and the unit alone, the unit as no query writes it."""
    found = [*words]
    for word in words:
        unit = unit_of(word)
        if unit is not None:
            found += [word[: -len(unit)], unit_word(unit)]
    return found


def unit_word(unit: str) -> str:
    """The word of products that have some number with a unit; the blank keeps it apart from tokens."""
    return f" {unit}"


def _beside_their_value(
    rows: Sequence[Sequence[Term]],
    phrases: set[Term],
    values: Sequence[Values],
    codes: Sequence[Int32[np.ndarray, " products"]],
) -> set[Term]:
    """Phrases with a value in them that most of their products have: two meanings side by side, as in `nylon tent`.

    The products of `dark blue` are declared as navy: it is a phrase of its own.
    """
    value_of = [{words: value for value, words in enumerate(own.words)} for own in values]
    inside: dict[Term, list[tuple[int, int]]] = {}
    for phrase in phrases:
        parts = [phrase[i:j] for i in range(len(phrase)) for j in range(i + 1, len(phrase) + 1)]
        found = [(at, own[part]) for part in parts for at, own in enumerate(value_of) if part in own]
        if found:
            inside[phrase] = found
    declared: Counter[tuple[Term, int, int]] = Counter()
    n_declared: Counter[tuple[Term, int, int]] = Counter()
    for product, row in enumerate(rows):
        for phrase in inside.keys() & set(row):
            for attribute, value in inside[phrase]:
                own = codes[attribute][product]
                n_declared[phrase, attribute, value] += own != NONE
                declared[phrase, attribute, value] += own == value
    return {key[0] for key, count in declared.items() if 2 * count > n_declared[key]}


def _of_head(terms: Sequence[Term], categories: Values, last: bool | None) -> Int32[np.ndarray, " terms"] | None:
    """The category of which each term is a type, where categories are heads; None where they are not."""
    if last is None:
        return None
    of_head = {words: at for at, words in enumerate(categories.words)}
    return np.array([of_head.get((term[-1] if last else term[0],), NONE) for term in terms], np.int32)


def _slots(
    has: Incidence,
    category: Int32[np.ndarray, " products"],
    left_out: Bool[np.ndarray, " terms"],
    of_head: Int32[np.ndarray, " terms"] | None,
) -> tuple[Int64[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """The slots of each category: keys of category and term, and the slot of each."""
    in_all = np.maximum(has.counts(), 1)
    group = category[has.products]
    kept = np.flatnonzero((group != NONE) & ~left_out[has.terms])
    kept = kept[np.argsort(group[kept], kind="stable")]
    sizes = np.bincount(category[category != NONE])
    ends = np.searchsorted(group[kept], np.arange(len(sizes) + 1))
    keys, slots = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for own, (start, end) in enumerate(pairwise(ends.tolist())):
        rows = kept[start:end]
        ids, n_of_term = np.unique(has.terms[rows], return_counts=True)
        often = np.lexsort((ids, -n_of_term))[:MAX_TERMS]
        often = np.sort(often[n_of_term[often] >= MIN_TERM_COUNT])
        ids, n_of_term = ids[often], n_of_term[often]
        if not len(ids):
            continue
        titles = np.flatnonzero(category == own)[:MAX_TITLES]
        rows = rows[np.isin(has.products[rows], titles) & np.isin(has.terms[rows], ids)]
        table = np.zeros((len(titles), len(ids)), dtype=bool)
        table[np.searchsorted(titles, has.products[rows]), np.searchsorted(ids, has.terms[rows])] = True
        if of_head is not None:
            is_type = of_head[ids] == own
            others = np.flatnonzero(~is_type)
            clusters = [[int(others[at]) for at in cluster] for cluster in find_slots(table[:, ~is_type])]
            _add_slots(keys, slots, own, ids, [np.flatnonzero(is_type).tolist(), *clusters])
            continue
        clusters = find_slots(table)
        weight = n_of_term * (n_of_term / in_all[ids]) / sizes[own]
        coverage = [float(weight[cluster].sum()) for cluster in clusters]
        # Sizes may be in every title, too, but there are more types.
        widest = [at for at, share in enumerate(coverage) if share >= MIN_SHARE_OF_WIDEST * max(coverage)]
        first = max(widest, key=lambda at: (len(clusters[at]), coverage[at], -at))
        if coverage[first] >= MIN_TYPE_COVERAGE:
            clusters.insert(TYPE, clusters.pop(first))
        else:
            clusters.insert(TYPE, [])
        _add_slots(keys, slots, own, ids, clusters)
    all_keys, all_slots = np.concatenate(keys), np.concatenate(slots)
    order = np.argsort(all_keys)
    return all_keys[order], all_slots[order]


def _add_slots(
    keys: list[Int64[np.ndarray, " n"]],
    slots: list[Int32[np.ndarray, " n"]],
    category: int,
    ids: Int64[np.ndarray, " terms"],
    clusters: Sequence[Sequence[int]],
) -> None:
    """Appends the slots of one category, the type first, of the others those with several terms."""
    named = [clusters[TYPE], *(cluster for cluster in clusters[TYPE + 1 :] if len(cluster) > 1)]
    for slot, cluster in enumerate(named[:MAX_SLOTS]):
        keys.append(pack(np.full(len(cluster), category), np.sort(ids[np.array(cluster, np.int64)])))
        slots.append(np.full(len(cluster), slot, np.int32))


def head_is_last(types: Iterable[Term]) -> bool:
    """Whether product types end in what they are (`coffee table`) and do not begin with it (`table basse`).

    In a language of the first kind, more types share their last word than their first.
    """
    several = [term for term in types if len(term) > 1]
    first, last = Counter(term[0] for term in several), Counter(term[-1] for term in several)
    return sum(n * n for n in last.values()) >= sum(n * n for n in first.values())


def shorter_types(types: Iterable[Term], last: bool) -> set[Term]:
    """What longer types are a kind of: of `bedside table lamp` these are `table lamp` and `lamp`."""
    cuts = [(term, cut) for term in types for cut in range(1, len(term))]
    return {term[cut:] if last else term[:cut] for term, cut in cuts}


def _with_shorter(has: Incidence, shorter: Mapping[int, Sequence[int]]) -> Incidence:
    """The pairs of products and terms, where one with a type also has those that it is a kind of."""
    terms, products = [has.terms], [has.products]
    for term, own in shorter.items():
        start, end = np.searchsorted(has.terms, [term, term + 1])
        terms += [np.full(end - start, each, np.int64) for each in own]
        products += [has.products[start:end]] * len(own)
    keys = np.unique(pack(np.concatenate(terms), np.concatenate(products)))
    return Incidence(keys >> 32, keys & 0xFFFFFFFF, has.n_terms)


def _term_categories(
    has: Incidence,
    codes: Sequence[Int32[np.ndarray, " products"]],
    category: Int32[np.ndarray, " products"],
    term_attribute: Int32[np.ndarray, " terms"],
    term_value: Int32[np.ndarray, " terms"],
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Products of each category that have a term in their title or, of a value, in its attribute."""
    terms, products = [has.terms], [has.products]
    for attribute, own in enumerate(codes):
        naming = np.flatnonzero(term_attribute == attribute)
        by_value = naming[np.argsort(term_value[naming], kind="stable")]
        having = np.flatnonzero(own != NONE)
        start = np.searchsorted(term_value[by_value], own[having], side="left")
        n_terms = np.searchsorted(term_value[by_value], own[having], side="right") - start
        first = np.repeat(start - np.cumsum(n_terms) + n_terms, n_terms)
        terms.append(by_value[first + np.arange(len(first))])
        products.append(np.repeat(having, n_terms))
    pairs = np.unique(pack(np.concatenate(terms), np.concatenate(products)))
    group = category[pairs & 0xFFFFFFFF]
    keys, counts = np.unique(pack(pairs[group != NONE] >> 32, group[group != NONE]), return_counts=True)
    return keys.astype(np.int64), counts.astype(np.int64)
