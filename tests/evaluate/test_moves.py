"""How far products move, and that an example's history ends before its search."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import Manifest
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.evaluate.moves import N_EXAMPLES, SHOWN_PRODUCTS, _ranks, moves
from shelfrank.prepare.pipeline import prepare
from small_log import START, write_small_log

N_SEARCHES, N_SHOWN = 40, 20
MINUTE = dt.timedelta(minutes=1)
SECRET = 25
"""A product that customers touch only at the moment of a test search or later."""


def wide_tables() -> dict[str, list[dict[str, Any]]]:
    """Pages of 20 products in the order of their numbers, the second of them always clicked, all by one customer."""
    impressions = [
        {
            "search_id": f"s{search:03d}",
            "timestamp": START + search * MINUTE,
            "customer_id": "c0",
            "session_id": "v0",
            "query": "sofa",
            "product_id": f"p{product:02d}",
            "position": product + 1,
            "click": int(product == 1),
            "add_to_cart": int(product == 1 and search == 3),
            "purchase": 0,
            "device": "phone",
        }
        for search in range(N_SEARCHES)
        for product in range(N_SHOWN)
    ]
    first_test = N_SEARCHES * 9 // 10
    secret = {"customer_id": "c0", "session_id": "v0", "product_id": f"p{SECRET}", "action": "viewed"}
    events = [{"timestamp": START + search * MINUTE, **secret} for search in range(first_test, N_SEARCHES)] * 50
    events += [{"timestamp": START + first_test * MINUTE - dt.timedelta(microseconds=1), **secret, "product_id": "p26"}]
    products = [
        {"product_id": f"p{i:02d}", "title": f"sofa {i}", "brand": ("acme", "bolt")[i % 2], "price": 5.0 + i}
        for i in range(30)
    ]
    customers = [{"customer_id": "c0", "age_band": "old"}]
    return {"impressions": impressions, "products": products, "customers": customers, "events": events}


@dataclass(frozen=True)
class Shop:
    log: Path
    prepared: PreparedData
    split: Split

    def evaluation(self, folder: Path, neutral: np.ndarray, own: np.ndarray, uses_features: bool = True) -> Evaluation:
        for name, array in (
            ("pd_searches", np.arange(self.split.n_searches)),
            ("pd_neutral", neutral.astype(np.float32)),
            ("pd_fused", own.astype(np.float32)),
        ):
            np.save(folder / f"{name}.npy", array)
        return Evaluation(
            folder,
            Manifest("evaluation", {}, {}, {}, ""),
            {"pd": {"searches": len(self.split.search_offsets) - 1} if uses_features else None},
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("wide")
    log = write_small_log(folder / "log", wide_tables())
    prepare(log, folder / "prepared", PrepareConfig())
    prepared = PreparedData.open(folder / "prepared")
    return Shop(log, prepared, prepared.split("test"))


def shown_order_but(split: Split, position: int) -> np.ndarray:
    """Scores of the order shown, the product at one position first."""
    return np.where(split.position == position, 1.0, -split.position)


def test_a_product_that_rises_from_third_to_first_moved_by_two(shop: Shop, tmp_path: Path) -> None:
    evaluation = shop.evaluation(tmp_path, -shop.split.position, shown_order_but(shop.split, 3))
    found = moves(evaluation, shop.prepared, shop.log, "test")
    n = shop.split.n_searches
    assert found is not None
    # Negative is towards the first place; the two that it passed fall by one.
    assert found["histogram"] == [[-2, n], [0, (N_SHOWN - 3) * n], [1, 2 * n]]
    assert found["mean_absolute"] == pytest.approx(4 / N_SHOWN)


def test_a_move_over_the_whole_page_is_told_in_full(shop: Shop, tmp_path: Path) -> None:
    evaluation = shop.evaluation(tmp_path, -shop.split.position, shown_order_but(shop.split, N_SHOWN))
    found = moves(evaluation, shop.prepared, shop.log, "test")
    n = shop.split.n_searches
    assert found is not None
    assert found["histogram"] == [[-(N_SHOWN - 1), n], [1, (N_SHOWN - 1) * n]]
    assert found["mean_absolute"] == pytest.approx(2 * (N_SHOWN - 1) / N_SHOWN)


def test_an_example_shows_both_orders_and_what_was_clicked(shop: Shop, tmp_path: Path) -> None:
    evaluation = shop.evaluation(tmp_path, -shop.split.position, shown_order_but(shop.split, 3))
    found = moves(evaluation, shop.prepared, shop.log, "test")
    assert found is not None
    assert len(found["examples"]) == min(N_EXAMPLES, shop.split.n_searches)
    for example in found["examples"]:
        assert (example["query"], example["customer"]) == ("sofa", "c0")
        neutral, own = ([product["product_id"] for product in example[name]] for name in ("neutral", "personalized"))
        assert neutral == [f"p{i:02d}" for i in range(SHOWN_PRODUCTS)]
        assert own == ["p02", "p00", "p01", *neutral[3:]]
        assert [product["clicked"] for product in example["neutral"]] == [i == 1 for i in range(SHOWN_PRODUCTS)]
        assert [product["shown"] for product in example["personalized"][:3]] == [3, 1, 2]


def test_history_holds_nothing_from_the_searchs_moment_on(shop: Shop, tmp_path: Path) -> None:
    evaluation = shop.evaluation(tmp_path, -shop.split.position, shown_order_but(shop.split, 3))
    found = moves(evaluation, shop.prepared, shop.log, "test")
    assert found is not None
    n_before = N_SEARCHES * 9 // 10
    expected = []
    for later in range(shop.split.n_searches):
        n_clicks = n_before + later - 1  # the search with the cart counts as its deepest outcome
        lines = [(-n_clicks, f"clicked sofa 1 ({n_clicks} times)"), (-1, "put in the cart sofa 1")]
        lines.append((-1, "viewed sofa 26"))
        n_secret = 50 * later
        lines += [(-n_secret, f"viewed sofa {SECRET} ({n_secret} times)")] if later else []
        expected.append([text for _, text in sorted(lines, key=lambda line: line[0])])
    assert sorted(example["history"] for example in found["examples"]) == sorted(expected)


def test_a_ranker_without_features_moves_nothing(shop: Shop, tmp_path: Path) -> None:
    scores = -shop.split.position
    assert moves(shop.evaluation(tmp_path, scores, scores, False), shop.prepared, shop.log, "test") is None


def test_without_the_log_there_are_moves_but_no_examples(shop: Shop, tmp_path: Path) -> None:
    evaluation = shop.evaluation(tmp_path, -shop.split.position, shown_order_but(shop.split, 3))
    found = moves(evaluation, shop.prepared, tmp_path / "gone", "test")
    assert found is not None
    assert found["examples"] == []
    assert len(found["histogram"]) == 3


def test_products_that_tie_keep_the_shown_order(shop: Shop) -> None:
    ranks = _ranks(np.zeros(shop.split.n_rows, np.float32), shop.split)
    np.testing.assert_array_equal(ranks, shop.split.position - 1)
