"""Nothing that a ranker learns, keeps or is told by depends on the order of rows within a search."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfrank.config import EvaluateConfig
from shelfrank.data.prepared import ROW_ARRAYS, PreparedData, Split, search_of_rows
from shelfrank.evaluate.evaluation import figures
from shelfrank.metrics import ndcg
from shelfrank.metrics.order import fuse
from shelfrank.rankers import RANKERS, ranker_spec
from shelfrank.rankers.base import Fitted, Ranker
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.ranking_trees import CUTOFF, Boosted, mean_curve
from shelfrank.rankers.run import Run, problem
from shelfrank.rankers.trees import LightGBMTrees
from tiny import tiny


def page_shuffle(rows: Split, seed: int = 0) -> np.ndarray:
    """An order of rows that permutes each search within itself."""
    return np.lexsort((np.random.default_rng(seed).random(rows.n_rows), search_of_rows(rows)))


def shuffled(rows: Split, seed: int = 0) -> Split:
    order = page_shuffle(rows, seed)
    return replace(rows, **{name: np.asarray(getattr(rows, name))[order] for name in ROW_ARRAYS})


@pytest.fixture
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


def fitted(name: str, prepared: PreparedData, train: Split, valid: Split, *settings: str) -> tuple[Ranker, Fitted]:
    ranker = ranker_spec(name).build(problem(prepared, tiny(name, *settings)))
    return ranker, ranker.fit(train, valid)


@pytest.mark.parametrize("name", RANKERS)
def test_permuted_pages_change_nothing(name: str, prepared: PreparedData, small_runs: dict[str, Path]) -> None:
    train, valid, rows = (prepared.split(split) for split in ("train", "valid", "test"))
    run = Run.open(small_runs[name])
    ranker, plain = run.ranker(prepared), run.manifest.info["fitted"]["curve"]
    other, permuted = fitted(name, prepared, shuffled(train), shuffled(valid))

    assert [record["best"] for record in permuted.curve] == [record["best"] for record in plain]
    for key in ("train_loss", "valid_loss"):
        of_plain = [record[key] for record in plain]
        assert [record[key] for record in permuted.curve] == pytest.approx(of_plain, abs=1e-6)
    scores, order = ranker.score(rows), page_shuffle(rows)
    np.testing.assert_allclose(other.score(rows), scores, rtol=1e-6)
    np.testing.assert_allclose(other.score(shuffled(rows)), scores[order], rtol=1e-5)


@pytest.mark.parametrize("name", RANKERS)
def test_permuted_pages_have_the_same_figures(name: str, prepared: PreparedData, small_runs: dict[str, Path]) -> None:
    rows, config = prepared.split("test"), EvaluateConfig(n_resamples=20, n_resamples_auc=20)
    ranker = Run.open(small_runs[name]).ranker(prepared)
    # Rounded, so that many scores tie.
    scores, order = ranker.score(rows).round(1), page_shuffle(rows, seed=3)
    weights = (0.2, 0.3, 0.5)
    found = figures(rows, scores, fuse(scores, weights), ranker.scored_tasks, config)
    permuted = figures(shuffled(rows, seed=3), scores[order], fuse(scores[order], weights), ranker.scored_tasks, config)
    assert permuted == found


def test_lambdamarts_curve_is_our_ndcg(prepared: PreparedData) -> None:
    train, valid = prepared.split("train"), prepared.split("valid")
    labels, search = valid.labels.copy(), search_of_rows(valid)
    # Two searches of three have no positive, and one of the others lacks a label.
    labels[search % 3 > 0] = 0
    labels[np.flatnonzero(search == 3)[0]] = -1
    valid = replace(valid, labels=labels)
    settings = (
        "lambdamart.per_task=false",
        "lambdamart.grades={click: 1, add_to_cart: 5, purchase: 31}",
        *("lambdamart.learning_rate=0.05", "lambdamart.n_leaves=31", "lambdamart.l2=0"),
        *("lambdamart.feature_share=1", "lambdamart.row_share=1", "lambdamart.n_bins=255"),
    )
    ranker, found = fitted("lambdamart", prepared, train, valid, *settings)
    assert isinstance(ranker, LambdaMART)
    assert ranker.graded is not None
    booster = ranker.graded.booster
    grades, features = ranker._grades(valid), np.concatenate([valid.numerical, valid.categorical], axis=1)
    expected = []
    # The booster has the kept trees only.
    for n_trees in range(1, booster.num_trees() + 1):
        scores = np.asarray(booster.predict(features, num_iteration=n_trees))
        values = ndcg(scores, grades, valid.search_offsets, valid.tie_keys, CUTOFF)
        expected.append(1 - np.nanmean(values))
        assert 3 < np.isfinite(values).sum() < valid.n_searches / 2
    assert len(expected) > 2
    of_kept = [record["valid_loss"] for record in found.curve[: len(expected)]]
    assert of_kept == pytest.approx(expected, abs=1e-9)


def test_ties_count_by_key_where_no_tree_tells_products_apart(prepared: PreparedData) -> None:
    train, valid = prepared.split("train"), prepared.split("valid")
    settings = ("lambdamart.per_task=false", f"lambdamart.min_rows_per_leaf={train.n_rows}")
    ranker, found = fitted("lambdamart", prepared, train, valid, *settings)
    assert isinstance(ranker, LambdaMART)
    values = ndcg(np.zeros(valid.n_rows), ranker._grades(valid), valid.search_offsets, valid.tie_keys, CUTOFF)
    assert found.curve[0]["valid_loss"] == pytest.approx(1 - np.nanmean(values), abs=1e-9)


def test_the_curve_of_several_models_is_their_mean_each_with_the_trees_it_keeps() -> None:
    trees = LightGBMTrees(None)
    curve = mean_curve([Boosted(trees, [0.8, 0.4, 0.6], 2, 9), Boosted(trees, [0.6, 0.5, 0.4, 0.2, 0.3], 4, 9)])
    assert [record["valid_loss"] for record in curve] == pytest.approx([0.7, 0.45, 0.4, 0.3, 0.3])
    assert [record["epoch"] for record in curve if record["best"]] == [4]
