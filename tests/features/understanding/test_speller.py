import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfrank.features.understanding import Catalogue, CodedProducts, Lexicon, Speller
from shelfrank.features.understanding.speller import n_edits


def speller(titles: list[str | None]) -> Speller:
    catalogue = Catalogue(titles)
    lexicon = Lexicon.learn(catalogue)
    return Speller(lexicon, CodedProducts.of(lexicon, catalogue))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sofaa", ("sofa",)),
        ("sfoa", ("sofa",)),
        ("sofu", ("sofa",)),
        ("blnder", ("blender",)),
        ("refrigerrattor", ("refrigerator",)),
        ("sofa", None),
        ("qwertz", None),
        ("sofa1", None),
        ("xl", None),
        ("x" * 5_000, None),
    ],
)
def test_what_a_word_was_meant_to_be(typed: str, meant: tuple[str, ...] | None) -> None:
    assert speller(["sofa blue", "blender", "refrigerator"]).respell(typed, []) == meant


def test_the_rest_of_the_query_decides_before_frequency() -> None:
    titles: list[str | None] = ["cotton shirt"] * 20 + ["leather skirt"] * 5
    assert speller(titles).respell("skhirt", []) == ("shirt",)
    assert speller(titles).respell("skhirt", ["leather"]) == ("skirt",)
    assert speller(titles).respell("skhirt", ["cotton"]) == ("shirt",)


def test_words_written_as_one_are_split_and_parts_are_joined() -> None:
    german = speller(["Gartenstuhl Holz", "Arbeit Platz", "Blumentopf"])
    assert german.respell("holzgartenstuhl", []) == ("holz", "gartenstuhl")
    assert german.respell("arbeitsplatz", []) == ("arbeit", "platz")
    assert german.joined("garten", "stuhl") == "gartenstuhl"
    assert german.joined("arbeit", "platz") is None
    assert german.joined("holz", "stuhl") is None


def test_digits_and_characters_are_never_respelled() -> None:
    known = speller(["dcd771c2 iphone11", "貂皮大衣"])
    assert known.respell("dcd771c3", []) is None
    assert known.respell("貂毛大衣", []) is None


def plain_edits(left: str, right: str) -> int:
    if not left or not right:
        return len(left) + len(right)
    best = min(
        plain_edits(left[1:], right) + 1,
        plain_edits(left, right[1:]) + 1,
        plain_edits(left[1:], right[1:]) + (left[0] != right[0]),
    )
    if len(left) > 1 and len(right) > 1 and left[0] == right[1] and left[1] == right[0]:
        best = min(best, plain_edits(left[2:], right[2:]) + 1)
    return best


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_edits_against_the_plain_definition(left: str, right: str) -> None:
    assert n_edits(left, right, 2) == min(plain_edits(left, right), 3)


@given(
    st.text("abcdefgh", min_size=5, max_size=12),
    st.integers(0, 11),
    st.sampled_from(["cut", "swap", "add", "other"]),
    st.sampled_from("abcz"),
)
def test_the_index_finds_every_word_one_edit_away(word: str, at: int, edit: str, letter: str) -> None:
    at %= len(word) - 1
    typed = {
        "cut": word[:at] + word[at + 1 :],
        "swap": word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        "add": word[:at] + letter + word[at:],
        "other": word[:at] + letter + word[at + 1 :],
    }[edit]
    # Letters of no plural, so that a token is the word itself.
    expected = None if typed == word else (word,)
    assert speller([word]).respell(typed, []) == expected
