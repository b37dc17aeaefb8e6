"""Settings of one ranker's training."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from shelfrank.config.base import Count, Rounds, Seconds, Seed, Strict, Threads, Weight, WeightByTask
from shelfrank.config.neural import NeuralConfig
from shelfrank.config.task_weights import TaskWeights
from shelfrank.core.schema import TASKS, Side

MAX_GRADE = 31
"""Highest grade that the metrics accept."""
MAX_LEAVES = 131_072
"""Maximum leaves of a tree in LightGBM."""

RANKER_NAMES = (
    "shown_order",
    "popularity",
    "xgboost",
    "lambdamart",
    "xgboost_ranking",
    "catboost",
    "dcn_v2_single",
    "ftt_single",
    "dcn_v2",
    "tabnet",
    "ftt",
    "mmoe",
    "mmoe_dcn_v2",
    "mmoe_ftt",
    "mmoe_dcn_v2_text_cross",
    "mmoe_dcn_v2_text_dot",
    "mmoe_ftt_text_cross",
    "network",
    "blend",
)
"""The keys of `shelfrank.rankers.RANKERS` in its order, repeated here because importing it loads torch."""

DEFAULT_RANKER = "blend"
"""The ranker that `train` takes where none is named."""

Shrinkage = Annotated[float, Field(ge=1e-9, le=1)]
"""Factor on a tree's contribution."""
LeafCount = Annotated[int, Field(ge=2, le=MAX_LEAVES)]
TreeDepth = Annotated[int, Field(ge=1, le=16)]
"""Depth of a symmetric tree, up to CatBoost's limit."""
PositiveShare = Annotated[float, Field(gt=0, le=1)]
L2 = Annotated[float, Field(ge=0, le=1e9)]


class TrainConfig(Strict):
    """The training loop (Paper: Sec. 4.2).

    Attributes:
        protocol: `paper` is Adam, learning rate 1e-3, batch 16384; `auto` picks batch and rate by the number of rows.
        batch_size: Rows per step; None takes the protocol's.
        learning_rate: Adam's rate; None takes the protocol's.
        batch_searches: Searches per step, kept whole, halved (not below 16) until an epoch has 64 steps; None cuts
            batches by rows. `batch_size` wins where both are set.
        epochs: Maximum passes over the training split.
        patience: Epochs without a better validation figure before training stops; see `stop_by`.
        stop_by: Validation figure that picks the epoch and stops training: `loss` is the tasks' loss, `mrr` is MRR@10
            of the order that is served, by the fused score, averaged over the tasks by their weights in the score.
        pointwise_weight: Weight of the binary cross-entropy of each row in a task's loss; it keeps probabilities
            calibrated.
        listwise_weight: Weight of the softmax cross-entropy over the products of each search in a task's loss; it
            learns the order. A search without a positive label of the task adds nothing to it. Above 0, batches hold
            whole searches.
        weight_decay: Decoupled weight decay (AdamW); 0 is Adam.
        schedule: `cosine` lowers the rate from step to step, to 0 at the end of the last of `epochs`.
        precision: `bf16` computes matrix products in bfloat16; `auto` does so if the processor supports it.
        checkpoint_every_s: Seconds between checkpoints within an epoch.
        threads: Threads of the numerical library; None takes every core that this process may use.
        device: Device of training and scoring: `cpu`, or `cuda`, which holds the whole arrays in its memory.
        compile: Compiles the forward and backward pass of a network without text; it needs a C++ compiler, takes a
            minute or more and pays off on long runs.
        hide_share: Minimum share of training rows in which each optional feature is missing, for networks and trees.
            Features that are missing less often are hidden in random rows (again in each epoch of a network), so that
            rankers score missing values well on average. Small logs hide more, and many features less each: at most
            one feature of a search and one of a row, each in at most 15 % of the rows. 0 hides nothing.
        sampling_offset: Adds to the logits of sampled training rows what sampling added to their log-odds, so that
            networks and XGBoost learn the chances of rows that were not sampled; false learns those of the kept rows,
            as the paper does. Other rankers fit their probabilities on validation rows, which are never sampled.
    """

    protocol: Literal["auto", "paper"] = "auto"
    batch_size: Count | None = None
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    batch_searches: Count | None = None
    epochs: Rounds = 10
    patience: Rounds = 2
    stop_by: Literal["loss", "mrr"] = "loss"
    pointwise_weight: Weight = 1.0
    listwise_weight: Weight = 0.0
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    schedule: Literal["constant", "cosine"] = "constant"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every_s: Seconds = 30.0
    threads: Threads | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False
    hide_share: float = Field(default=0.05, ge=0, le=0.5)
    sampling_offset: bool = True

    @model_validator(mode="after")
    def _has_a_loss(self) -> "TrainConfig":
        if self.pointwise_weight == 0 and self.listwise_weight == 0:
            raise ValueError("pointwise_weight and listwise_weight must not both be 0")
        return self


class XGBoostConfig(Strict):
    """The paper's single-task baseline (Paper: Sec. 3.6).

    Attributes:
        task: The task it learns; None takes the first of add_to_cart, click and purchase that the log has.
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


class RankingTreesConfig(Strict):
    """Boosted trees that learn to rank: a model per task, or one of graded labels.

    Attributes:
        per_task: Learns a model for each task, whose probabilities `score_weights` fuse as a network's; otherwise one
            model of graded labels orders every task.
        grades: Grade of a row by its deepest outcome, for the one model; unnamed tasks have grade 0.
        n_rounds: Maximum number of trees of a model.
        learning_rate: Shrinkage.
        feature_share: Share of the features that each tree may use.
        row_share: Share of the training rows that each tree is grown on.
        l2: L2 regularisation of the leaves.
        n_bins: Bins of a numerical feature at most.
        early_stopping_rounds: Rounds without a better validation NDCG before boosting stops.
    """

    per_task: bool = True
    grades: dict[Literal["click", "add_to_cart", "purchase"], Annotated[int, Field(ge=0, le=MAX_GRADE)]] = {
        "click": 1,
        "add_to_cart": 2,
        "purchase": 3,
    }
    n_rounds: Rounds = 400
    learning_rate: Shrinkage = 0.08
    feature_share: PositiveShare = 0.3
    row_share: PositiveShare = 0.8
    l2: L2 = 10.0
    n_bins: int = Field(default=63, ge=2, le=65_535)
    early_stopping_rounds: Rounds = 30

    @property
    def read_keys(self) -> list[str]:
        """The keys that the ranker uses: grades only for the one model of graded labels."""
        return [name for name in type(self).model_fields if name != "grades" or not self.per_task]

    @field_validator("grades")
    @classmethod
    def _grade_something(cls, grades: dict[Any, int]) -> dict[Any, int]:
        if not any(grades.values()):
            raise ValueError("grades must have one above 0")
        # In a fixed order, a config that is read from a manifest (with sorted keys) is written back unchanged.
        return {task: grades[task] for task in TASKS if task in grades}


class LambdaMARTConfig(RankingTreesConfig):
    """LightGBM's LambdaMART, the usual choice in practice.

    Attributes:
        position_bias: Learns what each position adds to a product's chances beside the trees, and leaves it out when
            scoring, so that the trees imitate the shown order less.
        n_leaves: Leaves of a tree.
        min_rows_per_leaf: Minimum rows of a leaf.
        max_split_codes: Codes of a categorical feature at most that a split may separate from the others.
    """

    position_bias: bool = False
    n_leaves: LeafCount = 15
    min_rows_per_leaf: Count = 50
    max_split_codes: Count = 1


class XGBoostRankingConfig(RankingTreesConfig):
    """XGBoost's `rank:ndcg`.

    Attributes:
        n_leaves: Leaves of a tree.
        max_split_codes: Codes of a categorical feature at most that a split may separate from the others.
    """

    n_leaves: LeafCount = 15
    max_split_codes: Count = 1


class CatBoostConfig(RankingTreesConfig):
    """CatBoost's `YetiRank` on symmetric trees; needs the extra `catboost`.

    Attributes:
        depth: Depth of a tree, which has 2 ** depth leaves.
    """

    depth: TreeDepth = 4


class BlendConfig(Strict):
    """The blend of LambdaMART and a network, whose own settings are `lambdamart`, `neural` and `train`.

    Attributes:
        network: Ranker that is the network, whose preset `neural` starts from.
        min_searches: Training searches with a positive label that a network takes to learn from; with fewer the trees
            rank alone.
    """

    network: str = "network"
    min_searches: Count = 200


class ExperimentConfig(Strict):
    """One ranker, trained once.

    Attributes:
        seed: Seed of the initial weights, the order of rows and all other random draws.
        task_weights: Weights of the loss (Paper: Sec. 3.1, Eq. (1)) over the tasks that the log has; they are scaled to
            sum to 1. None weighs them equally.
        relevance_weight: Weight of the relevance label's loss (Paper: Sec. 3.5), in addition to task weights that sum
            to 1; it never enters the score. Only networks learn the label, if the prepared data has it; boosted trees
            ignore it. 0 removes the label and its part of the network. Unstated: the paper's weight.
        score_weights: Weights that fuse the tasks' probabilities into one score; None takes those of the loss.
        exclude_sides: Sides whose features are hidden from the ranker.
        exclude_features: Features that are hidden from the ranker.
        neural: The network.
        train: The training loop.
        xgboost: The ranker `xgboost`.
        lambdamart: The ranker `lambdamart`.
        xgboost_ranking: The ranker `xgboost_ranking`.
        catboost: The ranker `catboost`.
        blend: The ranker `blend`.
    """

    seed: Seed = 0
    task_weights: WeightByTask | None = None
    relevance_weight: Weight = 0.1
    score_weights: WeightByTask | None = None
    exclude_sides: tuple[Side, ...] = ()
    exclude_features: tuple[str, ...] = ()
    neural: NeuralConfig = NeuralConfig()
    train: TrainConfig = TrainConfig()
    xgboost: XGBoostConfig = XGBoostConfig()
    lambdamart: LambdaMARTConfig = LambdaMARTConfig()
    xgboost_ranking: XGBoostRankingConfig = XGBoostRankingConfig()
    catboost: CatBoostConfig = CatBoostConfig()
    blend: BlendConfig = BlendConfig()

    def loss_weights(self, tasks: Sequence[str]) -> TaskWeights:
        """The weight of each task's loss; a `UserError` where none of the tasks has any."""
        return TaskWeights(tasks, self.task_weights)

    def fusion_weights(self, tasks: Sequence[str]) -> TaskWeights:
        """The weight of each task's score in the one that orders a page; the loss's where no others are set."""
        return TaskWeights(tasks, self.score_weights or self.task_weights)


assert set(TASKS) == {"click", "add_to_cart", "purchase"}
