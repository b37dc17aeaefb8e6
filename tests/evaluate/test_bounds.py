"""The best possible MRR of a log whose truth is known, found whatever order the truth lies in."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shelfrank.config import EvaluateConfig, PrepareConfig
from shelfrank.core.schema import Schema
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.bounds import truth_bounds
from shelfrank.logs.writer import write_search_log
from shelfrank.prepare.pipeline import prepare
from small_log import IMPRESSION_TYPES, START

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
    log, prepared = with_truth(True)
    for split in ("train", "test"):
        bounds = truth_bounds(log, prepared, CONFIG, split)
        assert bounds == {
            "best": {"mrr": {"1": {"click": 1.0}, "2": {"click": 1.0}}},
            "non_personalized": {"mrr": {"1": {"click": 0.0}, "2": {"click": 0.5}}},
        }


def test_without_truth_nothing_is_known(with_truth: Callable[[bool], tuple[Path, PreparedData]]) -> None:
    log, prepared = with_truth(False)
    assert truth_bounds(log, prepared, CONFIG, "test") is None
