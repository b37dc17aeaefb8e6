"""The whole configuration as one tree; the resolved tree is written into every folder it decides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shelfrank.errors import UserError
from shelfrank.schema import TASKS, Side, load_yaml, one_sentence

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A part of the tree: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(Strict):
    """How the embedded engine may use the machine.

    Attributes:
        memory_limit: Most memory DuckDB may hold before it spills to disk, as DuckDB spells sizes.
        threads: Worker threads; None takes every core this process may use.
    """

    memory_limit: str = Field(default="1000MB", pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$")
    threads: int | None = Field(default=None, ge=1)


class SplitConfig(Strict):
    """How whole searches are split (Paper: Sec. 4.1).

    Attributes:
        by: `time` puts the latest searches into the test split; `search_id` splits by a fixed hash of the id.
        train: Share of the searches.
        valid: Share of the searches; the rest is the test split.
    """

    by: Literal["time", "search_id"] = "time"
    train: float = Field(default=0.8, gt=0, lt=1)
    valid: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "SplitConfig":
        if self.train + self.valid >= 1:
            raise ValueError(
                f"train and valid must leave a share for test, but they add up to {self.train + self.valid:g}"
            )
        return self


class HistoryConfig(Strict):
    """Which point-in-time statistics are made (Paper: Sec. 3.3; every one sees earlier events only).

    Attributes:
        product: Impressions, outcomes and smoothed rates of the product.
        query: Impressions and smoothed click rate of the query.
        query_product: The same of the pair.
        customer: What the customer did before, with this product and overall.
        session: What the visitor did earlier in this session.
        affinity: Product features whose values are matched with the customer's and the query's past clicks; None
            takes the declared categorical product features in their order, up to six.
        outcome_delay_s: Seconds after a search at which its clicks, carts and purchases count as known.
        prior_strength: Pseudo-impressions that pull a rate towards its prior.
        prior_rates: The prior of each task's rate. Constants, so that no later event can move an earlier row.
    """

    product: bool = True
    query: bool = True
    query_product: bool = True
    customer: bool = True
    session: bool = True
    affinity: tuple[str, ...] | None = None
    outcome_delay_s: float = Field(default=0.0, ge=0)
    prior_strength: float = Field(default=20.0, gt=0)
    prior_rates: dict[Literal["click", "add_to_cart", "purchase"], float] = {
        "click": 0.05,
        "add_to_cart": 0.01,
        "purchase": 0.005,
    }


class PrepareConfig(Strict):
    """From a search log to training arrays.

    Attributes:
        split: How searches are split.
        history: Which statistics are made.
        upstream_order: Makes the order of the engine before re-ranking a context feature. Right where that order is
            known when serving; wrong where the logged position is the effect of an earlier version of this ranker.
        page: Price compared with the other products of the page, and the page's size.
        text_overlap: Share of the query's words found in the product's words.
        min_count: Training rows a category needs to get a code of its own.
        max_categories: Most codes a feature may have; the rarest categories beyond it share code 0.
        engine: The embedded engine's limits.
    """

    split: SplitConfig = SplitConfig()
    history: HistoryConfig = HistoryConfig()
    upstream_order: bool = False
    page: bool = True
    text_overlap: bool = True
    min_count: int = Field(default=5, ge=1)
    max_categories: int = Field(default=100_000, ge=1)
    engine: EngineConfig = EngineConfig()


class DCNV2Config(Strict):
    """The deep and cross network (Paper: Sec. 3.3, Eq. (6)-(8)).

    Attributes:
        n_cross_layers: Cross layers.
        deep_layers: Widths of the deep layers.
    """

    n_cross_layers: int = Field(default=2, ge=1)
    deep_layers: tuple[int, ...] = (256, 128)


class MLPConfig(Strict):
    """A plain shared bottom of dense layers.

    Attributes:
        layers: Widths.
    """

    layers: tuple[int, ...] = (256, 128)


class MMoEConfig(Strict):
    """Experts and gates (Paper: Sec. 3.3, Eq. (13)-(14)).

    Attributes:
        n_experts: Experts shared by all tasks; the paper wants more experts than tasks.
        expert_layers: Widths of an expert's layers.
    """

    n_experts: int = Field(default=6, ge=1)
    expert_layers: tuple[int, ...] = Field(default=(128, 64), min_length=1)


class NeuralConfig(Strict):
    """inputs -> bottom -> MMoE -> towers.

    Attributes:
        d_embedding: Width of every categorical embedding.
        bottom: Shared bottom; `none` hands the inputs to the experts.
        dcn_v2: Settings of that bottom.
        mlp: Settings of that bottom.
        mmoe: Experts and gates.
        tower_layers: Widths of a tower's hidden layers.
        batch_norm: Batch normalisation after each hidden linear layer of bottom, experts and towers.
        dropout: Share of hidden units dropped in training, after each hidden layer.
    """

    d_embedding: int = Field(default=16, ge=1)
    bottom: Literal["none", "mlp", "dcn_v2"] = "dcn_v2"
    dcn_v2: DCNV2Config = DCNV2Config()
    mlp: MLPConfig = MLPConfig()
    mmoe: MMoEConfig = MMoEConfig()
    tower_layers: tuple[int, ...] = (32,)
    batch_norm: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


class TrainConfig(Strict):
    """The training loop (Paper: Sec. 4.2).

    Attributes:
        protocol: `paper` is Adam, learning rate 1e-3, batch 16384; `auto` picks batch and rate by the number of rows.
        batch_size: Rows per step; None leaves it to the protocol.
        learning_rate: Adam's rate; None leaves it to the protocol.
        epochs: Most passes over the training split.
        patience: Epochs without a better validation loss before training stops.
        precision: `bf16` computes matrix products in bfloat16; `auto` uses it where the processor has it.
        checkpoint_every_s: Seconds between checkpoints within an epoch.
        threads: Threads of the numerical library; None takes every core this process may use.
    """

    protocol: Literal["auto", "paper"] = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    epochs: int = Field(default=10, ge=1)
    patience: int = Field(default=2, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every_s: float = Field(default=30.0, gt=0)
    threads: int | None = Field(default=None, ge=1)


class XGBoostConfig(Strict):
    """The paper's single-task baseline (Paper: Sec. 3.6).

    Attributes:
        task: The task it learns; None takes add_to_cart where the log has it, else click.
        n_rounds: Most trees.
        learning_rate: Shrinkage.
        max_depth: Depth of a tree.
        early_stopping_rounds: Rounds without a better validation loss before boosting stops.
    """

    task: Literal["click", "add_to_cart", "purchase"] | None = None
    n_rounds: int = Field(default=400, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    max_depth: int = Field(default=6, ge=1)
    early_stopping_rounds: int = Field(default=20, ge=1)


class LambdaMARTConfig(Strict):
    """LightGBM's LambdaMART on graded labels, what a practitioner would pick instead.

    Attributes:
        grades: Grade of a row by its deepest outcome.
        n_rounds: Most trees.
        learning_rate: Shrinkage.
        n_leaves: Leaves of a tree.
        min_rows_per_leaf: Rows a leaf needs.
        early_stopping_rounds: Rounds without a better validation NDCG before boosting stops.
    """

    grades: dict[Literal["click", "add_to_cart", "purchase"], int] = {
        "click": 1,
        "add_to_cart": 2,
        "purchase": 3,
    }
    n_rounds: int = Field(default=400, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    n_leaves: int = Field(default=31, ge=2)
    min_rows_per_leaf: int = Field(default=50, ge=1)
    early_stopping_rounds: int = Field(default=30, ge=1)


class ExperimentConfig(Strict):
    """One ranker, trained once.

    Attributes:
        seed: Decides initial weights, the order of rows and every other draw.
        task_weights: Weights of the loss (Paper: Sec. 3.1, Eq. (1)) over the tasks that the log has; they are scaled to
            sum to 1. None weighs them equally.
        score_weights: Weights that fuse the tasks' probabilities into one score; None takes the loss's.
        exclude_sides: Sides whose features the ranker must not see.
        exclude_features: Features that the ranker must not see.
        neural: The network.
        train: The training loop.
        xgboost: Its settings.
        lambdamart: Its settings.
    """

    seed: int = Field(default=0, ge=0)
    task_weights: dict[Literal["click", "add_to_cart", "purchase"], float] | None = None
    score_weights: dict[Literal["click", "add_to_cart", "purchase"], float] | None = None
    exclude_sides: tuple[Side, ...] = ()
    exclude_features: tuple[str, ...] = ()
    neural: NeuralConfig = NeuralConfig()
    train: TrainConfig = TrainConfig()
    xgboost: XGBoostConfig = XGBoostConfig()
    lambdamart: LambdaMARTConfig = LambdaMARTConfig()


class EvaluateConfig(Strict):
    """How rankers are measured (Paper: Sec. 4.3).

    Attributes:
        ks: Cutoffs of MRR and NDCG.
        pd_k: Cutoff of Personalization Degree.
        pd_searches: Most searches in its random subset S.
        neutral: What a neutral customer is: raw `zero`, as printed, or the training `mean`.
        confidence: Of every interval.
        n_resamples: Bootstrap resamples of searches.
        n_resamples_auc: The same for AUC, which costs more.
        seed: Decides the resamples and the subset.
    """

    ks: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1)
    pd_k: int = Field(default=10, ge=1)
    pd_searches: int = Field(default=20_000, ge=1)
    neutral: Literal["zero", "mean"] = "zero"
    confidence: float = Field(default=0.95, gt=0, lt=1)
    n_resamples: int = Field(default=1000, ge=2)
    n_resamples_auc: int = Field(default=200, ge=2)
    seed: int = Field(default=0, ge=0)


def resolve(
    model: type[Model],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: dict[str, Any] | None = None,
) -> Model:
    """Builds a part of the tree from a preset, a YAML file and `a.b=c` overrides, later ones winning.

    Args:
        model: The part to build.
        file: YAML with any of its keys.
        overrides: Assignments as the command line's `--set` takes them; values are YAML.
        base: Values of a preset.

    Returns:
        The validated part.

    Raises:
        UserError: Where a key is unknown or a value has the wrong type; the text names the path.
    """
    data: dict[str, Any] = dict(base or {})
    where = "config"
    if file is not None:
        loaded = load_yaml(file)
        if not isinstance(loaded, dict):
            raise UserError(f"{file} must hold keys and values, but it holds {type(loaded).__name__}")
        data = _merge(data, loaded)
        where = str(file)
    for item in overrides:
        path, equals, value = item.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--set must look like a.b=value, but it is {item!r}")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {path} must have a YAML value, but it is {value!r}") from error
        for part in reversed(path.strip().split(".")):
            parsed = {part: parsed}
        data = _merge(data, parsed)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(one_sentence(where, error)) from error


def normalised_weights(weights: dict[Any, float] | None, tasks: Sequence[str]) -> dict[str, float]:
    """Weights over the given tasks that sum to 1.

    Args:
        weights: Weights by task; None weighs all equally. A task that is not named weighs nothing.
        tasks: The tasks that the log has.

    Returns:
        A weight for each of `tasks`.

    Raises:
        UserError: Where a weight is negative, or none of the log's tasks has weight.

    Example:
        >>> normalised_weights({"click": 1, "purchase": 3}, ["click", "purchase"])
        {'click': 0.25, 'purchase': 0.75}
    """
    chosen = {task: 1.0 if weights is None else float(weights.get(task, 0.0)) for task in tasks}
    total = sum(chosen.values())
    if min(chosen.values(), default=0.0) < 0 or total <= 0:
        raise UserError(
            f"weights must be 0 or more with at least one above 0 among the log's tasks {', '.join(tasks)}, "
            f"but they are {weights}"
        )
    return {task: weight / total for task, weight in chosen.items()}


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        replaces = key in {"task_weights", "score_weights"}
        merged[key] = _merge(merged[key], value) if both and not replaces else value
    return merged


assert set(TASKS) == {"click", "add_to_cart", "purchase"}
