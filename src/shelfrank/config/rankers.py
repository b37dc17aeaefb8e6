"""Settings of one ranker's training."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from shelfrank.config.base import Count, Rounds, Seconds, Seed, Strict, Threads, Weight
from shelfrank.config.neural import NeuralConfig
from shelfrank.core.schema import TASKS, Side

MAX_GRADE = 31
"""Highest grade that the metrics take."""
MAX_LEAVES = 131_072
"""Leaves of a tree, at most, that LightGBM takes."""

RANKER_NAMES = (
    "shown_order",
    "popularity",
    "xgboost",
    "lambdamart",
    "dcn_v2_single",
    "ftt_single",
    "dcn_v2",
    "tabnet",
    "ftt",
    "mmoe",
    "mmoe_dcn_v2",
    "mmoe_ftt",
    "mmoe_dcn_v2_tinybert_cross",
    "mmoe_dcn_v2_tinybert_dot",
    "mmoe_ftt_tinybert_cross",
)
"""The rankers, in the order of `shelfrank.rankers.RANKERS`, repeated here since that module loads torch."""

Shrinkage = Annotated[float, Field(ge=1e-9, le=1)]
"""Share of a tree's step that is taken."""


class TrainConfig(Strict):
    """The training loop (Paper: Sec. 4.2).

    Attributes:
        protocol: `paper` is Adam, learning rate 1e-3, batch 16384; `auto` picks batch and rate by the number of rows.
        batch_size: Rows per step; None leaves it to the protocol.
        learning_rate: Adam's rate; None leaves it to the protocol.
        epochs: Maximum number of passes over the training split.
        patience: Epochs without a better validation loss of the tasks before training stops.
        precision: `bf16` computes matrix products in bfloat16; `auto` uses it if the processor supports it.
        checkpoint_every_s: Seconds between checkpoints within an epoch.
        threads: Threads of the numerical library; None takes every core this process may use.
        device: Device of training and scoring: `cpu`, or `cuda`, which holds the whole arrays while they are used.
        compile: Compiles the forward and backward pass of a network without text; it needs a C++ compiler, takes a
            minute or more and pays off on long runs.
        hide_share: Share of the training rows in which each feature that can be missing is unknown, for networks and
            trees. If fewer rows lack it, it is hidden in further rows, different ones in each epoch of a network, so
            that an unknown value gets an average score. Small logs hide more, and many features less each: at most one
            feature of a search and one of a row, and each in at most 15 % of them. 0 hides nothing.
    """

    protocol: Literal["auto", "paper"] = "auto"
    batch_size: Count | None = None
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    epochs: Rounds = 10
    patience: Rounds = 2
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every_s: Seconds = 30.0
    threads: Threads | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False
    hide_share: float = Field(default=0.05, ge=0, le=0.5)


class XGBoostConfig(Strict):
    """The paper's single-task baseline (Paper: Sec. 3.6).

    Attributes:
        task: The task that it learns; None takes the first of add_to_cart, click and purchase that the log has.
        n_rounds: Maximum number of trees.
        learning_rate: Shrinkage.
        max_depth: Depth of a tree.
        early_stopping_rounds: Rounds without a better validation loss before boosting stops.
    """

    task: Literal["click", "add_to_cart", "purchase"] | None = None
    n_rounds: Rounds = 400
    learning_rate: Shrinkage = 0.1
    max_depth: int = Field(default=6, ge=1, le=30)
    early_stopping_rounds: Rounds = 20


class LambdaMARTConfig(Strict):
    """LightGBM's LambdaMART on graded labels, the usual alternative in practice.

    Attributes:
        grades: Grade of a row by its deepest outcome; a task that is not named has none.
        n_rounds: Maximum number of trees.
        learning_rate: Shrinkage.
        n_leaves: Leaves of a tree.
        min_rows_per_leaf: Minimum number of rows in a leaf.
        early_stopping_rounds: Rounds without a better validation NDCG before boosting stops.
    """

    grades: dict[Literal["click", "add_to_cart", "purchase"], Annotated[int, Field(ge=0, le=MAX_GRADE)]] = {
        "click": 1,
        "add_to_cart": 2,
        "purchase": 3,
    }
    n_rounds: Rounds = 400
    learning_rate: Shrinkage = 0.1
    n_leaves: int = Field(default=31, ge=2, le=MAX_LEAVES)
    min_rows_per_leaf: Count = 50
    early_stopping_rounds: Rounds = 30

    @field_validator("grades")
    @classmethod
    def _grade_something(cls, grades: dict[Any, int]) -> dict[Any, int]:
        if not any(grades.values()):
            raise ValueError("grades must have one above 0")
        # A manifest sorts its keys; in one order, a config read from there is written as it was.
        return {task: grades[task] for task in TASKS if task in grades}


class ExperimentConfig(Strict):
    """One ranker, trained once.

    Attributes:
        seed: Decides initial weights, the order of rows and every other draw.
        task_weights: Weights of the loss (Paper: Sec. 3.1, Eq. (1)) over the tasks that the log has; they are scaled to
            sum to 1. None weighs them equally.
        relevance_weight: Weight of the relevance label's loss (Paper: Sec. 3.5), beside task weights that sum to 1; it
            never enters the score. Only networks learn that label, if the prepared data has it; boosting
            ignores it. 0 leaves out the label and its tower. Unstated: the paper's weight.
        score_weights: Weights that fuse the tasks' probabilities into one score; None takes the weights of the loss.
        exclude_sides: Sides whose features the ranker must not see.
        exclude_features: Features that the ranker must not see.
        neural: The network.
        train: The training loop.
        xgboost: The ranker `xgboost`.
        lambdamart: The ranker `lambdamart`.
    """

    seed: Seed = 0
    task_weights: dict[Literal["click", "add_to_cart", "purchase"], Weight] | None = None
    relevance_weight: Weight = 0.1
    score_weights: dict[Literal["click", "add_to_cart", "purchase"], Weight] | None = None
    exclude_sides: tuple[Side, ...] = ()
    exclude_features: tuple[str, ...] = ()
    neural: NeuralConfig = NeuralConfig()
    train: TrainConfig = TrainConfig()
    xgboost: XGBoostConfig = XGBoostConfig()
    lambdamart: LambdaMARTConfig = LambdaMARTConfig()


assert set(TASKS) == {"click", "add_to_cart", "purchase"}
