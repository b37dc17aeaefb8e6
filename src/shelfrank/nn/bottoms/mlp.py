"""A plain shared bottom of dense layers, the yardstick for the others."""

from jaxtyping import Float
from torch import Tensor

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms.base import Bottom
from shelfrank.nn.inputs import Inputs, TabularInputs
from shelfrank.nn.layers import Dense


class MLP(Bottom):
    """Dense layers over the concatenated inputs."""

    def __init__(self, inputs: TabularInputs, config: NeuralConfig) -> None:
        super().__init__()
        self.dense = Dense(inputs.d_flat, config.mlp.layers, config.batch_norm, config.dropout)
        self.d_out = self.dense.d_out

    def forward(self, inputs: Inputs) -> Float[Tensor, "rows d_out"]:
        """Runs the layers."""
        return self.dense(inputs.flat())
