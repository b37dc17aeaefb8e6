"""Weights and sigmoids that are fitted to labels: planted optima, plain minimisation, and what has no optimum."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from shelfrank.rankers.scaling import RIDGE, fit_choice, fit_sigmoid, within_spread


def planted_choices(weights: tuple[float, ...], n_searches: int = 20_000, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores of pages of six products, and one choice of each page, drawn with softmax of their weighted sum."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_searches, 6, len(weights))) * np.arange(1, len(weights) + 1)
    # A page's level says nothing of the choices on it.
    scores += 5 * rng.normal(size=(n_searches, 1, len(weights)))
    utility = scores @ np.array(weights) + rng.gumbel(size=(n_searches, 6))
    chosen = np.arange(6) == utility.argmax(axis=1)[:, None]
    return scores.reshape(-1, len(weights)), chosen.ravel(), np.arange(0, n_searches * 6 + 1, 6)


def test_the_weights_of_planted_choices_are_found() -> None:
    assert fit_choice(*planted_choices((0.8, 0.3))) == pytest.approx([0.8, 0.3], abs=0.03)
    assert fit_choice(*planted_choices((1.5,))) == pytest.approx([1.5], abs=0.05)


def test_the_weights_minimise_the_loss_of_plain_loops() -> None:
    scores, chosen, offsets = planted_choices((0.5, 0.4), n_searches=60)
    # Two positives in one search, none in another, one search of one product.
    chosen[:2] = True
    chosen[6:12] = False
    offsets = np.sort(np.append(offsets, 13))

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for a, b in itertools.pairwise(offsets):
            z = scores[a:b] @ weights
            total -= sum(z[i] - np.log(np.exp(z).sum()) for i in np.flatnonzero(chosen[a:b]))
        return total

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    assert fit_choice(scores, chosen, offsets) == pytest.approx(best, abs=1e-3)


def test_a_score_that_orders_the_wrong_way_has_no_weight() -> None:
    scores, chosen, offsets = planted_choices((0.8, -0.3))
    weights = fit_choice(scores, chosen, offsets)
    alone = fit_choice(scores[:, :1], chosen, offsets)
    assert weights.tolist() == [pytest.approx(alone[0], abs=1e-6), 0.0]
    assert fit_choice(-np.abs(scores[:, :1]) * 0, chosen, offsets).tolist() == [0.0]
    assert fit_choice(*planted_choices((-0.8, -0.3))).tolist() == [0.0, 0.0]


def related_choices(kind: str, seed: int) -> tuple[np.ndarray, ...]:
    """Three scores of thirty searches of four products that are related to one another, and random choices."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(3, 3))
    weights = {
        "collinear": np.array([[1.3, 1.0, 1.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3]]),
        "negatively related": np.array([[1.5, -1.0, -0.5], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]]),
        "mixed": mixed,
    }
    scores = rng.normal(size=(120, 3)) @ weights[kind]
    utility = rng.gumbel(size=120)
    chosen = np.arange(4) == utility.reshape(-1, 4).argmax(axis=1)[:, None]
    return scores, chosen.ravel(), np.arange(0, 121, 4)


@pytest.mark.parametrize("kind", ["collinear", "negatively related", "mixed"])
def test_no_other_weights_without_a_negative_one_explain_the_choices_better(kind: str) -> None:
    used = set()
    for seed in range(60):
        scores, chosen, offsets = related_choices(kind, seed)
        pages = scores.reshape(-1, 4, 3)

        # The ridge of `fit_choice` counts weights in units of a score's spread.
        ridge = RIDGE / 2 * within_spread(scores, offsets) ** 2

        def loss(
            weights: np.ndarray, pages: np.ndarray = pages, chosen: np.ndarray = chosen, ridge: np.ndarray = ridge
        ) -> float:
            z = pages @ weights
            return float(np.log(np.exp(z).sum(axis=1)).sum() - z.ravel()[chosen].sum() + ridge @ weights**2)

        best = minimize(loss, np.full(3, 0.1), method="L-BFGS-B", bounds=[(0, None)] * 3)
        weights = fit_choice(scores, chosen, offsets)
        assert (weights >= 0).all()
        assert loss(weights) <= best.fun + 1e-5
        used.add(int((weights > 0).sum()))
    assert used >= {0, 1, 2}


def test_what_separates_perfectly_or_says_nothing_has_finite_weights() -> None:
    offsets = np.arange(0, 101, 2)
    chosen = np.arange(100) % 2 == 0
    separating = chosen[:, None].astype(float)
    assert 1 < fit_choice(separating, chosen, offsets)[0] < 100
    assert fit_choice(separating, np.zeros(100, bool), offsets).tolist() == [0.0]
    assert fit_choice(np.zeros((0, 2)), np.zeros(0, bool), np.array([0])).tolist() == [0.0, 0.0]


def test_the_sigmoid_of_planted_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(3.0, 2.0, 100_000)
    positive = rng.random(100_000) < 1 / (1 + np.exp(-(0.7 * scores - 4.0)))
    slope, intercept = fit_sigmoid(scores, positive)
    assert slope == pytest.approx(0.7, abs=0.02)
    assert intercept == pytest.approx(-4.0, abs=0.08)
    probs = 1 / (1 + np.exp(-(slope * scores + intercept)))
    assert probs.mean() == pytest.approx(positive.mean(), abs=1e-4)


@pytest.mark.parametrize(
    "scores", [np.zeros(40), -np.arange(40.0)], ids=["the same for every row", "falling with the labels"]
)
def test_scores_that_do_not_rise_with_the_labels_keep_their_order_and_give_the_mean(scores: np.ndarray) -> None:
    slope, intercept = fit_sigmoid(scores, np.arange(40) >= 30)
    assert slope > 0
    assert (1 / (1 + np.exp(-(slope * scores + intercept)))).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("n_positive", [0, 1, 39, 40])
def test_labels_that_are_nearly_all_the_same_give_finite_logits(n_positive: int) -> None:
    slope, intercept = fit_sigmoid(np.arange(40.0), np.arange(40) >= 40 - n_positive)
    assert np.isfinite([slope, intercept]).all()


def test_the_spread_is_within_searches_alone() -> None:
    scores = np.array([[1.0, 7.0], [3.0, 7.0], [101.0, 9.0], [103.0, 9.0]])
    assert within_spread(scores, np.array([0, 2, 4])).tolist() == [1.0, 0.0]
