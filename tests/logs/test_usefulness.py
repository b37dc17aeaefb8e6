"""Valid logs that could hardly be used are warnings_of of."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.logs.search_log import COLUMN_TYPES, REQUIRED_COLUMNS
from shelfrank.logs.validate import validate

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def write_log(folder: Path, searches: list[tuple[str | None, list[str]]], **changed: Any) -> Path:
    """A log of searches, each by a customer and of some products."""
    shown = [
        {
            "search_id": f"s{place}", "timestamp": NOON, "customer_id": customer, "query": "shoe",
            "product_id": product, "position": position, "click": position % 2, "add_to_cart": None, "purchase": None,
        } | changed
        for place, (customer, products) in enumerate(searches)
        for position, product in enumerate(products, start=1)
    ]  # fmt: skip
    known = changed.get("known") or sorted({product for _, products in searches for product in products})
    tables = {
        "impressions": shown,
        "products": [{"product_id": product, "title": "shoe"} for product in known],
        "customers": [{"customer_id": customer} for customer in sorted({c for c, _ in searches if c is not None})],
    }
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        schema = pa.schema([(column, COLUMN_TYPES[column]) for column in REQUIRED_COLUMNS[name]])
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name / "part-00000.parquet")
    (folder / "schema.yaml").write_text("version: 1\nname: tiny\nfeatures: []\n")
    return folder


def warnings_of(folder: Path) -> list[str]:
    return [str(violation) for violation in validate(folder)]


def test_searches_of_one_product_leave_nothing_to_order(tmp_path: Path) -> None:
    (warnings,) = warnings_of(write_log(tmp_path / "one", [("c", ["a"]), ("c", ["b"]), (None, ["a"])]))
    assert warnings.endswith(
        "should show more than one product in some search, but no search does: there is nothing to order"
    )
    assert warnings_of(write_log(tmp_path / "two", [("c", ["a"]), ("c", ["a", "b"])])) == []


@pytest.mark.parametrize("days", [0.9, 1.1, 2000])
def test_searches_in_the_future_are_counted(days: float, tmp_path: Path) -> None:
    at = datetime.now(UTC) + timedelta(days=days)
    warnings = warnings_of(write_log(tmp_path / "log", [("c", ["a", "b"]), ("c", ["a", "b"])], timestamp=at))
    if days < 1:
        assert warnings == []
    else:
        assert "more than a day ahead" in warnings[0]
        assert warnings[0].endswith("; 2 searches")


@pytest.mark.parametrize(("n_guests", "is_reported"), [(33, False), (60, True)])
def test_a_customer_who_has_most_searches_is_named(n_guests: int, is_reported: bool, tmp_path: Path) -> None:
    searches = [("0" if place < n_guests else f"c{place % 20}", ["a", "b"]) for place in range(100)]
    warnings = warnings_of(write_log(tmp_path / "log", searches))
    assert bool(warnings) == is_reported
    if is_reported:
        assert "but '0' has 60 of 100; declare it in null_words if it stands for guests" in warnings[0]


@pytest.mark.parametrize(
    ("shown", "known", "reason"),
    [
        (
            ["41.0", "42.0"],
            ["41", "42", "43"],
            "all of these differ .* by decimals that are 0 only, as '41.0' does from '41'",
        ),
        (["412", "42"], ["0412", "0042"], "by zeros at the beginning only, as '412' does from '0412'"),
        (["ab", "b"], ["AB", "B"], "by the case of letters only, as 'ab' does from 'AB'"),
        (["a 1", "b 1"], ["a1", "b\u00a01"], "by white space only"),
        (["a", "b"], ["A", "c", "B"], "spell them alike"),
        (["a", "b"], ["c", "d"], None),
        (["A", "b", "x", "y", "z"], ["a", "b"], None),
    ],
)
def test_ids_that_differ_by_spelling_only_are_reported_as_such(
    shown: list[str], known: list[str], reason: str | None, tmp_path: Path
) -> None:
    import re

    folder = write_log(tmp_path / "log", [("c", shown)])
    products = pa.table({"product_id": known, "title": ["shoe"] * len(known)})
    pq.write_table(products, folder / "products" / "part-00000.parquet")
    (warnings,) = [line for line in warnings_of(folder) if "must be a product_id of products" in line]
    assert bool(re.search(reason, warnings)) if reason else "spell" not in warnings
