"""Products as a lexicon sees them: one number for each attribute and slot, and the words they have."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int32, Int64

from shelfrank.features.understanding.arrays import contains, pack
from shelfrank.features.understanding.catalogue import NONE, Catalogue
from shelfrank.features.understanding.lexicon import TYPE, Lexicon, product_words

NO_TERM = NONE


class CodedProducts:
    """The products of a catalogue, coded once and then compared with any query.

    Args:
        arrays: The arrays below, and pairs, ascending: `tokens` of product and word, `list_values` of product and value
            among those of all attributes.

    The last one is no product: of it nothing is known, and it stands for products that the catalogue has not.

    Attributes:
        categories: Each product's category; `NONE` for none.
        attributes: Its value of each attribute: the declared one, else the first that the title names; of one with a
            list, any of its values.
        slots: The term that fills each slot of its category: its type first. `NONE` for none.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)
        self.categories: Int32[np.ndarray, " products"] = arrays["categories"]
        self.attributes: Int32[np.ndarray, "products attributes"] = arrays["attributes"]
        self.slots: Int32[np.ndarray, "products slots"] = arrays["slots"]
        self._list_values: Int64[np.ndarray, " pairs"] = arrays["list_values"]
        self._tokens: Int64[np.ndarray, " pairs"] = arrays["tokens"]

    def __len__(self) -> int:
        return len(self.categories) - 1

    @property
    def types(self) -> Int32[np.ndarray, " products"]:
        """The term of each product's type; `NONE` for none."""
        return self.slots[:, TYPE]

    def have(self, products: Int32[np.ndarray, " n"], words: Int32[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whether products have words in their title or attributes, one word each."""
        return contains(self._tokens, pack(products, words))

    def lists(self, products: Int32[np.ndarray, " n"], values: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whether products have values in their lists, one value each, by its number among those of all attributes."""
        return contains(self._list_values, pack(products, values))

    @cached_property
    def _by_word(self) -> tuple[Int32[np.ndarray, " pairs"], Int64[np.ndarray, " words"]]:
        words = self._tokens & 0xFFFFFFFF
        order = np.argsort(words, kind="stable")
        starts = np.searchsorted(words[order], np.arange(int(words.max(initial=-1)) + 2))
        return (self._tokens[order] >> 32).astype(np.int32), starts

    def with_word(self, word: int) -> Int32[np.ndarray, " n"]:
        """The products that have a word, ascending."""
        products, starts = self._by_word
        if word + 1 >= len(starts):
            return products[:0]
        return products[starts[word] : starts[word + 1]]

    @classmethod
    def of(cls, lexicon: Lexicon, catalogue: Catalogue) -> "CodedProducts":
        """Codes the products of a catalogue, which need not be the one that the lexicon was learned from.

        Args:
            lexicon: The lexicon.
            catalogue: The products, with the lexicon's attributes.

        Returns:
            The coded products.

        Raises:
            ValueError: Where the catalogue lacks an attribute of the lexicon.
        """
        lacking = sorted(set(lexicon.attributes) - {*catalogue.attributes, *catalogue.lists})
        if lacking:
            raise ValueError(
                f"the catalogue must have every attribute of the lexicon, but it lacks {', '.join(lacking)}; add them"
            )
        texts = [*catalogue.title_tokens, []]
        categories = lexicon.categories.code([*catalogue.category_column(), None])
        single = [name for name in lexicon.attributes if name not in lexicon.names["lists"]]
        columns = [[*catalogue.attributes[name], None] for name in single]
        codes = [own.code(column) for own, column in zip(lexicon.values, columns, strict=False)]
        list_values = lexicon.values[len(single) :]
        lists = [
            own.code_lists([*catalogue.lists[name], None])
            for own, name in zip(list_values, lexicon.names["lists"], strict=True)
        ]
        rows = lexicon.splitter.split_all(texts)
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        terms = np.array([lexicon.term_number.get(term, NO_TERM) for row in rows for term in row], np.int32)
        attributes = np.full((len(rows), len(lexicon.attributes)), NONE, np.int32)
        known = terms != NO_TERM
        own_terms, own_products = terms[known][::-1], owner[known][::-1]
        naming = lexicon.term_attribute[own_terms] if len(own_terms) else own_terms
        for attribute, own in enumerate(codes):
            rows_of = naming == attribute
            # The first of a title's terms is written last.
            attributes[own_products[rows_of], attribute] = lexicon.term_value[own_terms[rows_of]]
            attributes[own != NONE, attribute] = own[own != NONE]
        pairs: list[int] = []
        for attribute, own in enumerate(lists, len(single)):
            first = int(lexicon.value_starts[attribute])
            for product, values in enumerate(own):
                if values:
                    attributes[product, attribute] = values[0]
                    pairs += [product << 32 | first + value for value in values]
        listed = np.sort(np.array(pairs, np.int64))
        slots = np.full((len(rows), lexicon.n_slots), NONE, np.int32)
        slot = lexicon.slots(categories[own_products], own_terms)
        filled = (slot != NONE) & (categories[own_products] != NONE)
        slots[own_products[filled], slot[filled]] = own_terms[filled]
        if lexicon.names["of_heads"]:
            heads = [lexicon.term_number.get(words, NO_TERM) for words in lexicon.categories.words]
            without = (slots[:, TYPE] == NONE) & (categories != NONE)
            slots[without, TYPE] = np.array(heads, np.int32)[categories[without]]
        number = lexicon.word_number
        words = product_words(
            texts, [*lexicon.values[: len(single)], lexicon.categories], [*codes, categories], list_values, lists
        )
        pairs = [product << 32 | number[word] for product, row in enumerate(words) for word in row if word in number]
        tokens = np.sort(np.array(pairs, np.int64))
        arrays = {"categories": categories, "attributes": attributes, "list_values": listed}
        return cls({**arrays, "slots": slots, "tokens": tokens})
