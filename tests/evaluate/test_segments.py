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
from shelfrank.evaluate.segments import query_kinds, segment_figures, segmentations
from shelfrank.experiment import train
from shelfrank.metrics import bootstrap_difference, bootstrap_mean, reciprocal_rank
from shelfrank.prepare.pipeline import prepare
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
def prepared(folder: Path) -> PreparedData:
    return PreparedData.open(folder / "prepared")


@pytest.fixture(scope="module")
def split(prepared: PreparedData) -> Split:
    return prepared.split("test")


@pytest.fixture(scope="module")
def evaluations(folder: Path) -> dict[str, Evaluation]:
    return {name: Evaluation.open(folder / name) for name in ("shown_order", "popularity")}


@pytest.mark.parametrize("name", ["train", "test"])
def test_every_search_is_of_the_kind_that_the_log_tells(folder: Path, prepared: PreparedData, name: str) -> None:
    kinds = query_kinds(folder / "log", prepared, name)
    told = [kind_of(search) for search in prepared.searches(name)["search_id"].to_pylist()]
    assert list(kinds) == ["plain", "synonym", "typo"]
    assert {kind: chosen.tolist() for kind, chosen in kinds.items()} == {
        kind: [own == kind for own in told] for kind in kinds
    }


def test_a_log_without_kinds_has_no_segments(small_prepared: Path) -> None:
    log = small_prepared.parent / "log"
    assert segmentations(log, PreparedData.open(small_prepared), "test") == {}


def test_a_search_that_the_truth_lacks_is_noticed(folder: Path, prepared: PreparedData, tmp_path: Path) -> None:
    tables = small_tables(300, n_products=40)
    tables["truth/searches"] = [{"search_id": "s00000", "query_kind": "plain"}]
    log = write_small_log(tmp_path / "log", tables)
    with pytest.raises(AssertionError, match="must cover every search"):
        query_kinds(log, prepared, "test")


def test_figures_are_those_of_the_searches_of_the_segment_alone(
    split: Split, evaluations: dict[str, Evaluation]
) -> None:
    chosen = np.arange(split.n_searches) % 3 == 1
    part = split.searches(np.flatnonzero(chosen))
    rows = np.repeat(chosen, np.diff(split.search_offsets))
    (found,) = segment_figures({"third": chosen}, evaluations, split, CONFIG, "shown_order").values()
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
    everything = {"all": np.ones(split.n_searches, dtype=bool)}
    (found,) = segment_figures(everything, evaluations, split, CONFIG, "shown_order").values()
    whole = differences(evaluations, split, CONFIG, "shown_order")
    assert found["differences"]["popularity"]["mrr"]["5"] == whole["popularity"]["mrr"]["5"]
    for name, evaluation in evaluations.items():
        assert found["rankers"][name]["mrr"]["5"] == evaluation.report["mrr"]["5"]
        assert set(found["rankers"][name]["mrr"]) == {"1", "5"}


def test_a_segment_without_searches_has_no_figures(split: Split, evaluations: dict[str, Evaluation]) -> None:
    nothing = {"none": np.zeros(split.n_searches, dtype=bool)}
    (found,) = segment_figures(nothing, evaluations, split, CONFIG, "shown_order").values()
    assert (found["searches"], set(found["with_positive"].values())) == (0, {0})
    figure = found["differences"]["popularity"]["mrr"]["5"]["click"]
    assert figure == {"value": None, "low": None, "high": None, "n": 0, "n_undefined": 0, "p": None}


def test_a_comparison_holds_the_kinds_of_queries(folder: Path, split: Split, tmp_path: Path) -> None:
    def no_page(comparison: Any, file: Path) -> None:
        file.write_text(comparison["title"])

    compare([folder / "shown_order", folder / "popularity"], tmp_path / "out", "shown_order", no_page)
    segments = json.loads((tmp_path / "out" / "comparison.json").read_text())["segments"]
    assert set(segments) == {"query_kind"}
    assert list(segments["query_kind"]) == ["plain", "synonym", "typo"]
    assert sum(segment["searches"] for segment in segments["query_kind"].values()) == split.n_searches
