"""FuxiCTR: MMoE and DCN-V2 put together from its layers, trained by its `BaseModel.fit` from an .npz file.

The models of its zoo live in the source repository, not in the package, so they are composed here as the zoo does it,
with a numerical embedded into one dimension instead of the embedding's width, to keep the shape equal.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel, MultiTaskModel
from fuxictr.pytorch.torch_utils import seed_everything
from jaxtyping import Float
from torch import Tensor, nn

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import batches, count_parameters
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows

NEVER = 10**9


class FuxiCTR:
    """An .npz file read by `RankDataLoader`, with its default of one loading process."""

    notes: tuple[str, ...] = (
        "each numerical goes through a learnt scale: the library embeds numbers, here into one dimension",
        "clips the gradient's norm at 10, its default",
        "Xavier weights and embeddings that start at a deviation of 1e-4, its defaults",
        "one loading process beside the training, its default",
    )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Writes the .npz file, opens its loader and makes the model."""
        seed_everything(setting.seed)
        self.setting = setting
        self.folder = tempfile.TemporaryDirectory(prefix="fuxictr-")
        labels = TASKS if setting.model == "mmoe" else TASKS[:1]
        self.feature_map = _feature_map(self.folder.name, labels)
        columns = {f"c{i}": rows.categorical[:, i] for i in range(len(VOCABULARIES))}
        columns |= {f"n{i}": rows.numerical[:, i] for i in range(N_NUMERICAL)}
        columns |= {task: rows.labels[:, at] for at, task in enumerate(labels)}
        path = str(Path(self.folder.name) / "train.npz")
        np.savez(path, allow_pickle=False, **columns)
        self.loader, _ = RankDataLoader(
            self.feature_map, stage="train", train_data=path, batch_size=setting.batch_size, shuffle=True
        )
        options = {
            "learning_rate": setting.learning_rate,
            "optimizer": "adam",
            "loss": "binary_crossentropy",
            "verbose": 0,
            "model_root": self.folder.name,
            "metrics": ["AUC"],
            "eval_steps": NEVER,
        }
        self.model = (FuxiMMoE if setting.model == "mmoe" else FuxiDCNV2)(self.feature_map, **options)
        return len(self.loader)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Runs `fit`, without the library's own evaluation."""
        clock.watch(self.model)
        self.model.fit(self.loader, epochs=self.setting.epochs)

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        self.model.eval()
        parts = []
        with torch.no_grad():
            for numerical, categorical in batches(rows):
                columns = {f"c{i}": torch.from_numpy(categorical[:, i]) for i in range(len(VOCABULARIES))}
                columns |= {f"n{i}": torch.from_numpy(numerical[:, i]) for i in range(N_NUMERICAL)}
                output = self.model(columns)
                parts.append(next(iter(output.values()))[:, 0])
        self.model.train()
        return torch.cat(parts).numpy()


class FuxiMMoE(MultiTaskModel):
    """Experts, gates and towers from `MLP_Block`."""

    def __init__(self, feature_map: FeatureMap, learning_rate: float, **options: Any) -> None:
        super().__init__(
            feature_map, model_id="MMoE", task=["binary_classification"] * len(TASKS), num_tasks=len(TASKS), **options
        )
        d_in = feature_map.sum_emb_out_dim()
        self.embedding_layer = FeatureEmbedding(feature_map, SHAPE.d_embedding)
        self.experts = nn.ModuleList(MLP_Block(d_in, list(SHAPE.expert_widths)) for _ in range(SHAPE.n_experts))
        self.gates = nn.ModuleList(MLP_Block(d_in, [], output_dim=SHAPE.n_experts) for _ in TASKS)
        self.towers = nn.ModuleList(
            MLP_Block(SHAPE.expert_widths[-1], list(SHAPE.tower_widths), output_dim=1) for _ in TASKS
        )
        self.compile(options["optimizer"], options["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gives one prediction a task."""
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        output = {}
        for task, gate, tower, activation in zip(TASKS, self.gates, self.towers, self.output_activation, strict=True):
            weights = gate(x).softmax(dim=-1).unsqueeze(-1)
            output[f"{task}_pred"] = activation(tower((weights * experts).sum(dim=1)))
        return output


class FuxiDCNV2(BaseModel):
    """`CrossNetV2` beside an `MLP_Block`."""

    def __init__(self, feature_map: FeatureMap, learning_rate: float, **options: Any) -> None:
        super().__init__(feature_map, model_id="DCNv2", **options)
        d_in = feature_map.sum_emb_out_dim()
        self.embedding_layer = FeatureEmbedding(feature_map, SHAPE.d_embedding)
        self.crossnet = CrossNetV2(d_in, SHAPE.n_cross_layers)
        self.parallel_dnn = MLP_Block(d_in, list(SHAPE.deep_widths))
        self.fc = nn.Linear(d_in + SHAPE.deep_widths[-1], 1)
        self.compile(options["optimizer"], options["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gives the click's prediction."""
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        joined = torch.cat([self.crossnet(x), self.parallel_dnn(x)], dim=-1)
        return {"y_pred": self.output_activation(self.fc(joined))}


def _feature_map(folder: str, labels: Sequence[str]) -> FeatureMap:
    feature_map = FeatureMap("throughput", folder)
    for i, size in enumerate(VOCABULARIES):
        feature_map.features[f"c{i}"] = {"source": "", "type": "categorical", "vocab_size": size + 1}
    for i in range(N_NUMERICAL):
        feature_map.features[f"n{i}"] = {"source": "", "type": "numeric", "embedding_dim": 1}
    feature_map.labels = list(labels)
    feature_map.default_emb_dim = SHAPE.d_embedding
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    Path(folder, "throughput").mkdir()
    return feature_map
