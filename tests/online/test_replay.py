"""A page at the moment of a logged search has the features that preparing gave the search."""

from pathlib import Path
from typing import Any

import pytest
from random_log import one_thread, random_tables, write_log
from replay import assert_prepared, assert_raw, pages

from shelfrank.config import HistoryConfig, PrepareConfig, SplitConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.online import FeatureStore
from shelfrank.online.build import build_store
from shelfrank.prepare.pipeline import prepare, raw_features

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "events_sessions_and_upstream_order": ({"n_searches": 40}, {"upstream_order": True}),
    "few_moments": ({"n_moments": 3}, {"upstream_order": True, "split": SplitConfig(by="search_id")}),
    "windows_and_late_outcomes": (
        {"n_searches": 50},
        {"history": HistoryConfig(windows_days=(0.005, 0.02), outcome_delay_s=900)},
    ),
    "nulls_and_late_outcomes": (
        {"some_unlabelled": True, "nulls_in_products": True, "unlabelled": ("purchase",)},
        {"history": HistoryConfig(outcome_delay_s=1200.5)},
    ),
    "no_sessions_nulls_price_in_rows": (
        {"sessions": False, "nulls_in_products": True, "price_in_rows": True},
        {"upstream_order": True},
    ),
    "clicks_unknown_no_events": ({"unlabelled": ("click",), "events": False}, {}),
    "parts_switched_off": ({}, {"page": False, "text": False, "history": HistoryConfig(query=False, affinity=())}),
}


def make(folder: Path, tables: dict[str, Any], config: PrepareConfig) -> tuple[Path, PreparedData, FeatureStore]:
    log = write_log(folder / "log", tables)
    prepare(log, folder / "prepared", config)
    build_store(log, folder / "prepared", folder / "store", engine=config.engine)
    return log, PreparedData.open(folder / "prepared"), FeatureStore.open(folder / "store")


@pytest.mark.parametrize("case", CASES)
def test_every_search_has_the_same_bits_online(case: str, tmp_path: Path) -> None:
    options, settings = CASES[case]
    config = one_thread(**settings)
    log, prepared, store = make(tmp_path, random_tables(seed=sorted(CASES).index(case), **options), config)
    assert_raw(store, dict(pages(log)), raw_features(log, config))
    for split in ("train", "valid", "test"):
        assert assert_prepared(store, log, prepared, split) > 0


def test_the_small_shops_test_searches_are_what_was_prepared(small_prepared: Path, tmp_path: Path) -> None:
    log = small_prepared.parent / "log"
    build_store(log, small_prepared, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert assert_prepared(store, log, PreparedData.open(small_prepared), "test") > 20
