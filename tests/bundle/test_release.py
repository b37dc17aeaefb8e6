"""A run against what it would replace, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shelfrank.artifact import publish, read_manifest
from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.release import (
    Gate,
    ReleaseComparison,
    compare_for_release,
    events_since,
    references,
    require_better,
)
from shelfrank.bundle.store import BundleStore
from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import KIND, PreparedData
from shelfrank.errors import UserError
from shelfrank.experiment import Run, train
from shelfrank.logs.search_log import SearchLog
from shelfrank.metrics import mean_over_searches, reciprocal_rank
from shelfrank.prepare.pipeline import prepare
from shelfrank.serve_commands import serve_app
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


def test_a_worse_run_is_refused_and_the_current_version_stays(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
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
    with pytest.raises(UserError, match=r"the interval's lower end must lie above 0\.9"):
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
    monkeypatch.setattr("shelfrank.bundle.release.events_since", lambda *_: [])
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


def test_events_since_a_moment_are_the_logs(make_log: Callable[..., Path]) -> None:
    log = SearchLog.open(make_log(30))
    every = events_since(log, 0, 2**60)
    tables = small_tables(30)
    impressions = tables["impressions"]
    n_labels = sum(row[task] for row in impressions for task in ("click", "add_to_cart", "purchase"))
    assert len(every) == len(impressions) + n_labels + len(tables["events"])
    middle = every[len(every) // 2].ts_us
    later = events_since(log, middle, 2**60)
    assert later == [event for event in every if event.ts_us > middle]
    assert events_since(log, 5, 5) == []


def test_unknown_references_are_refused() -> None:
    assert references(["current", "current", "shown_order"]) == ("current", "shown_order")
    with pytest.raises(UserError, match="unknown reference 'shown'"):
        references(["shown"])
    with pytest.raises(UserError, match="--compared must be at least 1"):
        require_better([], Gate(("current",), n_searches=0))
