"""The ranker that `train` takes where none is named: boosted trees and a network, blended for each task."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.data.prepared import Split, search_of_rows, tie_order
from shelfrank.rankers.base import Fitted, Problem, Ranker
from shelfrank.rankers.blending import (
    NETWORK_ALONE,
    TREES_ALONE,
    TaskBlend,
    blend_scores,
    load_blends,
    network_logits,
    save_blends,
)
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.neural import WEIGHTS, NeuralRanker
from shelfrank.rankers.scaling import fit_choice, fit_sigmoid, within_spread
from shelfrank.rankers.trees import feature_matrix
from shelfrank.train.checkpoint import Checkpoints

FEW_SEARCHES = 100
"""Validation searches with a positive below which a note says that a task's shares are uncertain."""


class Blend(Ranker):
    """LambdaMART with a model per task and a network, added up as logits with weights of each task.

    The weights explain best which products of the validation searches are positive: they minimise the softmax
    cross-entropy over each search beside an effect of the position, which is convex, and none is negative. A sigmoid
    fitted on the same rows makes probabilities of the sum. Where the log has too few searches for a network to learn
    from, the trees rank alone.
    """

    learns_together = True
    gives_probabilities = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        self.problem, self.settings = problem, problem.config.blend
        if not problem.config.lambdamart.per_task:
            raise UserError(
                "lambdamart.per_task must be true for a blend, whose tasks have weights of their own, but it is false; "
                "remove it, or train lambdamart"
            )
        self.trees = LambdaMART(problem)
        self.network: NeuralRanker | None = None
        self.blends: dict[str, TaskBlend] = {}

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The tasks that a part predicts."""
        return tuple(task for task in self.problem.tasks if task in self.blends) or self.problem.tasks

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Trains both parts, each as it stops by itself, and fits the weights on `valid`."""
        n_positive = n_positive_searches(train)
        if processes().leads:
            # Before the network has trained for hours.
            self.trees.check(train, valid)
        self.network, of_network = None, Fitted()
        if n_positive >= self.settings.min_searches:
            # First: its checkpoints survive a kill, while the trees are boosted anew, to the same bits.
            self.network = NeuralRanker(self.problem)
            of_network = self.network.fit(train, valid, checkpoints)
        if not processes().leads:
            return of_network
        of_trees = self.trees.fit(train, valid)
        self._fit_blends(valid)
        if self.network is None:
            words = [
                f"trees alone: the log has {n_positive:,} training searches with a positive, and a network takes "
                f"{self.settings.min_searches:,} (blend.min_searches)"
            ]
        else:
            words = [f"{task}: {spoken_shares(blend)}" for task, blend in self.blends.items()]
            words.append("shares fitted on the validation split: of how far a search's products are apart")
            words += self._few_searches(valid)
        return Fitted(
            curve=of_trees.curve if self.network is None else of_network.curve,
            choices=[
                *words,
                *(f"network: {choice}" for choice in of_network.choices),
                *(f"trees: {choice}" for choice in of_trees.choices),
            ],
            parameters=of_network.parameters,
            frozen_parameters=of_network.frozen_parameters,
            seconds=of_network.seconds + of_trees.seconds,
            gates=of_network.gates,
            shares=None if self.network is None else {task: blend.shares for task, blend in self.blends.items()},
        )

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """Each task's probability."""
        network = None if self.network is None else self.network.score(rows)
        return blend_scores(self.blends, self.problem.tasks, network, self._tree_logits(rows), rows.n_rows)

    def save(self, folder: Path) -> None:
        """Writes the parts, each in its own files, and the weights."""
        self.trees.save(folder)
        if self.network is not None:
            self.network.save(folder)
        save_blends(folder, self.blends)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.trees.load(folder)
        self.network = None
        if (folder / WEIGHTS).is_file():
            self.network = NeuralRanker(self.problem)
            self.network.load(folder)
        self.blends = load_blends(folder)

    def _tree_logits(self, rows: Split) -> dict[str, Float64[np.ndarray, " rows"]]:
        tasks = self.trees.scored_tasks
        if not rows.n_rows:
            return {task: np.empty(0) for task in tasks}
        return dict(zip(tasks, self.trees.margins(feature_matrix(rows)).T, strict=True))

    def _few_searches(self, valid: Split) -> list[str]:
        """A note on the tasks whose weights were fitted on few searches; none without any."""
        search = search_of_rows(valid)
        fitted_on = {
            task: int((np.bincount(search, valid.labels[:, self.problem.tasks.index(task)] == 1) > 0).sum())
            for task, blend in self.blends.items()
            if blend not in (TREES_ALONE, NETWORK_ALONE)
        }
        few = [f"{task} {n:,}" for task, n in fitted_on.items() if n < FEW_SEARCHES]
        if not few:
            return []
        return [
            f"note: shares are uncertain where fewer than {FEW_SEARCHES} validation searches have a positive "
            f"({', '.join(few)}); take a longer log, or a longer validation period"
        ]

    def _fit_blends(self, valid: Split) -> None:
        of_network = {} if self.network is None else self._network_logits(valid)
        self.blends = fit_blends(of_network, self._tree_logits(valid), valid)

    def _network_logits(self, rows: Split) -> dict[str, Float64[np.ndarray, " rows"]]:
        assert self.network is not None, "only called with a network"
        logits = network_logits(self.network.score(rows))
        return {task: logits[:, self.problem.tasks.index(task)] for task in self.network.scored_tasks}


def fit_blends(
    network: Mapping[str, Float64[np.ndarray, " rows"]], trees: Mapping[str, Float64[np.ndarray, " rows"]], valid: Split
) -> dict[str, TaskBlend]:
    """Fits each task's weights.

    Args:
        network: The network's logits by task.
        trees: The trees' logits by task.
        valid: The rows that were scored.

    Returns:
        By task that a part scores, how it is blended.
    """
    order = tie_order(valid)
    blends = {}
    for index, task in enumerate(valid.tasks):
        if task in network and task in trees:
            known = order[valid.labels[order, index] >= 0]
            sizes = np.bincount(search_of_rows(valid)[known], minlength=valid.n_searches)
            blends[task] = fit_blend(
                network[task][known],
                trees[task][known],
                valid.labels[known, index] == 1,
                np.append(0, np.cumsum(sizes)),
                valid.position[known],
            )
        elif task in network:
            blends[task] = NETWORK_ALONE
        elif task in trees:
            blends[task] = TREES_ALONE
    return blends


def fit_blend(
    network: Float64[np.ndarray, " rows"],
    trees: Float64[np.ndarray, " rows"],
    positive: Bool[np.ndarray, " rows"],
    search_offsets: Int[np.ndarray, " offsets"],
    positions: Int[np.ndarray, " rows"],
) -> TaskBlend:
    """Fits a task's weights to labelled rows.

    Args:
        network: The network's logits.
        trees: The trees' logits.
        positive: The labels; some must be positive.
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        positions: Positions at which the rows were shown, from 1. Their effect is fitted beside the weights and left
            out, so that a part gains nothing by imitating the shown order.

    Returns:
        The weights.
    """
    parts = np.stack([network, trees], axis=1)
    weights = fit_choice(np.column_stack([parts, -np.log(positions)]), positive, search_offsets)[:2]
    if not weights.any():
        # Neither orders the searches as their labels do.
        weights = np.array([0.0, 1.0])
    slope, intercept = fit_sigmoid(parts @ weights, positive)
    apart = weights * within_spread(parts, search_offsets)
    share = float(apart[1] / apart.sum()) if apart.sum() > 0 else float(weights[1] > 0)
    return TaskBlend(slope * float(weights[0]), slope * float(weights[1]), intercept, share)


def n_positive_searches(rows: Split) -> int:
    """Counts the searches that have a positive of any task."""
    return int((np.bincount(search_of_rows(rows), (rows.labels == 1).any(axis=1), rows.n_searches) > 0).sum())


def spoken_shares(blend: TaskBlend) -> str:
    """A task's shares, for people."""
    shares: Mapping[str, float] = blend.shares
    return ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items())


def network_of(ranker: Ranker) -> NeuralRanker | None:
    """The network that a ranker is, or that is a part of it; None without one."""
    if isinstance(ranker, Blend):
        return ranker.network
    return ranker if isinstance(ranker, NeuralRanker) else None
