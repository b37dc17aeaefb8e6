"""UBI documents of all versions are read: times, positions and ids."""

from datetime import UTC, datetime

import pytest

from shelfrank.logs.ubi.documents import event_row, product_row, query_row, read_time

QUERIED = datetime(2025, 3, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-03-01T10:00:00.500Z", datetime(2025, 3, 1, 10, 0, 0, 500_000, UTC)),
        ("2025-03-01T12:00:00+02:00", QUERIED),
        (1_740_823_200_000, QUERIED),
        ("1740823200000", QUERIED),
        (1_740_823_200_000.0, QUERIED),
        (1_740_823_200, QUERIED),
        ("1740823200.0", QUERIED),
        (1_740_823_200_000_000, QUERIED),
        (1_740_823_200_000_000_000, QUERIED),
        (1_740_823_200 // 60, None),  # minutes: in no unit a time from 1990 on
        ("2150-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("9" * 400, None),
        (10**400, None),
        (True, None),
        (None, None),
    ],
)
def test_times_are_iso_8601_or_numbers_since_1970(value: object, expected: datetime | None) -> None:
    assert read_time(value) == (expected, False)
    assert read_time("2025-03-01T10:00:00") == (QUERIED, True)


@pytest.mark.parametrize(
    ("position", "ordinal"),
    [
        ({"ordinal": 3}, 3),
        ({"ordinal": {"index": 3}}, 3),
        ({"index": 3}, 3),
        ({"ordinal": 3.0}, 3),
        ({"ordinal": 0}, 0),
        ({"ordinal": -1}, None),
        ({"ordinal": 2.5}, None),
        ({"ordinal": " 3 "}, 3),
        ({"ordinal": "third"}, None),
        ({"ordinal": 10**12}, None),
        ("3", None),
    ],
)
def test_positions_of_all_versions_are_read(position: object, ordinal: int | None) -> None:
    row = event_row({"event_attributes": {"position": position}})
    assert (row["ordinal"], row["object_id"]) == (ordinal, None)


def test_ids_are_read_wherever_the_versions_put_them() -> None:
    named = {"object": {"object_id_field": "isbn", "isbn": "978"}}
    assert event_row({"event_attributes": named})["object_id"] == "978"
    assert [product_row({key: "p"})["product_id"] for key in ("product_id", "object_id", "id", "_id")] == ["p"] * 4
    assert query_row({"query_response_hit_ids": [None, ""]})["hits"] is None
