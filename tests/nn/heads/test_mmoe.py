"""Gates and mixtures of experts against loops with the same weights."""

import numpy as np
import torch

import plain_loops
from plain_loops import array, stack_layers
from shelfrank.nn.heads.mmoe import MMoE

N_EXPERTS, N_TASKS = 4, 3


def make(batch_norm: bool = False) -> MMoE:
    torch.manual_seed(3)
    return MMoE(5, N_EXPERTS, (6, 2), N_TASKS, batch_norm=batch_norm, dropout=0.0)


def test_gates_are_softmax_of_a_linear_map_without_bias() -> None:
    mmoe = make()
    x = torch.randn(7, 5)
    weight = array(mmoe.gates.weight).reshape(N_TASKS, N_EXPERTS, 5)
    no_bias = np.zeros(N_EXPERTS)

    expected = [
        [plain_loops.softmax(plain_loops.linear(row, (weight[task], no_bias))) for task in range(N_TASKS)]
        for row in array(x).tolist()
    ]

    np.testing.assert_allclose(array(mmoe.gate_weights(x)), expected, atol=1e-5)
    # Without a bias, the gates know nothing about a row of zeros.
    assert torch.allclose(mmoe.gate_weights(torch.zeros(1, 5)), torch.tensor(1 / N_EXPERTS))


def test_each_task_mixes_the_same_experts_by_its_own_gate() -> None:
    mmoe = make()
    x = torch.randn(7, 5)
    gates = array(mmoe.gate_weights(x))

    expected = []
    for index, row in enumerate(array(x).tolist()):
        experts = [plain_loops.dense(row, stack_layers(mmoe.experts, N_EXPERTS, e)) for e in range(N_EXPERTS)]
        expected.append([plain_loops.mixture(gates[index, task].tolist(), experts) for task in range(N_TASKS)])

    np.testing.assert_allclose(array(mmoe(x)), expected, atol=1e-5)
    assert mmoe.d_out == 2


def test_a_gate_that_listens_to_one_expert_gives_that_expert() -> None:
    mmoe = make()
    with torch.no_grad():
        mmoe.gates.weight.zero_()
        mmoe.gates.weight.view(N_TASKS, N_EXPERTS, 5)[1, 2, 0] = 1000.0
    x = torch.tensor([[1.0, 0.3, -0.2, 0.9, 0.1]])

    second_expert = plain_loops.dense(array(x)[0].tolist(), stack_layers(mmoe.experts, N_EXPERTS, 2))

    np.testing.assert_allclose(array(mmoe(x))[0, 1], second_expert, atol=1e-5)
    assert not np.allclose(array(mmoe(x))[0, 0], second_expert, atol=1e-3)


def test_the_balance_penaltys_gradient_is_that_of_the_squared_mean_shares() -> None:
    torch.manual_seed(0)
    mmoe = MMoE(5, N_EXPERTS, (6,), N_TASKS, batch_norm=False, dropout=0.0, balance=0.3)
    x = 3 * torch.randn(50, 5)
    mean = mmoe.gate_weights(x).mean(dim=0)
    (expected,) = torch.autograd.grad(0.3 * N_EXPERTS * mean.square().sum(dim=1).mean(), mmoe.gates.weight)
    (found,) = torch.autograd.grad(mmoe.balance_penalty(x), mmoe.gates.weight)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


def test_balanced_gates_have_no_gradient_however_different_rows_are() -> None:
    mmoe = MMoE(1, 2, (3,), 1, batch_norm=False, dropout=0.0, balance=1.0)
    with torch.no_grad():
        mmoe.gates.weight.copy_(torch.tensor([[4.0], [-4.0]]))
    (found,) = torch.autograd.grad(mmoe.balance_penalty(torch.tensor([[1.0], [-1.0]])), mmoe.gates.weight)
    torch.testing.assert_close(found, torch.zeros(2, 1), atol=1e-6, rtol=0)
