"""The paper's equations as loops over rows and units, in float64, with a module's own weights."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs
from shelfrank.nn.layers import ParallelDense, ParallelLinear

Layer = tuple[np.ndarray, np.ndarray]
Vector = list[float]


def random_inputs(n_rows: int, shape: InputShape, sizes: Sequence[int], seed: int = 0) -> Inputs:
    numerical, categorical = random_columns(n_rows, shape.n_numerical, sizes, seed)
    tabular = TabularInputs(sizes, shape.d_embedding)
    return Inputs(numerical, tabular(categorical), torch.randn(n_rows, shape.d_matching))


def random_columns(n_rows: int, n_numerical: int, sizes: Sequence[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n_rows) for size in sizes], axis=1)
    numbers = rng.normal(size=(n_rows, n_numerical)).astype(np.float32)
    return torch.from_numpy(numbers), torch.from_numpy(codes.astype(np.int32))


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def bias_of(layer: nn.Linear) -> np.ndarray:
    """The bias, 0 where a normalisation follows and there is none."""
    return np.zeros(layer.out_features) if layer.bias is None else array(layer.bias)


def linear_layers(layers: Iterable[nn.Module]) -> list[Layer]:
    return [(array(layer.weight), bias_of(layer)) for layer in layers if isinstance(layer, nn.Linear)]


def stack_layers(stacks: ParallelDense, n: int, stack: int) -> list[Layer]:
    """The weights of one of n stacks that lie side by side; nothing else here knows how they are stored."""
    layers: list[Layer] = []
    for layer in stacks:
        if isinstance(layer, nn.Linear):
            d_out = layer.out_features // n
            block = slice(stack * d_out, (stack + 1) * d_out)
            layers.append((array(layer.weight)[block], bias_of(layer)[block]))
        elif isinstance(layer, ParallelLinear):
            layers.append(block_of(layer, stack))
    return layers


def block_of(linear: ParallelLinear, block: int) -> Layer:
    bias = np.zeros((linear.n, linear.d_out)) if linear.bias is None else array(linear.bias)
    return array(linear.weight)[block], bias[block]


def linear(x: Sequence[float], layer: Layer) -> Vector:
    """W x + b."""
    weight, bias = layer
    return [sum(float(weight[unit][i]) * x[i] for i in range(len(x))) + float(bias[unit]) for unit in range(len(bias))]


def dense(x: Sequence[float], layers: Sequence[Layer]) -> Vector:
    """Eq. (7): h <- ReLU(W h + b)."""
    h = list(x)
    for layer in layers:
        h = [max(0.0, value) for value in linear(h, layer)]
    return h


def cross(x: Sequence[float], layers: Sequence[Layer]) -> Vector:
    """Eq. (6): h <- h0 * (W h + b) + h."""
    h = list(x)
    for layer in layers:
        product = linear(h, layer)
        h = [x[i] * product[i] + h[i] for i in range(len(x))]
    return h


def softmax(values: Sequence[float]) -> Vector:
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def mixture(gate: Sequence[float], experts: Sequence[Sequence[float]]) -> Vector:
    """Eq. (14): the sum over experts, each times its gate's weight."""
    return [sum(gate[e] * experts[e][i] for e in range(len(experts))) for i in range(len(experts[0]))]
