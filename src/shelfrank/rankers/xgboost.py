"""XGBoost on one task: the paper's single-task baseline."""

import json
import time
from pathlib import Path

import numpy as np
import xgboost as xgb
from jaxtyping import Float, Float32, Float64, Int64
from xgboost.callback import TrainingCallback

from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.core.schema import TASKS
from shelfrank.data.hiding import Hiding
from shelfrank.data.prepared import Split, tie_order
from shelfrank.rankers.base import Fitted, Problem
from shelfrank.rankers.boosting import TreeRanker, kept_trees, training_matrix
from shelfrank.rankers.trees import XGBoostTrees, feature_matrix, for_every_task
from shelfrank.train.checkpoint import Checkpoints

COVER, ROWS = "cover", "training_rows"
"""Attribute of a model, and its value where each node's cover is its number of training rows."""
BLOCK_ROWS = 1 << 16
"""Training rows per batch of leaf look-ups."""
NO_ROWS = 1e-6
"""Cover of a leaf that no training row reaches, so that shares of covers are defined everywhere."""

BISECTIONS = 60

TASK_ORDER = ("add_to_cart", "click", "purchase")
"""The first of these with labels is learned where `xgboost.task` is null."""


class XGBoost(TreeRanker):
    """Gradient-boosted trees on one binary label (Paper: Sec. 3.6, Table 2).

    The paper's row learns add-to-cart; a log without that label learns click, one with neither learns purchase.
    `xgboost.task` chooses another.
    """

    gives_probabilities = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, problem: Problem) -> None:
        problem.require_features()
        self.problem, self.settings = problem, problem.config.xgboost
        chosen = self.settings.task or next((task for task in TASK_ORDER if task in problem.tasks), TASKS[0])
        if chosen not in problem.tasks:
            raise UserError(
                f"xgboost.task must be a task that the log has labels of ({', '.join(problem.tasks)}), not {chosen}"
            )
        self.task = chosen
        self.booster: xgb.Booster | None = None

    @property
    def scored_tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)

    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Boosts until the validation loss stops falling."""
        started = time.monotonic()
        parameters = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "learning_rate": self.settings.learning_rate,
            "max_depth": self.settings.max_depth,
            "seed": self.problem.config.seed,
            **({} if self.problem.config.train.threads is None else {"nthread": self.problem.config.train.threads}),
        }
        curves: dict[str, dict[str, list[float]]] = {}
        hiding = Hiding(train, self.problem.config.train.hide_share, self.problem.config.seed)
        learn = self._labelled(train, self._known(train), hiding)
        check = self._labelled(valid, self._known(valid), like=learn)
        if (offsets := self._offsets(train)) is not None:
            # Boosting starts at the base rate of rows that were not sampled, from which their margins differ.
            start = base_margin(learn.get_label(), offsets)
            parameters["base_score"] = float(1 / (1 + np.exp(-start)))
            learn.set_base_margin(start + offsets)
        with progress("Boosting (XGBoost)", total=self.settings.n_rounds, unit="trees") as advance:
            self.booster = xgb.train(
                parameters,
                learn,
                num_boost_round=self.settings.n_rounds,
                evals=[(learn, "train"), (check, "valid")],
                early_stopping_rounds=self.settings.early_stopping_rounds,
                evals_result=curves,
                callbacks=[Advance(advance)],
                verbose_eval=False,
            )
        best = int(self.booster.best_iteration)
        self.booster = self._cover_by_rows(self.booster[: best + 1], train)
        curve = [
            {"epoch": i + 1, "train_loss": a, "valid_loss": b, "best": i == best}
            for i, (a, b) in enumerate(zip(curves["train"]["logloss"], curves["valid"]["logloss"], strict=True))
        ]
        choices = [
            self._task_choice(),
            *kept_trees(best + 1, len(curve), "xgboost", self.settings.n_rounds),
            *hiding.notes(),
        ]
        return Fitted(curve, choices, None, time.monotonic() - started)

    def _task_choice(self) -> str:
        """The task that is learned, and why where no setting names it."""
        if self.settings.task:
            return f"task {self.task}"
        if self.task == TASK_ORDER[0]:
            return f"task {self.task}, the default"
        absent = " or ".join(TASK_ORDER[: TASK_ORDER.index(self.task)])
        return f"task {self.task}, as the log has no labels of {absent}"

    @property
    def trees(self) -> XGBoostTrees:
        """The trees that were learned."""
        assert self.booster is not None, "fit or load must come first"
        return XGBoostTrees(self.booster)

    def score(self, rows: Split) -> Float32[np.ndarray, "rows n_tasks"]:
        """The one task's probability, for every task."""
        if not rows.n_rows:
            return np.empty((0, len(self.problem.tasks)), np.float32)
        return for_every_task(self.trees.probabilities(feature_matrix(rows)), len(self.problem.tasks))

    def margins(self, features: Float32[np.ndarray, "rows n_features"]) -> Float64[np.ndarray, "rows n_models"]:
        """The logits of the one task."""
        return self.trees.margins(features)[:, None]

    def shap_values(
        self, features: Float32[np.ndarray, "rows n_features"]
    ) -> tuple[Float64[np.ndarray, "rows n_models n_features"], Float64[np.ndarray, "rows n_models"]]:
        """The library's TreeSHAP, with the number of training rows as each node's cover.

        Differs: the library weighs a node by the sum of its rows' hessians p (1 - p), so that rows of which it is sure
        hardly count, and measures from a mean that is not the training rows'. A model of an earlier version, whose
        covers are such sums, is a `UserError`.
        """
        if self.trees.booster.attr(COVER) != ROWS:
            raise UserError(
                "a model that is explained from the training mean must hold how many training rows reach each node, "
                "but this one, of an earlier version, holds none; train again"
            )
        values = self.trees.contributions(features)[:, None]
        return values[:, :, :-1], values[:, :, -1]

    def save(self, folder: Path) -> None:
        """Writes XGBoost's own binary JSON."""
        self.trees.save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        self.booster = XGBoostTrees.load(folder).booster

    def _known(self, rows: Split) -> Int64[np.ndarray, " known"]:
        """The rows that have the task's label, each search's in the order of their tie keys."""
        order = tie_order(rows)
        return order[rows.labels[order, self.problem.tasks.index(self.task)] >= 0]

    def _offsets(self, train: Split) -> Float64[np.ndarray, " known"] | None:
        """What sampling added to the log-odds of the rows to learn from, if it is to be left out again."""
        if train.offsets is None or not self.problem.config.train.sampling_offset:
            return None
        of_task = train.offsets[:, self.problem.tasks.index(self.task)]
        return of_task[train.product_idx[self._known(train)]].astype(np.float64)

    def _labelled(
        self,
        rows: Split,
        known: Int64[np.ndarray, " known"],
        hiding: Hiding | None = None,
        like: xgb.DMatrix | None = None,
    ) -> xgb.DMatrix:
        labels = rows.labels[known, self.problem.tasks.index(self.task)]
        if not (labels == 1).any():
            raise UserError(
                f"the {rows.name} split must have at least one {self.task}, but it has none; "
                "choose another xgboost.task or a longer log"
            )
        return xgb.QuantileDMatrix(
            feature_matrix(rows, known) if hiding is None else training_matrix(rows, known, hiding),
            labels.astype(np.float32),
            ref=like,
            # The library refuses names with brackets, such as `price [EUR]`.
            feature_names=[f"f{i}" for i in range(len(self.problem.columns))],
            feature_types=feature_types(*self._n_columns),
            enable_categorical=True,
        )

    def _cover_by_rows(self, booster: xgb.Booster, train: Split) -> xgb.Booster:
        return cover_by_rows(booster, train, self._known(train))

    @property
    def _n_columns(self) -> tuple[int, int]:
        return self.problem.n_numerical, len(self.problem.category_sizes)


def base_margin(labels: Float[np.ndarray, " rows"], offsets: Float64[np.ndarray, " rows"]) -> float:
    """The logit that, beside the rows' offsets, expects as many positive labels as there are."""
    # Numerics: where all labels are alike, no finite logit does.
    n = len(labels)
    mean = min(max(float(labels.mean(dtype=np.float64)), 0.5 / n), 1 - 0.5 / n)
    alone = float(np.log(mean / (1 - mean)))
    low, high = alone - float(offsets.max()), alone - float(offsets.min())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(middle + offsets)))).mean() < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def feature_types(n_numerical: int, n_categorical: int) -> list[str]:
    """Lists the kinds of the columns as XGBoost names them."""
    return ["q"] * n_numerical + ["c"] * n_categorical


def cover_by_rows(booster: xgb.Booster, rows: Split, chosen: Int64[np.ndarray, " chosen"]) -> xgb.Booster:
    """The same trees, each node with the number of training rows that reach it as its cover.

    Then the library's TreeSHAP starts from the mean margin of these rows, and its contributions are those of a
    background that weighs each of them equally. They are counted as they are: values that were hidden to train
    would move the mean.

    Args:
        booster: The trees.
        rows: The training split.
        chosen: The rows of it that were learned from.

    Returns:
        The trees with these covers.
    """
    model = json.loads(booster.save_raw("json"))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    counts = [np.zeros(len(tree["left_children"]), np.int64) for tree in trees]
    for start in range(0, len(chosen), BLOCK_ROWS):
        block = xgb.DMatrix(
            feature_matrix(rows, chosen[start : start + BLOCK_ROWS]),
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        leaves = booster.predict(block, pred_leaf=True).reshape(block.num_row(), len(trees)).astype(np.int64)
        for count, reached in zip(counts, leaves.T, strict=True):
            count += np.bincount(reached, minlength=len(count))
    for tree, count in zip(trees, counts, strict=True):
        tree["sum_hessian"] = covers(tree["left_children"], tree["right_children"], count).tolist()
    counted = xgb.Booster(model_file=bytearray(json.dumps(model).encode()))
    counted.set_attr(**{COVER: ROWS})
    return counted


def covers(left: list[int], right: list[int], n_rows: Int64[np.ndarray, " nodes"]) -> Float64[np.ndarray, " nodes"]:
    """Adds the rows of a tree's leaves up to those of its inner nodes.

    Args:
        left: Each node's left child, -1 for a leaf; node 0 is the root.
        right: Each node's right child.
        n_rows: Rows that end in each leaf.

    Returns:
        Rows that pass each node; a leaf without any counts a little, so that no share of a node is 0 / 0.
    """
    cover = np.maximum(n_rows.astype(np.float64), NO_ROWS)
    below = [0]
    for node in below:
        if left[node] >= 0:
            below += [left[node], right[node]]
    for node in reversed(below):
        if left[node] >= 0:
            cover[node] = cover[left[node]] + cover[right[node]]
    return cover


class Advance(TrainingCallback):
    """Moves a progress bar by one for each tree."""

    def __init__(self, advance: object) -> None:
        self.advance = advance

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: object) -> bool:
        """Moves the bar by one tree."""
        self.advance(1)  # pyright: ignore[reportCallIssue]
        return False
