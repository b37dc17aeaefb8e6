"""torch-rechub: its `MMOE` and `DCNv2`, `DataGenerator` loaders and trainers' own epoch loops."""

import numpy as np
import torch
from jaxtyping import Float
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models.multi_task import MMOE
from torch_rechub.models.ranking import DCNv2
from torch_rechub.trainers import CTRTrainer, MTLTrainer
from torch_rechub.utils.data import DataGenerator

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import batches, count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows


class TorchRechub:
    """One dictionary of columns, one Python item a row, as the library's tutorials build it."""

    notes: tuple[str, ...] = (
        "batch norm in every MLP, the gates included: the library has no switch",
        "cross layers' bias stands outside the product",
        "the trainers' default weight decay of 1e-5 is off: plain loss for everyone",
    )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Makes the data generator, the model and the trainer."""
        torch.manual_seed(setting.seed)
        self.setting = setting
        dense = [DenseFeature(f"n{i}") for i in range(N_NUMERICAL)]
        sparse = [
            SparseFeature(f"c{i}", vocab_size=size + 1, embed_dim=SHAPE.d_embedding)
            for i, size in enumerate(VOCABULARIES)
        ]
        features = [*sparse, *dense]
        columns = _columns(rows.numerical, rows.categorical)
        optimizer = {"lr": setting.learning_rate}
        if setting.model == "mmoe":
            labels = rows.labels
            tasks = ["classification"] * len(TASKS)
            self.model = MMOE(
                features,
                tasks,
                n_expert=SHAPE.n_experts,
                expert_params={"dims": list(SHAPE.expert_widths)},
                tower_params_list=[{"dims": list(SHAPE.tower_widths)} for _ in tasks],
            )
            self.trainer = MTLTrainer(self.model, task_types=tasks, optimizer_params=optimizer)
        else:
            labels = rows.labels[:, 0]
            self.model = DCNv2(
                features,
                n_cross_layers=SHAPE.n_cross_layers,
                mlp_params={"dims": list(SHAPE.deep_widths)},
                model_structure="parallel",
                use_low_rank_mixture=False,
            )
            self.trainer = CTRTrainer(self.model, optimizer_params=optimizer)
        self.loader, _, _ = DataGenerator(columns, labels).generate_dataloader(
            x_val=columns, y_val=labels, x_test=columns, y_test=labels, batch_size=setting.batch_size
        )
        return len(self.loader)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs the trainer's epochs."""
        clock.watch(self.model)
        for _ in range(self.setting.epochs):
            self.trainer.train_one_epoch(self.loader)

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        self.model.eval()
        parts = []
        with torch.no_grad():
            for numerical, categorical in batches(rows):
                columns = _columns(numerical, categorical)
                probs = self.model({name: torch.from_numpy(column) for name, column in columns.items()})
                parts.append(probs[:, 0] if probs.ndim == 2 else probs)
        self.model.train()
        return torch.cat(parts).numpy()


def _columns(numerical: np.ndarray, categorical: np.ndarray) -> dict[str, np.ndarray]:
    columns = {f"c{i}": np.ascontiguousarray(categorical[:, i]) for i in range(categorical.shape[1])}
    return columns | {f"n{i}": np.ascontiguousarray(numerical[:, i]) for i in range(numerical.shape[1])}
