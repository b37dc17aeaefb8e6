"""Settings of the search over loss weights, fusion weights and sizes."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from shelfrank.config.base import (
    MAX_ROUNDS,
    Count,
    Cutoff,
    Resamples,
    Rounds,
    Seed,
    Share,
    Strict,
    Weight,
    WeightByTask,
    Width,
)
from shelfrank.config.rankers import L2, LeafCount, PositiveShare, Shrinkage, TreeDepth

MAX_PARTS = 100
LayerCount = Annotated[int, Field(ge=1, le=64)]


class ObjectiveConfig(Strict):
    """The objective, which is maximised on the validation split.

    Unstated: the paper says only that the loss weights are optimised for the final MRR. The default weighs each task's
    MRR@10 equally, so that no task improves unnoticed at the cost of another.

    Attributes:
        k: Cutoff of MRR.
        weights: Weight of each task's MRR; None weighs all equally. A single named task tunes for that task.
    """

    k: Cutoff = 10
    weights: WeightByTask | None = None


class CheapConfig(Strict):
    """How the cheap method selects the points for a full training.

    All points continue one training at equal weights. Short trainings ("looks") separate bad points from good ones but
    cannot rank the good ones (`docs/tune.md`), so some of the full trainings are spread over the remaining points.

    Attributes:
        looks: Length of each look, as a share of a full training's rows; a point continues from its last weights.
        keep: Share of the points that each look keeps, the best ones.
        n_best: Number of points to train in full from scratch because the last look ranks them highest.
        n_spread: Number of further points, each as far as possible from those already selected.
    """

    looks: tuple[Share, ...] = Field(default=(0.05,), min_length=1)
    keep: tuple[Share, ...] = (2 / 3,)
    n_best: Rounds = 3
    n_spread: int = Field(default=5, ge=0, le=MAX_ROUNDS)

    @model_validator(mode="after")
    def _check(self) -> "CheapConfig":
        if len(self.looks) != len(self.keep):
            raise ValueError(f"looks ({len(self.looks)}) and keep ({len(self.keep)}) must have the same length")
        if any(not 0 < share <= 1 for share in (*self.looks, *self.keep)):
            raise ValueError("looks and keep must be above 0 and at most 1")
        return self


class SizesConfig(Strict):
    """The random search over dropout, layers, embeddings and experts.

    Attributes:
        n_trials: Number of trials, pruned ones included; the first is the given config.
        dropout: Minimum and maximum dropout.
        d_embedding: Widths of the embeddings.
        n_layers: Minimum and maximum layers of the bottom (cross layers, blocks or steps, by its type).
        layer_width: Widths of the bottom's first deep layer; each further one is half as wide.
        n_experts: Numbers of experts.
        expert_width: Widths of an expert's first layer; the next is half as wide.
        tower_width: Widths of a tower's hidden layer.
        n_unpruned: Trials that finish before pruning begins.
        kept_percent: A trial continues after an epoch only if its validation loss is in this best percentage of all
            trials' after that epoch; 100 prunes none.
    """

    n_trials: Rounds = 30
    dropout: tuple[Share, Share] = (0.0, 0.4)
    d_embedding: tuple[Width, ...] = Field(default=(8, 16, 32, 64), min_length=1)
    n_layers: tuple[LayerCount, LayerCount] = (1, 4)
    layer_width: tuple[Width, ...] = Field(default=(64, 128, 256, 512), min_length=1)
    n_experts: tuple[Width, ...] = Field(default=(4, 6, 8, 12), min_length=1)
    expert_width: tuple[Width, ...] = Field(default=(32, 64, 128, 256), min_length=1)
    tower_width: tuple[Width, ...] = Field(default=(16, 32, 64), min_length=1)
    n_unpruned: Rounds = 5
    kept_percent: float = Field(default=50.0, gt=0, le=100)

    @model_validator(mode="after")
    def _check(self) -> "SizesConfig":
        if not 0 <= self.dropout[0] <= self.dropout[1] < 1:
            raise ValueError("dropout must be a minimum and a maximum from 0 to below 1")
        if not 1 <= self.n_layers[0] <= self.n_layers[1]:
            raise ValueError("n_layers must be a minimum and a maximum of 1 or more")
        return self


class TreesConfig(Strict):
    """The space of the random search over the settings of boosted trees, with as many trials as that over sizes.

    Each ranker draws the settings that it has.

    Attributes:
        learning_rate: Minimum and maximum shrinkage, drawn evenly in its logarithm.
        n_leaves: Numbers of leaves.
        depth: Depths of CatBoost's trees.
        min_rows_per_leaf: Minimum rows of a leaf.
        feature_share: Shares of the features that a tree may use.
        row_share: Shares of the rows that a tree is grown on.
        l2: L2 regularisation of the leaves.
    """

    learning_rate: tuple[Shrinkage, Shrinkage] = (0.03, 0.15)
    n_leaves: tuple[LeafCount, ...] = Field(default=(7, 15, 31, 63), min_length=1)
    depth: tuple[TreeDepth, ...] = Field(default=(3, 4, 5, 6), min_length=1)
    min_rows_per_leaf: tuple[Count, ...] = Field(default=(20, 50, 100, 200), min_length=1)
    feature_share: tuple[PositiveShare, ...] = Field(default=(0.2, 0.3, 0.5, 0.8), min_length=1)
    row_share: tuple[PositiveShare, ...] = Field(default=(0.6, 0.8, 1.0), min_length=1)
    l2: tuple[L2, ...] = Field(default=(0.0, 1.0, 10.0, 50.0), min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "TreesConfig":
        if self.learning_rate[0] > self.learning_rate[1]:
            low, high = self.learning_rate
            raise ValueError(f"learning_rate must be a minimum and a maximum, but {low:g} is above {high:g}")
        return self


class TuneConfig(Strict):
    """A search for settings, evaluated on the validation split.

    Attributes:
        search: `weights` searches the simplex of loss weights, `sizes` draws networks at random, or settings of trees.
        method: `full` trains every point of the simplex, `cheap` only those that shorter looks keep.
        step: Distance of the simplex's points along an edge.
        relevance_weights: Weights of the relevance label's loss to combine with every point; None takes only the
            config's.
        objective: The objective to maximise.
        cheap: The cheap method.
        sizes: The random search.
        trees: What the random search draws for trees.
        confidence: Confidence level of every interval.
        n_resamples: Bootstrap resamples of searches.
        seed: Seed of the resamples, the draws and the rows of the looks.
    """

    search: Literal["weights", "sizes"] = "weights"
    method: Literal["cheap", "full"] = "cheap"
    step: float = Field(default=0.1, gt=0, le=1)
    relevance_weights: tuple[Weight, ...] | None = Field(default=None, min_length=1)
    objective: ObjectiveConfig = ObjectiveConfig()
    cheap: CheapConfig = CheapConfig()
    sizes: SizesConfig = SizesConfig()
    trees: TreesConfig = TreesConfig()
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: Resamples = 1000
    seed: Seed = 0

    @property
    def n_parts(self) -> int:
        """Number of steps along an edge."""
        return round(1 / self.step)

    @field_validator("step")
    @classmethod
    def _divides_one(cls, step: float) -> float:
        parts = round(min(1 / step, 2 * MAX_PARTS))
        if abs(parts * step - 1) > 1e-9 or parts > MAX_PARTS:
            raise ValueError(f"step must be 1 divided by a whole number up to {MAX_PARTS}, such as 0.1 or 0.05")
        return step
