"""Settings of the search over loss weights, fusion weights and sizes."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from shelfrank.config.base import MAX_ROUNDS, Cutoff, Resamples, Rounds, Seed, Share, Strict, Weight, Width

PARTS_LIMIT = 100
LayerCount = Annotated[int, Field(ge=1, le=64)]


class ObjectiveConfig(Strict):
    """The objective, maximised on the validation split.

    Unstated: the paper mentions only that the loss weights are optimised for the final MRR. The default weighs each
    task's MRR@10 equally, so that no task is traded for another unnoticed.

    Attributes:
        k: Cutoff of MRR.
        weights: Weight of each task's MRR; None weighs all equally, one named task alone tunes for that task.
    """

    k: Cutoff = 10
    weights: dict[Literal["click", "add_to_cart", "purchase"], Weight] | None = None


class CheapConfig(Strict):
    """The cheap method, which selects the points for a full training.

    All points continue from one training at equal weights. Short looks separate bad points from good ones; they cannot
    order the good ones (`docs/tune.md`), so some of the full trainings are spread over the remaining points.

    Attributes:
        looks: Rows of each look, as a share of a full training's; a point continues from its own last weights.
        keep: Share of points that each look keeps, the best ones.
        n_best: Points that are trained in full, from scratch, because they are best in the last look.
        n_spread: Further points for a full training, each as far as possible from those already selected.
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
        n_layers: Minimum and maximum number of layers of the bottom (cross layers, blocks or steps, by its kind).
        layer_width: Widths of the bottom's first deep layer; each next one is half as wide.
        n_experts: Numbers of experts.
        expert_width: Widths of an expert's first layer; the next is half as wide.
        tower_width: Widths of a tower's hidden layer.
        n_unpruned: Trials that finish before any is pruned.
        kept_percent: A trial continues after an epoch only if its validation loss is among this best share, in
            percent, of the others' after that epoch; 100 prunes none.
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
            raise ValueError("n_layers must be a minimum and a maximum")
        return self


class TuneConfig(Strict):
    """A search for settings, judged on the validation split.

    Attributes:
        search: `weights` searches the simplex of loss weights, `sizes` draws networks at random.
        method: `full` trains every point of the simplex, `cheap` only those that short looks select.
        step: Distance of the simplex's points along an edge.
        relevance_weights: Weights of the relevance label's loss that are tried at every point; None takes the
            config's alone.
        objective: The objective, which is maximised.
        cheap: The cheap method.
        sizes: Ranges of the random search.
        confidence: Confidence level of every interval.
        n_resamples: Bootstrap resamples of searches.
        seed: Decides resamples, draws, and the rows of the looks.
    """

    search: Literal["weights", "sizes"] = "weights"
    method: Literal["cheap", "full"] = "cheap"
    step: float = Field(default=0.1, gt=0, le=1)
    relevance_weights: tuple[Weight, ...] | None = Field(default=None, min_length=1)
    objective: ObjectiveConfig = ObjectiveConfig()
    cheap: CheapConfig = CheapConfig()
    sizes: SizesConfig = SizesConfig()
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: Resamples = 1000
    seed: Seed = 0

    @property
    def n_parts(self) -> int:
        """Parts into which the step cuts the whole."""
        return round(1 / self.step)

    @field_validator("step")
    @classmethod
    def _divides_one(cls, step: float) -> float:
        parts = round(min(1 / step, 2 * PARTS_LIMIT))
        if abs(parts * step - 1) > 1e-9 or parts > PARTS_LIMIT:
            raise ValueError(f"step must be 1 divided by a whole number up to {PARTS_LIMIT}, such as 0.1 or 0.05")
        return step
