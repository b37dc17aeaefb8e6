import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
import text_oracle
from hypothesis import given, settings

from shelfrank.core.schema import Kind, Side
from shelfrank.features.textual import ProductTexts, TextFeatures, products, words
from shelfrank.features.textual.features import text_features
from shelfrank.features.textual.words import MAX_PRODUCT_WORDS, MAX_QUERY_WORDS

WORDS = (
    *("red", "blue", "navy", "navy blue", "sofa", "sofas", "Sofa-Bed", "blender", "belnder", "dresses", "dress"),
    *(
        "Acme",
        "acme tools",
        "tools",
        "kids",
        "kid",
        "3",
        "30",
        "a",
        "ß",
        "SS",
        "Ünïcode",
        "床",
        "床架",
        "İstanbul",
        "!?",
        "_",
    ),
    *("strasse", "straße", "𝒳yz", "x" * 90, "x" * 70 + "y"),
)
texts = st.one_of(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), st.text(max_size=20))
long_texts = st.lists(st.sampled_from(WORDS), min_size=10, max_size=90).map(" ".join)
any_texts = st.one_of(texts, texts, texts, long_texts)
values = st.one_of(
    st.none(), st.sampled_from(["red", "Blue", "navy blue", "Navy-Blue", "acme tools", "tool", "kids", ""])
)


@st.composite
def shops(draw: st.DrawFn) -> tuple[list[str], list[str], list[str], dict[str, list[str | None]]]:
    n_products = draw(st.integers(1, 6))
    return (
        draw(st.lists(any_texts, min_size=1, max_size=5)),
        draw(st.lists(any_texts, min_size=n_products, max_size=n_products)),
        draw(st.lists(any_texts, min_size=n_products, max_size=n_products)),
        {name: draw(st.lists(values, min_size=n_products, max_size=n_products)) for name in ("brand", "color")},
    )


def all_pairs(n_queries: int, n_products: int) -> tuple[np.ndarray, np.ndarray]:
    query, product = np.indices((n_queries, n_products), dtype=np.int32)
    return query.ravel(), product.ravel()


def values_of(query: str, title: str, document: str | None = None) -> dict[str, float]:
    features = TextFeatures([query], [title], [title if document is None else document], {})
    row = features.compute(np.zeros(1, np.int32), np.zeros(1, np.int32))[0].tolist()
    return dict(zip([feature.name for feature in features.features], row, strict=True))


@settings(max_examples=80, deadline=None)
@given(shops())
def test_every_feature_equals_the_plain_loops(shop) -> None:
    queries, titles, documents, attributes = shop
    features = TextFeatures(queries, titles, documents, attributes)
    query, product = all_pairs(len(queries), len(titles))
    expected = [
        text_oracle.text_features(queries[q], p, titles, documents, attributes)
        for q, p in zip(query.tolist(), product.tolist(), strict=True)
    ]
    np.testing.assert_allclose(features.compute(query, product), expected, rtol=1e-6, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(shops(), st.randoms(use_true_random=False))
def test_a_pair_has_the_same_bits_in_any_batch_and_after_pickling(shop, random) -> None:
    queries, titles, documents, attributes = shop
    features = TextFeatures(queries, titles, documents, attributes)
    query, product = all_pairs(len(queries), len(titles))
    together = features.compute(query, product)
    rows = np.array([random.randrange(len(query)) for _ in range(9)])
    np.testing.assert_array_equal(features.compute(query[rows], product[rows]), together[rows])
    alone = np.concatenate([features.compute(query[i : i + 1], product[i : i + 1]) for i in range(len(query))])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features)).compute(query, product), together)


@settings(max_examples=30, deadline=None)
@given(shops(), texts, st.randoms(use_true_random=False))
def test_values_depend_on_neither_table_s_order_nor_on_other_queries(shop, other_query, random) -> None:
    queries, titles, documents, attributes = shop
    order = random.sample(range(len(titles)), len(titles))
    shuffled = TextFeatures(
        [other_query, *reversed(queries)],
        [titles[i] for i in order],
        [documents[i] for i in order],
        {name: [of_products[i] for i in order] for name, of_products in attributes.items()},
    )
    query, product = all_pairs(len(queries), len(titles))
    moved = shuffled.compute(np.int32(len(queries)) - query, np.argsort(order).astype(np.int32)[product])
    np.testing.assert_array_equal(moved, TextFeatures(*shop).compute(query, product))


@settings(max_examples=30, deadline=None)
@given(shops(), any_texts)
def test_products_read_once_compare_with_any_query_that_comes(shop, other_query) -> None:
    queries, titles, documents, attributes = shop
    products = ProductTexts(titles, documents, attributes)
    query, product = all_pairs(len(queries), len(titles))
    together = TextFeatures(*shop).compute(query, product)
    products.read([other_query, "never seen before"])
    for place, text in enumerate(queries):
        alone = products.read([text]).compute(*all_pairs(1, len(titles)))
        np.testing.assert_array_equal(alone, together[query == place])


def test_a_batch_of_many_chunks_gives_the_same_bits_as_single_pairs() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(rng.choice(list("abcdefgh"), size)) for size in rng.integers(2, 9, 300)])
    titles = [" ".join(rng.choice(vocabulary, size)) for size in rng.integers(0, 20, 200)]
    queries = [" ".join(rng.choice(vocabulary, size)) for size in rng.integers(0, 18, 150)]
    features = TextFeatures(queries, titles, titles[::-1], {"brand": rng.choice(vocabulary, 200).tolist()})
    query, product = all_pairs(len(queries), len(titles))
    together = features.compute(query, product)
    rows = rng.integers(0, len(query), 60)
    alone = np.concatenate([features.compute(query[i : i + 1], product[i : i + 1]) for i in rows])
    np.testing.assert_array_equal(together[rows], alone)
    assert len(query) > 3 * 8192
    assert 0 < together[:, 6].mean() < 1


@pytest.mark.parametrize(
    ("query", "title", "share"),
    [
        ("red sofa", "Sofa, red", 1.0),
        ("red sofa", "red chair", 0.5),
        ("sofa sofa bed", "a sofa", 0.5),
        ("SOFÁ", "sofá", 1.0),
        ("3-seater", "seater (3)", 1.0),
        ("wide_angle", "angle wide", 1.0),
        ("sof", "sofa", 0.0),
        ("", "sofa", 0.0),
        ("!?", "sofa", 0.0),
        ("sofa", "", 0.0),
        ("", "", 0.0),
        ("床", "床 架", 1.0),
    ],
)
def test_share_of_the_query_in_the_title(query: str, title: str, share: float) -> None:
    assert values_of(query, title)["query_in_title"] == share


@pytest.mark.parametrize(
    ("query", "title", "similarity"),
    [
        ("blender", "hand blender", 1.0),
        ("belnder", "hand blender", 0.5),
        ("blenders", "hand blender", 2 * 7 / (9 + 8)),
        ("dish washer", "dishwasher", (2 * 4 / (5 + 11) + 2 * 5 / (7 + 11)) / 2),
        ("string", "green sofa", 0.0),
        ("red", "rod", 0.0),
        ("acme belnder", "acme blender", 0.75),
        ("blende", "blender blenders", 2 * 6 / (7 + 8)),
        ("blende", "blenders blender", 2 * 6 / (7 + 8)),
    ],
)
def test_words_spelled_alike_are_similar(query: str, title: str, similarity: float) -> None:
    assert values_of(query, title)["title_char_ngram"] == pytest.approx(similarity)


def test_no_pair_of_long_words_near_the_least_similarity_is_lost() -> None:
    # Long words have trigrams that fall on the same bits of the signatures that sort pairs out.
    rng = np.random.default_rng(0)
    heads = ["".join(rng.choice(list("abcdefghijklmnop"), size)) for size in rng.integers(8, 90, 60)]
    titles = [head[: int(len(head) * rng.uniform(0.3, 0.7))] + heads[i - 1][:9] for i, head in enumerate(heads)]
    rows = np.arange(len(heads), dtype=np.int32)
    similarity = TextFeatures(heads, titles, titles, {}).compute(rows, rows)[:, 6]
    expected = [text_oracle.dice(head, title) for head, title in zip(heads, titles, strict=True)]
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)
    assert 0.2 < np.mean(similarity > 0) < 0.9


@pytest.mark.parametrize(
    ("query", "title", "is_phrase"),
    [
        ("red sofa", "a red sofa bed", True),
        ("red sofa", "sofa red", False),
        ("red sofa", "red big sofa", False),
        ("red red", "red", False),
        ("red red", "big red red", True),
        ("sofa", "sofa", True),
        ("", "sofa", False),
    ],
)
def test_phrase(query: str, title: str, is_phrase: bool) -> None:
    assert values_of(query, title)["query_phrase_in_title"] == is_phrase


def test_rare_words_weigh_more() -> None:
    documents = ["sofa", "sofa", "sofa acme"]
    features = TextFeatures(["acme sofa"], documents, documents, {})
    rows = features.compute(np.zeros(3, np.int32), np.arange(3, dtype=np.int32))
    acme, sofa = np.log1p(3 / 2), np.log1p(3 / 4)
    np.testing.assert_allclose(rows[:, 1], [0.5, 0.5, 1.0])
    np.testing.assert_allclose(rows[:, 2], [sofa / (acme + sofa), sofa / (acme + sofa), 1.0], rtol=1e-6)


def test_bm25_by_hand() -> None:
    titles = ["red sofa", "blue sofa"]
    rows = TextFeatures(["red"], titles, titles, {}).compute(np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    # N = 2, n = 1: ln(1 + 1.5 / 1.5) = ln 2; a text of mean length with the word once has 1 * 2.2 / (1 + 1.2) = 1.
    np.testing.assert_allclose(rows[:, 4], [np.log(2), 0.0])
    np.testing.assert_allclose(rows[:, 5], rows[:, 4])


def test_long_texts_are_cut_and_counted() -> None:
    query = " ".join(f"w{i}" for i in range(MAX_QUERY_WORDS + 1))
    title = " ".join(f"w{i}" for i in range(MAX_PRODUCT_WORDS + 1))
    features = TextFeatures([query, "w0", f"w{MAX_PRODUCT_WORDS}"], [title, "w0"], ["w0", title], {})
    assert features.truncated == {
        "queries of more than 16 words": 1,
        "titles of more than 64 words": 1,
        "documents of more than 64 words": 1,
    }
    rows = features.compute(np.array([0, 2], np.int32), np.zeros(2, np.int32))
    assert rows[:, 0].tolist() == [1.0, 0.0]
    assert TextFeatures(["a " * 16], ["a " * 64], ["a " * 64], {}).truncated == {}


def test_tables_that_are_counted_in_parts_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = ["red sofa red", "", "blue sofa", "sofa", "lamp red"]
    arguments = (["red sofa red", "", "lamp"], titles, titles[::-1], {"color": ["red", None, "blue", "red", "red"]})
    pairs = all_pairs(3, 5)
    whole = TextFeatures(*arguments).compute(*pairs)
    for module in (words, products):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    np.testing.assert_array_equal(TextFeatures(*arguments).compute(*pairs), whole)


def test_no_pairs_no_words_no_products() -> None:
    none = np.zeros(0, np.int32)
    assert TextFeatures(["red"], ["red"], ["red"], {"brand": ["acme"]}).compute(none, none).shape == (0, 12)
    assert TextFeatures([], [], [], {"brand": []}).compute(none, none).shape == (0, 12)
    empty = TextFeatures(["", "!"], ["", "?"], ["", ""], {"brand": [None, ""]})
    assert not empty.compute(*all_pairs(2, 2)).any()


@pytest.mark.parametrize(
    ("query", "product", "error"),
    [(-1, 0, AssertionError), (0, -1, AssertionError), (1, 0, IndexError), (0, 1, IndexError)],
)
def test_a_place_outside_the_tables_is_refused(query: int, product: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        TextFeatures(["red"], ["red"], ["red"], {}).compute(np.array([query], np.int32), np.array([product], np.int32))


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(AssertionError, match="every product must have its brand: 1 titles, 2 values"):
        TextFeatures(["red"], ["red"], ["red"], {"brand": ["acme", "acme"]})


def test_declared_features() -> None:
    features = text_features(("brand",))
    assert {feature.kind for feature in features} == {Kind.NUMERICAL}
    assert [feature.name for feature in features if feature.side is Side.QUERY] == ["query_length", "query_names_brand"]
    assert [feature.name for feature in features][-3:] == ["query_names_brand", "brand_matched", "brand_conflict"]
    assert {feature.side for feature in features} == {Side.QUERY, Side.INTERACTION}
