import doctest

import pytest

from shelfrank.report import formats
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import (
    between,
    brief,
    compact,
    count,
    day,
    duration,
    listed,
    memory,
    number,
    percent,
    signed,
)


def test_the_examples_hold() -> None:
    assert doctest.testmod(formats).failed == 0
    assert doctest.testmod(formats).attempted > 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.0004, "+0.0004"),
        (-0.00004, "−0.00004"),
        (1e-12, "+0.000"),
        (-1e-12, "0.000"),
        (None, "–"),
        (0.12345, "+0.123"),
    ],
)
def test_a_difference_never_reads_as_zero_without_being_nearly_so(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999, "999"),
        (1000, "1.00K"),
        (9_994, "9.99K"),
        (9_996, "10.0K"),
        (99_950, "100K"),
        (999_950, "1.00M"),
        (69_960_000, "70.0M"),
        (0, "0"),
    ],
)
def test_large_counts_keep_three_digits(value: int, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (7200, "2 h 00 min")],
)
def test_durations_carry_over(seconds: float, text: str) -> None:
    assert duration(float(seconds)) == text


def test_what_is_not_known_is_a_dash() -> None:
    unknown = Estimate(value=1.0)
    texts = [number(None), percent(None), count(None), compact(None), duration(None), memory(None), day(None)]
    assert {*texts, between(None), between(unknown), brief(unknown), signed(None)} == {"–"}


def test_words_are_listed() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
