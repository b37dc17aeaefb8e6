"""A log is written whole: values are cast, losses are counted, and an invalid log never appears."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.search_log import COLUMN_TYPES, SearchLog
from shelfrank.logs.writer import cast_reserved, log_is_current, write_search_log
from small_log import SMALL_SCHEMA, small_tables, write_small_log

TABLES = small_tables(8)


def test_a_finished_log_opens_with_its_tables_and_counts(tmp_path: Path) -> None:
    log = SearchLog.open(write_small_log(tmp_path / "log", TABLES))
    assert log.schema.features == SMALL_SCHEMA.features
    assert log.schema.spelling is not None
    assert log.manifest.info["rows"] == {name: len(rows) for name, rows in TABLES.items()}
    assert pq.read_table(log.files("impressions")).num_rows == len(TABLES["impressions"])
    assert [log.has(table) for table in ("products", "events", "truth/impressions")] == [True, True, False]
    assert log.manifest.info["cost"]["peak_rss_mb"] > 0


def test_parts_keep_their_written_order(tmp_path: Path) -> None:
    with write_search_log(tmp_path / "log", SMALL_SCHEMA, {}) as writer:
        for name, rows in TABLES.items():
            for row in rows:
                writer.write(name, pa.Table.from_pylist([row]).cast(_types(row)))
    files = SearchLog.open(tmp_path / "log").files("products")
    assert len(files) == len(TABLES["products"]) > 10
    products = [pq.read_table(file)["product_id"][0].as_py() for file in files]
    assert products == [row["product_id"] for row in TABLES["products"]]


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    with write_search_log(tmp_path / "log", SMALL_SCHEMA, {}) as writer:
        for name, rows in TABLES.items():
            writer.write(name, pa.Table.from_pylist(rows))
        writer.leave_out("searches without products", 2)
        writer.leave_out("searches without products")
        writer.leave_out("nothing", 0)
        writer.notes["source"] = "a test"
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert info["left_out"] == {"searches without products": 3}
    assert info["notes"] == {"source": "a test"}


def test_a_log_without_a_search_is_refused_with_the_reasons(tmp_path: Path) -> None:
    def write_nothing() -> None:
        with write_search_log(tmp_path / "log", SMALL_SCHEMA, {}) as writer:
            writer.leave_out("searches without products", 1200)

    with pytest.raises(UserError, match=r"at least one search, but no search is left \(left out: 1,200 searches with"):
        write_nothing()
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_breaks_the_contract_is_never_put_in_place(tmp_path: Path) -> None:
    rows = [row | {"position": 0} for row in TABLES["impressions"]]
    with pytest.raises(UserError, match="position"):
        write_small_log(tmp_path / "log", TABLES | {"impressions": rows})
    assert list(tmp_path.iterdir()) == []


def test_reserved_columns_are_cast_and_others_kept() -> None:
    naive = dt.datetime(2025, 1, 1, 12)
    rows = cast_reserved(
        "impressions",
        pa.table({"device": [b"x"], "timestamp": [naive], "position": [3.0], "click": [True], "search_id": [7]}),
    )
    assert rows.column_names == ["device", "timestamp", "position", "click", "search_id"]
    assert rows["timestamp"].to_pylist() == [naive.replace(tzinfo=dt.UTC)]
    assert [rows.schema.field(name).type for name in ("device", "position", "click", "search_id")] == [
        pa.binary(),
        pa.int32(),
        pa.int8(),
        pa.string(),
    ]


@pytest.mark.parametrize(
    ("column", "value"), [("position", 1.5), ("click", 300), ("timestamp", "noon"), ("position", "one")]
)
def test_a_value_that_does_not_fit_its_column_is_reported(column: str, value: Any) -> None:
    expected = str(COLUMN_TYPES[column]).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(UserError, match=rf"impressions.{column} must hold values of type {expected}, but it holds"):
        cast_reserved("impressions", pa.table({column: [value]}))


def test_the_truth_of_a_simulator_keeps_its_own_types() -> None:
    rows = cast_reserved("truth/impressions", pa.table({"click": [0.25], "search_id": [7]}))
    assert rows.to_pylist() == [{"click": 0.25, "search_id": "7"}]


def test_the_same_inputs_are_recognised_and_a_cut_file_is_not_read(tmp_path: Path) -> None:
    log = write_small_log(tmp_path / "log", TABLES)
    assert log_is_current(log, {"source": "test"})
    assert not log_is_current(log, {"source": "other"})
    part = Path(SearchLog.open(log).files("products")[0])
    part.write_bytes(part.read_bytes()[:-1])
    assert not log_is_current(log, {"source": "test"})
    with pytest.raises(UserError, match=r"part-00000.parquet must have \d+ bytes as its manifest says, but it has"):
        SearchLog.open(log)


def _types(row: dict[str, Any]) -> pa.Schema:
    known = pa.Table.from_pylist([row]).schema
    return pa.schema([(name, COLUMN_TYPES.get(name, known.field(name).type)) for name in row])
