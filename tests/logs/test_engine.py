"""The embedded engine keeps order, spills, and says in one sentence when neither memory nor disk suffices."""

import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs import engine as engine_module
from shelfrank.logs.engine import available_bytes, open_engine, read_parquet, rows_of, stream


def test_a_table_streams_in_order_and_in_pieces(tmp_path: Path) -> None:
    n_rows = 2_500_000
    pq.write_table(pa.table({"row": range(n_rows)}), tmp_path / "rows.parquet", row_group_size=100_000)
    with open_engine() as engine:
        pieces = list(stream(engine, read_parquet(engine, [tmp_path / "rows.parquet"])))
    assert len(pieces) > 1
    assert pa.concat_tables(pieces)["row"].combine_chunks().equals(pa.array(range(n_rows)))


def test_an_empty_table_streams_as_one_empty_piece(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": pa.array([], pa.int32())}), tmp_path / "rows.parquet")
    with open_engine() as engine:
        (piece,) = stream(engine, read_parquet(engine, [tmp_path / "rows.parquet"]))
    assert (piece.num_rows, piece.schema) == (0, pa.schema([("row", pa.int32())]))


def test_folders_named_like_columns_add_none(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"row": [1]}), tmp_path / "day=1" / "a[1].parquet")
    with open_engine() as engine:
        assert rows_of(engine, read_parquet(engine, [tmp_path / "day=1" / "a[1].parquet"])) == [{"row": 1}]


def test_times_are_in_utc_whatever_the_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with open_engine() as engine:
        read = engine.con.execute("SELECT CAST(CAST('2024-05-01 12:00:00' AS TIMESTAMPTZ) AS VARCHAR)").fetchone()
    assert read == ("2024-05-01 12:00:00+00",)


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MEMORY_SHARE", 50e6 / available_bytes())
    sentence = r"this step must fit into \d\d MB of memory and the free disk of"
    with pytest.raises(UserError, match=sentence) as refused, open_engine() as engine:
        engine.con.execute("SELECT list(i) FROM range(30_000_000) numbers(i)").fetchone()
    assert isinstance(refused.value.__cause__, duckdb.OutOfMemoryException)
    assert "\n" not in str(refused.value)


def test_the_spill_folder_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_engine() as engine:
        (spill,) = os.listdir(tmp_path)
        assert engine.con.execute("SELECT current_setting('temp_directory')").fetchone() == (str(tmp_path / spill),)
    assert os.listdir(tmp_path) == []
