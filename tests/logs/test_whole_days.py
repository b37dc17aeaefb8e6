"""Times without a time of day are noted where most searches or events have none."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.logs.bestbuy import import_bestbuy
from shelfrank.logs.custom import import_custom
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.trivago import COLUMNS, import_trivago
from shelfrank.logs.ubi.importer import import_ubi

NIGHT, NEXT_NIGHT = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
BERLIN = pa.timestamp("us", tz="Europe/Berlin")
OFFSET = pa.timestamp("us", tz="+05:30")


def notes_of(log: Path) -> dict[str, str]:
    notes = SearchLog.open(log).manifest.info["notes"]
    return {
        name.removeprefix("timestamps of ").removesuffix(" without a time of day"): note
        for name, note in notes.items()
        if name.endswith("without a time of day")
    }


def imported(folder: Path, times: Any, events: Any = None, unit: str | None = None) -> dict[str, str]:
    """The notes of an import of searches at these times, each with two products."""
    times = times if isinstance(times, pa.Array) else pa.array(times)
    n = len(times)
    twice = times.take(pa.array([i // 2 for i in range(2 * n)]))
    tables: dict[str, dict[str, Any]] = {
        "impressions": {
            "search_id": [f"s{i // 2}" for i in range(2 * n)],
            "timestamp": twice,
            "query": ["shoe"] * 2 * n,
            "product_id": ["a", "b"] * n,
            "position": [1, 2] * n,
            "click": [1, 0] * n,
        }
    }
    if events is not None:
        m = len(events)
        tables["events"] = {
            "timestamp": events, "customer_id": ["u"] * m, "product_id": ["a"] * m, "action": ["view"] * m,
        }  # fmt: skip
        tables["impressions"]["customer_id"] = ["u"] * 2 * n
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    mapping = {
        "name": "shop",
        "tables": {name: f"{name}.parquet" for name in tables},
        "columns": {name: {column: column for column in columns} for name, columns in tables.items()},
    } | ({} if unit is None else {"timestamp_unit": unit})
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    import_custom(folder / "mapping.yaml", folder / "log")
    return notes_of(folder / "log")


SAID = "searches are at the start of a day, so that history within a day cannot be seen; export the time of day too"
SAID_OF_ONE = f"1 of 1 {SAID}".replace("searches are", "search is")


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (["2024-03-01", "2024-03-02", "2024/3/3"], None),
        (["2024-03-01T00:00:00Z", "2024-03-02 00:00", "2024-03-03 00:00:00.000"], None),
        (["2024-03-01T00:00:00+02:00", "2024-03-02T00:00:00-05:00", "2024-03-03 00:00 Europe/Berlin"], None),
        ([date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 3)], None),
        ([datetime(2024, 3, day) for day in (1, 2, 3)], None),
        (pa.array([datetime(2024, 3, day, 23, tzinfo=UTC) for day in (1, 2, 3)], BERLIN), None),
        (pa.array([datetime(2024, 3, day, 18, 30, tzinfo=UTC) for day in (1, 2, 3)], OFFSET), None),
        ([int((NIGHT + timedelta(day)).timestamp()) for day in range(3)], "s"),
        ([f"{(NIGHT + timedelta(day)).timestamp() * 1000:.0f}" for day in range(3)], "ms"),
    ],
)
def test_dates_are_noted_with_the_number_of_searches(tmp_path: Path, times: Any, unit: str | None) -> None:
    assert imported(tmp_path, times, unit=unit) == {"impressions.parquet": f"3 of 3 {SAID}"}


@pytest.mark.parametrize(
    ("n_days", "n_others", "expected"), [(1, 1, {}), (1, 3, {}), (3, 2, {"impressions.parquet": f"3 of 5 {SAID}"})]
)
def test_a_few_searches_at_midnight_are_not_noted(
    tmp_path: Path, n_days: int, n_others: int, expected: dict[str, str]
) -> None:
    times = [NIGHT] * n_days + [NIGHT + timedelta(microseconds=1)] * n_others
    assert imported(tmp_path, times) == expected


@pytest.mark.parametrize(
    "times",
    [
        ["2024-03-01T22:00:00+02:00", "2024-03-02T02:00:00+02:00"],
        pa.array([NIGHT, NEXT_NIGHT], BERLIN),
        ["2024-03-01 00:00:00.5", "2024-03-01 12:00"],
    ],
)
def test_midnight_is_that_of_the_zone_in_which_a_time_is_written(tmp_path: Path, times: Any) -> None:
    assert imported(tmp_path, times) == {}


OFFSETS = {
    "+00:00": 0, "+0000": 0, "-00:00": 0, "+05:30": 330, "+0530": 330, "+14:00": 840, "-05:00": -300, "-0500": -300,
    "-03:30": -210, "-12:00": -720, "+01": 60, "-08": -480,
}  # fmt: skip


@pytest.mark.parametrize(("offset", "minutes"), OFFSETS.items())
def test_days_of_an_offset_begin_at_its_midnight(tmp_path: Path, offset: str, minutes: int) -> None:
    zone = pa.timestamp("us", tz=offset)
    days = [NIGHT - timedelta(minutes=minutes), NEXT_NIGHT - timedelta(minutes=minutes)]
    assert imported(tmp_path, pa.array(days, zone)) == {"impressions.parquet": f"2 of 2 {SAID}"}
    later = [day + timedelta(minutes=1) for day in days]
    assert imported(tmp_path, pa.array(later, zone)) == {}


@pytest.mark.parametrize("zone", ["GMT+2", "Z", "Foo/Bar", "UTC", "EST"])
def test_a_zone_that_the_engine_does_not_know_has_the_days_of_utc(tmp_path: Path, zone: str) -> None:
    days = [NIGHT, NEXT_NIGHT]
    notes = imported(tmp_path, pa.array(days, pa.timestamp("us", tz=zone)))
    assert notes == ({} if zone == "EST" else {"impressions.parquet": f"2 of 2 {SAID}"})
    log = pq.read_table(SearchLog.open(tmp_path / "log").files("impressions")[0])
    assert set(log["timestamp"].to_pylist()) == set(days)


def test_events_without_a_time_of_day_are_noted_too(tmp_path: Path) -> None:
    noon = NIGHT + timedelta(hours=12)
    assert imported(tmp_path, [noon, noon], events=["2024-03-01", "2024-03-02"]) == {
        "events.parquet": "2 of 2 events are at the start of a day, before all searches of that day; "
        "export the time of day too"
    }


@pytest.mark.parametrize("time", ["2024-03-01", "2024-03-01T00:00:00+02:00", "20240301T0000Z", 1_709_251_200_000])
def test_dates_of_user_behavior_insights_are_noted(tmp_path: Path, time: object) -> None:
    query = {"query_id": "q", "user_query": "shoe", "query_response_hit_ids": ["a", "b"], "timestamp": time}
    about = {"object": {"object_id": "a"}}
    events = [
        {"query_id": "q", "action_name": "click", "event_attributes": about, "timestamp": time},
        {"client_id": "c", "action_name": "view", "event_attributes": about, "timestamp": time},
    ]
    (tmp_path / "queries.jsonl").write_text(json.dumps(query))
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    import_ubi(tmp_path, tmp_path / "log")
    notes = notes_of(tmp_path / "log")
    assert notes["queries"] == SAID_OF_ONE
    assert notes["events"].startswith("1 of 1 event is at the start of a day, before")


@pytest.mark.parametrize(("time", "is_noted"), [("2011-09-14", True), ("2011-09-14 12:00:00", False)])
def test_dates_of_best_buy_are_noted(tmp_path: Path, time: str, is_noted: bool) -> None:
    rows = [f"u{n},{sku},games,halo,2011-09-14 13:00:00,{time}" for n in range(3) for sku in (7, 8)]
    (tmp_path / "train.csv").write_text("\n".join(["user,sku,category,query,click_time,query_time", *rows, ""]))
    import_bestbuy(tmp_path / "train.csv", tmp_path / "log")
    assert notes_of(tmp_path / "log") == ({"train.csv": f"3 of 3 {SAID}"} if is_noted else {})


@pytest.mark.parametrize("seconds", [0, 3600])
def test_dates_of_trivago_are_noted(tmp_path: Path, seconds: int) -> None:
    second = int(datetime(2018, 11, 1, tzinfo=UTC).timestamp()) + seconds
    row = {"user_id": "u", "session_id": "s", "timestamp": str(second), "step": "1", "action_type": "clickout item",
           "reference": "1", "impressions": "1|2", "prices": "5|6", "city": "Nice"}  # fmt: skip
    (tmp_path / "train.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(row.get(name, '') for name in COLUMNS)}\n")
    import_trivago(tmp_path / "train.csv", tmp_path / "log")
    assert notes_of(tmp_path / "log") == ({} if seconds else {"train.csv": SAID_OF_ONE})
