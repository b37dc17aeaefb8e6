"""Explanations of fitted rankers: they add up, name what the ranker sees, and say what personalization did."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plain_loops import array
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import ROW_ARRAYS, PreparedData, Split
from shelfrank.explain import explain
from shelfrank.explain.integrated_gradients import TEXT_MATCH, TOLERANCE
from shelfrank.explain.networks import read_path
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.base import Ranker
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import problem
from shelfrank.rankers.xgboost import XGBoost
from tiny import add_relevance, tiny, tiny_bert

NAMES = (
    "mmoe_dcn_v2",
    "dcn_v2",
    "dcn_v2_single",
    "mmoe_dcn_v2_text_cross",
    "xgboost",
    "lambdamart",
    "xgboost_ranking",
    "catboost",
)
TASKS = {"dcn_v2_single": ("add_to_cart",), "xgboost": ("add_to_cart",)}
every_ranker = pytest.mark.parametrize("name", NAMES)


def fitted(prepared: PreparedData, name: str, *assignments: str) -> Ranker:
    config = tiny(name, *assignments)
    ranker = ranker_spec(name).build(problem(prepared, config))
    ranker.fit(
        prepared.split("train").select(config.exclude_sides), prepared.split("valid").select(config.exclude_sides)
    )
    return ranker


def take(split: Split, rows: list[int]) -> Split:
    picked = {name: np.asarray(getattr(split, name))[rows] for name in ROW_ARRAYS}
    return replace(split, search_offsets=np.array([0, len(rows)]), **picked)


def logits_of(ranker: Ranker, rows: Split) -> np.ndarray:
    """What the scores of the scored tasks are before their sigmoid, in float64."""
    chosen = [rows.tasks.index(task) for task in ranker.scored_tasks]
    scores = ranker.score(rows)[:, chosen].astype(np.float64)
    return np.log(scores / (1 - scores)) if ranker.gives_probabilities else scores


@pytest.fixture(scope="module")
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


@pytest.fixture(scope="module")
def rankers(prepared: PreparedData) -> dict[str, Ranker]:
    return {name: fitted(prepared, name) for name in NAMES}


@pytest.fixture(scope="module")
def page(prepared: PreparedData) -> Split:
    return take(prepared.split("test"), list(range(12)))


@every_ranker
@pytest.mark.parametrize("baseline", ["mean", "neutral"])
def test_contributions_lead_from_the_baselines_logits_to_the_rows(
    name: str, baseline: str, rankers: dict[str, Ranker], page: Split
) -> None:
    ranker = rankers[name]
    found = explain(ranker, page, baseline)  # pyright: ignore[reportArgumentType]
    assert len(found) == page.n_rows
    is_network = isinstance(ranker, NeuralRanker)
    tolerance, method = (TOLERANCE, "integrated_gradients") if is_network else (1e-4, "shap")
    for explanation, logits in zip(found, logits_of(ranker, page), strict=True):
        assert explanation.method == method
        assert explanation.tasks == TASKS.get(name, page.tasks)
        np.testing.assert_allclose(explanation.logits, logits, atol=1e-4)
        reached = explanation.baseline_logits + explanation.contributions.sum(axis=1)
        np.testing.assert_allclose(reached, logits, atol=tolerance)
        np.testing.assert_allclose(explanation.gaps, explanation.logits - reached, atol=1e-12)
    assert any(explanation.contributions.any() for explanation in found)


@pytest.mark.parametrize("baseline", ["mean", "neutral"])
def test_an_ensembles_contributions_lead_to_its_calibrated_logits(
    baseline: str, prepared: PreparedData, page: Split
) -> None:
    ranker = fitted(prepared, "network", "neural.n_networks=2", "neural.head=mmoe")
    for explanation, logits in zip(explain(ranker, page, baseline), logits_of(ranker, page), strict=True):  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(explanation.logits, logits, atol=1e-4)
        reached = explanation.baseline_logits + explanation.contributions.sum(axis=1)
        np.testing.assert_allclose(reached, logits, atol=2 * TOLERANCE)
        assert explanation.gates is None


@every_ranker
def test_the_features_are_those_that_the_ranker_sees(name: str, rankers: dict[str, Ranker], page: Split) -> None:
    columns = (*page.numerical_columns, *page.categorical_columns)
    text = "text" in name
    for explanation in explain(rankers[name], page):
        assert explanation.features == (*(column.name for column in columns), *([TEXT_MATCH] if text else []))
        assert explanation.sides == (*(column.side for column in columns), *([Side.INTERACTION] if text else []))


@pytest.mark.parametrize("name", ["mmoe_dcn_v2", "xgboost"])
def test_a_feature_that_the_ranker_does_not_see_has_no_place(name: str, prepared: PreparedData, page: Split) -> None:
    ranker = fitted(prepared, name, "exclude_sides=[customer]")
    seen = page.select([Side.CUSTOMER])
    for explanation in explain(ranker, seen):
        assert Side.CUSTOMER not in explanation.sides
        assert explanation.contributions.shape[1] == len(seen.numerical_columns) + len(seen.categorical_columns)
    assert not any(explanation.contributions.any() for explanation in explain(ranker, seen, "neutral"))


@every_ranker
@pytest.mark.parametrize("neutral", ["zero", "mean"])
def test_from_a_neutral_customer_only_customer_features_contribute(
    name: str, neutral: str, rankers: dict[str, Ranker], page: Split
) -> None:
    ranker = rankers[name]
    baseline = logits_of(ranker, page.neutral(neutral))  # pyright: ignore[reportArgumentType]
    found = explain(ranker, page, "neutral", neutral)  # pyright: ignore[reportArgumentType]
    for explanation, logits in zip(found, baseline, strict=True):
        of_customer = np.array([side is Side.CUSTOMER for side in explanation.sides])
        assert not explanation.contributions[:, ~of_customer].any()
        np.testing.assert_allclose(explanation.baseline_logits, logits, atol=1e-4)
    assert any(explanation.contributions.any() for explanation in found)


@every_ranker
@pytest.mark.parametrize("baseline", ["mean", "neutral"])
def test_a_row_is_explained_alike_alone_and_on_a_page(
    name: str, baseline: str, rankers: dict[str, Ranker], page: Split
) -> None:
    among = explain(rankers[name], page, baseline)[7]  # pyright: ignore[reportArgumentType]
    (alone,) = explain(rankers[name], take(page, [7]), baseline)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(alone.contributions, among.contributions, atol=TOLERANCE / 10)
    np.testing.assert_allclose(alone.logits, among.logits, atol=1e-5)


@every_ranker
def test_no_rows_no_explanations(name: str, rankers: dict[str, Ranker], page: Split) -> None:
    assert explain(rankers[name], take(page, [])) == []


def test_the_mean_baseline_of_a_network_is_the_row_of_training_means(rankers: dict[str, Ranker], page: Split) -> None:
    means = replace(
        page,
        numerical=np.full_like(page.numerical, 0.0),
        categorical=np.tile([int(c.mean) for c in page.categorical_columns], (page.n_rows, 1)).astype(np.int32),
    )
    assert all(column.mean == 0 for column in page.numerical_columns)
    expected = logits_of(rankers["mmoe_dcn_v2"], means)
    found = [explanation.baseline_logits for explanation in explain(rankers["mmoe_dcn_v2"], page)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gates_are_each_tasks_softmax_over_the_experts(rankers: dict[str, Ranker], page: Split) -> None:
    ranker = rankers["mmoe_dcn_v2"]
    assert isinstance(ranker, NeuralRanker)
    mmoe = ranker.model.head
    assert isinstance(mmoe, MMoE)
    with torch.no_grad():
        numerical, categorical = (torch.from_numpy(np.array(part)) for part in (page.numerical, page.categorical))
        x_final = array(ranker.model.bottom(ranker.model.gather_inputs(numerical, categorical)).x_final)
    weights = np.exp(x_final @ array(mmoe.gates.weight).T).reshape(page.n_rows, 3, mmoe.n_experts)
    expected = weights / weights.sum(axis=2, keepdims=True)
    found = [explanation.gates for explanation in explain(ranker, page)]
    np.testing.assert_allclose(np.array(found), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01


@pytest.mark.parametrize("name", ["dcn_v2", "dcn_v2_single", "xgboost", "lambdamart", "xgboost_ranking", "catboost"])
def test_without_a_mixture_of_experts_there_are_no_gates(name: str, rankers: dict[str, Ranker], page: Split) -> None:
    assert all(explanation.gates is None for explanation in explain(rankers[name], page))


@pytest.mark.parametrize("name", ["ftt", "tabnet"])
def test_attention_has_a_weight_for_each_feature_in_the_features_order(name: str, prepared: PreparedData) -> None:
    text = ("neural.text.matching=cross", f"neural.text.model={tiny_bert()}")
    ranker, page = fitted(prepared, name, *text, "train.epochs=1"), take(prepared.split("test"), [0, 1, 2])
    assert isinstance(ranker, NeuralRanker)
    _, end = read_path(ranker, page, None)
    expected = ranker.model.bottom.attention(end).numpy()  # pyright: ignore[reportCallIssue]
    found = explain(ranker, page)
    np.testing.assert_allclose([explanation.attention for explanation in found], expected, atol=1e-6)
    assert all(explanation.attention.shape == (len(explanation.features),) for explanation in found)
    assert all(explanation.features[-1] == TEXT_MATCH for explanation in found)


def test_other_networks_have_no_attention(rankers: dict[str, Ranker], page: Split) -> None:
    assert all(explanation.attention is None for explanation in explain(rankers["mmoe_dcn_v2"], page))


def test_the_relevance_task_is_not_explained(
    small_prepared: Path, page: Split, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graded = PreparedData.open(add_relevance(small_prepared, tmp_path_factory.mktemp("graded") / "prepared"))
    for explanation in explain(fitted(graded, "mmoe_dcn_v2"), page):
        assert explanation.gates is not None
        assert explanation.gates.shape == (3, 4)
        assert len(explanation.contributions) == 3


def test_a_task_of_no_weight_is_not_explained(prepared: PreparedData, page: Split) -> None:
    ranker = fitted(prepared, "mmoe_dcn_v2", "task_weights={click: 1, purchase: 3}")
    (found,) = explain(ranker, take(page, [3]))
    assert found.tasks == ("click", "purchase")
    assert found.gates is not None
    assert (len(found.contributions), len(found.gates)) == (2, 2)
    np.testing.assert_allclose(found.logits, logits_of(ranker, take(page, [3]))[0], atol=1e-4)


def test_the_match_of_the_texts_contributes_unless_the_customer_is_what_changes(
    rankers: dict[str, Ranker], page: Split
) -> None:
    ranker = rankers["mmoe_dcn_v2_text_cross"]
    assert all(explanation.contributions[:, -1].any() for explanation in explain(ranker, page))
    assert not any(explanation.contributions[:, -1].any() for explanation in explain(ranker, page, "neutral"))


def test_where_gradients_are_off_it_explains_all_the_same(rankers: dict[str, Ranker], page: Split) -> None:
    for name in ("mmoe_dcn_v2", "mmoe_dcn_v2_text_cross"):
        (expected,) = explain(rankers[name], take(page, [0]))
        for off in (torch.no_grad, torch.inference_mode):
            with off():
                (found,) = explain(rankers[name], take(page, [0]))
            assert np.array_equal(found.contributions, expected.contributions)


def test_xgboosts_mean_is_one_for_all_rows_and_unused_features_have_nothing(
    rankers: dict[str, Ranker], page: Split
) -> None:
    ranker = rankers["xgboost"]
    assert isinstance(ranker, XGBoost)
    assert ranker.booster is not None
    found = explain(ranker, page)
    assert len({float(explanation.baseline_logits[0]) for explanation in found}) == 1
    used = np.isin([f"f{i}" for i in range(len(found[0].features))], list(ranker.booster.get_score()))
    contributed = np.any([explanation.contributions[0] != 0 for explanation in found], axis=0)
    assert not contributed[~used].any()
    assert contributed[used].any()


def test_a_score_of_graded_labels_stands_for_every_task(prepared: PreparedData, page: Split) -> None:
    ranker = LambdaMART(problem(prepared, tiny("lambdamart", "lambdamart.per_task=false")))
    ranker.fit(prepared.split("train"), prepared.split("valid"))
    (found,) = explain(ranker, take(page, [2]))
    assert np.array_equal(found.contributions, np.tile(found.contributions[0], (3, 1)))
    assert found.one_score


def test_a_model_per_task_explains_its_own_logit(rankers: dict[str, Ranker], page: Split) -> None:
    (found,) = explain(rankers["lambdamart"], take(page, [2]))
    assert not found.one_score
    probs = rankers["lambdamart"].score(take(page, [2]))[0]
    assert 1 / (1 + np.exp(-found.logits)) == pytest.approx(probs, rel=1e-5)
    assert not np.array_equal(found.contributions[0], found.contributions[2])


@pytest.mark.parametrize("name", ["shown_order", "popularity"])
def test_a_ranker_without_features_is_told(name: str, prepared: PreparedData, page: Split) -> None:
    with pytest.raises(
        UserError, match=r"only rankers that score by features can be explained, but \w+ scores by none"
    ):
        explain(ranker_spec(name).build(problem(prepared, tiny(name))), page)


def test_the_strongest_come_first_whatever_their_sign(rankers: dict[str, Ranker], page: Split) -> None:
    (found,) = explain(rankers["mmoe_dcn_v2"], take(page, [4]))
    strongest = found.strongest("purchase")
    sizes = [abs(contribution.logits) for contribution in strongest]
    assert sizes == sorted(sizes, reverse=True)
    assert {contribution.logits > 0 for contribution in strongest} == {True, False}
    by_name = dict(zip(found.features, found.contributions[2].tolist(), strict=True))
    assert {c.feature: c.logits for c in strongest} == {name: value for name, value in by_name.items() if value}
