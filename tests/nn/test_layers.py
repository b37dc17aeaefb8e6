"""Dense stacks, alone and side by side, against loops with the same weights."""

import numpy as np
import pytest
import torch

import plain_loops
from plain_loops import array, block_of, linear_layers, stack_layers
from shelfrank.nn.batch_norm import BatchNorm
from shelfrank.nn.layers import Dense, ParallelDense, ParallelLinear


def test_dense_is_relu_of_linear_layer_by_layer() -> None:
    torch.manual_seed(1)
    layers = Dense(5, (7, 3), batch_norm=False, dropout=0.0)
    x = torch.randn(6, 5)

    expected = [plain_loops.dense(row, linear_layers(layers)) for row in array(x).tolist()]

    np.testing.assert_allclose(array(layers(x)), expected, atol=1e-5)
    assert layers.d_out == 3


def test_without_layers_the_input_passes() -> None:
    layers = Dense(5, (), batch_norm=True, dropout=0.5)
    x = torch.randn(6, 5)
    assert torch.equal(layers(x), x)
    assert layers.d_out == 5


def test_batch_normalisation_comes_between_the_linear_map_and_relu() -> None:
    torch.manual_seed(1)
    layers = Dense(5, (4,), batch_norm=True, dropout=0.0).train()
    x = torch.randn(32, 5)

    mapped = np.array([plain_loops.linear(row, linear_layers(layers)[0]) for row in array(x).tolist()])
    normalised = (mapped - mapped.mean(axis=0)) / np.sqrt(mapped.var(axis=0) + 1e-5)

    np.testing.assert_allclose(array(layers(x)), np.maximum(normalised, 0.0), atol=1e-5)


def test_dropout_acts_on_hidden_units_in_training_only() -> None:
    torch.manual_seed(1)
    layers = Dense(5, (200,), batch_norm=False, dropout=0.25)
    x = torch.randn(8, 5)
    whole = layers.eval()(x)

    dropped = layers.train()(x)

    positive = whole > 0
    kept = dropped[positive] > 0
    assert torch.allclose(dropped[positive][kept], whole[positive][kept] / 0.75)
    assert 0.65 < kept.float().mean() < 0.85
    assert torch.equal(layers.eval()(x), whole)


def test_parallel_linear_maps_each_block_by_its_own_weights() -> None:
    torch.manual_seed(1)
    linear = ParallelLinear(n=3, d_in=4, d_out=2)
    x = torch.randn(5, 12)

    expected = [
        [value for i in range(3) for value in plain_loops.linear(row[4 * i : 4 * i + 4], block_of(linear, i))]
        for row in array(x).tolist()
    ]

    np.testing.assert_allclose(array(linear(x)), expected, atol=1e-5)


@pytest.mark.parametrize("shared_input", [True, False])
def test_parallel_stacks_are_dense_stacks_side_by_side(shared_input: bool) -> None:
    torch.manual_seed(1)
    stacks = ParallelDense(3, 4, (6, 2), batch_norm=False, dropout=0.0, shared_input=shared_input)
    x = torch.randn(5, 4 if shared_input else 12)

    expected = [
        [
            value
            for i in range(3)
            for value in plain_loops.dense(row if shared_input else row[4 * i : 4 * i + 4], stack_layers(stacks, 3, i))
        ]
        for row in array(x).tolist()
    ]

    np.testing.assert_allclose(array(stacks(x)), expected, atol=1e-5)
    assert stacks.d_out == 2


def test_a_lone_row_is_normalised_by_the_running_statistics_and_leaves_them() -> None:
    norm = BatchNorm(2)
    norm(torch.tensor([[1.0, -4.0], [3.0, 0.0], [5.0, 1.0]]))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    row = torch.tensor([[2.0, 7.0]], requires_grad=True)
    found = norm(row)
    found.sum().backward()
    assert torch.equal(found, norm.eval()(row))
    assert row.grad is not None
    assert torch.allclose(row.grad[0], (before["running_var"] + norm.eps).rsqrt())
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
