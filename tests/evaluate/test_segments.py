"""Figures on a part of a split are those of a split that holds only that part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelfrank.config import EvaluateConfig, PrepareConfig
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.differences import differences
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.evaluate.segments import auc_of_rows, segment_figures
from shelfrank.metrics import bootstrap_auc, bootstrap_difference, bootstrap_mean, reciprocal_rank
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import train
from small_log import small_tables, write_small_log
from tiny import tiny

CONFIG = EvaluateConfig(ks=(3, 5), pd_k=5, n_resamples=40, n_resamples_auc=10)
KINDS = ("plain", "plain", "synonym", "plain", "typo")


def kind_of(search_id: str) -> str:
    return KINDS[int(search_id.removeprefix("s")) % len(KINDS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose kinds of queries lie in no order, prepared, with two rankers evaluated."""
    folder = tmp_path_factory.mktemp("segments")
    tables = small_tables(300, n_products=40)
    ids = sorted({row["search_id"] for row in tables["impressions"]})
    shuffled = np.random.default_rng(0).permutation(ids).tolist()
    tables["truth/searches"] = [{"search_id": name, "query_kind": kind_of(name)} for name in shuffled]
    prepare(write_small_log(folder / "log", tables), folder / "prepared", PrepareConfig())
    for name in ("shown_order", "popularity"):
        train(folder / "prepared", name, tiny(name), folder / "runs" / name)
        evaluate(folder / "runs" / name, folder / name, CONFIG)
    return folder


@pytest.fixture(scope="module")
def split(folder: Path) -> Split:
    return PreparedData.open(folder / "prepared").split("test")


@pytest.fixture(scope="module")
def evaluations(folder: Path) -> dict[str, Evaluation]:
    return {name: Evaluation.open(folder / name) for name in ("shown_order", "popularity")}


def figures_of(chosen: np.ndarray, evaluations: dict[str, Evaluation], split: Split) -> dict[str, Any]:
    fused = {name: np.asarray(evaluation.array("fused")) for name, evaluation in evaluations.items()}
    return segment_figures({"some": {"part": chosen}}, fused, split, CONFIG, "shown_order")["some"]["part"]


def test_figures_are_those_of_the_searches_of_the_segment_alone(
    split: Split, evaluations: dict[str, Evaluation]
) -> None:
    chosen = np.arange(split.n_searches) % 3 == 1
    part = split.searches(np.flatnonzero(chosen))
    rows = np.repeat(chosen, np.diff(split.search_offsets))
    found = figures_of(chosen, evaluations, split)
    assert found["searches"] == part.n_searches < split.n_searches
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(part.labels[:, index])
        for k in (1, 5):
            shown, popular = (
                reciprocal_rank(
                    np.asarray(evaluations[name].array("fused"))[rows], labels, part.search_offsets, part.tie_keys, k
                )
                for name in ("shown_order", "popularity")
            )
            assert found["with_positive"][task] == np.count_nonzero(~np.isnan(shown)) > 1
            for name, values in (("shown_order", shown), ("popularity", popular)):
                expected = bootstrap_mean(values, CONFIG.n_resamples, CONFIG.seed, CONFIG.confidence)
                assert found["rankers"][name]["mrr"][str(k)][task] == expected.as_dict()
            paired = bootstrap_difference(popular, shown, CONFIG.n_resamples, CONFIG.seed, CONFIG.confidence)
            figure = found["differences"]["popularity"]["mrr"][str(k)][task]
            assert (figure["value"], figure["low"], figure["high"]) == (paired.value, paired.low, paired.high)
            assert (figure["p"], figure["n"]) == (paired.p_value, paired.n)
    assert set(found["differences"]) == {"popularity"}


def test_the_segment_of_all_searches_has_the_figures_of_the_split(
    split: Split, evaluations: dict[str, Evaluation]
) -> None:
    found = figures_of(np.ones(split.n_searches, dtype=bool), evaluations, split)
    whole = differences({name: each.scored for name, each in evaluations.items()}, split, CONFIG, "shown_order")
    assert found["differences"]["popularity"]["mrr"]["5"] == whole["popularity"]["mrr"]["5"]
    for name, evaluation in evaluations.items():
        assert found["rankers"][name]["mrr"]["5"] == evaluation.report["mrr"]["5"]
        assert set(found["rankers"][name]["mrr"]) == {"1", "5"}


def test_a_segment_without_searches_has_no_figures(split: Split, evaluations: dict[str, Evaluation]) -> None:
    found = figures_of(np.zeros(split.n_searches, dtype=bool), evaluations, split)
    assert (found["searches"], set(found["with_positive"].values())) == (0, {0})
    figure = found["differences"]["popularity"]["mrr"]["5"]["click"]
    assert figure == {"value": None, "low": None, "high": None, "n": 0, "n_undefined": 0, "n_differing": 0, "p": None}


def test_one_ranker_alone_has_figures_and_no_differences(split: Split, evaluations: dict[str, Evaluation]) -> None:
    fused = {"popularity": np.asarray(evaluations["popularity"].array("fused"))}
    chosen = np.arange(split.n_searches) % 2 == 0
    found = segment_figures({"some": {"part": chosen}}, fused, split, CONFIG)["some"]["part"]
    beside_another = figures_of(chosen, evaluations, split)
    assert found["differences"] == {}
    assert found["rankers"]["popularity"] == beside_another["rankers"]["popularity"]


def test_auc_of_rows_is_that_of_pages_that_hold_no_others(split: Split, evaluations: dict[str, Evaluation]) -> None:
    tasks = np.asarray(evaluations["popularity"].array("tasks"))
    # Whole pages fall away, and of the others every second row.
    rows = (np.arange(split.n_rows) % 2 == 0) & np.repeat(
        np.arange(split.n_searches) % 3 != 0, np.diff(split.search_offsets)
    )
    found = auc_of_rows(rows, tasks, split, CONFIG, ("click",))
    sizes = [int(rows[a:b].sum()) for a, b in zip(split.search_offsets[:-1], split.search_offsets[1:], strict=True)]
    offsets = np.cumsum([0, *(size for size in sizes if size)])
    labels = np.ascontiguousarray(split.labels[rows, 0])
    expected = bootstrap_auc(tasks[rows, 0], labels, offsets, CONFIG.n_resamples_auc, CONFIG.seed, CONFIG.confidence)
    assert found["auc"] == {"click": expected.as_dict(), "add_to_cart": None, "purchase": None}
    assert (found["rows"], found["positives"]["click"]) == (rows.sum(), np.count_nonzero(labels == 1))


def test_no_rows_have_no_auc(split: Split, evaluations: dict[str, Evaluation]) -> None:
    tasks = np.asarray(evaluations["popularity"].array("tasks"))
    found = auc_of_rows(np.zeros(split.n_rows, dtype=bool), tasks, split, CONFIG, split.tasks)
    assert found == {"rows": 0, "positives": dict.fromkeys(split.tasks, 0), "auc": dict.fromkeys(split.tasks)}


def test_a_comparison_holds_every_segmentation(folder: Path, split: Split, tmp_path: Path) -> None:
    def no_page(comparison: Any, file: Path) -> None:
        file.write_text(comparison["title"])

    compare([folder / "shown_order", folder / "popularity"], tmp_path / "out", "shown_order", no_page)
    segments = json.loads((tmp_path / "out" / "comparison.json").read_text())["segments"]
    assert {name: list(parts) for name, parts in segments.items()} == {
        "query_frequency": ["head", "torso", "tail", "unseen"],
        "customer": ["known", "new", "anonymous"],
        "product_coldness": ["warm", "cold"],
        "query_kind": ["plain", "synonym", "typo"],
    }
    for name in ("query_frequency", "customer", "query_kind"):
        assert sum(segment["searches"] for segment in segments[name].values()) == split.n_searches
