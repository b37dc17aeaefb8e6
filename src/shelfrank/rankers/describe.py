"""Parameter counts of a ranker's network, box by box, beside the paper's."""

from dataclasses import dataclass
from typing import Any

import torch

from shelfrank.config import ExperimentConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import PreparedData
from shelfrank.nn.matching import TrainedLayers
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.neural import NeuralRanker, bias_column, build_network
from shelfrank.rankers.paper import CATEGORY_SIZES, N_NUMERICAL, PAPER_ROWS
from shelfrank.rankers.run import problem
from shelfrank.text.bert import shape_of_cut


@dataclass(frozen=True)
class Description:
    """Parameters of a network.

    Attributes:
        name: The ranker's name.
        label: How tables name it.
        inputs: The inputs that the network was sized for, in words.
        parts: Trainable parameters by box.
        frozen: Parameters that stay as they are.
        paper_label: The paper's name for the ranker; None where it has none.
        paper_trainable: The paper's count of trainable parameters; None where it prints none.
        paper_total: The paper's count with frozen parameters.
    """

    name: str
    label: str
    inputs: str
    parts: dict[str, int]
    frozen: int
    paper_label: str | None
    paper_trainable: int | None
    paper_total: int | None

    @property
    def trainable(self) -> int:
        """Trainable parameters."""
        return sum(self.parts.values())

    @property
    def total(self) -> int:
        """All parameters."""
        return self.trainable + self.frozen

    def as_dict(self) -> dict[str, Any]:
        """The description as plain data."""
        return {**vars(self), "trainable": self.trainable, "total": self.total}

    def lines(self) -> list[str]:
        """The description as a table for people."""
        lines = [f"{self.name}: {self.label}, {self.inputs}"]
        lines += [f"  {part.replace('_', ' '):<18}{count:>12,}" for part, count in self.parts.items()]
        for what, count, paper in (
            ("trainable", self.trainable, self.paper_trainable),
            ("frozen", self.frozen, None),
            ("total", self.total, self.paper_total),
        ):
            beside = f"   paper {paper:,} ({count / paper - 1:+.1%})" if paper else ""
            lines.append(f"  {what:<18}{count:>12,}{beside}")
        return lines if self.paper_label is None else [*lines, f"  in the paper: {self.paper_label}"]


def describe(name: str, config: ExperimentConfig, prepared: PreparedData | None = None) -> Description:
    """Counts the parameters of a ranker's network without its weights.

    Args:
        name: A name in `RANKERS`.
        config: The resolved config.
        prepared: Data whose columns the network reads; None takes a schema of the paper's kind.

    Returns:
        The counts.

    Raises:
        UserError: Where the ranker is no network, or its text model's shape is not to be had.
    """
    spec = ranker_spec(name)
    if spec.build is not NeuralRanker:
        raise UserError(f"describe counts the parameters of networks, but {name} ({spec.label}) is none")
    if prepared is None:
        columns, sizes, tasks, classes, column = N_NUMERICAL, CATEGORY_SIZES, TASKS, 0, None
        inputs = f"{columns} numbers and {len(sizes)} categories of {sizes[0]} codes each, as the paper's may be"
    else:
        of_data = problem(prepared, config)
        columns, sizes, tasks = of_data.n_numerical, of_data.category_sizes, of_data.tasks
        classes, column = of_data.relevance_classes, bias_column(of_data)
        inputs = f"{columns} numbers and {len(sizes)} categories of {prepared.path}"
    neural, frozen, trained = config.neural, 0, None
    if neural.text.matching != "none":
        of_encoder, layers, d = shape_of_cut(neural.text.model, neural.text.trained_layers)
        frozen, trained = sum(parameter.numel() for parameter in of_encoder.parameters()), TrainedLayers(layers, d)
    single = neural.single_task is not None
    with torch.device("meta"):
        network = build_network(
            *(columns, sizes, 1 if single else len(tasks), neural, 0 if single else classes, trained),
            column=column,
        )
    row = PAPER_ROWS.get(name)
    return Description(
        name,
        spec.label_for(config),
        inputs,
        network.parameter_counts(),
        frozen,
        row.label if row else None,
        row.trainable if row else None,
        row.total if row else None,
    )
