"""No shared bottom: the MMoE baseline, whose experts see the inputs themselves."""

from jaxtyping import Float
from torch import Tensor

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms.base import Bottom
from shelfrank.nn.inputs import Inputs, TabularInputs


class NoBottom(Bottom):
    """Hands the concatenated inputs on (Paper: Sec. 3.6, MMoE)."""

    def __init__(self, inputs: TabularInputs, config: NeuralConfig) -> None:
        super().__init__()
        self.d_out = inputs.d_flat

    def forward(self, inputs: Inputs) -> Float[Tensor, "rows d_out"]:
        """Concatenates."""
        return inputs.flat()
