import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.core.values import (
    BLANKS,
    NULL_WORDS,
    CategorySpelling,
    IdSpelling,
    each_distinct,
    folded_query,
    too_large,
)
from shelfrank.logs.engine import open_engine, read_parquet

IDS = {
    "trimmed": (" a b ", "a b"),
    "non-breaking space": ("\u00a012\u3000", "12"),
    "zero width": ("\u200b12\ufeff", "12"),
    "leading zeros stay": ("007", "007"),
    "scientific text stays": ("1e5", "1e5"),
    "hive": ("\\N", None),
    "blank": (" \t", None),
    "R": ("NA", None),
    "a word within": ("NA1", "NA1"),
    "whole float": (412.0, "412"),
    "negative zero": (-0.0, "0"),
    "fraction": (1.5, None),
    "large integer": (2**60 + 1, str(2**60 + 1)),
    "truth value": (True, None),
    "decimal": (Decimal("412.00"), "412"),
    "text with decimals": ("412.0", "412.0"),
}


@pytest.mark.parametrize("case", IDS)
def test_ids(case: str) -> None:
    value, expected = IDS[case]
    assert IdSpelling(NULL_WORDS).of(value) == expected


@pytest.mark.parametrize(("text", "expected"), [("412.0", "412"), ("412.00", "412"), ("-0.0", "0"), ("007.0", "007.0")])
def test_texts_of_a_column_of_whole_numbers_lose_their_decimals(text: str, expected: str) -> None:
    assert IdSpelling(whole_numbers=True).of(text) == expected


def test_a_float_that_stands_for_several_whole_numbers_is_refused() -> None:
    assert IdSpelling().of(float(2**53 - 1)) == str(2**53 - 1)
    with pytest.raises(ValueError, match="below 2\\^53"):
        IdSpelling().of(float(2**53))
    assert too_large(pa.chunked_array([np.array([2**24], np.float32)]))
    assert not too_large(pa.chunked_array([np.array([2**24 - 1, np.nan], np.float32)]))
    assert not too_large(pa.chunked_array([[2**60]]))


CATEGORIES = {
    "1": [1, 1.0, "1", "1.0", " 1 ", "1.00", Decimal("1.0")],
    "true": [True, "true", "True", "TRUE "],
    "1.5": [1.5, "1.5", Decimal("1.50")],
    "NA": ["NA", " NA"],
    "None": ["None"],
    "Straße": ["Straße"],
    "01": ["01"],
    None: [None, "", " ", "NULL", "\\N", "NaN", float("nan")],
}


@pytest.mark.parametrize("expected", CATEGORIES)
def test_categories(expected: str | None) -> None:
    assert [CategorySpelling().of(value) for value in CATEGORIES[expected]] == [expected] * len(CATEGORIES[expected])


def test_null_words_of_a_column_replace_the_built_in_ones() -> None:
    assert CategorySpelling(("NA",)).of("NA") is None
    assert CategorySpelling(("NA",)).of("NULL") == "NULL"
    assert CategorySpelling(()).of(" ") is None


def test_case_is_folded_where_a_column_says_so() -> None:
    assert [CategorySpelling(fold_case=True).of(text) for text in ("Nike", "NIKE")] == ["nike", "nike"]


COLUMNS = {
    "floats": pa.array([1.0, 2.5, None, float("nan")]),
    "floats of 32 bits": pa.array([1.0, 2.5, None, float("nan")], pa.float32()),
    "texts": pa.array(["1.0", "2.5", None, " "]),
    "large texts": pa.array(["1.0", "2.5", None, " "], pa.large_string()),
    "dictionary": pa.array(["1", "2.5", None, "NULL"]).dictionary_encode(),
    "decimals": pa.array([Decimal("1.00"), Decimal("2.50"), None, None]),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_is_spelled_as_its_values_are(case: str) -> None:
    assert CategorySpelling().column(COLUMNS[case]).to_pylist() == ["1", "2.5", None, None]


def test_a_column_of_32_bits_is_spelled_as_it_was_written() -> None:
    assert CategorySpelling().column(pa.array([0.1], pa.float32())).to_pylist() == [CategorySpelling().of(0.1)]


def test_chunks_without_rows_and_columns_without_chunks_are_spelled() -> None:
    assert each_distinct(pa.chunked_array([[], [" a"]], pa.string()), str.strip).to_pylist() == ["a"]
    assert each_distinct(pa.chunked_array([], pa.string()), str.strip).to_pylist() == []


QUERIES = {
    "case": ("Red SHOE", "red shoe"),
    "white space": ("  red \t\u00a0 shoe\u3000", "red shoe"),
    "sharp s": ("Straße", "strasse"),
    "full width": ("ＡＢＣ１", "abc1"),
    "combining mark": ("cafe\u0301", "café"),
    "zero width": ("re\u200bd\ufeff", "red"),
    "a word that means missing elsewhere": ("NULL", "null"),
    "blank": (" \u00a0", ""),
}


@pytest.mark.parametrize("case", QUERIES)
def test_queries(case: str) -> None:
    query, expected = QUERIES[case]
    assert folded_query(query) == expected


@given(st.text())
def test_folding_again_changes_nothing(query: str) -> None:
    once = folded_query(query)
    assert folded_query(once) == once
    assert folded_query(f" {query}\n") == once


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False)))
def test_spelling_again_changes_nothing(value: object) -> None:
    category = CategorySpelling().of(value)
    assert category is None or CategorySpelling().of(category) in (category, None)
    if not isinstance(value, float):
        for spelling in (IdSpelling(NULL_WORDS), IdSpelling(NULL_WORDS, whole_numbers=True)):
            once = spelling.of(value)
            assert spelling.of(once) == once


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_number_is_one_category_and_one_id_in_every_type(number: int) -> None:
    assert {CategorySpelling().of(each) for each in (number, float(number), str(number), f"{number}.0")} == {
        str(number)
    }
    assert {IdSpelling().of(each) for each in (number, float(number), f" {number} ")} == {str(number)}


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    st.text(st.sampled_from([*BLANKS, *"0123.-NAaeE+\\ł"])),
    st.sampled_from([*NULL_WORDS, "True", "fALSE", "-0", "-0.0", "1.0\n"]),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=60))
def test_the_engine_spells_texts_as_python_does(texts: list[str]) -> None:
    spellings = (IdSpelling(NULL_WORDS), IdSpelling(("a b", "$^", "x-"), whole_numbers=True), CategorySpelling())
    with tempfile.TemporaryDirectory() as folder, open_engine() as engine:
        file = Path(folder) / "texts.parquet"
        pq.write_table(pa.table({"row": range(len(texts)), "text": pa.array(texts, pa.string())}), file)
        raw = read_parquet(engine, [file])
        values = {f"by_{i}": spelling.expression(raw["text"]) for i, spelling in enumerate(spellings)}
        made = engine.to_pyarrow(raw.select("row", **values).order_by("row"))
    for i, spelling in enumerate(spellings):
        assert made[f"by_{i}"].to_pylist() == [spelling.of(text) for text in texts]
