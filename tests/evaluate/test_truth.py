"""Figures of a log whose truth is known, whatever order the truth lies in."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shelfrank.config import EvaluateConfig, PrepareConfig
from shelfrank.core.schema import Schema
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.evaluate.truth import Truth
from shelfrank.logs.writer import write_search_log
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import train
from small_log import IMPRESSION_TYPES, START
from tiny import tiny

CONFIG = EvaluateConfig(ks=(1, 2))
N_SEARCHES, N_PRODUCTS = 60, 4


def rows_of_search(search: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A page whose clicked product this customer truly prefers, and the average customer puts second."""
    shown = np.random.default_rng(search).permutation(N_PRODUCTS).tolist()
    clicked = search % N_PRODUCTS
    average = [(clicked + 1) % N_PRODUCTS, clicked]
    ids = [{"search_id": f"s{search:03d}", "product_id": f"p{product}"} for product in shown]
    impressions = [
        {
            **key,
            "timestamp": START + dt.timedelta(minutes=search),
            "query": "sofa",
            "position": position,
            "click": int(product == clicked),
            "device": "phone",
        }
        for position, (key, product) in enumerate(zip(ids, shown, strict=True), start=1)
    ]
    truth = [
        {
            **key,
            "p_examine": 0.5,
            "click_given_examined": 0.9 if product == clicked else 0.1 + product / 100,
            "click_average": 0.8 - average.index(product) / 10 if product in average else product / 100,
        }
        for key, product in zip(ids, shown, strict=True)
    ]
    return impressions, truth


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], tuple[Path, PreparedData]]:
    def make(truth: bool) -> tuple[Path, PreparedData]:
        folder = tmp_path_factory.mktemp("truth")
        pages = [rows_of_search(search) for search in range(N_SEARCHES)]
        impressions = [row for page, _ in pages for row in page]
        chances = pa.Table.from_pylist([row for _, page in pages for row in page])
        shuffled = chances.take(np.random.default_rng(0).permutation(len(chances)))
        schema = Schema.model_validate(
            {"name": "truth", "features": [{"name": "device", "side": "context", "kind": "categorical"}]}
        )
        with write_search_log(folder / "log", schema, {}) as writer:
            writer.write("impressions", pa.Table.from_pylist(impressions, schema=IMPRESSION_TYPES))
            products = [{"product_id": f"p{i}", "title": f"sofa {i}"} for i in range(N_PRODUCTS)]
            writer.write("products", pa.Table.from_pylist(products))
            writer.write("customers", pa.table({"customer_id": ["c0"]}))
            if truth:
                writer.write("truth/impressions", shuffled.slice(0, 100))
                writer.write("truth/impressions", shuffled.slice(100))
        prepare(folder / "log", folder / "prepared", PrepareConfig())
        return folder / "log", PreparedData.open(folder / "prepared")

    return make


def test_the_truth_orders_every_page_of_the_split(
    with_truth: Callable[[bool], tuple[Path, PreparedData]],
) -> None:
    _, prepared = with_truth(True)
    for split in ("train", "test"):
        truth = Truth.open(prepared, split)
        assert truth is not None
        bounds = truth.bounds(CONFIG)
        assert bounds["best"]["mrr"] == {"1": {"click": 1.0}, "2": {"click": 1.0}}
        assert bounds["non_personalized"]["mrr"] == {"1": {"click": 0.0}, "2": {"click": 0.5}}


def test_expected_figures_are_those_of_the_chances(with_truth: Callable[[bool], tuple[Path, PreparedData]]) -> None:
    """Every page holds the same four chances, so each search's expectation is the same and known by hand."""
    _, prepared = with_truth(True)
    truth = Truth.open(prepared, "test")
    assert truth is not None
    split = prepared.split("test")
    figures = truth.figures(truth.columns["click_given_examined"], CONFIG)
    by_search = []
    for search in range(N_SEARCHES):
        clicked = search % N_PRODUCTS
        chances = sorted([0.9, *(0.1 + product / 100 for product in range(N_PRODUCTS) if product != clicked)])[::-1]
        by_search.append({scale: one_page([scale * chance for chance in chances]) for scale in (0.5, 1.0)})
    tested = by_search[-split.n_searches :]
    for figure, scale in (("redrawn", 0.5), ("unbiased", 1.0)):
        first, second, some = (sum(page[scale][i] for page in tested) for i in range(3))
        assert figures[figure]["1"]["click"]["value"] == pytest.approx(first / some)
        assert figures[figure]["2"]["click"]["value"] == pytest.approx((first + second / 2) / some)
    assert truth.bounds(CONFIG)["best"]["redrawn"]["2"]["click"] == pytest.approx(
        figures["redrawn"]["2"]["click"]["value"]
    )


def one_page(chances: list[float]) -> tuple[float, float, float]:
    """The chance that the first positive is the first product, that it is the second, and of any positive."""
    none = 1.0
    for chance in chances:
        none *= 1 - chance
    return chances[0], (1 - chances[0]) * chances[1], 1 - none


def test_a_difference_is_that_of_the_figures(with_truth: Callable[[bool], tuple[Path, PreparedData]]) -> None:
    _, prepared = with_truth(True)
    truth = Truth.open(prepared, "train")
    assert truth is not None
    best, average = truth.columns["click_given_examined"], truth.columns["click_average"]
    for figure, by_cutoff in truth.differences(best, average, CONFIG).items():
        own, its = (truth.figures(scores, CONFIG)[figure] for scores in (best, average))
        for k, by_task in by_cutoff.items():
            expected = own[k]["click"]["value"] - its[k]["click"]["value"]
            assert by_task["click"]["value"] == pytest.approx(expected)
            assert by_task["click"]["low"] > 0


def test_without_truth_nothing_is_known(with_truth: Callable[[bool], tuple[Path, PreparedData]]) -> None:
    _, prepared = with_truth(False)
    assert Truth.open(prepared, "test") is None


def test_the_truth_of_another_log_is_not_taken(with_truth: Callable[[bool], tuple[Path, PreparedData]]) -> None:
    """The folder was simulated anew since the data was prepared."""
    log, prepared = with_truth(True)
    manifest = json.loads((log / "manifest.json").read_text())
    manifest["fingerprint"] = "0" * 64
    (log / "manifest.json").write_text(json.dumps(manifest))
    assert Truth.open(prepared, "test") is None


def test_a_comparison_has_the_expected_figures_of_every_ranker(
    with_truth: Callable[[bool], tuple[Path, PreparedData]], tmp_path: Path
) -> None:
    """Also of one that was evaluated while the log was elsewhere."""
    log, prepared = with_truth(True)
    for name in ("shown_order", "popularity"):
        train(prepared.path, name, tiny(name), tmp_path / "runs" / name)
    evaluate(tmp_path / "runs" / "shown_order", tmp_path / "shown_order", CONFIG)
    log.rename(log.parent / "elsewhere")
    evaluate(tmp_path / "runs" / "popularity", tmp_path / "popularity", CONFIG)
    assert "redrawn" not in Evaluation.open(tmp_path / "popularity").report
    (log.parent / "elsewhere").rename(log)
    compare([tmp_path / name for name in ("shown_order", "popularity")], tmp_path / "out", "shown_order", no_page)
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    one, other = (ranker["unbiased"]["1"]["click"]["value"] for ranker in comparison["rankers"])
    assert comparison["differences"]["popularity"]["unbiased"]["1"]["click"]["value"] == pytest.approx(other - one)


def no_page(comparison: Any, file: Path) -> None:
    file.write_text("")
