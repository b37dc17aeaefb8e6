import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shelfrank.features.understanding.tokens import MAX_CHARACTERS, UNIT_OF, tokens, unit_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dining Tables", ["dining", "table"]),
        ("3 feet", ["3ft"]),
        ("3-foot 3ft 3'", ["3ft", "3ft", "3ft"]),
        ('12.5" 12,5 inches 1,000 watts', ["12.5in", "12.5in", "1000w"]),
        ("1/2 in. pipe", ["1/2in", "pipe"]),
        ('\u00bd in. pipe 1\u00bd" 1 \u00be in.', ["1/2in", "pipe", "1-1/2in", "1-3/4in"]),
        (
            "\u0641\u064f\u0633\u0652\u062a\u064e\u0627\u0646 \u0623\u062d\u0645\u0631",
            ["\u0641\u0633\u062a\u0627\u0646", "\u0623\u062d\u0645\u0631"],
        ),
        ("1-1/4 in pvc", ["1-1/4in", "pvc"]),
        ("2 in pipe", ["2in", "pipe"]),
        ("pipe 2 in", ["pipe", "2in"]),
        ("12 in x 8 in deep", ["12in", "x", "8in", "deep"]),
        ("size 11 in white", ["size", "11", "in", "white"]),
        ("vitamin 12 c", ["vitamin", "12", "c"]),
        ("2x4 dcd771c2 iphone11", ["2", "x", "4", "dcd771c2", "iphone11"]),
        ("Café MÖBEL Straße", ["cafe", "mobel", "strasse"]),
        ("貂皮大衣 coat", ["貂", "皮", "大", "衣", "coat"]),
        ("ノートパソコン 小さい", ["ノートパソコン", "小", "さ", "い"]),
        ("ｆｕｌｌ", ["full"]),
        ("5 Stück", ["5piece"]),
        ("10 cu. ft 10 cu ft 10cu.ft. 10-cu.\t ft.", ["10cuft"] * 4),
        ("Work Light 10 sq  ft, 10 square \u00a0feet", ["work", "light", "10sqft", "10sqft"]),
        ("tile 10 cu, ft 10cux ft", ["tile", "10", "cu", "ft", "10cux", "ft"]),
        ("!!! --- 😀 __", []),
        ("", []),
    ],
)
def test_tokens_of_a_text(text: str, expected: list[str]) -> None:
    assert tokens(text, 32) == expected


def test_accents_are_folded_however_they_are_written() -> None:
    assert tokens("cafe\u0301 d'été", 9) == tokens("café d'ete\u0301", 9)


def test_a_limit_cuts_the_tokens_and_long_texts_are_read_to_a_length() -> None:
    assert tokens("a b c d", 2) == ["a", "b"]
    assert tokens("2 in", 1) == ["2in"]
    assert tokens("x" * MAX_CHARACTERS + " tail", 9) == ["x" * MAX_CHARACTERS]


@given(st.text(max_size=80), st.integers(1, 10))
def test_any_text_gives_at_most_the_limit_of_tokens_without_blanks(text: str, limit: int) -> None:
    found = tokens(text, limit)
    assert len(found) <= limit
    assert all(token and not any(map(str.isspace, token)) for token in found)
    assert found == tokens(text, 50)[:limit]


DIGITS = st.sampled_from("0123456789")
NAMES = st.sampled_from(sorted(UNIT_OF))
PUNCTUATION = st.sampled_from(" \t\u00a0.,-/x;:()_!?%'\"\u2032")
# Names of several words, with anything between them.
BETWEEN = st.text(st.one_of(st.just(" "), PUNCTUATION), max_size=2)
LONG_NAMES = st.sampled_from([name for name in UNIT_OF if " " in name])
MEASURES = st.builds(lambda name, between: f"10 {between.join(name.split())} ", LONG_NAMES, BETWEEN)


@example(["10 sq  ft"])
@given(st.lists(st.one_of(MEASURES, DIGITS, NAMES, PUNCTUATION), max_size=20))
def test_numbers_units_and_punctuation_in_any_order_are_read(pieces: list[str]) -> None:
    found = tokens("".join(pieces), 100)
    assert all(token and not any(map(str.isspace, token)) for token in found)


@given(NAMES, st.text(" \t\n\u00a0", min_size=1, max_size=3))
def test_every_name_of_a_unit_is_read_with_any_blanks_in_it(name: str, blanks: str) -> None:
    (found,) = tokens(f"10{name.replace(' ', blanks)}", 9)
    assert unit_of(found) == UNIT_OF[name]
