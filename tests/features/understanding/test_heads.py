"""A hardware shop and a French one without categories, whose right readings are known by hand."""

from itertools import product

import numpy as np
import pytest

from shelfrank.features.understanding import Catalogue, QueryUnderstanding, Status
from shelfrank.features.understanding.heads import OPENING, with_heads

MAKERS = ("Acme", "Lumora Home")
TITLES = (
    "{maker} {size}-Volt Cordless Drill with Bag",
    "{maker} Carbide Drill Bit in Black ({size}-Pack)",
    "{maker} Patio Umbrella Cover - {size} ft.",
    "{maker} {size} in. Garden Hose for Patio and Lawn",
    "{maker} {size} gal. Board and Batten Paint, White",
)
HEADS = ("drill", "bit", "cover", "hose", "paint")


def hardware() -> Catalogue:
    return Catalogue(
        [form.format(maker=maker, size=size) for form, maker, size in product(TITLES, MAKERS, range(2, 8))]
    )


@pytest.fixture(scope="module")
def shop() -> QueryUnderstanding:
    return QueryUnderstanding.of_catalogue(hardware())


def answers(shop: QueryUnderstanding, query: str, title: str) -> dict[str, Status]:
    """How the first product with words in its title answers a query."""
    at = next(at for at, own in enumerate(hardware().titles) if own and title in own)
    row = shop.read([query]).compare(np.zeros(1, np.int32), np.array([at], np.int32))
    return {name: Status(value) for name, value in zip(row.names, row.statuses[0].tolist(), strict=True)}


def test_a_head_is_the_last_word_before_what_a_product_has_or_is_for() -> None:
    categories = with_heads(hardware()).categories
    assert categories is not None
    assert list(categories) == [head for head in HEADS for _ in range(12)]


def test_the_names_that_titles_open_with_are_an_attribute_where_none_is_declared() -> None:
    found = with_heads(hardware())
    assert set(found.attributes[OPENING]) == {"acme", "lumora home"}
    declared = Catalogue(hardware().titles, {"color": [None] * 60})
    assert list(with_heads(declared).attributes) == ["color"]


def test_titles_shorter_than_a_name_may_be_count_once() -> None:
    titles = [f"Ryobi {kind}" for kind in ("Drill", "Saw", "Hammer") for _ in range(5)]
    assert set(with_heads(Catalogue(titles)).attributes[OPENING]) == {"ryobi"}


def test_products_without_a_title_open_with_no_name() -> None:
    found = with_heads(Catalogue([*hardware().titles, None, "", "!"]))
    assert list(found.attributes[OPENING][-3:]) == [None] * 3
    assert set(found.attributes[OPENING][:-3]) == {"acme", "lumora home"}


def test_in_a_romance_language_the_head_is_first() -> None:
    titles = [f"{kind} de {place} en {of}" for kind in ("Table basse", "Chaise longue") for place, of in PLACES]
    found = with_heads(Catalogue(titles))
    assert found.head_is_last is False
    assert found.categories == ["table"] * 6 + ["chaise"] * 6


PLACES = tuple(product(("salon", "jardin", "cuisine"), ("bois", "metal")))


@pytest.mark.parametrize(
    "titles",
    [
        [f"item {number}" for number in range(20)],
        [None, "", "12", "(24)"] * 5,
        [],
    ],
)
def test_titles_that_name_no_kinds_of_products_give_no_categories(titles: list[str | None]) -> None:
    catalogue = Catalogue(titles)
    assert with_heads(catalogue) is catalogue


def test_categories_of_the_shop_stay() -> None:
    titles = hardware().titles
    own = Catalogue(titles, {}, ["tools"] * len(titles))
    assert QueryUnderstanding.of_catalogue(own).lexicon.categories.names == ["tools"]


@pytest.mark.parametrize(
    ("query", "title", "column", "expected"),
    [
        ("drill", "Drill with", "type", Status.MATCH),
        ("drill", "Drill Bit", "type", Status.CONFLICT),
        ("drill bits", "Drill Bit", "type", Status.MATCH),
        # Of several types the last one is meant, and the last one before what it is for.
        ("drill paint", "Drill with", "type", Status.CONFLICT),
        ("cover for a hose", "Umbrella Cover", "type", Status.MATCH),
        ("cover for a hose", "Garden Hose", "type", Status.CONFLICT),
        ("lumora home drill", "Lumora Home 3-Volt", "maker", Status.MATCH),
        ("lumora home drill", "Acme 3-Volt", "maker", Status.CONFLICT),
    ],
)
def test_how_a_product_answers(shop: QueryUnderstanding, query: str, title: str, column: str, expected: Status) -> None:
    assert answers(shop, query, title)[column] is expected


def test_order_of_products_has_no_influence() -> None:
    titles = list(hardware().titles)
    found, turned = with_heads(Catalogue(titles)), with_heads(Catalogue(titles[::-1]))
    assert found.categories is not None
    assert turned.categories is not None
    assert list(found.categories) == list(turned.categories)[::-1]
    assert list(found.attributes[OPENING]) == list(turned.attributes[OPENING])[::-1]
