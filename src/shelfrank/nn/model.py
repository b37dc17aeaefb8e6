"""The architecture figure, a line per box (Paper: Sec. 3.3, Fig. 1)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.inputs import TabularInputs
from shelfrank.nn.mmoe import MMoE
from shelfrank.nn.towers import RelevanceTower, Towers


class MultiTaskRanker(nn.Module):
    """inputs -> shared bottom -> MMoE -> towers -> one logit per task.

    Args:
        n_numerical: Numerical columns.
        category_sizes: Codes of each categorical column.
        n_tasks: Tasks with a logit each.
        config: Widths of the boxes.
        n_relevance_classes: Classes of the relevance label (Paper: Sec. 3.5), which gets a gate and a tower of its
            own; 0 leaves that task out.
    """

    def __init__(
        self,
        n_numerical: int,
        category_sizes: Sequence[int],
        n_tasks: int,
        config: NeuralConfig,
        n_relevance_classes: int = 0,
    ) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.inputs = TabularInputs(n_numerical, category_sizes, config.d_embedding)
        self.bottom = BOTTOMS[config.bottom](self.inputs, config)
        self.mmoe = MMoE(
            self.bottom.d_out,
            config.mmoe.n_experts,
            config.mmoe.expert_layers,
            n_tasks + bool(n_relevance_classes),
            config.batch_norm,
            config.dropout,
        )
        self.towers = Towers(n_tasks, self.mmoe.d_out, config.tower_layers, config.batch_norm, config.dropout)
        self.relevance_tower = None
        if n_relevance_classes:
            self.relevance_tower = RelevanceTower(
                n_relevance_classes, self.mmoe.d_out, config.tower_layers, config.batch_norm, config.dropout
            )

    def forward(
        self,
        numerical: Float[Tensor, "rows n_num"],
        categorical: Int[Tensor, "rows n_cat"],
        with_relevance: bool = False,
    ) -> Float[Tensor, "rows n_logits"]:
        """Computes the logits of every task; `with_relevance` puts those of the relevance classes behind them."""
        mixtures = self.mmoe(self.bottom(self.inputs(numerical, categorical)))
        logits = self.towers(mixtures[:, : self.n_tasks]).float()
        if not with_relevance:
            return logits
        assert self.relevance_tower is not None, "the model must be built with relevance classes"
        return torch.cat([logits, self.relevance_tower(mixtures[:, -1]).float()], dim=1)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by box; frozen ones would count too."""
        boxes = {"embeddings": self.inputs, "bottom": self.bottom, "mmoe": self.mmoe, "towers": self.towers}
        if self.relevance_tower is not None:
            boxes["relevance_tower"] = self.relevance_tower
        return {name: sum(p.numel() for p in box.parameters()) for name, box in boxes.items()}
