"""DeepCTR-Torch: its `MMOE` and `DCN` (matrix form) with `compile` and `fit`."""

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import DCN
from deepctr_torch.models.multitask import MMOE
from jaxtyping import Float

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import batches, count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows


class DeepCTRTorch:
    """A dictionary of columns given to `fit`."""

    notes: tuple[str, ...] = (
        "gates, towers' and DCN's outputs have no bias",
        "weights start at the library's default deviation of 1e-4",
        "L2 terms that are on by default are off: plain loss for everyone; the loss is summed over the batch",
        "fit itself joins the columns, so that is inside the time",
    )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Makes the columns' dictionary and the model."""
        self.setting = setting
        sparse = [
            SparseFeat(f"c{i}", vocabulary_size=size + 1, embedding_dim=SHAPE.d_embedding)
            for i, size in enumerate(VOCABULARIES)
        ]
        features = [*sparse, *(DenseFeat(f"n{i}", 1) for i in range(N_NUMERICAL))]
        self.columns = {f"c{i}": rows.categorical[:, i] for i in range(len(VOCABULARIES))}
        self.columns |= {f"n{i}": rows.numerical[:, i] for i in range(N_NUMERICAL)}
        if setting.model == "mmoe":
            self.labels = rows.labels.astype(np.float32)
            self.model = MMOE(
                features,
                num_experts=SHAPE.n_experts,
                expert_dnn_hidden_units=SHAPE.expert_widths,
                gate_dnn_hidden_units=(),
                tower_dnn_hidden_units=SHAPE.tower_widths,
                l2_reg_linear=0,
                l2_reg_embedding=0,
                seed=setting.seed,
                task_types=["binary"] * len(TASKS),
                task_names=list(TASKS),
            )
            loss = ["binary_crossentropy"] * len(TASKS)
        else:
            self.labels = rows.labels[:, 0].astype(np.float32)
            self.model = DCN(
                [],
                features,
                cross_num=SHAPE.n_cross_layers,
                cross_parameterization="matrix",
                dnn_hidden_units=SHAPE.deep_widths,
                l2_reg_linear=0,
                l2_reg_embedding=0,
                l2_reg_cross=0,
                seed=setting.seed,
            )
            loss = "binary_crossentropy"
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=setting.learning_rate)
        self.model.compile(self.optimizer, loss)
        return -(-len(rows) // setting.batch_size)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs `fit`."""
        clock.watch(self.model)
        self.model.fit(
            self.columns, self.labels, batch_size=self.setting.batch_size, epochs=self.setting.epochs, verbose=2
        )

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        self.model.eval()
        with torch.no_grad():
            parts = [
                self.model(torch.from_numpy(np.concatenate([categorical, numerical], axis=1).astype(np.float32)))[:, 0]
                for numerical, categorical in batches(rows)
            ]
        self.model.train()
        return torch.cat(parts).numpy()
