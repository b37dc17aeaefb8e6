"""DuckDB and Spark give the same prepared data, byte by byte."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from random_log import random_tables, write_log
from shelfrank.config import EngineConfig, HistoryConfig, PrepareConfig, RelevanceConfig, SamplingConfig
from shelfrank.prepare.pipeline import prepare

pytestmark = pytest.mark.spark

SPARK = EngineConfig(
    name="spark",
    threads=1,
    spark={"master": "local[1]", "driver_memory": "1g", "settings": {"spark.sql.shuffle.partitions": "2"}},
)
DUCKDB = EngineConfig(threads=1, memory_limit="300MB")

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "everything": (
        {"n_searches": 60, "n_moments": 50, "some_unlabelled": True},
        {
            "upstream_order": True,
            "sampling": SamplingConfig(category="brand", beta=0.7, n_bins=3),
            "relevance": RelevanceConfig(weights={"ctr": 1.0}),
            "history": HistoryConfig(windows_days=(0.01, 1), outcome_delay_s=60),
        },
    ),
    "whole_searches_no_sessions": (
        {"n_searches": 60, "n_moments": 50, "sessions": False, "events": False, "price_in_rows": True},
        {"sampling": SamplingConfig(category="brand", unit="search")},
    ),
    "nothing_sampled": (
        {"n_searches": 60, "n_moments": 50, "nulls_in_products": True},
        {"history": HistoryConfig(affinity=("brand",))},
    ),
}


def contents(out: Path) -> dict[str, str]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != "manifest.json")
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("case", CASES)
def test_both_engines_write_the_same_bytes(case: str, tmp_path: Path) -> None:
    log_options, settings = CASES[case]
    log = write_log(tmp_path / "log", random_tables(seed=sorted(CASES).index(case), **log_options), n_parts=3)
    for engine in (DUCKDB, SPARK):
        assert prepare(log, tmp_path / engine.name, PrepareConfig(min_count=1, engine=engine, **settings))
    assert contents(tmp_path / "spark") == contents(tmp_path / "duckdb")
    assert not prepare(log, tmp_path / "duckdb", PrepareConfig(min_count=1, engine=SPARK, **settings))
