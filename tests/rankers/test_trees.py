"""What boosted trees say of themselves, where their explanations start, and what their libraries cannot take."""

import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from shelfrank.config import ExperimentConfig, TaskWeights
from shelfrank.config.rankers import MAX_GRADE
from shelfrank.core.errors import UserError
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import PreparedData, Split, tie_order
from shelfrank.metrics.ranking import MAX_GRADE as METRICS_MAX_GRADE
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, kept_trees, training_matrix
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.ranking_trees import with_positive
from shelfrank.rankers.run import Run, problem
from shelfrank.rankers.trees import CatBoostTrees, LightGBMTrees, TaskTrees, feature_matrix
from shelfrank.rankers.xgboost import NO_ROWS, XGBoost, base_margin, covers
from tiny import hand_split, random_split, tiny

RANKING = ("lambdamart", "xgboost_ranking", "catboost")
"""Rankers with a model per task, or one of graded labels."""
TREES = ("xgboost", *RANKING)


@pytest.fixture
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


def of_split(rows: Split, config: ExperimentConfig) -> Problem:
    columns = tuple(column.name for column in (*rows.numerical_columns, *rows.categorical_columns))
    sizes = tuple(column.size for column in rows.categorical_columns)
    return Problem(config, rows.tasks, TaskWeights(rows.tasks), columns, len(rows.numerical_columns), sizes)


def fitted(name: str, train: Split, *settings: str) -> tuple[Any, Fitted]:
    ranker = ranker_spec(name).build(of_split(train, tiny(name, *settings)))
    return ranker, ranker.fit(train, random_split(200, seed=9, name="valid"))


GRADED = "lambdamart.per_task=false"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("xgboost", ()),
        *((name, ()) for name in RANKING),
        *((name, (f"{name}.per_task=false",)) for name in RANKING),
    ],
)
def test_the_baseline_is_the_mean_margin_of_the_training_rows(
    name: str, settings: tuple[str, ...], prepared: PreparedData
) -> None:
    train = prepared.split("train")
    # LightGBM counts the rows of its leaves that a tree was grown on.
    of_all = (f"{name}.row_share=1",) if name in RANKING else ()
    ranker = ranker_spec(name).build(problem(prepared, tiny(name, *of_all, *settings)))
    ranker.fit(train, prepared.split("valid"))
    assert isinstance(ranker, TreeRanker)
    # They count them while they learn, when some values are hidden; XGBoost's are counted after.
    hidden_share = ranker.problem.config.train.hide_share if name in ("lambdamart", "catboost") else 0.0
    hiding = Hiding(train, hidden_share, ranker.problem.config.seed)
    margins = ranker.margins(training_matrix(train, np.arange(train.n_rows), hiding))
    features = feature_matrix(prepared.split("test"))
    contributions, baselines = ranker.shap_values(features)
    assert margins.shape[1] == (3 if ranker.gives_probabilities and name in RANKING else 1)
    for model in range(margins.shape[1]):
        learned = np.ones(train.n_rows, bool)
        if name in RANKING:
            positive = train.labels == 1
            learned = with_positive(positive[:, model] if margins.shape[1] > 1 else positive.any(axis=1), train)
        assert baselines[:, model] == pytest.approx(margins[learned, model].mean(), abs=1e-5)
    assert contributions.sum(axis=2) + baselines == pytest.approx(ranker.margins(features), abs=1e-5)


def test_trees_of_sampled_rows_have_the_chances_of_unsampled_ones() -> None:
    rows = random_split(2000)
    clicked = rows.labels[:, rows.tasks.index("click")] == 1
    # All rows with a click are kept, and about a fifth of the others.
    is_kept = clicked | (np.arange(2000) % 5 == 0)
    kept = replace(rows, labels=np.where(is_kept[:, None], rows.labels, -1))
    offset = -np.log(is_kept[~clicked].mean())
    offsets = np.full((int(rows.product_idx.max()) + 1, len(rows.tasks)), offset, np.float32)
    means = {}
    for name, split in (("all", rows), ("kept", kept), ("offsets", replace(kept, offsets=offsets))):
        ranker, _ = fitted("xgboost", split, "xgboost.task=click", "xgboost.max_depth=2", "xgboost.n_rounds=60")
        means[name] = ranker.score(rows)[:, 0].mean()
    assert means["offsets"] == pytest.approx(means["all"], abs=0.02)
    assert means["kept"] > means["all"] + 0.1
    off, _ = fitted("xgboost", replace(kept, offsets=offsets), "xgboost.task=click", "train.sampling_offset=false")
    plain, _ = fitted("xgboost", kept, "xgboost.task=click")
    assert off.score(rows).tolist() == plain.score(rows).tolist()


@pytest.mark.parametrize("labels", [[1, 0, 0, 1], [0, 0, 0, 1], [1, 1]])
def test_the_base_margin_expects_the_positives_that_there_are(labels: list[int]) -> None:
    offsets = np.linspace(-1.0, 2.0, len(labels))
    start = base_margin(np.array(labels, np.float32), offsets)
    expected = min(sum(labels), len(labels) - 0.5)
    assert (1 / (1 + np.exp(-(start + offsets)))).sum() == pytest.approx(expected)


def test_rows_without_the_tasks_label_are_no_training_rows() -> None:
    rows = random_split(400, missing=0.5)
    ranker, _ = fitted("xgboost", rows, "xgboost.task=click", "xgboost.max_depth=2")
    known = rows.labels[:, 0] >= 0
    margins = ranker.margins(feature_matrix(rows))[:, 0]
    assert ranker.shap_values(feature_matrix(rows))[1][0, 0] == pytest.approx(margins[known].mean(), abs=1e-5)
    assert abs(margins[known].mean() - margins.mean()) > 1e-3


def test_xgboosts_contributions_are_the_shapley_values_of_trees_whose_nodes_count_rows() -> None:
    rows = random_split(300).select(names=["code"])
    ranker = XGBoost(of_split(rows, tiny("xgboost", "xgboost.max_depth=3", "xgboost.n_rounds=3", "xgboost.task=click")))
    ranker.fit(rows, random_split(100, seed=1, name="valid").select(names=["code"]))
    assert ranker.booster is not None
    features = feature_matrix(rows)
    trees = json.loads(ranker.booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]

    def value(tree: dict[str, Any], row: np.ndarray, reached: np.ndarray, known: set[int], node: int = 0) -> float:
        """What the tree says of a row of which some features are known, by the training rows at each node."""
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left < 0:
            return tree["split_conditions"][node]
        feature, cut = tree["split_indices"][node], tree["split_conditions"][node]
        goes_left = reached[:, feature] < cut
        if feature in known:
            return value(
                tree, row, reached[goes_left == (row[feature] < cut)], known, left if row[feature] < cut else right
            )
        share = goes_left.mean()
        parts = value(tree, row, reached[goes_left], known, left), value(tree, row, reached[~goes_left], known, right)
        return share * parts[0] + (1 - share) * parts[1]

    n = features.shape[1]
    contributions = ranker.shap_values(features[:5])[0][:, 0]
    for row, found in zip(features[:5], contributions, strict=True):
        for feature in range(n):
            others = [other for other in range(n) if other != feature]
            expected = sum(
                math.factorial(len(some))
                * math.factorial(n - 1 - len(some))
                / math.factorial(n)
                * sum(
                    value(tree, row, features, {*some, feature}) - value(tree, row, features, set(some))
                    for tree in trees
                )
                for size in range(n)
                for some in itertools.combinations(others, size)
            )
            assert found[feature] == pytest.approx(expected, abs=1e-5)


def test_the_cover_of_a_node_is_that_of_its_leaves() -> None:
    # Node 2 is a leaf of 5 rows; 1 has the leaves 3, of 4 rows, and 4, of none.
    found = covers([1, 3, -1, -1, -1], [2, 4, -1, -1, -1], np.array([0, 0, 5, 4, 0]))
    assert found.tolist() == pytest.approx([9 + NO_ROWS, 4 + NO_ROWS, 5, 4, NO_ROWS], abs=1e-12)


def test_a_leaf_that_no_row_reaches_explains_rows_all_the_same() -> None:
    rows = random_split(200)
    ranker, _ = fitted("xgboost", rows, "xgboost.task=click")
    # Covers by other rows, all of which go the same way.
    alike = replace(rows, numerical=np.repeat(np.asarray(rows.numerical)[:1], 200, axis=0))
    ranker.booster = ranker._cover_by_rows(ranker.booster, alike)
    contributions, baselines = ranker.shap_values(feature_matrix(rows))
    assert np.isfinite(contributions).all()
    assert contributions.sum(axis=2) + baselines == pytest.approx(ranker.margins(feature_matrix(rows)), abs=1e-4)


def test_a_model_that_counts_no_rows_is_not_explained(small_runs: dict[str, Path], prepared: PreparedData) -> None:
    ranker = Run.open(small_runs["xgboost"]).ranker(prepared)
    assert isinstance(ranker, XGBoost)
    assert isinstance(ranker.booster, xgb.Booster)
    ranker.booster.set_attr(cover=None)
    with pytest.raises(UserError, match="train again"):
        ranker.shap_values(feature_matrix(prepared.split("test")))


@pytest.mark.parametrize(
    ("kept", "grown", "note"),
    [
        (1, 31, "note: the validation loss was lowest with only 1 tree, "),
        (2, 32, "note: the validation loss was lowest with only 2 trees, "),
        (3, 33, None),
        (40, 70, None),
        (80, 80, "note: the validation loss still fell at the last of the 80 trees that lambdamart.n_rounds allows"),
    ],
)
def test_few_trees_and_all_trees_are_told(kept: int, grown: int, note: str | None) -> None:
    words = kept_trees(kept, grown, "lambdamart", n_rounds=80)
    assert words[0] == f"{kept} of {grown} trees kept"
    assert [word[: len(note or "")] for word in words[1:]] == ([] if note is None else [note])


@pytest.mark.parametrize("name", TREES)
def test_a_run_says_that_all_its_trees_were_kept(name: str) -> None:
    _, all_kept = fitted(name, random_split(600), f"{name}.n_rounds=2", "train.hide_share=0")
    assert any(f"2 trees that {name}.n_rounds allows" in choice for choice in all_kept.choices)


def test_a_run_says_that_few_of_its_trees_were_kept() -> None:
    rows = random_split(600)
    # What is learned is the opposite of what holds.
    turned = replace(rows, numerical=-np.asarray(rows.numerical))
    settings = ("xgboost.n_rounds=30", "xgboost.early_stopping_rounds=3", "train.hide_share=0")
    _, few = fitted("xgboost", turned, *settings)
    assert any("lowest with only" in choice for choice in few.choices)


def test_rows_lie_in_the_order_of_their_tie_keys_within_their_search() -> None:
    rows = replace(hand_split([[1]] * 5, sizes=[3, 0, 2]), tie_keys=np.array([9, 2, 5, 4, 1], np.uint64))
    assert tie_order(rows).tolist() == [1, 2, 0, 4, 3]


@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("grade", [30, 31])
def test_trees_learn_to_rank_by_the_highest_grades(name: str, grade: int) -> None:
    assert MAX_GRADE == METRICS_MAX_GRADE
    settings = (f"{name}.per_task=false", f"{name}.grades={{click: 1, purchase: {grade}}}")
    ranker, found = fitted(name, random_split(600), *settings)
    assert ranker.score(random_split(50)).std() > 0
    assert all(0 <= record["valid_loss"] <= 1 for record in found.curve)


def test_rows_without_any_graded_label_are_left_out_and_counted() -> None:
    rows = random_split(400)
    labels = rows.labels.copy()
    labels[:100] = -1
    labels[100:200, 1:] = -1
    _, found = fitted("lambdamart", replace(rows, labels=labels), GRADED)
    assert "100 training rows without any label left out" in found.choices
    ranker = LambdaMART(of_split(rows, tiny("lambdamart", GRADED, "lambdamart.grades={purchase: 2}")))
    assert np.flatnonzero(ranker._grades(replace(rows, labels=labels)) < 0).tolist() == list(range(200))


def test_grades_of_other_tasks_than_the_logs_are_told() -> None:
    with pytest.raises(UserError, match=r"lambdamart.grades must give a grade above 0 to a task .* \(click\)"):
        LambdaMART(of_split(random_split(10, n_tasks=1), tiny("lambdamart", GRADED, "lambdamart.grades={purchase: 2}")))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_searches_beyond_the_librarys_limit_are_told(split: str) -> None:
    labels = np.zeros((10_001, 1), int)
    labels[::7] = 1
    long = hand_split(labels.tolist(), name=split)
    short = random_split(100, n_tasks=1, name="valid" if split == "train" else "train").select(names=["x1", "x2", "x3"])
    ranker = LambdaMART(of_split(long, tiny("lambdamart")))
    train, valid = (long, short) if split == "train" else (short, long)
    with pytest.raises(UserError, match=rf"at most 10,000 products, but the {split} split has one of 10,001"):
        ranker.fit(train, valid)


@pytest.mark.parametrize("name", [*TREES, "mmoe", "ftt", "tabnet", "dcn_v2_single"])
@pytest.mark.parametrize("how", ["exclude_sides", "exclude_features"])
def test_no_feature_left_is_told(name: str, how: str, prepared: PreparedData) -> None:
    columns = [c.name for c in (*prepared.numerical_columns, *prepared.categorical_columns)]
    left_out = "customer, query, product, interaction, context" if how == "exclude_sides" else ", ".join(columns)
    with pytest.raises(UserError, match="must have at least one feature"):
        ranker_spec(name).build(problem(prepared, tiny(name, f"{how}=[{left_out}]")))


@pytest.mark.parametrize(
    ("name", "columns"),
    # CatBoost refuses rows that are all alike; see below.
    [*((name, "numerical") for name in TREES), *((name, "categorical") for name in TREES if name != "catboost")],
)
def test_constant_features_leave_a_score_that_ties(name: str, columns: str) -> None:
    rows = random_split(300)
    same = {kind: np.zeros_like(getattr(rows, kind)) for kind in ("numerical", "categorical")}
    del same[columns]
    if columns == "categorical":
        same["categorical"] = np.zeros_like(rows.categorical)
    ranker, found = fitted(name, replace(rows, **same))
    assert np.isfinite(ranker.score(rows)).all()
    assert columns == "numerical" or any("only" in choice or "allows" in choice for choice in found.choices)


@pytest.mark.parametrize(
    ("tasks", "settings", "choice"),
    [
        (("click", "add_to_cart", "purchase"), (), "task add_to_cart, the default"),
        (("click", "purchase"), (), "task click, as the log has no labels of add_to_cart"),
        (("purchase",), (), "task purchase, as the log has no labels of add_to_cart or click"),
        (("click", "purchase"), ("xgboost.task=purchase",), "task purchase"),
    ],
)
def test_the_choice_of_the_task_says_why(tasks: tuple[str, ...], settings: tuple[str, ...], choice: str) -> None:
    train, valid = (
        replace(rows, tasks=tasks, labels=np.asarray(rows.labels)[:, [rows.tasks.index(task) for task in tasks]])
        for rows in (random_split(200), random_split(200, seed=9, name="valid"))
    )
    ranker = XGBoost(of_split(train, tiny("xgboost", "xgboost.n_rounds=2", *settings)))
    assert ranker.fit(train, valid).choices[0] == choice


@pytest.mark.parametrize("name", RANKING)
def test_a_task_without_positives_has_no_model_and_a_probability_of_zero(name: str) -> None:
    rows = random_split(400)
    labels = rows.labels.copy()
    labels[:, 2] = 0
    ranker, found = fitted(name, replace(rows, labels=labels))
    assert ranker.scored_tasks == ("click", "add_to_cart")
    assert (ranker.score(rows)[:, 2] == 0).all()
    assert "purchase has no model, which takes a positive in the training and in the validation split" in found.choices
    labels[:] = 0
    with pytest.raises(UserError, match="the train split must have at least one positive label"):
        fitted(name, replace(rows, labels=labels))


@pytest.mark.parametrize("name", RANKING)
def test_each_tasks_model_is_the_one_that_its_labels_alone_give(name: str) -> None:
    rows, valid = random_split(400), random_split(200, seed=9, name="valid")
    ranker, _ = fitted(name, rows)
    for i, task in enumerate(rows.tasks):
        alone = [replace(each, tasks=(task,), labels=np.asarray(each.labels)[:, [i]]) for each in (rows, valid)]
        own = ranker_spec(name).build(of_split(alone[0], tiny(name)))
        own.fit(*alone)
        assert np.array_equal(own.score(alone[1])[:, 0], ranker.score(valid)[:, i])


@pytest.mark.parametrize("name", RANKING)
def test_the_probabilities_of_a_task_have_the_mean_of_its_labels(name: str) -> None:
    ranker, _ = fitted(name, random_split(2_000))
    valid = random_split(200, seed=9, name="valid")
    # Fitted on these rows; the targets of Platt's scaling are a little inside 0 and 1.
    assert ranker.score(valid).mean(axis=0) == pytest.approx((valid.labels == 1).mean(axis=0), abs=0.01)


def planted_positions(n_searches: int, seed: int, name: str) -> tuple[Split, np.ndarray]:
    """Searches of five products with one appeal; customers look at the top and rarely below.

    The shop shows by another number, which the customers do not mind.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_searches * 5, 2))
    shown = np.argsort(np.argsort(-numbers[:, 1].reshape(-1, 5), axis=1), axis=1).ravel() + 1
    seen = rng.random(len(numbers)) < np.array([1.0, 0.5, 0.25, 0.12, 0.06])[shown - 1]
    labels = seen & (rng.random(len(numbers)) < 1 / (1 + np.exp(1.0 - 2 * numbers[:, 0])))
    rows = hand_split(labels[:, None].astype(int).tolist(), numbers, [5] * n_searches, (), name)
    return replace(rows, position=shown.astype(np.int32)), numbers[:, 0]


def test_with_position_bias_trees_follow_what_customers_like_and_not_the_shown_order() -> None:
    train, _ = planted_positions(3_000, 0, "train")
    valid, appeal = planted_positions(500, 1, "valid")

    def agreement(*settings: str) -> float:
        ranker = LambdaMART(of_split(train, tiny("lambdamart", "lambdamart.n_rounds=60", *settings)))
        found = ranker.fit(train, valid)
        assert any("position" in choice for choice in found.choices) == bool(settings)
        return float(np.corrcoef(ranker.margins(feature_matrix(valid))[:, 0], appeal)[0, 1])

    assert agreement("lambdamart.position_bias=true") > agreement() + 0.05


@pytest.mark.parametrize("name", ["xgboost_ranking", "catboost"])
def test_searches_beyond_lightgbms_limit_are_learned_from(name: str) -> None:
    labels = np.zeros((10_001, 1), int)
    labels[::7] = 1
    ranker = ranker_spec(name).build(of_split(hand_split(labels.tolist()), tiny(name, f"{name}.n_rounds=2")))
    ranker.fit(hand_split(labels.tolist()), hand_split(labels[:50].tolist(), name="valid"))
    assert isinstance(ranker, TreeRanker)
    assert ranker.scored_tasks == ("click",)


@pytest.mark.parametrize("name", RANKING)
def test_trees_learn_which_of_many_categories_customers_like(name: str) -> None:
    def planted(n_rows: int, split: str) -> Split:
        rows, rng = random_split(n_rows, n_tasks=1, name=split), np.random.default_rng(n_rows)
        codes = rng.integers(0, 9, size=(n_rows, 1)).astype(np.int32)
        liked = rng.random((n_rows, 1)) < np.where(codes == 5, 0.8, 0.1)
        columns = (replace(rows.categorical_columns[0], size=9),)
        numbers = np.zeros_like(rows.numerical)
        labels = liked.astype(rows.labels.dtype)
        return replace(rows, categorical_columns=columns, numerical=numbers, categorical=codes, labels=labels)

    train, valid = planted(600, "train"), planted(200, "valid")
    settings = (f"{name}.feature_share=1", f"{name}.n_rounds=40", "train.hide_share=0")
    ranker = ranker_spec(name).build(of_split(train, tiny(name, *settings)))
    ranker.fit(train, valid)
    scores, is_liked = ranker.score(valid)[:, 0], np.asarray(valid.categorical)[:, 0] == 5
    assert scores[is_liked].min() > scores[~is_liked].max() + 0.2


def test_without_catboost_its_ranker_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(UserError, match=r"pip install 'shelfrank\[catboost\]'"):
        ranker_spec("catboost").build(of_split(random_split(10), tiny("catboost")))
    with pytest.raises(UserError, match=r"pip install 'shelfrank\[catboost\]'"):
        CatBoostTrees.load(tmp_path)


def test_rows_that_catboost_cannot_learn_from_are_a_users_error() -> None:
    rows, valid = (
        replace(each, numerical=np.zeros_like(each.numerical), categorical=np.zeros_like(each.categorical))
        for each in (random_split(100), random_split(100, seed=9, name="valid"))
    )
    ranker = ranker_spec("catboost").build(of_split(rows, tiny("catboost", "train.hide_share=0")))
    with pytest.raises(
        UserError, match=r"CatBoost must be able to learn from the train split, but it fails: .*; train"
    ):
        ranker.fit(rows, valid)


def test_missing_scales_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trees.json must hold each task's scale"):
        TaskTrees.load(tmp_path, LightGBMTrees)
