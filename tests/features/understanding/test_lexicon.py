import numpy as np
import pytest
from small_shop import TYPES, small_catalogue

from shelfrank.features.understanding import Catalogue, CodedProducts, Lexicon, QueryReader
from shelfrank.features.understanding.lexicon import head_is_last, shorter_types
from shelfrank.features.understanding.phrases import PhraseSplitter


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.learn(small_catalogue())


def read(lexicon: Lexicon, catalogue: Catalogue, query: str) -> str:
    return str(QueryReader(lexicon, CodedProducts.of(lexicon, catalogue)).read([query]).reading(0))


def test_product_types_are_found_as_the_first_slot_of_each_category(lexicon: Lexicon) -> None:
    for number, category in enumerate(lexicon.categories.names):
        assert sorted(lexicon.slot_terms(number)[0]) == sorted(TYPES[category])


def test_sizes_are_a_slot_of_their_own(lexicon: Lexicon) -> None:
    slots = {name: lexicon.slot_terms(at) for at, name in enumerate(lexicon.categories.names)}
    assert ["2 seater", "3 seater"] in slots["Sofas"]
    assert ["round", "square"] in slots["Tables"]
    assert ["size 8", "size 9"] in slots["Shoes"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("blue coffee table", "blue: color; coffee table: type"),
        ("cream couches by acme", "cream: color = beige; couch: type; acme: brand = Acme"),
        ("boots size 9", "boot: type; size 9: slot"),
        ("table", "table: type"),
        ("coffee", "coffee: word"),
        ("shoes", "shoe: category = Shoes"),
        ("blue zyzzyva", "blue: color; zyzzyva: unknown"),
        ("sandla", "sandal (typed sandla): type"),
        ("in the of", ""),
        ("?!", ""),
    ],
)
def test_readings_written_by_hand(lexicon: Lexicon, query: str, expected: str) -> None:
    assert read(lexicon, small_catalogue(), query) == expected


def test_a_word_beside_named_values_names_no_value_itself() -> None:
    # Every tent is of nylon, and titles say so: `tent` is what the product is, not what it is of.
    titles = [
        f"{kind} {material} {number % 7}"
        for kind, material in (("tent", "nylon"), ("stove", "steel"))
        for number in range(30)
    ]
    titles += [f"lantern {material} {number % 7}" for material in ("nylon", "steel") for number in range(30)]
    materials: list[str | None] = [title.split()[1] for title in titles]
    lexicon = Lexicon.learn(Catalogue(titles, {"material": materials}, ["Camping"] * len(titles)))
    named = {" ".join(term) for term, own in zip(lexicon.terms, lexicon.term_attribute, strict=True) if own >= 0}
    assert named == {"nylon", "steel"}


def test_a_word_in_the_place_of_a_value_names_it() -> None:
    words = {"beige": "beige", "cream": "beige", "blue": "blue", "navy": "blue"}
    titles = [f"{word} {kind} {number}" for word in words for kind in ("sofa", "lamp") for number in range(8)]
    colors: list[str | None] = [words[title.split()[0]] for title in titles]
    categories: list[str | None] = [title.split()[1] for title in titles]
    catalogue = Catalogue(titles, {"color": colors}, categories)
    assert read(Lexicon.learn(catalogue), catalogue, "cream navy").startswith(
        "cream: color = beige; navy: color = blue"
    )


def test_the_order_of_products_has_no_influence(lexicon: Lexicon) -> None:
    catalogue = small_catalogue()
    order = np.random.default_rng(0).permutation(len(catalogue)).tolist()
    assert catalogue.categories is not None
    shuffled = Catalogue(
        [catalogue.titles[at] for at in order],
        {name: [column[at] for at in order] for name, column in catalogue.attributes.items()},
        [catalogue.categories[at] for at in order],
    )
    again = Lexicon.learn(shuffled)
    assert again.names == lexicon.names
    for name, array in lexicon.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_chinese_words_are_found_without_blanks() -> None:
    kinds, colors = ("连衣裙", "半身裙", "貂皮大衣", "衬衫", "牛仔裤", "运动鞋", "凉鞋", "毛衣"), ("红色", "黑色")
    titles = [
        f"{start}{color}{kind}{end}"
        for kind in kinds
        for color in colors
        for start in ("新款", "高级", "")
        for end in ("女", "显瘦", "")
    ]
    declared: list[str | None] = [next(color for color in colors if color in title) for title in titles]
    catalogue = Catalogue(titles, {"color": declared}, ["女装"] * len(titles))
    lexicon = Lexicon.learn(catalogue)
    assert read(lexicon, catalogue, "黑色连衣裙").startswith("黑色: color")
    assert "连衣裙: type" in read(lexicon, catalogue, "黑色连衣裙")
    reader = QueryReader(lexicon, CodedProducts.of(lexicon, catalogue))
    comparison = reader.read(["红色大衣"]).compare(
        np.zeros(2, np.int32), np.array([titles.index("红色貂皮大衣"), titles.index("黑色连衣裙")], np.int32)
    )
    assert comparison.n_match.tolist()[0] == 2
    assert comparison.n_match.tolist()[1] == 0


def test_types_of_a_language_that_names_the_thing_first() -> None:
    types = [("table", "basse"), ("table", "ronde"), ("lampe", "haute")]
    assert not head_is_last(types)
    assert shorter_types([("table", "basse")], last=False) == {("table",)}
    assert head_is_last([("coffee", "table"), ("dining", "table"), ("coffee", "pot")])
    assert shorter_types([("coffee", "table")], last=True) == {("table",)}


@pytest.mark.parametrize(
    "catalogue",
    [
        Catalogue([], {"color": []}, []),
        Catalogue([]),
        Catalogue(["blue sofa"], {"color": ["blue"]}, ["Sofas"]),
        Catalogue([None, "", "?!"], {"color": [None, "blue", None]}, [None, None, None]),
        Catalogue(["\0\ud800 \U0010ffff", "' OR 1=1 --", "<script>", "%s%n"], {"color": ["\ud800", "", " ", "\0"]}),
        Catalogue(["word " * 3000] * 5, {"color": ["blue " * 500] * 5}, ["c" * 5000] * 5),
    ],
    ids=["no products", "no attributes", "one product", "missing titles", "hostile texts", "long texts"],
)
def test_odd_catalogues_are_learned_and_answer_any_query(catalogue: Catalogue) -> None:
    lexicon = Lexicon.learn(catalogue)
    reader = QueryReader(lexicon, CodedProducts.of(lexicon, catalogue))
    queries = ["blue sofa", "", "?!", "x" * 10_000, "a b " * 2_500, "\ud800\0", "蓝色", "12 in " * 50]
    readings = reader.read(queries)
    for at in range(len(queries)):
        readings.reading(at)
    pairs = [(query, item) for query in range(len(queries)) for item in range(len(catalogue))]
    query_idx, product_idx = np.array(pairs, np.int32).reshape(-1, 2).T
    comparison = readings.compare(query_idx, product_idx)
    assert np.isfinite(comparison.category_probability).all()
    assert np.isfinite(comparison.type_probability).all()
    assert comparison.statuses.max(initial=0) <= 3


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 1 titles and 2 entries"):
        Catalogue(["a"], {"color": ["blue", "red"]})
    with pytest.raises(ValueError, match="it lacks color"):
        CodedProducts.of(Lexicon.learn(Catalogue(["a"], {"color": ["blue"]})), Catalogue(["a"]))


def test_the_longest_of_phrases_that_begin_alike_is_taken() -> None:
    splitter = PhraseSplitter([("a", "b"), ("a", "b", "c"), ("a", "d"), ("b", "c")])
    assert splitter.split(["a", "b", "c", "a", "b", "d", "b", "c"]) == [("a", "b", "c"), ("a", "b"), ("d",), ("b", "c")]
    assert splitter.split(["a", "c", "a"]) == [("a",), ("c",), ("a",)]
