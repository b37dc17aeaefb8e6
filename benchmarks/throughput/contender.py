"""What a contender must offer to race, and the shape that all of them build."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from jaxtyping import Float

from .clock import RaceClock
from .rows import Rows

NeuralModel = Literal["mmoe", "dcn_v2", "ft_transformer", "tabnet"]
Model = NeuralModel | Literal["trees"]
NEURAL_MODELS: tuple[NeuralModel, ...] = get_args(NeuralModel)
MULTI_TASK = ("mmoe",)
"""Models that learn all tasks; the others learn the click alone."""


@dataclass(frozen=True)
class Shape:
    """Sizes that every neural contender builds: ReLU, no dropout, no batch norm unless the library forces it.

    The transformer's dense halves are ReGLU, and its tokens have a width of their own. Sizes from `n_decision_steps` on
    are TabNet's, which keeps its batch norms.
    """

    d_embedding: int = 16
    n_experts: int = 4
    expert_widths: tuple[int, ...] = (256, 128)
    tower_widths: tuple[int, ...] = (64,)
    n_cross_layers: int = 3
    deep_widths: tuple[int, ...] = (256, 128)
    d_token: int = 64
    n_blocks: int = 3
    n_heads: int = 8
    ffn_multiplier: float = 4 / 3
    n_decision_steps: int = 3
    d_decision: int = 64
    d_attention: int = 64
    n_shared: int = 2
    n_independent: int = 2
    gamma: float = 1.3
    ghost_batch_size: int = 128
    sparsity: float = 1e-3


SHAPE = Shape()


@dataclass(frozen=True)
class Setting:
    """One race of one contender.

    Attributes:
        model: What is built.
        batch_size: Rows a step; trees ignore it.
        learning_rate: Adam's rate; trees keep their library's own.
        epochs: Passes over the rows at most; for trees one pass is `trees_per_epoch`.
        seed: Seed for the weights and the order of rows.
    """

    model: Model
    batch_size: int
    learning_rate: float
    epochs: int
    seed: int


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model learns, embedding tables apart from the rest."""

    tables: int
    network: int


class Contender(Protocol):
    """A library at its documented use.

    Adding one: a module beside this file with a class of this protocol, and a line in `worker.CONTENDERS`, which also
    says which models it builds. Adding a model: its name in `NeuralModel`, its sizes in `Shape`, and how contenders
    build it.

    Attributes:
        notes: Where the library cannot build the common shape or objective exactly.
    """

    notes: tuple[str, ...]

    def build(self, rows: Rows, setting: Setting) -> int:
        """Builds the dataset and the model; timed apart from training.

        Returns:
            Steps in one epoch.
        """
        ...

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        ...

    def train(self, clock: RaceClock) -> None:
        """Trains for the setting's epochs by the library's own loop, telling the clock of every step.

        The clock ends the race by raising `RaceOverError`, which must pass through.
        """
        ...

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click of each row, in evaluation mode, leaving the training state as it was."""
        ...
