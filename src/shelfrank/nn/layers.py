"""Dense layers that several boxes of the architecture share."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.batch_norm import BatchNorm


class Dense(nn.Sequential):
    """Hidden layers, each Linear, optional batch normalisation, ReLU, dropout (Paper: Sec. 3.3, Eq. (7)).

    Unstated: normalisation. The paper names none; without it a log of less than millions of rows trains slowly.
    """

    def __init__(
        self, d_in: int, layers: Sequence[int], batch_norm: bool, dropout: float, group: Processes = ALONE
    ) -> None:
        super().__init__()
        for index, d_out in enumerate(layers):
            # A normalisation takes every constant out again, so a bias before it would only drift.
            self.add_module(f"linear_{index}", nn.Linear(d_in, d_out, bias=not batch_norm))
            if batch_norm:
                self.add_module(f"norm_{index}", BatchNorm(d_out, group))
            self.add_module(f"relu_{index}", nn.ReLU())
            if dropout:
                self.add_module(f"dropout_{index}", nn.Dropout(dropout))
            d_in = d_out
        self.d_out = d_in


class ParallelLinear(nn.Module):
    """n linear maps side by side: map i sees block i of the input and writes block i of the output."""

    def __init__(self, n: int, d_in: int, d_out: int, bias: bool = True) -> None:
        super().__init__()
        self.n, self.d_in, self.d_out = n, d_in, d_out
        bound = 1.0 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(n, d_out, d_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, d_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Float[Tensor, "rows n_times_d_in"]) -> Float[Tensor, "rows n_times_d_out"]:
        """Applies each map to its block."""
        blocks = x.split(self.d_in, dim=1)
        # Numerics: a product per block reads the block in place; one batched product would copy the whole input.
        biases = [None] * self.n if self.bias is None else self.bias
        outputs = [nn.functional.linear(*parts) for parts in zip(blocks, self.weight, biases, strict=True)]
        return torch.cat(outputs, dim=1)


class ParallelDense(nn.Sequential):
    """n stacks of hidden layers side by side, as `Dense`; `shared_input` feeds every stack the same input."""

    def __init__(
        self,
        n: int,
        d_in: int,
        layers: Sequence[int],
        batch_norm: bool,
        dropout: float,
        shared_input: bool,
        group: Processes = ALONE,
    ) -> None:
        super().__init__()
        for index, d_out in enumerate(layers):
            # The first layers of stacks that share their input are one wide matrix product.
            first = shared_input and index == 0
            bias = not batch_norm
            linear = nn.Linear(d_in, n * d_out, bias) if first else ParallelLinear(n, d_in, d_out, bias)
            self.add_module(f"linear_{index}", linear)
            if batch_norm:
                self.add_module(f"norm_{index}", BatchNorm(n * d_out, group))
            self.add_module(f"relu_{index}", nn.ReLU())
            if dropout:
                self.add_module(f"dropout_{index}", nn.Dropout(dropout))
            d_in = d_out
        self.d_out = d_in
