"""pytorch-frame: its `FTTransformer` and `TabNet`, fed by its `DataLoader` in the loop of its documentation."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch_frame import TensorFrame, stype
from torch_frame.data import DataLoader, Dataset
from torch_frame.nn import FTTransformer, FTTransformerConvs, TabNet

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import PREDICT_BATCH, count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows


class PyTorchFrame:
    """A data frame, materialised."""

    notes: tuple[str, ...] = (
        "FT-Transformer: blocks normalise after each half instead of before, and all compute every token",
        "FT-Transformer: ReLU of twice the tokens' width where the others have ReGLU: as many weights",
        "FT-Transformer: dropout, 0.2 and without a switch in the model, is off in its blocks: plain loss for everyone",
        "TabNet: numbers are repeated to an embedding's width, and a mask has a value for each of its columns",
        "TabNet: softmax instead of sparsemax, no batch norm in the gated layers, ghost batches of 512",
        "tables hold the levels of the training rows only",
    )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Materialises the dataset and makes the model."""
        torch.manual_seed(setting.seed)
        self.setting = setting
        stypes = {f"n{i}": stype.numerical for i in range(N_NUMERICAL)}
        stypes |= {f"c{i}": stype.categorical for i in range(len(VOCABULARIES))}
        stypes[TASKS[0]] = stype.numerical
        self.dataset = Dataset(_frame(rows), stypes, target_col=TASKS[0]).materialize()
        frame = self.dataset.tensor_frame
        columns = {"col_stats": self.dataset.col_stats, "col_names_dict": frame.col_names_dict}
        self.model = (_tabnet if setting.model == "tabnet" else _ft_transformer)(columns)
        self.loader = DataLoader(frame, batch_size=setting.batch_size, shuffle=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=setting.learning_rate)
        return len(self.loader)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs the documented loop."""
        clock.watch(self.model)
        self.model.train()
        for _ in range(self.setting.epochs):
            for frame in self.loader:
                logits, penalty = self._forward(frame)
                loss = functional.binary_cross_entropy_with_logits(logits[:, 0], frame.y.float()) + penalty
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    def _forward(self, frame: TensorFrame) -> tuple[Tensor, Tensor | float]:
        if not isinstance(self.model, TabNet):
            return self.model(frame), 0.0
        logits, entropy = self.model(frame, return_reg=True)
        return logits, SHAPE.sparsity * entropy

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        self.model.eval()
        frame = self.dataset.convert_to_tensor_frame(_frame(rows))
        with torch.no_grad():
            parts = [self.model(part)[:, 0] for part in DataLoader(frame, batch_size=PREDICT_BATCH)]
        self.model.train()
        return torch.cat(parts).numpy()


def _ft_transformer(columns: dict[str, Any]) -> FTTransformer:
    model = FTTransformer(channels=SHAPE.d_token, out_channels=1, num_layers=SHAPE.n_blocks, **columns)
    model.backbone = FTTransformerConvs(
        channels=SHAPE.d_token,
        feedforward_channels=2 * SHAPE.d_token,
        num_layers=SHAPE.n_blocks,
        nhead=SHAPE.n_heads,
        dropout=0.0,
    )
    return model


def _tabnet(columns: dict[str, Any]) -> TabNet:
    return TabNet(
        out_channels=1,
        num_layers=SHAPE.n_decision_steps,
        split_feat_channels=SHAPE.d_decision,
        split_attn_channels=SHAPE.d_attention,
        gamma=SHAPE.gamma,
        num_shared_glu_layers=SHAPE.n_shared,
        num_dependent_glu_layers=SHAPE.n_independent,
        cat_emb_channels=SHAPE.d_embedding,
        **columns,
    )


def _frame(rows: Rows) -> pd.DataFrame:
    columns = {f"n{i}": rows.numerical[:, i] for i in range(N_NUMERICAL)}
    columns |= {f"c{i}": rows.categorical[:, i] for i in range(len(VOCABULARIES))}
    return pd.DataFrame({**columns, TASKS[0]: rows.labels[:, 0]})
