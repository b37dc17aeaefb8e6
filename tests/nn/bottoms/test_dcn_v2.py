"""DCN-V2's cross and deep halves and their concatenation, against loops with the same weights."""

import numpy as np
import torch

import plain_loops
from plain_loops import array, linear_layers, random_inputs
from shelfrank.nn.bottoms.dcn_v2 import DCNV2, CrossNetwork
from shelfrank.nn.inputs import InputShape
from tiny import tiny_network


def test_cross_layer_by_hand() -> None:
    # h0 = (1, 2), W h0 + b = (1, 2 + 1): h0 * (1, 3) + h0 = (2, 8).
    network = CrossNetwork(2, 1)
    network.load_state_dict({"layers.0.weight": torch.eye(2), "layers.0.bias": torch.tensor([0.0, 1.0])})
    assert network(torch.tensor([[1.0, 2.0]])).tolist() == [[2.0, 8.0]]


def test_cross_network_follows_equation_6() -> None:
    torch.manual_seed(2)
    network = CrossNetwork(5, 3)
    x = torch.randn(7, 5)
    layers = linear_layers(network.layers)

    expected = [plain_loops.cross(row, layers) for row in array(x).tolist()]

    np.testing.assert_allclose(array(network(x)), expected, rtol=1e-5, atol=1e-5)


def test_cross_and_deep_see_the_same_input_and_are_concatenated() -> None:
    torch.manual_seed(2)
    sizes = [4, 3]
    shape = InputShape(3, len(sizes), d_embedding=2, d_matching=4)
    config = tiny_network("dcn_v2", "neural.batch_norm=false", "neural.dcn_v2.deep_layers=[6, 5]")
    bottom = DCNV2(shape, config)
    inputs = random_inputs(8, shape, sizes)
    crosses = linear_layers(bottom.cross.layers)

    expected = [
        plain_loops.cross(row, crosses) + plain_loops.dense(row, linear_layers(bottom.deep))
        for row in array(inputs.flat()).tolist()
    ]

    np.testing.assert_allclose(array(bottom(inputs).x_final), expected, rtol=1e-5, atol=1e-5)
    assert len(crosses) == config.dcn_v2.n_cross_layers
    assert bottom.d_out == 3 + 4 + 2 * 2 + 5
