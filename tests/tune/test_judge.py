"""What orders are worth, against plain loops and the project's metrics."""

import numpy as np
import pytest

from shelfrank.config import TuneConfig
from shelfrank.core.errors import UserError
from shelfrank.metrics import bootstrap_difference, mrr_at_k, reciprocal_rank
from shelfrank.tune.judge import Judge
from tiny import hand_split, random_split

SPLIT = random_split(200, seed=3, missing=0.02, name="valid")
SCORES = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)


def test_mrr_at_any_cutoff_follows_from_the_ranks() -> None:
    judge = Judge(SPLIT, TuneConfig())
    figures = judge.figures(judge.ranks(SCORES[0]))
    for k in (1, 10):
        for i, task in enumerate(SPLIT.tasks):
            labels = np.ascontiguousarray(SPLIT.labels[:, i])
            expected = mrr_at_k(SCORES[0], labels, SPLIT.search_offsets, SPLIT.tie_keys, k)
            assert figures["mrr"][str(k)][task]["value"] == pytest.approx(expected, abs=1e-12)


def test_the_objective_weighs_the_tasks_mrr() -> None:
    config = TuneConfig.model_validate({"objective": {"k": 5, "weights": {"click": 1, "purchase": 3}}})
    judge = Judge(SPLIT, config)
    figures = judge.figures(judge.ranks(SCORES[0]))
    mrr = {task: figures["mrr"]["5"][task]["value"] for task in SPLIT.tasks}
    assert figures["objective"] == pytest.approx(0.25 * mrr["click"] + 0.75 * mrr["purchase"])


def test_a_paired_difference_agrees_with_the_metrics_bootstrap_for_one_task() -> None:
    config = TuneConfig.model_validate({"objective": {"weights": {"click": 1}}, "n_resamples": 4000})
    judge = Judge(SPLIT, config)
    _, (_, found) = judge.compare([judge.ranks(scores) for scores in SCORES], 0)
    labels = np.ascontiguousarray(SPLIT.labels[:, 0])
    one, other = (reciprocal_rank(s, labels, SPLIT.search_offsets, SPLIT.tie_keys, 10) for s in SCORES)
    expected = bootstrap_difference(one, other, n_resamples=4000)
    assert found["value"] == pytest.approx(expected.value)
    # Two bootstraps of 4,000 resamples each.
    assert found["low"] == pytest.approx(expected.low, abs=0.02)
    assert found["high"] == pytest.approx(expected.high, abs=0.02)


def test_an_order_differs_from_itself_by_nothing() -> None:
    judge = Judge(SPLIT, TuneConfig())
    [(objective, difference)] = judge.compare([judge.ranks(SCORES[0])], 0)
    assert (difference["value"], difference["p_value"], difference["n_differing"]) == (0.0, 1.0, 0)
    assert difference["low"] < 0 < difference["high"]
    assert objective["low"] < objective["value"] < objective["high"]


def test_a_task_without_a_positive_cannot_be_the_objective_and_does_not_count_in_the_mean() -> None:
    split = hand_split([[1, 0], [0, 0]], sizes=[2], name="valid")
    judge = Judge(split, TuneConfig())
    assert judge.weights == (1.0, 0.0)
    assert judge.objective(judge.ranks(np.array([1, 2], np.float32))) == 0.5
    config = TuneConfig.model_validate({"objective": {"weights": {"add_to_cart": 1}}})
    with pytest.raises(UserError, match=r"but add_to_cart are not; choose among click"):
        _ = Judge(split, config).weights


def test_a_split_without_positives_is_told() -> None:
    with pytest.raises(UserError, match="must be positive in some search of the validation split, but none is"):
        _ = Judge(hand_split([[0, 0]], name="valid"), TuneConfig()).weights
