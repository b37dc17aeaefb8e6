"""DCN-V2 as shared bottom: explicit crosses beside a deep network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms.base import Bottom, BottomOutput
from shelfrank.nn.inputs import Inputs, InputShape
from shelfrank.nn.layers import Dense


class CrossNetwork(nn.Module):
    """Full-rank cross layers: `h <- h0 * (W h + b) + h` (Paper: Sec. 3.3, Eq. (6))."""

    def __init__(self, d: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(d, d) for _ in range(n_layers))

    def forward(self, h0: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Crosses the input with itself once per layer."""
        h = h0
        for layer in self.layers:
            h = torch.addcmul(h, h0, layer(h).to(h0.dtype))
        return h


class DCNV2(Bottom):
    """Cross and deep network in parallel, concatenated (Paper: Sec. 3.3, Eq. (5)-(8))."""

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__(shape, config, group)
        self.cross = CrossNetwork(shape.d_flat, config.dcn_v2.n_cross_layers)
        self.deep = Dense(shape.d_flat, config.dcn_v2.deep_layers, config.batch_norm, config.dropout, group)
        self.d_out = shape.d_flat + self.deep.d_out

    def forward(self, inputs: Inputs) -> BottomOutput:
        """Runs both halves on the same vector."""
        x0 = inputs.flat()
        return BottomOutput(torch.cat([self.cross(x0), self.deep(x0)], dim=1))
