"""shelfrank: its networks and its training loop."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import DCNV2Config, MMoEConfig, NeuralConfig, TrainConfig
from shelfrank.data.batch import ShuffledBatches
from shelfrank.data.prepared import Column, Split
from shelfrank.nn.bottoms.dcn_v2 import DCNV2
from shelfrank.nn.inputs import TabularInputs
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.schema import Side
from shelfrank.train.loop import fit, predict_logits
from shelfrank.train.protocol import pick_protocol

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows

VALIDATION_ROWS = 1_000
"""`fit` validates after every epoch; no row of these decides anything, as patience is as long as the race."""


class Shelfrank:
    """The prepared arrays given to `fit`; batch size 0 leaves batch, rate and batch norm to the defaults."""

    def __init__(self, precision: Literal["auto", "fp32"], batch_norm: bool = False) -> None:
        self.precision: Literal["auto", "fp32"] = precision
        self.batch_norm = batch_norm
        self.notes: tuple[str, ...] = ("gates have no bias, as in the paper",)

    def build(self, rows: Rows, setting: Setting) -> int:
        """Wraps the arrays and makes the model."""
        torch.manual_seed(setting.seed)
        self.n_tasks = len(TASKS) if setting.model == "mmoe" else 1
        self.seed = setting.seed
        self.split = _split(rows, self.n_tasks)
        by_default = setting.batch_size == 0
        self.config = TrainConfig(
            batch_size=None if by_default else setting.batch_size,
            learning_rate=None if by_default else setting.learning_rate,
            epochs=setting.epochs, patience=setting.epochs, precision=self.precision,
        )  # fmt: skip
        neural = NeuralConfig(
            d_embedding=SHAPE.d_embedding, bottom="none", tower_layers=SHAPE.tower_widths,
            mmoe=MMoEConfig(n_experts=SHAPE.n_experts, expert_layers=SHAPE.expert_widths),
            dcn_v2=DCNV2Config(n_cross_layers=SHAPE.n_cross_layers, deep_layers=SHAPE.deep_widths),
            batch_norm=NeuralConfig().batch_norm if by_default else self.batch_norm,
        )  # fmt: skip
        sizes = [size + 1 for size in VOCABULARIES]
        if setting.model == "mmoe":
            self.model: nn.Module = MultiTaskRanker(N_NUMERICAL, sizes, self.n_tasks, neural)
        else:
            self.model = SingleTaskDCNV2(sizes, neural)
        protocol = pick_protocol(self.config, len(rows))
        norm = "with" if neural.batch_norm else "without"
        self.notes += (*protocol.reasons[:1], *protocol.reasons[-1:]) if by_default else protocol.reasons[-1:]
        self.notes += (f"batch {protocol.batch_size}: {norm} batch norm",)
        return ShuffledBatches(self.split, protocol.batch_size, self.seed).n_steps

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs `fit`."""
        clock.watch(self.model)
        weights = [1.0 / self.n_tasks] * self.n_tasks
        valid = self.split.searches(np.arange(VALIDATION_ROWS))
        fit(self.model, self.split, valid, self.config, weights, self.seed)

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        logits = predict_logits(self.model, _split(rows, self.n_tasks), bf16=False)
        self.model.train()
        return logits[:, 0].numpy()


class SingleTaskDCNV2(nn.Module):
    """The package's inputs and DCN-V2 bottom with one linear output, which is the peers' DCN-V2."""

    def __init__(self, sizes: list[int], config: NeuralConfig) -> None:
        super().__init__()
        self.inputs = TabularInputs(N_NUMERICAL, sizes, config.d_embedding)
        self.bottom = DCNV2(self.inputs, config)
        self.out = nn.Linear(self.bottom.d_out, 1)

    def forward(
        self, numerical: Float[Tensor, "rows 30"], categorical: Int[Tensor, "rows 20"]
    ) -> Float[Tensor, "rows 1"]:
        """Gives the click's logit."""
        return self.out(self.bottom(self.inputs(numerical, categorical))).float()


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
