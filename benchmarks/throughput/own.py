"""shelfrank: its networks and its training loop."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from shelfrank.config import DCNV2Config, FTTransformerConfig, MMoEConfig, NeuralConfig, TabNetConfig, TrainConfig
from shelfrank.core.schema import Side
from shelfrank.data.batch import ShuffledBatches, SplitRows
from shelfrank.data.prepared import Column, Split
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.train.losses import LossWeights
from shelfrank.train.predict import predict
from shelfrank.train.protocol import pick_protocol
from shelfrank.train.trainer import Trainer

from .clock import RaceClock
from .contender import MULTI_TASK, SHAPE, Parameters, Setting
from .plain_loop import count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows

MODELS: dict[str, dict[str, Any]] = {
    "mmoe": {"bottom": "none", "head": "mmoe", "tower_layers": SHAPE.tower_widths},
    "dcn_v2": {"bottom": "dcn_v2", "head": "none", "tower_layers": ()},
    "ft_transformer": {"bottom": "ft_transformer", "head": "none", "tower_layers": (), "d_embedding": SHAPE.d_token},
    "tabnet": {"bottom": "tabnet", "head": "none", "tower_layers": ()},
}
"""What of `NeuralConfig` makes each model; one task without a head is a tower's last linear layer on the bottom."""

VALIDATION_ROWS = 1_000
"""`fit` validates after every epoch; no row of these decides anything, as patience is as long as the race."""


class Shelfrank:
    """The prepared arrays given to `fit`; batch size 0 leaves batch, rate and batch norm to the defaults."""

    def __init__(self, precision: Literal["auto", "fp32"], batch_norm: bool = False) -> None:
        self.precision: Literal["auto", "fp32"] = precision
        self.batch_norm = batch_norm
        self.notes: tuple[str, ...] = (
            "gates have no bias, as in the paper",
            "FT-Transformer: one linear layer more, that of Eq. (12)",
            "TabNet: a category's whole embedding has one mask, and untrained masks are even",
        )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Wraps the arrays and makes the model."""
        torch.manual_seed(setting.seed)
        self.n_tasks = len(TASKS) if setting.model in MULTI_TASK else 1
        self.seed = setting.seed
        self.split = _split(rows, self.n_tasks)
        by_default = setting.batch_size == 0
        self.config = TrainConfig(
            batch_size=None if by_default else setting.batch_size,
            learning_rate=None if by_default else setting.learning_rate,
            epochs=setting.epochs, patience=setting.epochs, precision=self.precision,
        )  # fmt: skip
        common = {
            "d_embedding": SHAPE.d_embedding,
            "mmoe": MMoEConfig(n_experts=SHAPE.n_experts, expert_layers=SHAPE.expert_widths),
            "dcn_v2": DCNV2Config(n_cross_layers=SHAPE.n_cross_layers, deep_layers=SHAPE.deep_widths),
            "ft_transformer": FTTransformerConfig(
                n_blocks=SHAPE.n_blocks, n_heads=SHAPE.n_heads, ffn_multiplier=SHAPE.ffn_multiplier
            ),
            "tabnet": TabNetConfig(
                n_steps=SHAPE.n_decision_steps,
                d_decision=SHAPE.d_decision,
                d_attention=SHAPE.d_attention,
                n_shared=SHAPE.n_shared,
                n_independent=SHAPE.n_independent,
                gamma=SHAPE.gamma,
                ghost_batch_size=SHAPE.ghost_batch_size,
                sparsity=SHAPE.sparsity,
            ),
            "batch_norm": NeuralConfig().batch_norm if by_default else self.batch_norm,
        }
        neural = NeuralConfig.model_validate(common | MODELS[setting.model])
        self.model = MultiTaskRanker(N_NUMERICAL, [size + 1 for size in VOCABULARIES], self.n_tasks, neural)
        protocol = pick_protocol(self.config, len(rows))
        norm = "with" if neural.batch_norm else "without"
        self.notes += (*protocol.reasons[:1], *protocol.reasons[-1:]) if by_default else protocol.reasons[-1:]
        self.notes += (f"batch {protocol.batch_size}: {norm} batch norm",)
        return ShuffledBatches(SplitRows(self.split), protocol.batch_size, self.seed).n_steps

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs the trainer."""
        clock.watch(self.model)
        weights = LossWeights([1.0 / self.n_tasks] * self.n_tasks)
        valid = self.split.searches(np.arange(VALIDATION_ROWS))
        Trainer(self.model, self.split, valid, self.config, weights, self.seed).run()

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        logits = predict(self.model, SplitRows(_split(rows, self.n_tasks)), bf16=False).logits
        self.model.train()
        return logits[:, 0].numpy()


def _split(rows: Rows, n_tasks: int) -> Split:
    nobody = np.full(len(rows), -1, dtype=np.int32)
    return Split(
        name="train", tasks=TASKS[:n_tasks], numerical=rows.numerical, categorical=rows.categorical,
        labels=np.ascontiguousarray(rows.labels[:, :n_tasks]), query_idx=nobody, product_idx=nobody,
        customer_idx=nobody, position=nobody, tie_keys=np.zeros(len(rows), dtype=np.uint64),
        search_offsets=np.arange(len(rows) + 1, dtype=np.int64),
        numerical_columns=tuple(Column(f"n{i}", Side.CONTEXT, 0, 0.0, 0.0) for i in range(N_NUMERICAL)),
        categorical_columns=tuple(
            Column(f"c{i}", Side.CONTEXT, size + 1, 0.0, 0.0) for i, size in enumerate(VOCABULARIES)
        ),
    )  # fmt: skip
