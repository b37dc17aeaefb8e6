"""No shared bottom: the MMoE baseline, whose experts see the inputs themselves."""

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms.base import Bottom, Shared
from shelfrank.nn.inputs import Inputs, InputShape


class NoBottom(Bottom):
    """Hands the concatenated inputs on (Paper: Sec. 3.6, MMoE)."""

    def __init__(self, shape: InputShape, config: NeuralConfig) -> None:
        super().__init__(shape, config)
        self.d_out = shape.d_flat

    def forward(self, inputs: Inputs) -> Shared:
        """Concatenates."""
        return Shared(inputs.flat())
