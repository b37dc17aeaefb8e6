"""A page at the moment of a logged search has the features that preparing gave the search."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from replay import assert_prepared, assert_raw, pages
from shop import open_store, write_random_scores

from random_log import one_thread, random_tables, write_log
from shelfrank.config import EngineConfig, HistoryConfig, PrepareConfig, SplitConfig, UnderstandingConfig
from shelfrank.core.artifact import MANIFEST
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.features.build_store import build_store
from shelfrank.features.store import FeatureStore
from shelfrank.prepare.pipeline import prepare, raw_features
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

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
    "with_queries_read_as_of_then": (
        {"n_searches": 50, "n_moments": 40},
        {
            "understanding": UnderstandingConfig(first_rows=2, max_rows=20),
            "split": SplitConfig(by="search_id"),
            "history": HistoryConfig(outcome_delay_s=300),
        },
    ),
    "parts_switched_off": (
        {},
        {"page": False, "text": False, "understanding": None, "history": HistoryConfig(query=False, affinity=())},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_search_has_the_same_bits_online(case: str, tmp_path: Path) -> None:
    options, settings = CASES[case]
    config = one_thread(**settings)
    log = write_log(tmp_path / "log", random_tables(seed=sorted(CASES).index(case), **options))
    prepared, store = open_store(tmp_path, log, config)
    assert_raw(store, dict(pages(log)), raw_features(log, config, split=True))
    for split in SPLITS:
        assert assert_prepared(store, log, prepared, split) > 0


def test_the_small_shops_test_searches_are_what_was_prepared(small_prepared: Path, tmp_path: Path) -> None:
    log = small_prepared.parent / "log"
    build_store(log, small_prepared, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert assert_prepared(store, log, PreparedData.open(small_prepared), "test") > 20


@pytest.mark.slow
def test_a_simulated_shop_with_everything_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    simulate(log, StorefrontConfig(searches=600, products=500, customers=60, days=40))
    scores = write_random_scores(tmp_path / "scores", log)
    engine = EngineConfig(threads=1, memory_limit="300MB")
    history = HistoryConfig(outcome_delay_s=600)
    config = PrepareConfig(upstream_order=True, semantic_scores=str(scores), history=history, engine=engine)
    prepared, store = open_store(tmp_path, log, config)
    assert "semantic_score" in [column.name for column in store.numerical_columns]
    assert len(store.numerical_columns) > 140
    assert assert_prepared(store, log, prepared, "test") > 50
    chosen = dict(list(pages(log))[::9])
    assert_raw(store, chosen, raw_features(log, config, split=True))


def test_prepared_data_from_before_query_understanding_is_served(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=1, n_searches=40))
    prepare(log, tmp_path / "prepared", one_thread(understanding=None))
    manifest = tmp_path / "prepared" / MANIFEST
    facts = json.loads(manifest.read_text(encoding="utf-8"))
    del facts["inputs"]["config"]["understanding"]
    manifest.write_text(json.dumps(facts), encoding="utf-8")
    build_store(log, tmp_path / "prepared", tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store")
    assert store.reading("red") is None
    assert assert_prepared(store, log, PreparedData.open(tmp_path / "prepared"), "test") > 0


def test_log_prepared_data_and_scores_must_belong_together(small_prepared: Path, tmp_path: Path) -> None:
    other = write_log(tmp_path / "log", random_tables(seed=1))
    with pytest.raises(UserError, match="but it was prepared from another log"):
        build_store(other, small_prepared, tmp_path / "store")
    config = one_thread(semantic_scores=str(write_random_scores(tmp_path / "scores", other)))
    open_store(tmp_path, other, config)
    with pytest.raises(UserError, match="was prepared with semantic scores, so their folder must be given"):
        build_store(other, tmp_path / "prepared", tmp_path / "again")
    with pytest.raises(UserError, match="but it holds others"):
        build_store(other, tmp_path / "prepared", tmp_path / "again", write_random_scores(tmp_path / "b", other, d=8))
    with pytest.raises(UserError, match=r"must hold online features, but store\.json cannot be read"):
        FeatureStore.open(tmp_path / "prepared")


def test_serving_loads_no_engine_and_no_network() -> None:
    heavy = "('torch', 'ibis', 'duckdb', 'transformers', 'lightgbm', 'xgboost')"
    code = f"import shelfrank.features.store, sys; sys.exit([name for name in {heavy} if name in sys.modules] or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
