"""What holds for every ranker in `RANKERS`."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import ROW_ARRAYS, PreparedData, Split
from shelfrank.rankers import RANKERS, ranker_spec
from shelfrank.rankers.base import Fitted, Ranker, TextTables
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import Run, problem
from shelfrank.rankers.xgboost import XGBoost
from tiny import add_relevance, tiny
from tiny_encoder import save_tiny_bert

every_ranker = pytest.mark.parametrize("name", RANKERS)
NETWORKS = [name for name, spec in RANKERS.items() if spec.build is NeuralRanker]
SINGLE = [name for name in NETWORKS if name.endswith("_single")]
SEVERAL = [name for name in NETWORKS if name not in SINGLE]
"""Networks that learn one task, and those that learn several, and the relevance label with them."""

NO_PICKLES = {".json", ".jsonl", ".yaml", ".safetensors", ".ubj", ".txt", ".cbm"}
"""Formats that run no code when they are read."""


def take(split: Split, rows: np.ndarray) -> Split:
    """Some rows, as one search."""
    picked = {name: np.asarray(getattr(split, name))[rows] for name in ROW_ARRAYS}
    return replace(split, search_offsets=np.array([0, len(rows)], dtype=np.int64), **picked)


def fitted(prepared: PreparedData, name: str, *assignments: str, seed: int = 0) -> tuple[Ranker, Split]:
    """A ranker fitted by hand, and the test rows with what it may see."""
    config = tiny(name, *assignments, seed=seed)
    sides = config.exclude_sides
    ranker = ranker_spec(name).build(problem(prepared, config))
    ranker.fit(prepared.split("train").select(sides), prepared.split("valid").select(sides))
    return ranker, prepared.split("test").select(sides)


@pytest.fixture
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


@pytest.fixture(scope="module")
def graded(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The same data with relevance labels."""
    return PreparedData.open(add_relevance(small_prepared, tmp_path_factory.mktemp("graded") / "prepared"))


def test_a_mixtures_gates_are_part_of_the_result(graded: PreparedData) -> None:
    def fit(name: str, *assignments: str) -> Fitted:
        ranker = NeuralRanker(problem(graded, tiny(name, *assignments)))
        return ranker.fit(graded.split("train"), graded.split("valid"))

    found = fit("mmoe")
    assert found.gates is not None
    assert set(found.gates) == {*graded.tasks, "relevance"}
    assert [sum(shares) for shares in found.gates.values()] == pytest.approx([1.0] * 4)
    assert any(choice.startswith("mean weight of each expert") for choice in found.choices)
    assert fit("dcn_v2").gates is None
    assert fit("mmoe", "neural.n_networks=2").gates is None


def test_position_biases_are_told_and_a_log_without_the_category_has_one_for_all(prepared: PreparedData) -> None:
    def note(*assignments: str) -> str:
        ranker = NeuralRanker(problem(prepared, tiny("network", *assignments)))
        choices = ranker.fit(prepared.split("train"), prepared.split("valid")).choices
        return next(choice for choice in choices if choice.startswith("position biases"))

    assert " by device " in note()
    assert "no category planet" in note("neural.position_bias.by=planet")


@pytest.fixture
def ranker(name: str, small_runs: dict[str, Path], prepared: PreparedData) -> Ranker:
    return Run.open(small_runs[name]).ranker(prepared)


@every_ranker
def test_one_finite_score_per_row_and_task(name: str, ranker: Ranker, prepared: PreparedData) -> None:
    rows = prepared.split("test")
    scores = ranker.score(rows)
    assert scores.shape == (rows.n_rows, 3)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    if ranker.gives_probabilities:
        assert ((scores > 0) & (scores < 1)).all()
    assert ranker.score(take(rows, np.arange(1))).shape == (1, 3)
    assert ranker.score(take(rows, np.arange(0))).shape == (0, 3)


@every_ranker
def test_a_rows_score_is_its_own(name: str, ranker: Ranker, prepared: PreparedData) -> None:
    rows = prepared.split("test")
    scores = ranker.score(rows)
    shuffled = np.random.default_rng(0).permutation(rows.n_rows)
    # Numerics: some processors round a product by its row's place in the batch, in the last digit of a float32.
    np.testing.assert_allclose(ranker.score(take(rows, shuffled)), scores[shuffled], rtol=5e-6)
    for row in (0, 17, rows.n_rows - 1):
        np.testing.assert_allclose(ranker.score(take(rows, np.array([row]))), scores[[row]], rtol=1e-5)
    assert len(np.unique(scores)) > 1


@every_ranker
def test_the_same_seed_and_a_loaded_copy_give_the_same_scores(
    name: str, ranker: Ranker, prepared: PreparedData, tmp_path: Path
) -> None:
    again, rows = fitted(prepared, name)
    again.save(tmp_path)
    loaded = ranker_spec(name).build(problem(prepared, tiny(name)))
    loaded.load(tmp_path)

    assert np.array_equal(again.score(rows), loaded.score(rows))
    assert np.array_equal(again.score(rows), ranker.score(rows))


@pytest.mark.parametrize("name", ["mmoe", "mmoe_dcn_v2"])
def test_another_seed_gives_other_scores(name: str, ranker: Ranker, prepared: PreparedData) -> None:
    other, rows = fitted(prepared, name, seed=1)
    assert not np.array_equal(other.score(rows), ranker.score(rows))


@every_ranker
def test_without_customer_features_a_neutral_customer_changes_nothing(name: str, prepared: PreparedData) -> None:
    ranker, rows = fitted(prepared, name, "exclude_sides=[customer]")
    neutral = prepared.split("test").neutral("zero").select([Side.CUSTOMER])
    assert np.array_equal(ranker.score(rows), ranker.score(neutral))


@pytest.mark.parametrize("name", ["mmoe", "mmoe_dcn_v2"])
def test_with_customer_features_it_changes_the_scores(name: str, ranker: Ranker, prepared: PreparedData) -> None:
    rows = prepared.split("test")
    assert not np.array_equal(ranker.score(rows), ranker.score(rows.neutral("zero")))


@every_ranker
def test_a_log_of_clicks_only_is_enough(name: str, click_only_prepared: Path) -> None:
    prepared = PreparedData.open(click_only_prepared)
    ranker, rows = fitted(prepared, name)
    assert prepared.tasks == ("click",)
    assert ranker.scored_tasks == ("click",)
    assert ranker.score(rows).shape == (rows.n_rows, 1)


@pytest.mark.parametrize("name", ["xgboost", "lambdamart", "xgboost_ranking", "catboost"])
def test_trees_learn_from_features_of_any_name(name: str, ranker: Ranker, prepared: PreparedData) -> None:
    known = problem(prepared, tiny(name))
    other = ranker_spec(name).build(replace(known, columns=tuple(f"{each} [<EUR>]" for each in known.columns)))
    other.fit(prepared.split("train"), prepared.split("valid"))
    rows = prepared.split("test")
    assert np.array_equal(other.score(rows), ranker.score(rows))


def test_trees_that_were_saved_with_the_features_names_can_be_loaded(
    small_runs: dict[str, Path], prepared: PreparedData, tmp_path: Path
) -> None:
    ranker, rows = Run.open(small_runs["xgboost"]).ranker(prepared), prepared.split("test")
    assert isinstance(ranker, XGBoost)
    assert ranker.booster is not None
    expected = ranker.score(rows)
    ranker.booster.feature_names = list(ranker.problem.columns)
    ranker.save(tmp_path)
    ranker.load(tmp_path)
    assert np.array_equal(ranker.score(rows), expected)


@every_ranker
def test_a_run_holds_no_pickles(name: str, small_runs: dict[str, Path]) -> None:
    files = [file for file in small_runs[name].rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= NO_PICKLES
    # Beside manifest, config and curve: what was learned.
    assert (len(files) > 3) == (name not in {"shown_order", "popularity"})


def test_an_unknown_rankers_error_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as caught:
        ranker_spec("lambdmart")
    assert all(name in str(caught.value) for name in RANKERS)
    assert "did you mean 'lambdamart'?" in str(caught.value)


def test_xgboost_learns_add_to_cart_unless_told(prepared: PreparedData, click_only_prepared: Path) -> None:
    def task(data: PreparedData, *assignments: str) -> str:
        return XGBoost(problem(data, tiny("xgboost", *assignments))).task

    clicks = PreparedData.open(click_only_prepared)
    assert task(prepared) == "add_to_cart"
    assert task(prepared, "xgboost.task=purchase") == "purchase"
    assert task(clicks) == "click"
    with pytest.raises(UserError, match=r"task that the log has labels of \(click\), not purchase"):
        task(clicks, "xgboost.task=purchase")


def test_a_single_task_network_learns_add_to_cart_unless_told(
    prepared: PreparedData, click_only_prepared: Path
) -> None:
    def learned(data: PreparedData, *assignments: str) -> tuple[str, ...]:
        return NeuralRanker(problem(data, tiny("dcn_v2_single", *assignments))).learned_tasks

    clicks = PreparedData.open(click_only_prepared)
    assert learned(prepared) == ("add_to_cart",)
    assert learned(prepared, "neural.single_task=purchase") == ("purchase",)
    assert learned(clicks) == ("click",)
    with pytest.raises(UserError, match=r"single_task must be a task .* \(click\) or auto, not purchase"):
        learned(clicks, "neural.single_task=purchase")


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_task_is_alone_and_scores_for_every_task(name: str, graded: PreparedData) -> None:
    ranker, rows = fitted(graded, name)
    assert isinstance(ranker, NeuralRanker)
    scores = ranker.score(rows)
    assert ranker.scored_tasks == ("add_to_cart",)
    assert (scores == scores[:, :1]).all()
    assert ranker.model.n_tasks == 1
    assert ranker.model.relevance_tower is None


def test_a_single_task_takes_its_own_of_what_sampling_added(prepared: PreparedData) -> None:
    plain, n_products = prepared.split("train"), prepared.products().num_rows
    scores = []
    for shifted in (None, "click", "add_to_cart"):
        offsets = np.zeros((n_products, len(plain.tasks)), np.float32)
        if shifted is not None:
            offsets[:, plain.tasks.index(shifted)] = 3.0
        ranker = NeuralRanker(problem(prepared, tiny("dcn_v2_single")))
        ranker.fit(replace(plain, offsets=offsets), prepared.split("valid"))
        scores.append(ranker.score(prepared.split("test")))
    assert scores[0].tolist() == scores[1].tolist()
    assert scores[2].mean() < scores[0].mean()


def test_a_single_tasks_label_is_learned_and_no_other(prepared: PreparedData) -> None:
    train, valid = prepared.split("train"), prepared.split("valid")
    other = train.labels.copy()
    other[:, [0, 2]] = 1 - np.clip(other[:, [0, 2]], 0, 1)
    scores = []
    for rows in (train, replace(train, labels=other)):
        ranker = NeuralRanker(problem(prepared, tiny("dcn_v2_single")))
        ranker.fit(rows, valid)
        scores.append(ranker.score(valid))
    assert np.array_equal(*scores)


def test_another_text_encoder_than_the_runs_is_refused(prepared: PreparedData, tmp_path: Path) -> None:
    name = "mmoe_dcn_v2_text_dot"
    model = save_tiny_bert(tmp_path / "model")
    ranker, _ = fitted(prepared, name, f"neural.text.model={model}")
    ranker.save(tmp_path)
    shutil.rmtree(model)
    save_tiny_bert(model, seed=1)
    changed = ranker_spec(name).build(problem(prepared, tiny(name, f"neural.text.model={model}")))
    with pytest.raises(UserError, match=r"must be the one that .* was trained with, but its files have changed"):
        changed.load(tmp_path)


def test_frozen_layers_stay_as_they_are_and_trained_ones_move(prepared: PreparedData) -> None:
    name = "mmoe_dcn_v2_text_cross"
    ranker, _ = fitted(prepared, name)
    fresh = NeuralRanker(problem(prepared, tiny(name)))
    assert isinstance(ranker, NeuralRanker)
    assert ranker.texts is not None
    assert fresh.texts is not None
    frozen = zip(ranker.texts.encoder.frozen.parameters(), fresh.texts.encoder.frozen.parameters(), strict=True)
    assert all(torch.equal(after, before) for after, before in frozen)
    trained = [name for name, _ in fresh.model.named_parameters() if name.startswith("text.trained.")]
    before, after = fresh.model.state_dict(), ranker.model.state_dict()
    # The keys' biases move every score of a softmax alike, so that no loss can tell.
    still = [name for name in trained if torch.equal(before[name], after[name]) and "key.bias" not in name]
    assert len(trained) == 16
    assert still == []


def test_the_texts_learning_rate_is_its_own(prepared: PreparedData) -> None:
    name = "mmoe_dcn_v2_text_cross"
    ranker, _ = fitted(prepared, name, "neural.text.learning_rate=1e-12")
    fresh = NeuralRanker(problem(prepared, tiny(name)))
    assert isinstance(ranker, NeuralRanker)
    moved = {
        key: float((value.detach() - fresh.model.state_dict()[key]).abs().max())
        for key, value in ranker.model.named_parameters()
    }
    assert max(change for key, change in moved.items() if key.startswith("text.trained.")) < 1e-8
    assert max(change for key, change in moved.items() if key.startswith("towers.")) > 1e-4


def test_a_network_with_text_is_not_compiled(prepared: PreparedData) -> None:
    with pytest.raises(UserError, match="compile must be false for a network with text"):
        fitted(prepared, "mmoe_dcn_v2_text_cross", "train.compile=true")


def test_products_without_any_text_are_told(prepared: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextTables, "documents", lambda _: ["", "  "])
    with pytest.raises(UserError, match="products with texts"):
        fitted(prepared, "mmoe_dcn_v2_text_cross")


def test_tasks_without_weight_are_not_scored(prepared: PreparedData) -> None:
    config = tiny("mmoe", "task_weights={click: 1, purchase: 3}")
    assert ranker_spec("mmoe").build(problem(prepared, config)).scored_tasks == ("click", "purchase")


def test_lambdamarts_grade_is_that_of_the_deepest_outcome(prepared: PreparedData) -> None:
    ranker = LambdaMART(problem(prepared, tiny("lambdamart", "lambdamart.grades={click: 1, purchase: 5}")))
    rows = prepared.split("test")
    grades = [max(0, *(g * (label == 1) for g, label in zip((1, 0, 5), row, strict=True))) for row in rows.labels]
    assert ranker._grades(rows).tolist() == grades
    assert set(grades) == {0, 1, 5}


def test_networks_note_the_task_that_no_training_row_has(prepared: PreparedData) -> None:
    train = prepared.split("train")
    ranker = ranker_spec("mmoe").build(problem(prepared, tiny("mmoe")))
    labels = train.labels.copy()
    labels[:, train.tasks.index("purchase")] = 0
    fitted = ranker.fit(replace(train, labels=labels), prepared.split("valid"))
    assert "purchase is 1 in no training row, so that only its absence is learned" in fitted.choices


@pytest.mark.parametrize("name", ["xgboost", "lambdamart", "xgboost_ranking", "catboost", "mmoe"])
def test_a_split_without_positives_is_told(name: str, prepared: PreparedData) -> None:
    train = prepared.split("train")
    nothing = replace(train, labels=np.zeros_like(train.labels))
    ranker = ranker_spec(name).build(problem(prepared, tiny(name)))
    with pytest.raises(UserError, match="the train split must have at least one"):
        ranker.fit(nothing, prepared.split("valid"))


def test_shown_order_scores_the_position_and_popularity_the_products_rates(
    small_runs: dict[str, Path], prepared: PreparedData
) -> None:
    rows = prepared.split("test")
    shown = Run.open(small_runs["shown_order"]).ranker(prepared).score(rows)
    popularity = Run.open(small_runs["popularity"]).ranker(prepared).score(rows)
    assert np.array_equal(shown[:, 1], -rows.position)
    assert np.array_equal(popularity[:, 2], rows.column("product_purchase_rate"))


@every_ranker
def test_relevance_labels_change_what_networks_learn_and_nothing_else(
    name: str, ranker: Ranker, graded: PreparedData
) -> None:
    other, rows = fitted(graded, name)
    assert other.score(rows).shape == (rows.n_rows, 3)
    assert other.scored_tasks == ranker.scored_tasks
    assert np.array_equal(other.score(rows), ranker.score(rows)) == (name not in [*SEVERAL, "blend"])


@pytest.mark.parametrize("name", ["mmoe", "mmoe_dcn_v2"])
def test_relevance_of_no_weight_leaves_every_bit(name: str, ranker: Ranker, graded: PreparedData) -> None:
    other, rows = fitted(graded, name, "relevance_weight=0")
    assert np.array_equal(other.score(rows), ranker.score(rows))
    assert isinstance(other, NeuralRanker)
    assert other.model.relevance_tower is None


def test_the_relevance_logits_do_not_enter_the_scores(graded: PreparedData) -> None:
    ranker, rows = fitted(graded, "mmoe_dcn_v2")
    before = ranker.score(rows)
    assert isinstance(ranker, NeuralRanker)
    assert ranker.model.relevance_tower is not None
    with torch.no_grad():
        ranker.model.relevance_tower.out.bias.add_(100.0)
        ranker.model.head.gates.weight[-ranker.model.head.n_experts :].mul_(-3.0)
    assert np.array_equal(ranker.score(rows), before)


def test_a_loaded_network_has_its_relevance_tower(graded: PreparedData, tmp_path: Path) -> None:
    ranker, rows = fitted(graded, "mmoe_dcn_v2")
    ranker.save(tmp_path)
    loaded = ranker_spec("mmoe_dcn_v2").build(problem(graded, tiny("mmoe_dcn_v2")))
    loaded.load(tmp_path)
    assert np.array_equal(loaded.score(rows), ranker.score(rows))
    without = ranker_spec("mmoe_dcn_v2").build(problem(graded, tiny("mmoe_dcn_v2", "relevance_weight=0")))
    with pytest.raises(UserError, match="must fit the run's config and data"):
        without.load(tmp_path)


def test_memory_is_what_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shelfrank.rankers import neural

    file = tmp_path / "memory.max"
    monkeypatch.setattr(neural, "MEMORY_LIMIT", file)
    machine = neural.memory_bytes()
    file.write_text("max\n", encoding="ascii")
    assert neural.memory_bytes() == machine
    file.write_text("1000\n", encoding="ascii")
    assert neural.memory_bytes() == 1000 < machine
