"""A plain shared bottom of dense layers, the yardstick for the others."""

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms.base import Bottom, Shared
from shelfrank.nn.inputs import Inputs, InputShape
from shelfrank.nn.layers import Dense


class MLP(Bottom):
    """Dense layers over the concatenated inputs."""

    def __init__(self, shape: InputShape, config: NeuralConfig) -> None:
        super().__init__(shape, config)
        self.dense = Dense(shape.d_flat, config.mlp.layers, config.batch_norm, config.dropout)
        self.d_out = self.dense.d_out

    def forward(self, inputs: Inputs) -> Shared:
        """Runs the layers."""
        return Shared(self.dense(inputs.flat()))
