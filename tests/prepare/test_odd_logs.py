"""Logs that are odd but legal, and settings that cannot be meant."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from random_log import SCHEMA, one_thread, random_tables, write_log
from shelfrank.config import HistoryConfig, PrepareConfig, RelevanceConfig, resolve
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.prepare.pipeline import prepare, raw_features
from shelfrank.prepare.voters import voter_sources


def test_a_log_without_labels_is_refused(tmp_path: Path) -> None:
    tables = random_tables(seed=1, unlabelled=("click", "add_to_cart", "purchase"))
    with pytest.raises(UserError, match="must have labels of at least one task, but click, add_to_cart, purchase"):
        prepare(write_log(tmp_path / "log", tables), tmp_path / "out", one_thread())


def test_a_price_in_words_is_a_category(tmp_path: Path) -> None:
    tables = random_tables(seed=2, n_searches=40, n_moments=40, price_in_rows=True)
    for index, row in enumerate(tables["impressions"]):
        row["price"] = ("low", "high")[index % 2]
    features = [
        {"name": "price", "side": "interaction", "kind": "categorical"} if feature["name"] == "price" else feature
        for feature in SCHEMA["features"]
    ]
    types = pytest.MonkeyPatch()
    types.setitem(write_log.__globals__["TYPES"], "price", pa.string())
    try:
        log = write_log(tmp_path / "log", tables, schema=SCHEMA | {"features": features})
        assert prepare(log, tmp_path / "out", one_thread())
    finally:
        types.undo()
    data = PreparedData.open(tmp_path / "out")
    assert "price" in [column.name for column in data.categorical_columns]
    assert not [column.name for column in data.numerical_columns if "price" in column.name]


def test_undeclared_columns_may_go_by_any_name(tmp_path: Path) -> None:
    tables = random_tables(seed=3)
    plain = raw_features(write_log(tmp_path / "plain", tables), one_thread())
    for table, names in (
        ("impressions", ("TS_US", "Search_Idx", "query_right")),
        ("products", ("Product_Idx", "product_idx_right")),
        ("customers", ("customer_id_right", "Customer_Idx")),
    ):
        for row in tables[table]:
            row.update(dict.fromkeys(names, 7))
    assert raw_features(write_log(tmp_path / "log", tables), one_thread()).equals(plain)


def test_an_undeclared_list_of_categories_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = random_tables(seed=3)
    plain = raw_features(write_log(tmp_path / "plain", tables), one_thread())
    for row in tables["products"]:
        row["category"] = ["shoes", "sale"]
    monkeypatch.setitem(write_log.__globals__["TYPES"], "category", pa.list_(pa.string()))
    assert raw_features(write_log(tmp_path / "log", tables), one_thread()).equals(plain)


def test_a_declared_flag_of_a_declared_feature_is_refused(tmp_path: Path) -> None:
    tables = random_tables(seed=4)
    for row in tables["customers"]:
        row["loyalty__missing"] = 1.0
    features = [*SCHEMA["features"], {"name": "loyalty__missing", "side": "customer", "kind": "numerical"}]
    log = write_log(tmp_path / "log", tables, schema=SCHEMA | {"features": features})
    with pytest.raises(UserError, match="must not go by the names of computed ones, but loyalty__missing does"):
        prepare(log, tmp_path / "out", one_thread())


@pytest.mark.parametrize(
    ("assigned", "told"),
    [
        ("history.outcome_delay_s=.inf", "outcome_delay_s"),
        ("history.windows_days=[1e300]", "windows_days"),
        ("history.windows_days=[7, 7.0000001]", "windows_days must name each value once, but it is 7, 7"),
        ("history.affinity=[brand, brand]", "affinity must name each value once, but it is brand, brand"),
        ("history.prior_rates={click: -3}", "prior_rates"),
        ("history.prior_rates={click: .nan}", "prior_rates"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(assigned: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve(PrepareConfig, None, [assigned])


def test_a_prior_rate_that_is_not_named_keeps_its_own() -> None:
    rates = HistoryConfig(prior_rates={"click": 0.2}).prior_rates
    assert rates == HistoryConfig().prior_rates | {"click": 0.2}


VOTERS = """
def good(rows):
    return [{vote}] * rows.num_rows


def failing(rows):
    raise KeyError("no such shelf")
"""


def voting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, function: str) -> PrepareConfig:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(VOTERS.format(vote=0.5), encoding="utf-8")
    settings: dict[str, Any] = {"voters": {"mine": f"{name}:{function}"}, "weights": {"ctr": 1.0, "mine": 1.0}}
    return one_thread(relevance=RelevanceConfig(**settings))


def test_a_changed_voter_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=5, n_searches=40, n_moments=40))
    config = voting(tmp_path, monkeypatch, "voters_that_change", "good")
    assert prepare(log, tmp_path / "out", config)
    assert not prepare(log, tmp_path / "out", config)
    before = voter_sources({"mine": "voters_that_change:good"})
    (tmp_path / "voters_that_change.py").write_text(VOTERS.format(vote=0.9), encoding="utf-8")
    assert voter_sources({"mine": "voters_that_change:good"}) != before
    assert prepare(log, tmp_path / "out", config)


def test_a_voter_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "log", random_tables(seed=6, n_searches=40, n_moments=40))
    config = voting(tmp_path, monkeypatch, "voters_that_fail", "failing")
    with pytest.raises(UserError, match="voter 'mine' must return a vote for each row, but it fails: KeyError"):
        prepare(log, tmp_path / "out", config)
    (tmp_path / "voters_that_break.py").write_text("def good(:", encoding="utf-8")
    with pytest.raises(UserError, match=r"voters\.mine must be an importable package"):
        voter_sources({"mine": "voters_that_break:good"})
