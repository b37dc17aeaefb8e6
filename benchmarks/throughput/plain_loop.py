"""The baseline: the same shape in plain PyTorch, with batches indexed from tensors in memory."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from .clock import RaceClock
from .contender import MULTI_TASK, SHAPE, Model, Parameters, Setting
from .rows import N_NUMERICAL, TASKS, VOCABULARIES, Rows

PREDICT_BATCH = 8192


class PlainLoop:
    """A loop of twenty lines over a model that keeps its own initial weights.

    Args:
        models: How each model is made, given the number of tasks; it maps numbers and levels to logits.
        notes: Where these cannot have the common shape or objective exactly.
        bf16: Whether matrix products are computed in bfloat16 in training.
    """

    def __init__(
        self, models: Mapping[Model, Callable[[int], nn.Module]], notes: tuple[str, ...] = (), bf16: bool = False
    ) -> None:
        self.models = models
        self.notes = notes
        self.bf16 = bf16

    def build(self, rows: Rows, setting: Setting) -> int:
        """Puts the rows into tensors and makes the model."""
        torch.manual_seed(setting.seed)
        self.setting = setting
        self.numerical = torch.from_numpy(rows.numerical)
        self.categorical = torch.from_numpy(rows.categorical)
        n_tasks = len(TASKS) if setting.model in MULTI_TASK else 1
        self.labels = torch.from_numpy(rows.labels[:, :n_tasks]).float()
        self.model = self.models[setting.model](n_tasks)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=setting.learning_rate)
        return -(-len(rows) // setting.batch_size)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.model)

    def train(self, clock: RaceClock) -> None:
        """Trains on shuffled batches."""
        clock.watch(self.model)
        self.model.train()
        for _ in range(self.setting.epochs):
            for batch in torch.randperm(len(self.labels)).split(self.setting.batch_size):
                with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                    logits = self.model(self.numerical[batch], self.categorical[batch])
                loss = functional.binary_cross_entropy_with_logits(logits.float(), self.labels[batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        self.model.eval()
        with torch.no_grad():
            parts = [
                self.model(torch.from_numpy(numerical), torch.from_numpy(categorical))[:, 0]
                for numerical, categorical in batches(rows)
            ]
        self.model.train()
        return torch.cat(parts).numpy()


def batches(rows: Rows) -> Sequence[tuple[Float[np.ndarray, "batch 30"], Int[np.ndarray, "batch 20"]]]:
    """Cuts rows into pieces that a model scores at once."""
    starts = range(0, len(rows), PREDICT_BATCH)
    return [(rows.numerical[at : at + PREDICT_BATCH], rows.categorical[at : at + PREDICT_BATCH]) for at in starts]


def count_parameters(model: nn.Module) -> Parameters:
    """Counts a PyTorch model's parameters: those of `nn.Embedding` modules, and all others."""
    tables = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding))
    return Parameters(tables, sum(weight.numel() for weight in model.parameters() if weight.requires_grad) - tables)


class PlainInputs(nn.Module):
    """One embedding table a categorical, beside the numbers."""

    d_out = len(VOCABULARIES) * SHAPE.d_embedding + N_NUMERICAL

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size + 1, SHAPE.d_embedding) for size in VOCABULARIES)

    def forward(
        self, numerical: Float[Tensor, "rows 30"], categorical: Int[Tensor, "rows 20"]
    ) -> Float[Tensor, "rows d"]:
        """Looks the levels up."""
        embedded = [table(column) for table, column in zip(self.tables, categorical.unbind(1), strict=True)]
        return torch.cat([*embedded, numerical], dim=1)


class PlainMMoE(nn.Module):
    """Experts shared by the tasks, a linear softmax gate and a tower for each task."""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.inputs = PlainInputs()
        self.experts = nn.ModuleList(mlp(PlainInputs.d_out, SHAPE.expert_widths) for _ in range(SHAPE.n_experts))
        self.gates = nn.ModuleList(nn.Linear(PlainInputs.d_out, SHAPE.n_experts) for _ in range(n_tasks))
        self.towers = nn.ModuleList(
            nn.Sequential(mlp(SHAPE.expert_widths[-1], SHAPE.tower_widths), nn.Linear(SHAPE.tower_widths[-1], 1))
            for _ in range(n_tasks)
        )

    def forward(
        self, numerical: Float[Tensor, "rows 30"], categorical: Int[Tensor, "rows 20"]
    ) -> Float[Tensor, "rows tasks"]:
        """Gives the logits."""
        x = self.inputs(numerical, categorical)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        logits = []
        for gate, tower in zip(self.gates, self.towers, strict=True):
            weights = gate(x).softmax(dim=1).unsqueeze(1)
            logits.append(tower((weights @ experts).squeeze(1)))
        return torch.cat(logits, dim=1)


class PlainDCNV2(nn.Module):
    """Full-rank cross layers beside a deep part, joined by one linear output."""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.inputs = PlainInputs()
        d_in = PlainInputs.d_out
        self.cross = nn.ModuleList(nn.Linear(d_in, d_in) for _ in range(SHAPE.n_cross_layers))
        self.deep = mlp(d_in, SHAPE.deep_widths)
        self.out = nn.Linear(d_in + SHAPE.deep_widths[-1], n_tasks)

    def forward(
        self, numerical: Float[Tensor, "rows 30"], categorical: Int[Tensor, "rows 20"]
    ) -> Float[Tensor, "rows tasks"]:
        """Gives the logits."""
        x = crossed = self.inputs(numerical, categorical)
        for layer in self.cross:
            crossed = x * layer(crossed) + crossed
        return self.out(torch.cat([crossed, self.deep(x)], dim=1))


PLAIN_MODELS: dict[Model, Callable[[int], nn.Module]] = {"mmoe": PlainMMoE, "dcn_v2": PlainDCNV2}
"""The models of this module."""


def mlp(d_in: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers, each followed by ReLU."""
    layers: list[nn.Module] = []
    for before, after in zip((d_in, *widths), widths, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)
