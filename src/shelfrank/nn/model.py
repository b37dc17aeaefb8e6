"""The architecture figure, a line per box (Paper: Sec. 3.3, Fig. 1)."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.inputs import TabularInputs
from shelfrank.nn.mmoe import MMoE
from shelfrank.nn.towers import Towers


class MultiTaskRanker(nn.Module):
    """inputs -> shared bottom -> MMoE -> towers -> one logit per task."""

    def __init__(self, n_numerical: int, category_sizes: Sequence[int], n_tasks: int, config: NeuralConfig) -> None:
        super().__init__()
        self.inputs = TabularInputs(n_numerical, category_sizes, config.d_embedding)
        self.bottom = BOTTOMS[config.bottom](self.inputs, config)
        self.mmoe = MMoE(
            self.bottom.d_out,
            config.mmoe.n_experts,
            config.mmoe.expert_layers,
            n_tasks,
            config.batch_norm,
            config.dropout,
        )
        self.towers = Towers(n_tasks, self.mmoe.d_out, config.tower_layers, config.batch_norm, config.dropout)

    def forward(
        self, numerical: Float[Tensor, "rows n_num"], categorical: Int[Tensor, "rows n_cat"]
    ) -> Float[Tensor, "rows n_tasks"]:
        """Computes the logits of every task."""
        return self.towers(self.mmoe(self.bottom(self.inputs(numerical, categorical)))).float()

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by box; frozen ones would count too."""
        boxes = {"embeddings": self.inputs, "bottom": self.bottom, "mmoe": self.mmoe, "towers": self.towers}
        return {name: sum(p.numel() for p in box.parameters()) for name, box in boxes.items()}
