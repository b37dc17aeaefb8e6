"""No shared bottom: the MMoE baseline, whose experts see the inputs themselves."""

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms.base import Bottom, BottomOutput
from shelfrank.nn.inputs import Inputs, InputShape


class NoBottom(Bottom):
    """Hands the concatenated inputs on (Paper: Sec. 3.6, MMoE)."""

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__(shape, config, group)
        self.d_out = shape.d_flat

    def forward(self, inputs: Inputs) -> BottomOutput:
        """Concatenates."""
        return BottomOutput(inputs.flat())
