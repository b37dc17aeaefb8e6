"""The embedded engine keeps order, tells progress, and turns its errors into sentences."""

import sys
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.config import EngineConfig
from shelfrank.core.errors import UserError
from shelfrank.engine import open_engine
from shelfrank.engine.base import ROW

CONFIG = EngineConfig(threads=1, memory_limit="300MB")


def test_a_kept_table_is_in_order_and_numbered(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(1000)
    moved = 0.0

    def advance(n: float) -> None:
        nonlocal moved
        moved += n

    with open_engine(CONFIG, tmp_path, tmp_path) as engine:
        shared = engine.share(pa.table({"value": values, "half": values // 2}), "shared")
        kept = engine.keep(shared.filter(shared.value < 500), "kept", ("value",), advance, 7.0)
        numbered = engine.collect(kept.table.order_by(ROW))
    assert moved == pytest.approx(7.0)
    assert kept.n_rows == 500
    assert numbered["value"].to_pylist() == numbered[ROW].to_pylist() == list(range(500))
    later = pa.Table.from_batches(list(kept.batches(["half"])))
    assert later["half"].to_pylist() == [i // 2 for i in range(500)]


def test_a_view_has_the_rows_of_its_expression(tmp_path: Path) -> None:
    with open_engine(CONFIG, tmp_path, tmp_path) as engine:
        numbers = engine.share(pa.table({"n": np.arange(9)}), "numbers")
        view = engine.view(numbers.filter(numbers.n % 2 == 0).mutate(square=numbers.n * numbers.n), "even")
        both = engine.collect(view.join(view.select("n"), "n").order_by("n"))
    assert both["square"].to_pylist() == [0, 4, 16, 36, 64]


def test_groups_reach_the_function_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfrank.engine.embedded.BATCH_ROWS", 16)
    rng = np.random.default_rng(1)
    table = pa.table({"key": rng.integers(0, 40, 500), "at": rng.permutation(500)})

    def span(groups: pa.RecordBatch) -> pa.RecordBatch:
        keys, at = groups["key"].to_numpy(), groups["at"].to_numpy()
        assert (np.diff(keys) >= 0).all()
        assert (np.diff(at)[np.diff(keys) == 0] > 0).all()
        unique, counts = np.unique(keys, return_counts=True)
        return pa.record_batch({"key": unique, "n": counts})

    with open_engine(CONFIG, tmp_path, tmp_path) as engine:
        rows = engine.share(table, "rows")
        schema = pa.schema([("key", pa.int64()), ("n", pa.int32())])
        made = pa.Table.from_batches(list(engine.map_groups(rows, ("key",), "at", span, schema)))
    keys, counts = np.unique(table["key"].to_numpy(), return_counts=True)
    assert dict(zip(made["key"].to_pylist(), made["n"].to_pylist(), strict=True)) == dict(
        zip(keys.tolist(), counts.tolist(), strict=True)
    )
    assert len(made) == len(keys), "a group must be in one batch only"


def test_moments_are_microseconds_and_come_back_in_utc(tmp_path: Path) -> None:
    with open_engine(CONFIG, tmp_path, tmp_path) as engine:
        table = pa.table({"at": pa.array([1_700_000_000_123_457, -1], pa.timestamp("us", tz="UTC"))})
        shared = engine.share(table, "moments")
        made = engine.collect(shared.mutate(us=engine.microseconds(shared["at"])))
    assert made["us"].to_pylist() == [1_700_000_000_123_457, -1]
    assert made.schema.field("at").type == pa.timestamp("us", tz="UTC")


def test_too_little_memory_is_one_sentence(tmp_path: Path) -> None:
    config = EngineConfig(threads=1, memory_limit="1MB")
    with (
        pytest.raises(UserError, match="must fit its work into engine"),
        open_engine(config, tmp_path, tmp_path) as engine,
    ):
        engine.collect(ibis.range(3_000_000).unnest().name("n").as_table().order_by(ibis.desc("n")))


def test_a_corrupt_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"n": np.arange(10_000)}), file, compression="none", use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[-4:] = b"XXXX"
    file.write_bytes(content)
    with (
        pytest.raises(UserError, match="every table must be readable"),
        open_engine(CONFIG, tmp_path, tmp_path) as engine,
    ):
        engine.collect(engine.read([str(file)]))


def test_a_wrong_expression_is_not_reported_as_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(duckdb.CatalogException), open_engine(CONFIG, tmp_path, tmp_path) as engine:
        engine.collect(ibis.table({"n": "int64"}, name="nowhere"))


def test_spark_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in {"pyspark", "py4j"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "py4j", None)
    config = EngineConfig(name="spark")
    with pytest.raises(UserError, match=r"pip install 'shelfrank\[spark\]'"), open_engine(config, tmp_path, tmp_path):
        pass
