"""The explained page: its order, its raw values, what people read, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shelfrank.cli.rankers import rankers_app
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import PreparedData
from shelfrank.explain import explain
from shelfrank.explain import search as module
from shelfrank.explain.search import explain_search, raw_values
from shelfrank.features.encoder import CategoricalEncoding, Encoder, NumericalEncoding
from shelfrank.rankers.run import Run, train
from small_log import small_tables
from tiny import hand_split, tiny

WEIGHTS = "score_weights={click: 1, add_to_cart: 2, purchase: 5}"


@pytest.fixture(scope="module")
def runs(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("explained")
    for name in ("mmoe_dcn_v2", "lambdamart", "popularity"):
        train(small_prepared, name, tiny(name, WEIGHTS, "exclude_features=[device]"), folder / name)
    return {name: folder / name for name in ("mmoe_dcn_v2", "lambdamart", "popularity")}


@pytest.fixture(scope="module")
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


@pytest.fixture(scope="module")
def search_id(prepared: PreparedData) -> str:
    """A search of an identified customer with more than eight products."""
    searches, sizes = prepared.searches("test"), np.diff(prepared.split("test").search_offsets)
    known = searches["customer_id"].is_valid().to_numpy()
    return searches["search_id"][int(np.flatnonzero(known & (sizes > 8))[0])].as_py()


def test_the_page_lies_in_the_order_of_the_fused_score(
    runs: dict[str, Path], prepared: PreparedData, search_id: str
) -> None:
    found = explain_search(runs["mmoe_dcn_v2"], search_id, top=100)
    index = prepared.searches("test")["search_id"].to_pylist().index(search_id)
    page = Run.open(runs["mmoe_dcn_v2"]).select(prepared.split("test").searches(np.array([index])))
    ranker = Run.open(runs["mmoe_dcn_v2"]).ranker(prepared)
    fused = ranker.score(page).astype(np.float64) @ np.array([1, 2, 5]) / 8
    order = np.argsort(-fused, kind="stable")
    ids = prepared.products()["product_id"].to_pylist()
    assert [product.product_id for product in found.products] == [ids[page.product_idx[row]] for row in order]
    assert [product.position for product in found.products] == page.position[order].tolist()
    assert [product.rank for product in found.products] == list(range(1, page.n_rows + 1))
    np.testing.assert_allclose([product.score for product in found.products], fused[order], rtol=1e-6)
    for product, row in zip(found.products, order.tolist(), strict=True):
        np.testing.assert_allclose(
            product.explanation.contributions, explain(ranker, page)[row].contributions, atol=1e-3
        )
        assert "device" not in product.explanation.features


def test_products_that_tie_keep_the_shown_order(
    runs: dict[str, Path], search_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fuse", lambda scores, _: np.zeros(len(scores), np.float32))
    found = explain_search(runs["lambdamart"], search_id, top=100)
    positions = [product.position for product in found.products]
    assert positions == sorted(positions)
    assert len(positions) > 8


def test_a_score_of_graded_labels_is_no_logit(
    runs: dict[str, Path], search_id: str, small_prepared: Path, tmp_path: Path
) -> None:
    train(small_prepared, "lambdamart", tiny("lambdamart", "lambdamart.per_task=false"), tmp_path / "graded")
    lines = explain_search(tmp_path / "graded", search_id, top=1).lines("purchase")
    assert any(line.startswith("contributions to the score that orders every task, from ") for line in lines)
    assert not any("logit" in line for line in lines)
    assert any("contributions to the logit of purchase" in line for line in _purchase(runs, search_id))


def _purchase(runs: dict[str, Path], search_id: str) -> list[str]:
    return explain_search(runs["lambdamart"], search_id, top=1).lines("purchase")


def test_only_the_first_products_are_explained(runs: dict[str, Path], search_id: str) -> None:
    few, all_ = (explain_search(runs["lambdamart"], search_id, top=top).products for top in (3, 100))
    assert [product.product_id for product in few] == [product.product_id for product in all_[:3]]


def test_features_are_shown_by_their_raw_values(runs: dict[str, Path], search_id: str) -> None:
    found = explain_search(runs["lambdamart"], search_id)
    tables = small_tables(300, n_products=40)
    products = {row["product_id"]: row for row in tables["products"]}
    customers = {row["customer_id"]: row for row in tables["customers"]}
    assert found.customer_id is not None
    for product in found.products:
        assert product.title == products[product.product_id]["title"]
        assert product.values["brand"] == products[product.product_id]["brand"]
        assert product.values["price"] == pytest.approx(products[product.product_id]["price"], rel=1e-4)
        assert product.values["age_band"] == customers[found.customer_id]["age_band"]
        assert set(product.values) == set(product.explanation.features)


def test_missing_numbers_and_unknown_categories_are_none() -> None:
    encoder = Encoder(
        (NumericalEncoding("tenure", Side.CUSTOMER, log1p=False, fill=None, mean=10.0, std=2.0, flags_missing=True),),
        (CategoricalEncoding("brand", Side.PRODUCT, ("acme",), default=0),),
    )
    tenure = encoder.numerical[0]
    rows = hand_split([[0]] * 3, tenure.transform(np.array([14.0, np.nan, 0.0])))
    rows = replace(
        rows,
        numerical_columns=tuple(tenure.columns()),
        categorical=np.array([[1], [0], [1]], np.int32),
        categorical_columns=(encoder.categorical[0].column(),),
    )
    assert raw_values(encoder, rows) == [
        {"tenure": 14.0, "tenure__missing": False, "brand": "acme"},
        {"tenure": None, "tenure__missing": True, "brand": None},
        {"tenure": 0.0, "tenure__missing": False, "brand": "acme"},
    ]
    # The flag alone.
    alone = replace(rows, numerical=rows.numerical[:, 1:], numerical_columns=rows.numerical_columns[1:])
    assert [row["tenure__missing"] for row in raw_values(encoder, alone)] == [False, True, False]


@pytest.mark.parametrize(
    ("name", "search", "split", "said"),
    [
        pytest.param("lambdamart", "nowhere", "test", "the test split of .* but it has no 'nowhere'", id="search"),
        pytest.param("lambdamart", None, "train", "the train split of ", id="search of another split"),
        pytest.param("lambdamart", None, "tst", "unknown split 'tst'", id="split"),
        pytest.param("popularity", None, "test", "only rankers that score by features", id="ranker"),
    ],
)
def test_what_cannot_be_explained_is_told(
    name: str, search: str | None, split: str, said: str, runs: dict[str, Path], search_id: str
) -> None:
    with pytest.raises(UserError, match=said):
        explain_search(runs[name], search or search_id, split)


def test_the_command_prints_the_strongest_features_of_a_task(runs: dict[str, Path], search_id: str) -> None:
    words = ["explain", str(runs["mmoe_dcn_v2"]), "--search", search_id, "--task", "purchase", "--top", "2"]
    told = CliRunner().invoke(rankers_app, words, catch_exceptions=False)
    assert told.exit_code == 0
    first = explain_search(runs["mmoe_dcn_v2"], search_id, top=2).products[0]
    strongest = first.explanation.strongest("purchase")[0]
    assert "logit of purchase, from the training mean (integrated gradients):" in told.output
    assert f"1. {first.product_id} {first.title}" in told.output
    assert f"{strongest.logits:+.3f}  {strongest.feature}" in told.output
    assert first.explanation.gates is not None
    assert f"gates: {' '.join(f'{weight:.2f}' for weight in first.explanation.gates[2])}" in told.output
    assert "\n3. " not in told.output


def test_the_command_gives_json_of_every_task(runs: dict[str, Path], search_id: str) -> None:
    words = ["explain", str(runs["mmoe_dcn_v2"]), "--search", search_id, "--baseline", "neutral", "--json"]
    told = json.loads(CliRunner().invoke(rankers_app, words, catch_exceptions=False).output)
    assert (told["search_id"], told["baseline"]) == (search_id, "neutral")
    for product in told["products"]:
        assert product["method"] == "integrated_gradients"
        assert list(product["tasks"]) == ["click", "add_to_cart", "purchase"]
        for task in product["tasks"].values():
            assert {contribution["side"] for contribution in task["contributions"]} <= {"customer"}
            reached = task["baseline_logit"] + sum(c["logits"] for c in task["contributions"])
            assert reached + task["gap"] == pytest.approx(task["logit"])
            assert sum(task["gates"]) == pytest.approx(1, abs=1e-5)


def test_a_task_that_the_ranker_does_not_predict_is_told(runs: dict[str, Path], search_id: str) -> None:
    words = ["explain", str(runs["lambdamart"]), "--search", search_id, "--task", "clicks"]
    with pytest.raises(UserError, match=r"unknown task 'clicks': choose one of .* did you mean 'click'"):
        CliRunner().invoke(rankers_app, words, catch_exceptions=False)
