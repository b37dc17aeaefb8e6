import numpy as np
import pytest

from shelfrank.features.textual import TextFeatures

NEITHER, MATCHED, CONFLICT, OTHER = (0, 0, 0), (1, 1, 0), (1, 0, 1), (1, 0, 0)


def compare(query: str, values: list[str | None], titles: list[str] | None = None) -> list[tuple[float, ...]]:
    """names, matched and conflict of the query with each product."""
    titles = titles or ["thing"] * len(values)
    features = TextFeatures([query], titles, titles, {"color": values})
    rows = features.compute(np.zeros(len(values), np.int32), np.arange(len(values), dtype=np.int32))
    return [tuple(row) for row in rows[:, -3:].tolist()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("dress", [NEITHER, NEITHER, NEITHER, NEITHER]),
        ("blue dress", [MATCHED, CONFLICT, CONFLICT, OTHER]),
        ("navy blue dress", [CONFLICT, MATCHED, CONFLICT, OTHER]),
        ("NAVY, blue dress", [CONFLICT, MATCHED, CONFLICT, OTHER]),
        ("navy dress blue", [MATCHED, CONFLICT, CONFLICT, OTHER]),
        ("navy", [NEITHER, NEITHER, NEITHER, NEITHER]),
        ("blue navy blue", [MATCHED, MATCHED, CONFLICT, OTHER]),
        ("blues", [MATCHED, CONFLICT, CONFLICT, OTHER]),
        ("dark navy blue blues and reds", [MATCHED, MATCHED, MATCHED, OTHER]),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_a_query_names(query: str, expected: list[tuple[int, ...]]) -> None:
    assert compare(query, ["blue", "Navy Blue", "red", None]) == expected


def test_a_path_that_ends_early_falls_back_to_the_shorter_value() -> None:
    values: list[str | None] = ["navy", "navy blue striped", "blue"]
    assert compare("navy blue dress", values) == [MATCHED, CONFLICT, MATCHED]
    assert compare("navy blue striped dress", values) == [CONFLICT, MATCHED, CONFLICT]


def test_spellings_of_a_value_are_one_value() -> None:
    assert compare("navy-blue", ["navy blue", "Navy-Blue", "NAVY  BLUES", "?!"]) == [MATCHED, MATCHED, MATCHED, OTHER]


def test_a_value_longer_than_a_query_is_never_named() -> None:
    words = [f"w{i}" for i in range(17)]
    assert compare(" ".join(words), [" ".join(words), " ".join(words[:16])]) == [CONFLICT, MATCHED]


def test_a_value_that_is_an_ordinary_word_of_other_products_is_not_named() -> None:
    titles = ["home sofa", "home chair", "bed"]
    assert compare("home sofa", ["Home", "Acme", "Acme"], titles) == [MATCHED, CONFLICT, CONFLICT]
    assert compare("home sofa", ["Home", "Acme", None], ["bed", "home chair", "home"]) == [NEITHER] * 3
    # A value of several words is always named.
    assert compare("home base", ["Home Base", "Acme", None], ["bed", "home base", "home base"])[0] == MATCHED


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("kid", "Kids"),
        ("dresses", "dress"),
        ("berries", "berry"),
        ("boxes", "box"),
        ("watches", "watch"),
        ("ties", "tie"),
    ],
)
def test_plural_and_singular_are_one(query: str, value: str) -> None:
    assert compare(query, [value]) == [MATCHED]


@pytest.mark.parametrize(("query", "value"), [("bu", "bus"), ("glas", "glass"), ("cactu", "cactus"), ("ga", "gas")])
def test_these_are_no_plurals(query: str, value: str) -> None:
    assert compare(query, [value]) == [NEITHER]
