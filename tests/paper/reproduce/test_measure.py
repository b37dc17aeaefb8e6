"""Figures over seeds and paired differences, against plain loops."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfrank.config import EvaluateConfig, PrepareConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.metrics import auc_roc
from shelfrank.paper.reproduce import pipeline
from shelfrank.paper.reproduce.budgets import BUDGETS
from shelfrank.paper.reproduce.measure import RowPair, RowTrainings, difference
from shelfrank.paper.reproduce.rows import BY_NAME
from shelfrank.paper.reproduce.runs import Training, pure_report
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import train
from small_log import small_tables, write_small_log
from tiny import tiny

CONFIG = EvaluateConfig(ks=(1, 10), n_resamples=50, n_resamples_auc=10, pd_searches=20, pd_k=3)


@pytest.fixture(scope="module")
def measured(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RowTrainings]:
    """MMoE from two seeds, and the order shown, which has none."""
    out = tmp_path_factory.mktemp("measured")
    split = PreparedData.open(small_prepared).split("test")
    found = {}
    for name, seeds in {"mmoe": (0, 1), "shown_order": (0,)}.items():
        trainings = []
        for seed in seeds:
            config = tiny(name).model_copy(update={"seed": seed})
            training = Training(BY_NAME[name], seed, config, out)
            train(small_prepared, name, config, training.run)
            evaluate(training.run, training.evaluation, CONFIG)
            trainings.append(training)
        found[name] = RowTrainings(trainings, split, CONFIG)
    return found


def first_ranks(measured: RowTrainings, seed: int, task: int) -> list[float]:
    """Per search 1 where the first of the page has the label, NaN where none of the page has."""
    split, scores = measured.split, measured.evaluations[seed].array("fused")
    values = []
    for start, end in zip(split.search_offsets[:-1], split.search_offsets[1:], strict=True):
        rows = sorted(range(start, end), key=lambda row: (-scores[row], split.tie_keys[row]))
        labels = [split.labels[row, task] for row in rows]
        values.append(float(labels[0] == 1) if 1 in labels else np.nan)
    return values


def test_a_figure_is_the_mean_over_seeds(measured: dict[str, RowTrainings]) -> None:
    row = measured["mmoe"]
    figures = row.figures()
    assert figures["n_seeds"] == 2
    for index, task in enumerate(row.split.tasks):
        each = [np.nanmean(first_ranks(row, seed, index)) for seed in (0, 1)]
        assert figures["mrr"][task]["seeds"] == pytest.approx(each)
        assert figures["mrr"][task]["value"] == pytest.approx(np.mean(each))
        assert figures["mrr"][task]["low"] <= figures["mrr"][task]["value"] <= figures["mrr"][task]["high"]
        labels = row.split.labels[:, index]
        aucs = [auc_roc(np.asarray(one.array("tasks"))[:, index], labels) for one in row.evaluations]
        assert figures["auc"][task]["value"] == pytest.approx(np.mean(aucs))
    degrees = [one.report["pd"]["3"]["value"] for one in row.evaluations]
    assert figures["pd"]["value"] == pytest.approx(np.mean(degrees))


def test_seeds_differ(measured: dict[str, RowTrainings]) -> None:
    first, second = measured["mmoe"].figures()["auc"]["click"]["seeds"]
    assert first != second


def test_a_difference_is_paired_by_search_and_averaged_over_seeds(measured: dict[str, RowTrainings]) -> None:
    found = difference(RowPair("mmoe", "shown_order", "mrr", "click"), measured, CONFIG, 200)
    assert found is not None
    shown = np.array(first_ranks(measured["shown_order"], 0, 0))
    own = np.array([first_ranks(measured["mmoe"], seed, 0) for seed in (0, 1)])
    assert found["value"] == pytest.approx(np.nanmean(own.mean(axis=0) - shown))
    assert found["seeds"] == pytest.approx([np.nanmean(own[seed]) - np.nanmean(shown) for seed in (0, 1)])
    assert found["base"] == pytest.approx(np.nanmean(shown))
    assert found["percent"]["value"] == pytest.approx(100 * found["value"] / found["base"])
    assert found["n"] == np.count_nonzero(~np.isnan(shown))


def test_personalization_is_measured_against_1(measured: dict[str, RowTrainings]) -> None:
    found = difference(RowPair(None, "mmoe", "pd"), measured, CONFIG, 200)
    assert found is not None
    assert found["value"] == pytest.approx(1 - measured["mmoe"].figures()["pd"]["value"])


def test_what_no_search_counts_for_is_none_and_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log whose last searches end in no purchase, with pages too short for PD@20."""
    tables, config = small_tables(120), CONFIG.model_copy(update={"pd_k": 20})
    for row in tables["impressions"]:
        if row["search_id"] > "s00080":
            row["purchase"] = 0
    write_small_log(tmp_path / "log", tables)
    prepare(tmp_path / "log", tmp_path / "prepared", PrepareConfig())
    prepared = PreparedData.open(tmp_path / "prepared")
    trainings = []
    for seed in (0, 1):
        training = Training(BY_NAME["mmoe"], seed, tiny("mmoe", seed=seed), tmp_path)
        train(prepared.path, "mmoe", training.config, training.run)
        evaluate(training.run, training.evaluation, config)
        trainings.append(training)
    rows = {"mmoe": RowTrainings(trainings, prepared.split("test"), config)}
    figures = rows["mmoe"].figures()
    for undefined in (figures["mrr"]["purchase"], figures["pd"], figures["auc"]["purchase"]):
        assert (undefined["value"], undefined["low"], undefined["seeds"]) == (None, None, [None, None])
    assert figures["mrr"]["click"]["value"] is not None
    monkeypatch.setattr(
        pipeline, "pairs", lambda: [RowPair(None, "mmoe", "pd"), RowPair("mmoe", "mmoe", "mrr", "purchase")]
    )
    budget = replace(BUDGETS["smoke"], evaluate=config, n_resamples=50)
    summary = pipeline.summarise(trainings, prepared, budget, {})
    for found in summary["differences"].values():
        assert (found["value"], found["base"], found["percent"], found["seeds"]) == (None, None, None, [None, None])
    pipeline.write_json(tmp_path / "summary.json", summary)
    for training in trainings:
        pipeline.write_json(tmp_path / f"{training.name}.json", pure_report(training))


def test_what_is_missing_has_no_difference(measured: dict[str, RowTrainings]) -> None:
    assert difference(RowPair("mmoe", "tabnet", "mrr", "click"), measured, CONFIG, 20) is None
    assert difference(RowPair("tabnet", "mmoe", "mrr", "click"), measured, CONFIG, 20) is None
    assert difference(RowPair(None, "shown_order", "pd"), measured, CONFIG, 20) is None
    assert difference(RowPair("mmoe", "shown_order", "mrr", "other"), measured, CONFIG, 20) is None
