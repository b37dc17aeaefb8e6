"""The architecture figure, a line per box (Paper: Sec. 3.3, Fig. 1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.bottoms.base import BottomOutput
from shelfrank.nn.calibration import Calibration
from shelfrank.nn.heads import HEADS
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs
from shelfrank.nn.matching import RowTexts, TextMatching, TrainedLayers
from shelfrank.nn.position_bias import PositionBias
from shelfrank.nn.towers import RelevanceTower, Towers


class Outputs(NamedTuple):
    """The network's output for some rows.

    Attributes:
        logits: One per task.
        relevance: One per relevance class; None where that label is not learned.
        penalty: Added to the loss in training; None where neither bottom nor gates have one.
    """

    logits: Float[Tensor, "rows n_tasks"]
    relevance: Float[Tensor, "rows n_classes"] | None
    penalty: Float[Tensor, ""] | None


def add_to_first(logits: Float[Tensor, "rows n_tasks"]) -> Float[Tensor, "rows n_tasks"]:
    """Reads every logit but the first as an addition to it: of a cart or a purchase, to the click's.

    Differs: the paper's tasks are independent given the shared layers. A purchase is rare, but it needs a click, which
    is not: its logit starts from that one's, over all rows rather than the clicked ones (arXiv 2411.09705).

    Args:
        logits: The first task's, and what the others add to it.

    Returns:
        The logits.

    Example:
        >>> add_to_first(torch.tensor([[1.0, -2.0, -3.0]]))
        tensor([[ 1., -1., -2.]])
    """
    return torch.cat([logits[:, :1], logits[:, :1] + logits[:, 1:]], dim=1)


class MultiTaskRanker(nn.Module):
    """inputs and text -> shared bottom -> head -> towers -> one logit per task (Paper: Sec. 3.3, Fig. 1).

    Args:
        n_numerical: Numerical columns.
        category_sizes: Codes of each categorical column.
        n_tasks: Tasks with a logit each.
        config: Widths of the boxes.
        n_relevance_classes: Classes of the relevance label (Paper: Sec. 3.5), which gets a gate and a tower of its
            own; 0 leaves that task out.
        trained_layers: The text encoder's trained layers, where `config.text` wants text.
        group: The processes that share a batch, over all of which batch normalisation normalises.
        bias_column: Index of the categorical column by whose codes position biases differ; None has one for every row.

    Attributes:
        position_bias: What training adds to the logits; None where there is none. `forward` never does.
        calibration: Applied in eval mode; None where there is none.
    """

    def __init__(
        self,
        n_numerical: int,
        category_sizes: Sequence[int],
        n_tasks: int,
        config: NeuralConfig,
        n_relevance_classes: int = 0,
        trained_layers: TrainedLayers | None = None,
        group: Processes = ALONE,
        bias_column: int | None = None,
    ) -> None:
        super().__init__()
        self.n_tasks, self.entire_space, self.clip = n_tasks, config.entire_space, config.clip
        bottom = BOTTOMS[config.bottom]
        self.inputs = TabularInputs(category_sizes, config.d_embedding, bottom.embedding_std)
        self.text = None
        if config.text.matching != "none":
            assert trained_layers is not None, "text matching needs the encoder's trained layers"
            self.text = TextMatching(
                trained_layers, config.text.matching, config.batch_norm, config.text.normalise_vectors, group
            )
        d_matching = self.text.d_out if self.text else 0
        shape = InputShape(n_numerical, len(category_sizes), config.d_embedding, d_matching)
        self.bottom = bottom(shape, config, group)
        self.head = HEADS[config.head](self.bottom.d_out, n_tasks + bool(n_relevance_classes), config, group)
        tower = (self.head.d_out, config.tower_layers, config.batch_norm, config.dropout, group)
        self.towers = Towers(n_tasks, *tower)
        self.relevance_tower = RelevanceTower(n_relevance_classes, *tower) if n_relevance_classes else None
        n_positions = config.position_bias.n_positions
        n_codes = 1 if bias_column is None else category_sizes[bias_column]
        self.position_bias = PositionBias(n_positions, n_tasks, bias_column, n_codes) if n_positions else None
        self.calibration = Calibration(n_tasks) if config.calibrate else None

    def forward(
        self,
        numerical: Float[Tensor, "rows n_num"],
        categorical: Int[Tensor, "rows n_cat"],
        texts: RowTexts | None = None,
    ) -> Outputs:
        """Computes the logits of every task and of the relevance classes."""
        return self.of_inputs(self.gather_inputs(numerical, categorical, texts))

    def of_inputs(self, inputs: Inputs) -> Outputs:
        """The same from the bottom's inputs, which alone decide the logits."""
        return self.of_bottom(self.bottom(inputs))

    def of_bottom(self, out: BottomOutput) -> Outputs:
        """The same from the bottom's output."""
        x_final, penalty = out
        if self.training and isinstance(self.head, MMoE) and self.head.balance:
            of_gates = self.head.balance_penalty(x_final)
            penalty = of_gates if penalty is None else penalty + of_gates
        views = self.head(x_final)
        logits = self.towers(views[:, : self.n_tasks]).float()
        if self.entire_space:
            logits = add_to_first(logits)
        if self.calibration is not None and not self.training:
            logits = self.calibration(logits)
        relevance = self.relevance_tower(views[:, -1]).float() if self.relevance_tower else None
        return Outputs(logits, relevance, penalty)

    def gather_inputs(
        self,
        numerical: Float[Tensor, "rows n_num"],
        categorical: Int[Tensor, "rows n_cat"],
        texts: RowTexts | None = None,
    ) -> Inputs:
        """Embeds codes and compares texts: the bottom's inputs."""
        assert (texts is None) == (self.text is None), "a network with text needs texts, and one without takes none"
        matching = numerical.new_empty(len(numerical), 0) if texts is None or self.text is None else self.text(texts)
        return Inputs(self.numbers(numerical), self.inputs(categorical), matching)

    def numbers(self, numerical: Float[Tensor, "rows n_num"]) -> Float[Tensor, "rows n_num"]:
        """The numbers as the bottom reads them, cut off where the config says so."""
        return numerical if self.clip is None else numerical.clamp(-self.clip, self.clip)

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by box."""
        boxes = {"embeddings": self.inputs, "bottom": self.bottom, "head": self.head, "towers": self.towers}
        boxes |= {"text": self.text} if self.text else {}
        boxes |= {"relevance_tower": self.relevance_tower} if self.relevance_tower else {}
        boxes |= {"position_bias": self.position_bias} if self.position_bias else {}
        return {name: sum(p.numel() for p in box.parameters() if p.requires_grad) for name, box in boxes.items()}
