import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import small_catalogue

from shelfrank.features.understanding import Catalogue, CodedProducts, Lexicon, QueryReader, QueryReading, Status

WORDS = ["blue", "cream", "beige", "sofa", "couch", "corner sofa", "table", "boots", "size 8", "round", "acme", "sofas"]
ODD = ["zyzzyva", "sofaa", "coffe", "dinning", "by", "?", "shoes", "2 seater", "12 in", "蓝色", "coffee"]


def make_reader(catalogue: Catalogue) -> QueryReader:
    lexicon = Lexicon.learn(catalogue)
    return QueryReader(lexicon, CodedProducts.of(lexicon, catalogue))


@pytest.fixture(scope="module")
def reader() -> QueryReader:
    return make_reader(small_catalogue())


def statuses(reader: QueryReader, query: str, **wanted: str) -> dict[str, Status]:
    """How the first product whose title and attributes have the wanted texts answers the query."""
    catalogue = small_catalogue()
    for at, title in enumerate(catalogue.titles):
        has = [
            catalogue.attributes[name][at] == value for name, value in wanted.items() if name in catalogue.attributes
        ]
        if title and wanted["title"] in title and all(has):
            row = reader.read([query]).compare(np.zeros(1, np.int32), np.array([at], np.int32))
            return {name: Status(value) for name, value in zip(row.names, row.statuses[0].tolist(), strict=True)}
    raise AssertionError("no such product")


@pytest.mark.parametrize(
    ("query", "title", "color", "column", "expected"),
    [
        ("blue sofa", "sofa", "blue", "color", Status.MATCH),
        ("blue sofa", "sofa", "black", "color", Status.CONFLICT),
        ("cream sofa", "sofa", "beige", "color", Status.MATCH),
        ("blue or black sofa", "sofa", "black", "color", Status.MATCH),
        ("sofa", "sofa", "black", "color", Status.NOT_NAMED),
        ("sofa", "corner sofa", "black", "type", Status.MATCH),
        ("corner sofa", "couch", "black", "type", Status.CONFLICT),
        ("table", "dining table", "black", "type", Status.MATCH),
        ("table", "desk", "black", "type", Status.CONFLICT),
        ("shoes", "sandal", "black", "category", Status.MATCH),
        ("shoes", "desk", "black", "category", Status.CONFLICT),
        ("round table", "coffee table round", "blue", "slots", Status.MATCH),
        ("round table", "coffee table square", "blue", "slots", Status.CONFLICT),
        ("round table", "sandal", "blue", "slots", Status.UNKNOWN),
        ("zyzzyva table", "desk", "blue", "words", Status.UNKNOWN),
        ("coffee", "coffee table", "blue", "words", Status.MATCH),
    ],
)
def test_how_a_product_answers(
    reader: QueryReader, query: str, title: str, color: str, column: str, expected: Status
) -> None:
    assert statuses(reader, query, title=title, color=color)[column] is expected


def test_counts_are_those_of_the_parts(reader: QueryReader) -> None:
    catalogue = small_catalogue()
    at = next(i for i, title in enumerate(catalogue.titles) if title and "sofa 2 seater" in title)
    color = catalogue.attributes["color"][at]
    other = "blue" if color != "blue" else "black"
    row = reader.read([f"{other} sofa 2 seater zyzzyva plinth"]).compare(
        np.zeros(1, np.int32), np.array([at], np.int32)
    )
    assert (row.n_match[0], row.n_conflict[0], row.n_unknown[0]) == (2, 1, 2)
    assert (row.other_conflicts()[0], row.other_unknowns()[0]) == (1, 2)


def test_a_product_without_a_declared_value_has_that_of_its_title() -> None:
    full = small_catalogue()
    missing = Catalogue(
        [*full.titles, "couch in cream", "couch"],
        {"brand": [*full.attributes["brand"], None, None], "color": [*full.attributes["color"], None, None]},
        [*(full.categories or ()), "Sofas", "Sofas"],
    )
    row = (
        make_reader(missing)
        .read(["beige couch", "blue couch"])
        .compare(
            np.array([0, 1, 0, 1], np.int32), np.array([len(full), len(full), len(full) + 1, len(full) + 1], np.int32)
        )
    )
    color = row.statuses[:, row.names.index("color")].tolist()
    assert color == [Status.MATCH, Status.CONFLICT, Status.UNKNOWN, Status.UNKNOWN]


def test_category_and_type_have_probabilities(reader: QueryReader) -> None:
    reading = reader.read(["blue table"]).reading(0)
    assert reading.noun == "table"
    assert reading.categories[0][0] == "Tables"
    assert reading.categories[0][1] > 0.9
    assert [name for name, _ in reading.types] == ["coffee table", "dining table"]
    assert sum(share for _, share in reading.types) == pytest.approx(1.0, abs=0.01)
    assert reader.read(["blue table"]).reading(0, n_likeliest=0) == QueryReading(reading.parts, "table")


@settings(max_examples=30, deadline=None)
@given(
    queries=st.lists(st.lists(st.sampled_from(WORDS + ODD), max_size=6).map(" ".join), min_size=1, max_size=5),
    pairs=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 215)), max_size=12),
)
def test_a_batch_equals_its_pairs_one_by_one(
    reader: QueryReader, queries: list[str], pairs: list[tuple[int, int]]
) -> None:
    idx = np.array([(query % len(queries), item) for query, item in pairs], np.int32).reshape(-1, 2)
    batch = reader.read(queries).compare(idx[:, 0].copy(), idx[:, 1].copy())
    for row, (query, item) in enumerate(idx.tolist()):
        alone = reader.read([queries[query]]).compare(np.zeros(1, np.int32), np.array([item], np.int32))
        for name in ("statuses", "n_match", "n_conflict", "n_unknown", "category_probability", "type_probability"):
            np.testing.assert_array_equal(getattr(batch, name)[row : row + 1], getattr(alone, name))


def test_a_part_of_many_queries_is_kept_once(reader: QueryReader) -> None:
    readings = reader.read(["blue table", "blue couch", "bluee couch"])
    first, second, typed = (readings.reading(query).parts[0] for query in range(3))
    assert first is second
    assert (typed.text, typed.typed) == ("blue", "bluee")


def test_known_words_are_read_as_they_are(reader: QueryReader) -> None:
    for word in reader.lexicon.words:
        assert reader.speller.respell(word, ["sofa"]) is None


HOTELS = (
    ("Hotel Sol", ("Pool", "Free WiFi", "Bar")),
    ("Hotel Mar", ("Bar", "Pool")),
    ("Hotel Luz", ("Free WiFi",)),
    ("Hotel Ola pool", None),
    ("Hotel Pino", None),
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("hotel with pool", (Status.MATCH, Status.MATCH, Status.CONFLICT, Status.MATCH, Status.UNKNOWN)),
        # Each value must be in the list: a conflict stands before an unknown, an unknown before a match.
        ("pool, free wifi", (Status.MATCH, Status.CONFLICT, Status.CONFLICT, Status.UNKNOWN, Status.UNKNOWN)),
        ("sauna", (Status.NOT_NAMED,) * 5),
    ],
)
def test_a_list_of_values_is_compared_by_value(query: str, expected: tuple[Status, ...]) -> None:
    titles, offers = zip(*HOTELS, strict=True)
    reader = make_reader(Catalogue(list(titles), {}, ["Hotels"] * 5, lists={"offers": offers}))
    row = reader.read([query]).compare(np.zeros(5, np.int32), np.arange(5, dtype=np.int32))
    column = row.names.index("offers")
    assert tuple(Status(status) for status in row.statuses[:, column].tolist()) == expected
    assert (row.n_conflict == [status is Status.CONFLICT for status in expected]).all()
    # No product of the catalogue: nothing is known of its list.
    other = reader.read([query]).compare(np.zeros(1, np.int32), np.array([5], np.int32))
    assert other.statuses[0, column] == (Status.NOT_NAMED if query == "sauna" else Status.UNKNOWN)


@pytest.mark.parametrize(
    ("query", "title", "expected"),
    [
        ("hose 6 ft", "Hose 6 ft. green", Status.MATCH),
        ("hose 6 ft", "Hose 8 ft. green", Status.CONFLICT),
        ("hose 6 ft", "Hose 6 in. green", Status.UNKNOWN),
        ("hose 6 ft", "Hose green", Status.UNKNOWN),
        ("hose 6", "Hose 6 in. green", Status.MATCH),
        ("hose 2x4", "Hose 2 in. x 4 in.", Status.MATCH),
    ],
)
def test_another_number_of_the_same_unit_is_a_conflict(query: str, title: str, expected: Status) -> None:
    titles = ["Hose 6 ft. green", "Hose 8 ft. green", "Hose 6 in. green", "Hose green", "Hose 2 in. x 4 in."]
    row = make_reader(Catalogue(titles)).read([query])
    at = np.array([titles.index(title)], np.int32)
    compared = row.compare(np.zeros(1, np.int32), at)
    assert Status(int(compared.statuses[0, compared.names.index("words")])) is expected


def test_the_share_that_a_product_has_weighs_rare_words_more() -> None:
    titles = ["Hose green", "Hose", "Hose", "Hose", "Green"]
    compared = make_reader(Catalogue(titles)).read(["green hose"])
    share = compared.compare(np.zeros(3, np.int32), np.array([0, 1, 4], np.int32)).share
    # Of 5 products 2 have `green`, 4 `hose`: ln(6 / 2.5) and ln(6 / 4.5).
    of_green, of_hose = np.log(6 / 2.5), np.log(6 / 4.5)
    assert share == pytest.approx([1.0, of_hose / (of_green + of_hose), of_green / (of_green + of_hose)], rel=1e-5)


def test_characters_beside_each_other_are_compared_together() -> None:
    read = make_reader(Catalogue(["貂皮大衣", "大皮衣貂", "coat"])).read(["貂皮大衣 coat", "貂皮 大衣", "大貂"])
    parts = [[str(part) for part in read.reading(query).parts] for query in range(3)]
    assert parts == [["貂皮大衣: word", "coat: word"], ["貂皮: word", "大衣: word"], ["大貂: unknown"]]
    compared = read.compare(np.zeros(3, np.int32), np.arange(3, dtype=np.int32))
    assert compared.n_match.tolist() == [1, 0, 1]
