"""Every feature of `history_features` and the page equals a plain-loop version that looks strictly before a search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_oracle import expected_features

from random_log import SCHEMA, one_thread, random_tables, write_log
from shelfrank.config import HistoryConfig, PrepareConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.features.history_stats import HistoryPlan
from shelfrank.features.page_features import computed_features
from shelfrank.prepare import rows
from shelfrank.prepare.pipeline import prepare, raw_features

BOTH = ("brand", "age_group")
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "events_sessions_and_upstream_order": ({"n_searches": 40}, {"upstream_order": True}),
    "few_moments": ({"n_moments": 3}, {"upstream_order": True}),
    "windows": ({"n_searches": 50}, {"history": HistoryConfig(windows_days=(0.01, 0.05, 7))}),
    "windows_and_late_outcomes": (
        {"n_searches": 50},
        {"history": HistoryConfig(windows_days=(0.005, 0.02), outcome_delay_s=900)},
    ),
    "late_outcomes": ({"some_unlabelled": True}, {"history": HistoryConfig(outcome_delay_s=1200.5)}),
    "no_events_one_affinity": ({"events": False}, {"history": HistoryConfig(affinity=("age_group",))}),
    "no_sessions_price_in_rows": ({"sessions": False, "price_in_rows": True}, {"upstream_order": True}),
    "nulls": ({"some_unlabelled": True, "nulls_in_products": True, "unlabelled": ("purchase",)}, {"page": True}),
    "nulls_price_in_rows": ({"nulls_in_products": True, "price_in_rows": True}, {}),
    "clicks_unknown_and_late_outcomes": ({"unlabelled": ("click",)}, {"history": HistoryConfig(outcome_delay_s=60)}),
    "no_taste": ({}, {"upstream_order": True, "history": HistoryConfig(taste=False)}),
    "parts_switched_off": ({}, {"page": False, "history": HistoryConfig(query=False, session=False, affinity=())}),
}


@pytest.mark.parametrize("case", CASES)
def test_features_equal_the_plain_loops(case: str, tmp_path: Path) -> None:
    log_options, settings = CASES[case]
    tables = random_tables(seed=sorted(CASES).index(case), **log_options)
    config = one_thread(text=False, understanding=None, **settings)
    affinity = BOTH if config.history.affinity is None else config.history.affinity
    expected = expected_features(tables, config, affinity)
    made = raw_features(write_log(tmp_path / "log", tables, n_parts=2), config).to_pydict()

    assert set(made) == set(expected[0])
    by_row = {pair: index for index, pair in enumerate(zip(made["search_id"], made["product_id"], strict=True))}
    order = [by_row[row["search_id"], row["product_id"]] for row in expected]
    assert sorted(order) == list(range(len(tables["impressions"])))
    for name in set(expected[0]) - {"search_id", "product_id"}:
        wanted = np.array([row[name] for row in expected], dtype=float)
        # Usual prices and a position's attention are kept in whole millionths.
        in_millionths = name.endswith(("_price_distance", "_lift", "_fit", "_level_distance"))
        absolute = 1e-6 if in_millionths else 1e-12
        np.testing.assert_allclose(np.array(made[name])[order], wanted, rtol=1e-12, atol=absolute, err_msg=name)


def test_the_random_logs_have_every_kind_of_past(tmp_path: Path) -> None:
    made = raw_features(
        write_log(tmp_path / "log", random_tables(seed=1)),
        one_thread(upstream_order=True, text=False, understanding=None),
    )
    constant = [name for name in made.column_names if len(made[name].unique()) == 1]
    assert not constant


def test_anonymous_searches_share_no_past(tmp_path: Path) -> None:
    tables = random_tables(seed=3, sessions=False)
    for row in (*tables["impressions"], *tables["events"]):
        row["customer_id"] = None
    made = raw_features(write_log(tmp_path / "log", tables), one_thread()).to_pydict()
    customers = [name for name in made if name.startswith("customer_")]
    assert len(customers) > 10
    assert all(set(made[name]) == {0.0} for name in customers)
    assert max(made["product_clicks"]) > 0


def test_upstream_order_is_made_only_when_asked_and_position_and_labels_never(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=5))
    without, with_order = (set(raw_features(log, one_thread(upstream_order=asked)).column_names) for asked in (0, 1))
    assert with_order - without == {
        "upstream_position",
        "upstream_reciprocal_position",
        "session_last_distance",
        "session_last_nearness",
        "session_next_after_last",
    }
    assert not with_order & {"position", "click", "add_to_cart", "purchase"}


def test_whole_pages_are_computed_whatever_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=6))
    whole = raw_features(log, one_thread(upstream_order=True))
    monkeypatch.setattr(rows, "BATCH_ROWS", 5)
    monkeypatch.setattr("shelfrank.engine.embedded.BATCH_ROWS", 7)
    assert raw_features(log, one_thread(upstream_order=True)).equals(whole)


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"name": "customer_engaged", "side": "customer", "kind": "numerical"}, "customer_engaged"),
        ({"name": "query_in_title", "side": "interaction", "kind": "numerical"}, "query_in_title"),
        ({"name": "query_idx", "side": "context", "kind": "numerical"}, "query_idx"),
    ],
)
def test_a_declared_feature_with_a_taken_name_is_refused(declared: dict[str, Any], named: str, tmp_path: Path) -> None:
    tables = random_tables(seed=7)
    for row in tables["impressions"]:
        row[named] = 1.0
    schema = SCHEMA | {"features": [*SCHEMA["features"], declared]}
    log = write_log(tmp_path / "log", tables, schema=schema)
    with pytest.raises(UserError, match=f"must not go by the names of computed ones, but {named} do"):
        prepare(log, tmp_path / "out", one_thread())


def test_a_log_column_named_like_an_engine_key_does_not_stand_in_for_it(tmp_path: Path) -> None:
    tables = random_tables(seed=8)
    plain = raw_features(write_log(tmp_path / "plain", tables), one_thread())
    for table in ("impressions", "events"):
        for row in tables[table]:
            row.update(query_idx=0, product_idx=0, search_idx=0)
    assert raw_features(write_log(tmp_path / "log", tables), one_thread()).equals(plain)


def test_a_product_feature_named_product_does_not_mix_with_the_pair(tmp_path: Path) -> None:
    tables = random_tables(seed=9)
    for row in tables["products"]:
        row["product"] = row["brand"]
    features = [{"name": name, "side": "product", "kind": "categorical"} for name in ("brand", "product")]
    log = write_log(tmp_path / "log", tables, schema={"name": "log", "features": features})
    made = raw_features(log, one_thread())
    for key in ("query", "customer"):
        assert made[f"{key}_product_share"].equals(made[f"{key}_brand_share"])


def test_affinity_must_name_categories_of_the_products(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=10))
    with pytest.raises(UserError, match=r"history.affinity must name .* \(brand, age_group\), but it names price"):
        raw_features(log, one_thread(history=HistoryConfig(affinity=("price", "brand"))))


def test_what_is_computed_of_unknown_features_comes_to_what_hiding_them_writes() -> None:
    plan = HistoryPlan(TASKS, (), ("brand",), True, True, True, levels=("price",), by_category=True)
    made = [each for each in computed_features(plan, PrepareConfig(upstream_order=True)) if each.declared]
    names = {each.feature.name for each in made}
    assert {"query_brand_share", "customer_brand_engaged", "customer_price_distance", "page_price_to_mean"} <= names
    for each in made:
        # Two products of one search: the first of no known brand and without a price, the customer and query known.
        columns = {stat.column: np.array([0 if "|" in stat.key else 5, 5]) for stat in each.stats}
        columns |= {
            "price": np.array([np.nan, 8.0]),
            "price_level": np.array([np.nan, 100.0]),
            "search_idx": np.array([0, 0]),
            "position": np.array([1, 2]),
        }
        assert each.compute(columns)[0] == each.unknown, each.feature.name
