"""The position biases against a plain loop; what they do with unknown positions, and that nothing scores by them."""

import numpy as np
import pytest
import torch

from shelfrank.nn.model import MultiTaskRanker
from shelfrank.nn.position_bias import PositionBias
from tiny import tiny_network

POSITIONS = [1, 2, 3, 9, 0, -1, 2]
CODES = [[0, 1], [1, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, 1]]


def filled(n_positions: int, column: int | None = None, n_codes: int = 1) -> PositionBias:
    torch.manual_seed(0)
    bias = PositionBias(n_positions, 2, column, n_codes)
    torch.nn.init.normal_(bias.table)
    bias.count(torch.tensor(POSITIONS), None if column is None else torch.tensor(CODES)[:, column])
    return bias


def by_loop(bias: PositionBias, column: int | None) -> list[list[float]]:
    """Each row's bias minus the mean over the rows whose position is known; 0 where it is not."""
    table = bias.table.detach().numpy()
    own = {}
    for row, position in enumerate(POSITIONS):
        if position >= 1:
            code = 0 if column is None else CODES[row][column]
            own[row] = table[code * bias.n_positions + min(position, bias.n_positions) - 1]
    mean = sum(own.values()) / len(own)
    return [(own[row] - mean).tolist() if row in own else [0.0, 0.0] for row in range(len(POSITIONS))]


@pytest.mark.parametrize("column", [None, 0, 1])
@pytest.mark.parametrize("n_positions", [1, 2, 3, 20])
def test_biases_are_the_loops(n_positions: int, column: int | None) -> None:
    bias = filled(n_positions, column, 1 if column is None else 2)
    found = bias(torch.tensor(POSITIONS), torch.tensor(CODES))
    np.testing.assert_allclose(found.detach().numpy(), by_loop(bias, column), atol=1e-6)


def test_biases_start_at_nothing_and_average_to_nothing_over_the_counted_rows() -> None:
    positions, codes = torch.tensor(POSITIONS), torch.tensor(CODES)
    assert not PositionBias(3, 2)(positions, codes).any()
    known = positions >= 1
    assert filled(3)(positions[known], codes[known]).mean(dim=0).abs().max().item() < 1e-6


def test_unknown_positions_alone_leave_nothing_to_centre() -> None:
    bias = PositionBias(3, 2)
    none = torch.zeros(2, 0, dtype=torch.int32)
    bias.count(torch.tensor([0, -1]), None)
    assert bias.share.tolist() == [0.0, 0.0, 0.0]
    assert bias(torch.tensor([0, 5]), none).tolist() == [[0.0, 0.0]] * 2


def test_a_network_with_biases_has_the_logits_of_one_without() -> None:
    def logits(*assignments: str) -> torch.Tensor:
        torch.manual_seed(1)
        model = MultiTaskRanker(3, (2,), 2, tiny_network("mlp", *assignments)).eval()
        if model.position_bias is not None:
            torch.nn.init.normal_(model.position_bias.table, std=5.0)
        return model(torch.ones(4, 3), torch.tensor([[0], [1], [0], [1]], dtype=torch.int32)).logits

    assert torch.equal(logits("neural.position_bias.n_positions=9"), logits())
