"""Times that a spreadsheet rounded are refused, and exact ones are read however they are written."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.errors import UserError
from shelfrank.logs.custom import import_custom
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.trivago import import_trivago
from shelfrank.logs.trivago_rows import COLUMNS
from shelfrank.logs.ubi import import_ubi

USES = {
    "page": "search_id",
    "at": "timestamp",
    "words": "query",
    "sku": "product_id",
    "rank": "position",
    "clicked": "click",
}
MOMENT = datetime(2024, 2, 28, 10, 8, 43, 456_000, UTC)  # 1,709,114,923,456 ms
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
        ("1.70911E+12", "ms"),
        ("1.70911e+12", "ms"),
        ("1,70911E+12", "ms"),
        ("1.71E+12", "ms"),
        (" 1.70911492E+12 ", "ms"),
        ("1709.11E+09", "ms"),
        ("1.70911E+09", "s"),
        ("1.70911E+15", "us"),
        ("1.70911E+18", "ns"),
        ("6.31152E+11", "ms"),
    ],
)
def test_numbers_that_were_rounded_are_refused(tmp_path: Path, rounded: str, unit: str, declared: bool) -> None:
    keys = {"timestamp_unit": unit} if declared else {}
    with pytest.raises(UserError, match=MUST.format(2)) as error:
        import_times(tmp_path, [rounded, rounded], **keys)
    assert str(error.value).startswith("at of clicks.csv ")
    assert f"e.g. {rounded.strip()}; export the column as text or as whole numbers" in str(error.value)


def test_a_single_one_among_times_in_full_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=MUST.format(1)):
        import_times(tmp_path, ["1709114923456", "1.70911E+12", "1709114923457"])


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
    assert import_times(tmp_path, [exact, "1709114923457"], timestamp_unit="ms")[0] == MOMENT


def test_programs_that_write_no_sign_write_all_digits_but_the_zeros_at_the_end(tmp_path: Path) -> None:
    assert import_times(tmp_path, ["1.70928E12", "1.709280000001E12"])[0] == datetime(2024, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("type_", [pa.float64(), pa.int64()])
def test_columns_of_64_bits_are_exact(tmp_path: Path, type_: pa.DataType) -> None:
    times = pa.array([1_709_114_923_456, 1_709_280_000_000]).cast(type_)
    write_parquet(tmp_path, times)
    assert times_of(tmp_path, mapping_of(tmp_path, "clicks.parquet"))[0] == MOMENT


def test_floats_of_32_bits_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path, pa.array([1.7e9, 1.8e9], pa.float32()))
    with pytest.raises(UserError, match=MUST.format(2) + r" are of type float32.*; write the column as 64-bit"):
        times_of(tmp_path, mapping_of(tmp_path, "clicks.parquet"))


def write_parquet(folder: Path, times: pa.Array) -> None:
    n = len(times)
    content = [list("ab"), times, ["shoe"] * n, ["p", "q"], [1] * n, [0, 1]]
    pq.write_table(pa.table(dict(zip(USES, content, strict=True))), folder / "clicks.parquet")


def test_times_of_a_trivago_file_that_was_rounded_are_refused(tmp_path: Path) -> None:
    row = {"user_id": "u", "session_id": "s", "timestamp": "1.5416E+09", "step": "1", "action_type": "clickout item"}
    cells = [row.get(name, "") for name in COLUMNS]
    (tmp_path / "train.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(cells)}\n")
    with pytest.raises(UserError, match="timestamp of train.csv " + MUST.format(1)):
        import_trivago(tmp_path / "train.csv", tmp_path / "log")


@pytest.mark.parametrize("spoiled", ["queries", "events"])
@pytest.mark.parametrize("rounded", ["1.70911E+12", "1,70911E+12"])
def test_times_that_are_texts_of_json_are_refused_too(tmp_path: Path, spoiled: str, rounded: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "queries": {"query_id": "q", "user_query": "shoe", "query_response_hit_ids": ["a", "b"]},
        "events": {"query_id": "q", "action_name": "click", "event_attributes": {"object": {"object_id": "a"}}},
    }
    for name, row in rows.items():
        time = rounded if name == spoiled else "1.709114923456E+12"
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**row, "timestamp": time}))
    with pytest.raises(UserError, match=f"timestamp of {spoiled}.jsonl " + MUST.format(1)):
        import_ubi(tmp_path, tmp_path / "log")
