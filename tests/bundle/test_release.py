"""A run against what it would replace, and what is refused."""

import datetime as dt
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.release import (
    Gate,
    ReleaseComparison,
    compare_for_release,
    events_before,
    references,
    require_better,
)
from shelfrank.bundle.store import BundleStore
from shelfrank.cli.serve import serve_app
from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import publish, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import KIND, PreparedData
from shelfrank.features.request import Event, PageRequest
from shelfrank.features.store import FeatureStore
from shelfrank.logs.search_log import SearchLog
from shelfrank.metrics import mean_over_searches, reciprocal_rank
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import Run, train
from small_log import small_tables, write_small_log
from tiny import tiny

BARE = ExportSettings(int8=False, golden_pages=1, replayed=0)


@pytest.fixture(scope="module")
def runs(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("released")
    for name, settings in (
        ("shown_order", ()),
        ("popularity", ()),
        ("xgboost", ("xgboost.n_rounds=40",)),
        ("mmoe", ("train.epochs=1",)),
    ):
        train(small_prepared, name, tiny(name, *settings), folder / name)
    return {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def compared(run_path: Path, store: Path, gate: Gate | None = None) -> dict[str, ReleaseComparison]:
    run = Run.open(run_path)
    found = compare_for_release(run, run.prepared(), BundleStore(store), gate or Gate())
    return {each.reference: each for each in found}


def mrr(run_path: Path, task: int) -> float:
    run = Run.open(run_path)
    prepared = run.prepared()
    rows = prepared.split("test")
    scores = np.ascontiguousarray(run.ranker(prepared).score(run.select(rows))[:, 0])
    labels = np.ascontiguousarray(rows.labels[:, task])
    return float(mean_over_searches(reciprocal_rank(scores, labels, rows.search_offsets, rows.tie_keys, 10)))


def test_the_difference_is_that_of_both_rankers_mrr(runs: dict[str, Path], tmp_path: Path) -> None:
    found = compared(runs["xgboost"], tmp_path / "bundle")
    assert list(found) == ["shown_order"], "an empty store has no current version"
    shown = found["shown_order"]
    assert shown.task == "add_to_cart", "what these trees learned"
    assert shown.n_searches == shown.n_with_positive > 10
    for index, task in enumerate(("click", "add_to_cart", "purchase")):
        value = mrr(runs["xgboost"], index) - mrr(runs["shown_order"], index)
        assert shown.differences[task]["value"] == pytest.approx(value, abs=1e-6)


def test_a_few_searches_bound_the_cost(runs: dict[str, Path], tmp_path: Path) -> None:
    one, again = (compared(runs["mmoe"], tmp_path / "bundle", Gate(n_searches=5))["shown_order"] for _ in range(2))
    assert one == again
    assert one.n_searches == 5 < one.n_with_positive
    assert compared(runs["mmoe"], tmp_path / "bundle", Gate(n_searches=0)) == {}


def test_a_worse_run_is_refused_and_the_current_version_stays(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(UserError, match="20 searches count, 30 are needed; nothing was published"):
        export(runs["xgboost"], out, BARE, gate=Gate(("shown_order",)))
    monkeypatch.setattr("shelfrank.metrics.interval.MIN_SEARCHES", 20)
    first = export(runs["xgboost"], out, BARE, gate=Gate(("current",)))
    assert first.changed
    before = sorted(file.relative_to(out) for file in out.rglob("*"))
    for worse in ("mmoe", "shown_order", "popularity"):
        with pytest.raises(
            UserError, match=r"must be better than the current version .*interval.*nothing was publ"
        ) as told:
            export(runs[worse], out, BARE, gate=Gate(("current",)))
        assert "searches" in str(told.value)
    assert BundleStore(out).current() == first.version
    assert sorted(file.relative_to(out) for file in out.rglob("*")) == before
    again = export(runs["xgboost"], out, BARE, gate=Gate(("current",)))
    assert (again.version, again.changed) == (first.version, False)
    with pytest.raises(UserError, match=r"the lower end of the interval must be above 0\.9"):
        export(runs["xgboost"], out, BARE, gate=Gate(("shown_order",), margin=0.9))


def test_the_shown_order_is_not_better_than_itself_nor_worse(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = compared(runs["shown_order"], tmp_path / "bundle")["shown_order"]
    assert {each["value"] for each in shown.differences.values()} == {0.0}
    assert shown.warning() is None
    assert shown.refusal(0.0) is not None


def test_a_worse_run_that_is_published_is_told(runs: dict[str, Path], tmp_path: Path) -> None:
    out = str(tmp_path / "bundle")
    options = ["--out", out, "--no-int8", "--replayed", "0"]
    assert CliRunner().invoke(serve_app, ["export", str(runs["xgboost"]), *options]).exit_code == 0
    told = CliRunner().invoke(serve_app, ["export", str(runs["mmoe"]), *options])
    assert told.exit_code == 0
    assert "warning: the run is worse than the current version 000001-" in told.stderr
    assert "against the current version 000001-" in told.stdout
    assert "a request must bring: device (categorical, in context)" in told.stdout
    as_json = CliRunner().invoke(serve_app, ["export", str(runs["mmoe"]), *options, "--json"])
    about = json.loads(as_json.stdout)
    assert [each["reference"] for each in about["comparisons"]] == ["shown_order", "current"]
    assert about["comparisons"][1]["is_same_run"]
    refused = CliRunner().invoke(serve_app, ["export", str(runs["mmoe"]), *options, "--margin", "0.1"])
    assert isinstance(refused.exception, UserError)


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_current_version_can_be_replaced(runs: dict[str, Path], tmp_path: Path, damage: str) -> None:
    out = tmp_path / "bundle"
    first = export(runs["popularity"], out, BARE)
    folder = out / "versions" / first.version
    if damage == "gone":
        shutil.rmtree(folder)
    else:
        file = folder / "bundle.json"
        content = file.read_bytes()
        file.write_bytes(content[:9] if damage == "truncated" else content.replace(b"popularity", b"Popularity"))
    with pytest.raises(UserError, match="they cannot be compared"):
        export(runs["xgboost"], out, BARE, gate=Gate(("current",)))
    assert BundleStore(out).current() == first.version
    exported = export(runs["xgboost"], out, BARE)
    assert BundleStore(out).current() == exported.version
    assert exported.comparisons[1].line().startswith(f"not compared with the current version {first.version}: ")


def test_a_version_of_other_data_is_replayed_with_what_happened_since(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = small_tables(300, n_products=40)
    n = len(tables["impressions"]) // 2
    last = tables["impressions"][n]["timestamp"]
    early = {
        **tables,
        "impressions": [row for row in tables["impressions"] if row["timestamp"] < last],
        "events": [row for row in tables["events"] if row["timestamp"] < last],
    }
    log = write_small_log(tmp_path / "log", early)
    prepare(log, tmp_path / "prepared", PrepareConfig())
    train(tmp_path / "prepared", "popularity", tiny("popularity"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", BARE)
    current = compared(runs["xgboost"], tmp_path / "bundle")["current"]
    assert current.problem is None
    # Told of everything since, popularity on the first half of the log is popularity on all of it.
    export(runs["popularity"], tmp_path / "other", BARE)
    same = compared(runs["xgboost"], tmp_path / "other")["current"]
    assert current.differences["click"]["value"] == pytest.approx(same.differences["click"]["value"], abs=0.02)
    assert current.note is None
    # A service that keeps a few events knows the newest ones before each page, not those before the last page.
    newest_us, told_us = [0], []
    score, add_events = Bundle.score, FeatureStore.add_events

    def scored(bundle: Bundle, page: PageRequest) -> Any:
        told_us.append((page.ts_us, newest_us[0]))
        return score(bundle, page)

    def added(store: FeatureStore, events: list[Event]) -> None:
        newest_us[0] = max([newest_us[0], *(event.ts_us for event in events)])
        add_events(store, events)

    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "score", scored)
        patched.setattr(FeatureStore, "add_events", added)
        patched.setattr("shelfrank.bundle.release.events_before", partial(events_before, max_rows=50))
        assert compared(runs["xgboost"], tmp_path / "bundle")["current"].problem is None
    assert len(told_us) == current.n_searches
    every_us = sorted(
        {row["timestamp"] for table in tables.values() for row in table if "action" in row or "query" in row}
    )
    for page_us, last_us in told_us:
        moments = [int(each.timestamp() * 1e6) for each in every_us]
        assert last_us == max(each for each in moments if each < page_us)
    monkeypatch.setattr(
        "shelfrank.bundle.release.events_before", lambda _log, _after, moments, _knows: [[]] * len(moments)
    )
    stale = compared(runs["xgboost"], tmp_path / "bundle")["current"]
    assert stale.differences["click"]["value"] != current.differences["click"]["value"]


def test_a_version_of_other_tasks_and_columns_is_compared_too(
    runs: dict[str, Path], click_only_prepared: Path, tmp_path: Path
) -> None:
    train(click_only_prepared, "mmoe", tiny("mmoe", "exclude_features=[brand]"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", BARE)
    current = compared(runs["xgboost"], tmp_path / "bundle")["current"]
    assert set(current.differences) == {"click", "add_to_cart", "purchase"}


def test_without_a_positive_nothing_is_compared(runs: dict[str, Path], tmp_path: Path) -> None:
    run = Run.open(runs["popularity"])
    source = run.prepared()
    with publish(tmp_path / "prepared", KIND, source.manifest.inputs) as draft:
        shutil.copytree(source.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        labels = np.load(source.path / "test" / "labels.npy")
        np.save(draft.path / "test" / "labels.npy", np.zeros_like(labels))
        draft.info.update(read_manifest(source.path, KIND).info)
    prepared = PreparedData.open(tmp_path / "prepared")
    (shown,) = compare_for_release(run, prepared, BundleStore(tmp_path / "bundle"), Gate())
    assert shown.problem == "no test search has a positive label; prepare a larger test split"
    assert shown.warning() is None
    assert "cannot be compared: no test search" in str(shown.refusal(0.0))


def test_a_warning_is_of_the_task_that_decides_or_beyond_chance() -> None:
    def figure(value: float, low: float | None, high: float | None) -> dict[str, float | int | None]:
        return {"value": value, "low": low, "high": high, "n": 50, "p": 0.5, "n_undefined": 0}

    base = ReleaseComparison("current", "the current version v", "click", {"click": figure(0.1, 0.05, 0.15)}, 50, 50)
    assert base.warning() is None
    assert base.refusal(0.0) is None
    assert base.refusal(0.06) is not None
    unsure = replace(base, differences={**base.differences, "purchase": figure(-0.1, -0.3, 0.1)})
    assert unsure.warning() is None
    worse = replace(base, differences={**base.differences, "purchase": figure(-0.1, -0.3, -0.01)})
    assert "of purchase by −0.100" in str(worse.warning())
    chance = replace(base, differences={"click": figure(-0.01, -0.03, 0.01)})
    assert "not beyond chance" in str(chance.warning())
    unknown = replace(base, differences={"click": figure(0.01, None, None)})
    assert unknown.refusal(0.0) is not None


def everything(_: Sequence[str]) -> np.ndarray:
    return np.ones(len(_), bool)


def test_events_before_moments_are_the_logs(make_log: Callable[..., Path]) -> None:
    log = SearchLog.open(make_log(30))
    (every,) = events_before(log, 0, np.array([2**60]), everything)
    tables = small_tables(30)
    impressions = tables["impressions"]
    n_labels = sum(row[task] for row in impressions for task in ("click", "add_to_cart", "purchase"))
    assert len(every) == len(impressions) + n_labels + len(tables["events"])
    assert [event.ts_us for event in every] == sorted(event.ts_us for event in every)
    moments = [every[len(every) * part // 4].ts_us for part in (1, 2, 3)]
    told = list(events_before(log, moments[0], np.array([*moments, 2**60]), everything))
    ends = [moments[0], *moments, 2**60]
    for events, low, high in zip(told, ends[:-1], ends[1:], strict=True):
        assert events == [event for event in every if max(low, moments[0] + 1) <= event.ts_us < high]
    assert list(events_before(log, 5, np.array([5]), everything)) == [[]]


@pytest.mark.parametrize("at_once", [1, 40, 1_000_000])
def test_a_page_is_told_the_newest_events_before_it_and_not_those_before_the_last_page(
    make_log: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("shelfrank.bundle.release.ROWS_AT_ONCE", at_once)
    log = SearchLog.open(make_log(40))
    (every,) = events_before(log, 0, np.array([2**60]), everything)
    moments = np.array([every[len(every) * part // 8].ts_us for part in (2, 4, 5, 8 - 1)])
    told = list(events_before(log, 0, moments, everything, max_rows=20))
    for events, moment in zip(told, moments, strict=True):
        before = [event for event in every if event.ts_us < moment]
        rows = sorted(event.ts_us for event in before if event.action in ("impression", "view", "order"))
        assert 20 <= len(events) < len(before)
        assert events == before[-len(events) :]
        assert events[0].ts_us >= rows[-20] if len(rows) >= 20 else True


def test_what_a_version_keeps_nothing_of_takes_no_room(make_log: Callable[..., Path]) -> None:
    log = SearchLog.open(make_log(40))
    (every,) = events_before(log, 0, np.array([2**60]), everything)
    first = every[0].product_id
    of_first = [event for event in every if event.product_id == first]

    def knows(products: Sequence[str]) -> np.ndarray:
        return np.array([each == first for each in products], bool)

    (told,) = events_before(log, 0, np.array([2**60]), knows, max_rows=3)
    n_rows = len({event.ts_us for event in told if event.product_id == first})
    assert n_rows == 3 < len({event.ts_us for event in of_first})


def test_a_version_that_learned_from_the_compared_searches_is_told(runs: dict[str, Path], tmp_path: Path) -> None:
    tables = small_tables(300, n_products=40)
    later = [
        {**row, "search_id": "z" + row["search_id"], "timestamp": row["timestamp"] + dt.timedelta(days=400)}
        for row in tables["impressions"]
    ]
    longer = {**tables, "impressions": tables["impressions"] + later}
    log = write_small_log(tmp_path / "log", longer)
    prepare(log, tmp_path / "prepared", PrepareConfig())
    train(tmp_path / "prepared", "popularity", tiny("popularity"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", BARE)
    current = compared(runs["xgboost"], tmp_path / "bundle")["current"]
    assert f"; it was trained on the time of {current.n_searches} of them" in current.line()
    shutil.rmtree(tmp_path / "run")
    unsure = compared(runs["xgboost"], tmp_path / "bundle")["current"]
    assert f"; it may have been trained on the time of {current.n_searches} of them" in unsure.line()


def test_few_searches_show_neither_better_nor_worse() -> None:
    def few(sign: int, n: int) -> ReleaseComparison:
        low, high = sorted((sign * 0.3, sign * 0.5))
        figure = {"value": sign * 0.4, "low": low, "high": high, "n": n, "p": 0.001, "n_undefined": 0}
        return ReleaseComparison("current", "the current version v", "click", {"click": figure}, n, n)

    assert "12 searches count, 30 are needed" in str(few(1, 12).refusal(0.0))
    assert few(1, 30).refusal(0.0) is None
    assert few(1, 30).refusal(0.3) is not None
    assert "inconclusive: 12 searches count, 30 are needed" in str(few(-1, 12).warning())
    assert replace(few(-1, 12), task="purchase").warning() is None
    assert "too few" not in str(replace(few(-1, 30), task="purchase").warning())


def test_unknown_references_are_refused() -> None:
    assert references(["current", "current", "shown_order"]) == ("current", "shown_order")
    with pytest.raises(UserError, match="unknown reference 'shown'"):
        references(["shown"])
    with pytest.raises(UserError, match="`compared` must be at least 1"):
        require_better([], Gate(("current",), n_searches=0))
