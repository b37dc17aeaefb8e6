"""How scores become comparable: each search's choice among its products explained by scores, and probabilities."""

import itertools

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int

from shelfrank.nn.calibration import fit_platt

MAX_STEPS = 100
STEP_TOLERANCE = 1e-10
RIDGE = 1e-3
"""Added to the curvature: scores that separate the labels perfectly have no finite best weights."""


def fit_choice(
    scores: Float[np.ndarray, "rows n_scores"],
    positive: Bool[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
) -> Float64[np.ndarray, " n_scores"]:
    """Fits the weights of scores whose sum explains best which products of each search are positive.

    The weights, of which none is negative, minimise the softmax cross-entropy of each search's positives among its
    rows, each positive as a choice of its own. The loss is convex, so there is one minimum: it is found exactly, by a
    fit of each choice among the scores, of which there should be few. A number that is added to a search's scores
    changes nothing: how scores of different searches compare plays no part.

    Args:
        scores: The scores, a column each.
        positive: Each row's label.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.

    Returns:
        Each score's weight; all are 0 where no score explains anything.

    Example:
        Of two products the one with the higher score is chosen three times of four: the weight is log 3.

        >>> scores = np.array([[1.0], [0.0]] * 4)
        >>> positive = np.array([True, False, True, False, True, False, False, True])
        >>> round(fit_choice(scores, positive, np.arange(0, 9, 2))[0], 2)
        1.1
    """
    sizes = np.diff(search_offsets)
    search = np.repeat(np.arange(len(sizes)), sizes)
    n_positive = np.bincount(search, positive, len(sizes)).astype(np.float64)
    used = (n_positive > 0)[search]
    x, chosen = scores[used].astype(np.float64), positive[used]
    _, search = np.unique(search[used], return_inverse=True)
    n_positive = n_positive[n_positive > 0]
    starts = np.flatnonzero(np.diff(search, prepend=-1))
    # Scores of any scale: the ridge and the steps should not depend on it.
    spread = within_spread(x, np.append(starts, len(x)))
    known = spread > 0
    x = x[:, known] / spread[known]
    weights = np.zeros(x.shape[1])
    least = np.inf
    # The minimum with no negative weight is the free minimum of the scores that it uses. Most first: where no weight of
    # all is negative, nothing else is better.
    for n_used in range(len(weights), -1, -1):
        for columns in map(list, itertools.combinations(range(len(weights)), n_used)):
            tried, loss = _choice_weights(x[:, columns], chosen, search, starts, n_positive)
            if loss < least and (tried >= 0).all():
                least, weights = loss, np.zeros(len(weights))
                weights[columns] = tried
        if n_used == len(weights) and least < np.inf:
            break
    found = np.zeros(len(spread))
    found[known] = weights / spread[known]
    return found


def _choice_weights(
    x: Float64[np.ndarray, "rows n_scores"],
    chosen: Bool[np.ndarray, " rows"],
    search: Int[np.ndarray, " rows"],
    starts: Int[np.ndarray, " searches"],
    n_positive: Float64[np.ndarray, " searches"],
) -> tuple[Float64[np.ndarray, " n_scores"], float]:
    """Minimises the choice loss by Newton's steps, halved where they overshoot; the weights and their loss."""
    weights = np.zeros(x.shape[1])
    if not len(starts):
        return weights, 0.0

    def loss_at(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ weights
        z -= np.maximum.reduceat(z, starts)[search]
        total = np.add.reduceat(np.exp(z), starts)
        log_shares = z - np.log(total)[search]
        return float(-log_shares[chosen].sum() + RIDGE / 2 * weights @ weights), np.exp(log_shares)

    loss, shares = loss_at(weights)
    if not len(weights):
        return weights, loss
    for _ in range(MAX_STEPS):
        expected = shares * n_positive[search]
        gradient = x.T @ (expected - chosen) + RIDGE * weights
        means = np.add.reduceat(shares[:, None] * x, starts, axis=0)
        curvature = (x * expected[:, None]).T @ x - (means * n_positive[:, None]).T @ means
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
        size = 1.0
        while size > STEP_TOLERANCE:
            tried, tried_shares = loss_at(weights - size * step)
            if tried <= loss:
                break
            size /= 2
        else:
            return weights, loss
        weights, shares, gained, loss = weights - size * step, tried_shares, loss - tried, tried
        if gained <= STEP_TOLERANCE * max(1.0, abs(loss)):
            return weights, loss
    return weights, loss


def fit_sigmoid(scores: Float[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]) -> tuple[float, float]:
    """Fits the slope and intercept that turn scores into the logits of their labels (Platt's scaling).

    Args:
        scores: The scores.
        positive: Each row's label.

    Returns:
        The slope, always positive so that the order stays, and the intercept. Where the scores do not rise with the
        labels, the slope is the least that calibration allows and the mean probability about that of the labels.

    Example:
        >>> slope, intercept = fit_sigmoid(np.array([0.0, 0.0, 1.0, 1.0]), np.array([True, False, True, True]))
        >>> slope > 1, abs(intercept) < 0.1
        (True, True)
    """
    # Platt's own targets: a label that is the same in every row gives no infinite logit.
    n_positive, n = float(positive.sum()), len(positive)
    targets = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n - n_positive + 2))
    mean_logit = float(np.log(targets.mean() / (1 - targets.mean())))
    centre, spread = float(scores.mean()), float(scores.std())
    # Numerics: rounding leaves a constant score a spread.
    spread = spread if spread > 1e-9 * max(1.0, abs(centre)) else 1.0
    x = (scores.astype(np.float64) - centre) / spread
    scale, shift = fit_platt(torch.from_numpy(x), torch.from_numpy(targets), (0.0, mean_logit), (RIDGE, RIDGE))
    return scale / spread, shift - scale * centre / spread


def within_spread(
    scores: Float64[np.ndarray, "rows n_scores"], search_offsets: Int[np.ndarray, " offsets"]
) -> Float64[np.ndarray, " n_scores"]:
    """Computes each score's standard deviation around the means of the searches."""
    if not len(scores):
        return np.zeros(scores.shape[1])
    sizes = np.diff(search_offsets)
    starts = search_offsets[:-1][sizes > 0]
    means = np.add.reduceat(scores, starts, axis=0) / sizes[sizes > 0][:, None]
    deviations = scores - np.repeat(means, sizes[sizes > 0], axis=0)
    spread = np.sqrt((deviations**2).mean(axis=0))
    # Numerics: rounding leaves a constant score a spread.
    return np.where(spread > 1e-9 * np.maximum(1.0, np.abs(scores).max(axis=0)), spread, 0.0)
