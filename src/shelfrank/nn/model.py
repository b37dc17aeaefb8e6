"""The architecture figure, a line per box (Paper: Sec. 3.3, Fig. 1)."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.bottoms.base import BottomOutput
from shelfrank.nn.heads import HEADS
from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs
from shelfrank.nn.matching import RowTexts, TextMatching, TrainedLayers
from shelfrank.nn.towers import RelevanceTower, Towers


class Outputs(NamedTuple):
    """The network's output for some rows.

    Attributes:
        logits: One per task.
        relevance: One per relevance class; None where that label is not learned.
        penalty: Added to the loss in training; None where the bottom has none.
    """

    logits: Float[Tensor, "rows n_tasks"]
    relevance: Float[Tensor, "rows n_classes"] | None
    penalty: Float[Tensor, ""] | None


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
    ) -> None:
        super().__init__()
        self.n_tasks = n_tasks
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
        views = self.head(x_final)
        logits = self.towers(views[:, : self.n_tasks]).float()
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
        return Inputs(numerical, self.inputs(categorical), matching)

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by box."""
        boxes = {"embeddings": self.inputs, "bottom": self.bottom, "head": self.head, "towers": self.towers}
        boxes |= {"text": self.text} if self.text else {}
        boxes |= {"relevance_tower": self.relevance_tower} if self.relevance_tower else {}
        return {name: sum(p.numel() for p in box.parameters() if p.requires_grad) for name, box in boxes.items()}
