"""Rounded times are refused, exact ones are read in every notation, and times without a time of day are noted."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.core.errors import UserError
from shelfrank.logs.bestbuy import import_bestbuy
from shelfrank.logs.custom import import_custom
from shelfrank.logs.engine import open_engine, rows_of
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.time_columns import known_zone, starts_a_day
from shelfrank.logs.trivago import COLUMNS, import_trivago
from shelfrank.logs.ubi.importer import import_ubi

USES = {
    "page": "search_id",
    "at": "timestamp",
    "words": "query",
    "sku": "product_id",
    "rank": "position",
    "clicked": "click",
}
TIME = datetime(2024, 2, 28, 10, 8, 43, 456_000, UTC)  # 1,709,114,923,456 ms
MUST = r"must hold times with all digits down to the second, but {} of its numbers"


def mapping_of(folder: Path, file: str, **keys: Any) -> Path:
    mapping = {"name": "shop", "tables": {"impressions": file}, "columns": {"impressions": USES}, **keys}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    return folder / "mapping.yaml"


def import_times(folder: Path, times: list[str], **keys: Any) -> list[datetime]:
    """The times of searches, one for each given one."""
    lines = [f'{i},"{time}",shoe,p{i},1,{i % 2}' for i, time in enumerate(times)]
    (folder / "clicks.csv").write_text("\n".join([",".join(USES), *lines, ""]))
    return times_of(folder, mapping_of(folder, "clicks.csv", **keys))


def times_of(folder: Path, mapping: Path) -> list[datetime]:
    import_custom(mapping, folder / "log")
    files = SearchLog.open(folder / "log").files("impressions")
    return pa.concat_tables([pq.read_table(file) for file in files])["timestamp"].to_pylist()


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("rounded", "unit"),
    [
        ("1.7091{}E+12", "ms"),
        ("1.7091{}e+12", "ms"),
        ("1,7091{}E+12", "ms"),
        ("1.7{}E+12", "ms"),
        (" 1.7091149{}E+12 ", "ms"),
        ("1709.1{}E+09", "ms"),
        ("1.7091{}E+09", "s"),
        ("1.7091{}E+15", "us"),
        ("1.7091{}E+18", "ns"),
        ("6.3115{}E+11", "ms"),
    ],
)
def test_columns_that_were_rounded_are_refused(tmp_path: Path, rounded: str, unit: str, declared: bool) -> None:
    keys = {"timestamp_unit": unit} if declared else {}
    times = [rounded.format(last) for last in (1, 2, 3, 3)]
    with pytest.raises(UserError, match=MUST.format("4") + " were rounded") as error:
        import_times(tmp_path, times, **keys)
    assert str(error.value).startswith("at of clicks.csv ")
    shown = ", ".join(time.strip() for time in times[:3])
    assert str(error.value).endswith(f"e.g. {shown}; export the column again as whole numbers or as ISO 8601 times")


ROUNDED = ["1.70911E+12", "1.70912E+12", "1.70913E+12"]


@pytest.mark.parametrize(("n_in_full", "is_refused"), [(0, True), (2, True), (3, False), (20, False)])
def test_times_in_full_vouch_for_fewer_short_ones(tmp_path: Path, n_in_full: int, is_refused: bool) -> None:
    times = [*ROUNDED, *(str(1_709_114_923_456 + n) for n in range(n_in_full))]
    if is_refused:
        with pytest.raises(UserError, match=MUST.format("3")):
            import_times(tmp_path, times)
    else:
        import_times(tmp_path, times)
        assert note_of(tmp_path) == f"3, e.g. {', '.join(ROUNDED)}: read as if only zeros follow"


@pytest.mark.parametrize("rounded", ROUNDED[:2])
def test_one_or_two_different_times_may_end_in_zeros(tmp_path: Path, rounded: str) -> None:
    times = import_times(tmp_path, [rounded, ROUNDED[0], ROUNDED[0]])
    assert {time.timestamp() * 1000 for time in times} == {float(rounded), float(ROUNDED[0])}
    shown = ", ".join(sorted({rounded, ROUNDED[0]}))
    assert note_of(tmp_path) == f"3, e.g. {shown}: read as if only zeros follow"


EXACT = {
    "python's nanoseconds": (["1.70928012e+18", "1.709280121e+18", "1.7092802e+18", "1.70928e+18"], "ns"),
    "python's nanoseconds, to the minute": (["1.70928012e+18", "1.70928018e+18", "1.7092803e+18"], "ns"),
    "seconds, of which one has all digits": (["1.7e+09", "1.70928e+09", "1.70928013e+09", "1.709280131e+09"], "s"),
    "R's milliseconds of midnights": (["1.709251200e+12", "1.7093376e+12", "1.709424e+12"], "ms"),
    "R's milliseconds, most of them longer": (
        ["1.70928e+12", "1.7092801e+12", "1.7092802e+12", "1709280001000", "1709280012340", "1709280012341"], "ms",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_programs_that_drop_zeros_at_the_end_are_understood(tmp_path: Path, case: str) -> None:
    given, unit = EXACT[case]
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    expected = [datetime.fromtimestamp(float(each) / per_second, UTC) for each in given]
    assert import_times(tmp_path, given, timestamp_unit=unit) == expected
    assert (note_of(tmp_path) or "").endswith(": read as if only zeros follow")


def note_of(folder: Path) -> str | None:
    notes = SearchLog.open(folder / "log").manifest.info["notes"]
    return notes.get("at of clicks.csv, numbers whose digits end before the second")


@pytest.mark.parametrize(
    "exact",
    [
        "1709114923456",
        "1709114923456.0",
        "1.709114923456E+12",
        "1.709114923456e12",
        "1,709114923456E+12",
        "1709114923456000E-03",
    ],
)
def test_numbers_with_all_digits_are_read(tmp_path: Path, exact: str) -> None:
    assert import_times(tmp_path, [exact, "1709114923457"], timestamp_unit="ms")[0] == TIME


def test_programs_that_write_no_sign_write_all_digits_but_the_zeros_at_the_end(tmp_path: Path) -> None:
    assert import_times(tmp_path, ["1.70928E12", "1.709280000001E12"])[0] == datetime(2024, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("type_", [pa.float64(), pa.int64()])
def test_columns_of_64_bits_are_exact(tmp_path: Path, type_: pa.DataType) -> None:
    times = pa.array([1_709_114_923_456, 1_709_280_000_000]).cast(type_)
    write_parquet(tmp_path, times)
    assert times_of(tmp_path, mapping_of(tmp_path, "clicks.parquet"))[0] == TIME


def test_floats_of_32_bits_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path, pa.array([1.7e9, 1.8e9], pa.float32()))
    with pytest.raises(
        UserError, match=MUST.format(2) + r" are of type float32, which rounds them; write the column as 64-bit"
    ):
        times_of(tmp_path, mapping_of(tmp_path, "clicks.parquet"))


def test_one_float_of_32_bits_is_counted_in_the_singular(tmp_path: Path) -> None:
    write_parquet(tmp_path, pa.array([1.7e9, None], pa.float32()))
    with pytest.raises(UserError, match=MUST.format(1) + " is of type float32, which rounds it; write"):
        times_of(tmp_path, mapping_of(tmp_path, "clicks.parquet"))


def write_parquet(folder: Path, times: pa.Array) -> None:
    n = len(times)
    content = [list("ab"), times, ["shoe"] * n, ["p", "q"], [1] * n, [0, 1]]
    pq.write_table(pa.table(dict(zip(USES, content, strict=True))), folder / "clicks.parquet")


def test_times_of_a_trivago_file_that_was_rounded_are_refused(tmp_path: Path) -> None:
    row = {"user_id": "u", "session_id": "s", "step": "1", "action_type": "clickout item"}
    lines = [",".join(COLUMNS)]
    for time in ("1.5416E+09", "1.5417E+09", "1.5418E+09"):
        lines.append(",".join({**row, "timestamp": time}.get(name, "") for name in COLUMNS))
    (tmp_path / "train.csv").write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError, match="timestamp of train.csv " + MUST.format(3)):
        import_trivago(tmp_path / "train.csv", tmp_path / "log")


@pytest.mark.parametrize("spoiled", ["queries", "events"])
@pytest.mark.parametrize("rounded", ["1.7091{}E+12", "1,7091{}E+12"])
def test_times_that_are_texts_of_json_are_refused_too(tmp_path: Path, spoiled: str, rounded: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "queries": {"query_id": "q", "user_query": "shoe", "query_response_hit_ids": ["a", "b"]},
        "events": {"query_id": "q", "action_name": "click", "event_attributes": {"object": {"object_id": "a"}}},
    }
    for name, row in rows.items():
        form = rounded if name == spoiled else "1.70911492345{}E+12"
        lines = [json.dumps({**row, "timestamp": form.format(last)}) for last in (1, 2, 3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"timestamp of {spoiled}.jsonl " + MUST.format(3)):
        import_ubi(tmp_path, tmp_path / "log")


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


def test_days_of_an_offset_begin_at_its_midnight() -> None:
    days = [NIGHT - timedelta(minutes=minutes) for minutes in OFFSETS.values()]
    later = [day + timedelta(minutes=1) for day in days]
    times: Any = ibis.memtable(pa.table({"row": range(len(days)), "day": days, "later": later}))
    with open_engine() as engine:
        assert [known_zone(engine, offset) for offset in OFFSETS] == list(OFFSETS)
        for row, offset in enumerate(OFFSETS):
            starts = times.select(
                "row", day=starts_a_day(times["day"], offset), later=starts_a_day(times["later"], offset)
            )
            assert rows_of(engine, starts.filter(starts["row"] == row)) == [{"row": row, "day": True, "later": False}]


@pytest.mark.parametrize("offset", ["+05:30", "-0500", "+01"])
def test_days_of_a_column_with_an_offset_begin_at_its_midnight(tmp_path: Path, offset: str) -> None:
    days = pa.array([day - timedelta(minutes=OFFSETS[offset]) for day in (NIGHT, NEXT_NIGHT)])
    assert imported(tmp_path, days.cast(pa.timestamp("us", tz=offset))) == {"impressions.parquet": f"2 of 2 {SAID}"}


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
