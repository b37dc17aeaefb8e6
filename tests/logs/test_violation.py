"""A violation reads as one sentence with its place, what must hold, the count and examples."""

import pytest

from shelfrank.logs.violation import Violation, example


@pytest.mark.parametrize(
    ("violation", "text"),
    [
        (Violation("products", None, "must be there"), "products: must be there"),
        (Violation("products", "title", "must be there", count=1, unit="row"), "products.title: must be there; 1 row"),
        (
            Violation("products", "title", "must be there", "warning", 1234567, "search", ("a=1", "a=2")),
            "products.title: must be there; 1,234,567 searches, e.g. a=1, a=2",
        ),
    ],
    ids=["whole table", "one row", "many searches"],
)
def test_a_violation_reads_as_a_sentence(violation: Violation, text: str) -> None:
    assert str(violation) == text
    assert violation.as_dict()["text"] == text


def test_an_example_shows_null_empty_and_long_values() -> None:
    shown = example({"a": None, "b": "", "c": 0, "d": "x" * 61, "e": "y" * 60})
    assert shown == f"a=null b='' c=0 d={'x' * 59}… e={'y' * 60}"
