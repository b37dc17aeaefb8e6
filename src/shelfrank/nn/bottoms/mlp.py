"""A plain shared bottom of dense layers, the yardstick for the others."""

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms.base import Bottom, BottomOutput
from shelfrank.nn.inputs import Inputs, InputShape
from shelfrank.nn.layers import Dense


class MLP(Bottom):
    """Dense layers over the concatenated inputs."""

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__(shape, config, group)
        self.dense = Dense(shape.d_flat, config.mlp.layers, config.batch_norm, config.dropout, group)
        self.d_out = self.dense.d_out

    def forward(self, inputs: Inputs) -> BottomOutput:
        """Runs the layers."""
        return BottomOutput(self.dense(inputs.flat()))
