"""Nothing that happens later, and no row's own outcome, reaches a computed feature or the encoder."""

import copy
import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from random_log import Tables, one_thread, random_tables, write_log
from shelfrank.config import HistoryConfig, PrepareConfig, UnderstandingConfig
from shelfrank.core.schema import TASKS
from shelfrank.features import history_offline
from shelfrank.prepare.pipeline import prepare, raw_features

UNDERSTANDING = UnderstandingConfig(first_rows=10)
CONFIG = one_thread(upstream_order=True, understanding=UNDERSTANDING)
FEW_TEXTS = one_thread(text=False, understanding=UNDERSTANDING)


def features_of(tables: Tables, config: PrepareConfig = CONFIG, n_parts: int = 1) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        made = raw_features(write_log(Path(folder) / "log", tables, n_parts), config)
    return made.sort_by([("search_id", "ascending"), ("product_id", "ascending")])


def flip(row: dict[str, object]) -> None:
    flipped = 1 - int(bool(row["click"]))
    row.update(dict.fromkeys(TASKS, flipped))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_later_rows_never_move_an_earlier_row(data: st.DataObject) -> None:
    full = random_tables(seed=data.draw(st.integers(0, 999)), n_searches=18)
    moments = sorted({row["timestamp"] for row in full["impressions"]})
    cut = data.draw(st.sampled_from(moments[len(moments) // 4 : -1]))
    delay = data.draw(st.sampled_from([0.0, 700.0]))
    config = CONFIG.model_copy(update={"history": HistoryConfig(outcome_delay_s=delay)})
    early = full | {name: [row for row in full[name] if row["timestamp"] <= cut] for name in ("impressions", "events")}
    if not early["events"]:
        # Whether there are events at all decides which features exist: give both logs one that nobody's history holds.
        full["events"].append(copy.copy(full["events"][0]) | {"timestamp": moments[0] - dt.timedelta(days=1)})
        early["events"] = full["events"][-1:]
    altered = copy.deepcopy(full)
    for row in altered["impressions"]:
        # Outcomes at the moment of the cut are not known before it either.
        if row["timestamp"] >= cut and data.draw(st.booleans()):
            flip(row)
    data.draw(st.randoms(use_true_random=False)).shuffle(altered["impressions"])

    known = {row["search_id"] for row in early["impressions"]}
    after = features_of(altered, config, n_parts=3)
    after = after.filter(pa.array([search in known for search in after["search_id"].to_pylist()]))
    assert after.equals(features_of(early, config))


def test_own_outcomes_move_only_later_rows() -> None:
    assert_own_outcomes_move_only_later_rows()


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that ends with the row's own moment instead of strictly before it."""
    strict = history_offline._Past._before

    def leaking(past: history_offline._Past, back_us: int) -> np.ndarray:
        return strict(past, back_us) if back_us else np.searchsorted(past._time, past._row_time, side="right")

    monkeypatch.setattr(history_offline._Past, "_before", leaking)
    with pytest.raises(AssertionError):
        assert_own_outcomes_move_only_later_rows()


def assert_own_outcomes_move_only_later_rows() -> None:
    tables = random_tables(seed=11, n_searches=30)
    before = features_of(tables)
    moments = {row["search_id"]: row["timestamp"] for row in tables["impressions"]}
    chosen = sorted(moments, key=lambda search: (moments[search], search))[5]
    for row in tables["impressions"]:
        if row["search_id"] == chosen:
            flip(row)
    after = features_of(tables)
    moved = {
        search
        for index, search in enumerate(before["search_id"].to_pylist())
        if before.slice(index, 1) != after.slice(index, 1)
    }
    assert moved
    assert all(moments[search] > moments[chosen] for search in moved)


def test_the_order_of_rows_and_files_changes_no_bit() -> None:
    tables = random_tables(seed=12)
    before = features_of(tables)
    rng = np.random.default_rng(0)
    for name, rows in tables.items():
        tables[name] = [rows[i] for i in rng.permutation(len(rows))]
    assert features_of(tables, n_parts=4).equals(before)


def forty_searches() -> Tables:
    return random_tables(seed=13, n_searches=40, n_moments=40)


@pytest.fixture(scope="module")
def unaltered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unaltered")
    prepare(write_log(folder / "log", forty_searches()), folder / "out", FEW_TEXTS)
    return folder / "out"


@pytest.mark.parametrize("altered", ["device", "click", "product_id", "customer_id"])
def test_the_encoder_is_fitted_on_the_training_split_only(altered: str, unaltered: Path, tmp_path: Path) -> None:
    tables = forty_searches()
    moments = sorted({row["search_id"]: row["timestamp"] for row in tables["impressions"]}.values())
    for row in tables["impressions"]:
        if row["timestamp"] >= moments[32]:
            row[altered] = {"device": "watch", "click": 0, "customer_id": "c0"}.get(altered, row[altered])
            if altered == "product_id":
                row["product_id"] = f"p{6 - int(row['product_id'][1:])}"
            elif altered == "click":
                flip(row)
    out = tmp_path / "out"
    prepare(write_log(tmp_path / "log", tables), out, FEW_TEXTS)
    assert (out / "encoder.json").read_bytes() == (unaltered / "encoder.json").read_bytes()
    name = "categorical" if altered == "device" else "labels" if altered == "click" else altered[:-3] + "_idx"
    one, other = (np.load(folder / "test" / f"{name}.npy") for folder in (unaltered, out))
    assert not np.array_equal(one, other)
