"""Seconds by group of features: whose time a block counts as, and what `prepare` says of them."""

from pathlib import Path
from unittest import mock

import pytest

from random_log import one_thread, random_tables, write_log
from shelfrank.cli.commands import _prepared_facts
from shelfrank.config import HistoryConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.features.history_stats import HistoryPlan, key_plans
from shelfrank.features.page_features import grouped_features
from shelfrank.prepare.feature_seconds import FeatureSeconds
from shelfrank.prepare.log_pass import by_first_column, stats_by_group
from shelfrank.prepare.pipeline import prepare


def test_blocks_add_up_by_group() -> None:
    # Three blocks that begin and end at these times: 2 s, 3 s and 1 s.
    with mock.patch("time.monotonic", side_effect=[10.0, 12.0, 20.0, 23.0, 30.0, 31.0]):
        seconds = FeatureSeconds()
        with seconds.of("text"):
            pass
        with seconds.of_shares({"history": 2.0, "taste": 1.0}):
            pass
        with seconds.of("text"):
            pass
    assert seconds.as_dict() == {"text": 3.0, "history": 2.0, "taste": 1.0}


def test_a_block_that_fails_counts() -> None:
    with mock.patch("time.monotonic", side_effect=[0.0, 4.0]):
        seconds = FeatureSeconds()
        with pytest.raises(ZeroDivisionError), seconds.of("page"):
            _ = 1 / 0
    assert seconds.as_dict() == {"page": 4.0}


def test_a_statistic_that_several_groups_read_counts_for_the_first() -> None:
    plan = HistoryPlan(("click", "add_to_cart"), (), ("brand",), has_events=False, has_sessions=False, has_price=False)
    groups = grouped_features(plan, one_thread(history=HistoryConfig()))
    keys = key_plans((stat for group in groups.values() for each in group for stat in each.stats), 0.0)
    own = {name: {stat for each in group for stat in each.stats} for name, group in groups.items()}
    assert own["history"] & own["taste"], "the example has a statistic that both read"
    together = by_first_column(keys.values())
    assert sorted(key.key for plans in together for key in plans) == sorted(keys)
    assert len({plans[0].key_columns[0] for plans in together}) == len(together) < len(keys)
    for plans in together:
        assert {key.key_columns[0] for key in plans} == {plans[0].key_columns[0]}
        stats = {stat for key in plans for stat in key.stats}
        expected = {
            "history": len(stats & own["history"]),
            "taste": len((stats & own["taste"]) - own["history"]),
        }
        assert stats_by_group(plans, groups) == {name: count for name, count in expected.items() if count}


def test_prepare_says_what_each_group_took(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=21, n_searches=60))
    prepare(log, tmp_path / "out", one_thread())
    info = PreparedData.open(tmp_path / "out").manifest.info
    assert set(info["feature_seconds"]) == {"declared", "history", "taste", "page", "text", "understanding"}
    assert min(info["feature_seconds"].values()) >= 0
    line = _prepared_facts({**info, "feature_seconds": {"history": 1.0, "taste": 12.34, "page": 0.0}})
    assert "seconds by group of features: taste 12.3, history 1.0, page 0.0" in line


def test_groups_that_are_switched_off_cost_nothing(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=21, n_searches=60))
    config = one_thread(text=False, understanding=None, page=False, history=HistoryConfig(taste=False))
    prepare(log, tmp_path / "out", config)
    assert set(PreparedData.open(tmp_path / "out").manifest.info["feature_seconds"]) == {"declared", "history"}
