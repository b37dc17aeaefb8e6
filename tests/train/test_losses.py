"""The masked cross-entropy against hand-made numbers and a loop."""

import math

import numpy as np
import pytest
import torch

from shelfrank.nn.model import Outputs
from shelfrank.train.losses import all_losses, relevance_loss, task_losses, weighted_loss


def losses_by_loop(logits: list[list[float]], labels: list[list[int]]) -> list[float]:
    losses = []
    for task in range(len(labels[0])):
        each = []
        for row in range(len(labels)):
            probability = 1 / (1 + math.exp(-logits[row][task]))
            if labels[row][task] == 1:
                each.append(-math.log(probability))
            elif labels[row][task] == 0:
                each.append(-math.log(1 - probability))
        losses.append(sum(each) / len(each) if each else 0.0)
    return losses


def as_labels(labels: list[list[int]]) -> torch.Tensor:
    return torch.tensor(labels, dtype=torch.int8)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        pytest.param([0.0, 0.0], [1, 0], math.log(2), id="undecided -> ln 2"),
        pytest.param([math.log(3), 0.0], [1, -1], math.log(4 / 3), id="probability 3/4, one label missing -> ln 4/3"),
        pytest.param([math.log(3), 0.0], [0, 1], (math.log(4) + math.log(2)) / 2, id="mean of ln 4 and ln 2"),
        pytest.param([100.0], [0], 100.0, id="far off -> the logit"),
        pytest.param([100.0], [1], 0.0, id="far right -> 0"),
    ],
)
def test_cross_entropy_by_hand(logits: list[float], labels: list[int], expected: float) -> None:
    losses = task_losses(torch.tensor(logits)[:, None], as_labels([[label] for label in labels]))
    assert losses.tolist() == pytest.approx([expected], abs=1e-6)


def test_every_task_is_averaged_over_its_own_labels() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)) * 3, rng.integers(-1, 2, (50, 3))
    found = task_losses(torch.from_numpy(logits), as_labels(labels.tolist()))
    np.testing.assert_allclose(found.numpy(), losses_by_loop(logits.tolist(), labels.tolist()), rtol=1e-9)


def test_a_task_without_labels_costs_nothing_and_has_no_gradient() -> None:
    logits = torch.tensor([[0.3, 200.0], [-0.4, -200.0]], requires_grad=True)
    losses = task_losses(logits, as_labels([[1, -1], [0, -1]]))
    losses.sum().backward()

    assert losses[1].item() == 0.0
    assert losses[0].item() > 0.0
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    assert (logits.grad[:, 0] != 0).all()


def test_a_missing_label_gives_its_row_no_gradient() -> None:
    logits = torch.tensor([[0.3], [-0.4]], requires_grad=True)
    task_losses(logits, as_labels([[-1], [1]])).sum().backward()
    assert logits.grad is not None
    # Alone in the mean: sigmoid(-0.4) - 1.
    assert logits.grad[:, 0].tolist() == pytest.approx([0.0, 1 / (1 + math.exp(0.4)) - 1])


def test_no_rows_cost_nothing() -> None:
    assert task_losses(torch.empty(0, 2), torch.empty(0, 2, dtype=torch.int8)).tolist() == [0.0, 0.0]


def test_weighted_loss_is_the_weighted_sum() -> None:
    losses, weights = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.5, 0.25, 0.0])
    assert weighted_loss(losses, weights).item() == 1.25


def test_the_relevance_loss_is_cross_entropy_over_the_labelled_rows() -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(50, 4)) * 3).requires_grad_()
    relevance = torch.from_numpy(rng.integers(-1, 4, 50).astype(np.int8))
    expected = torch.nn.functional.cross_entropy(logits, relevance.long(), ignore_index=-1)
    found = relevance_loss(logits, relevance)

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize(
    ("logits", "relevance", "expected"),
    [
        pytest.param([[0.0] * 4, [9.0] * 4], [3, -1], math.log(4), id="undecided among four -> ln 4"),
        pytest.param([[math.log(3), 0.0], [0.0, 0.0]], [0, 1], (math.log(4 / 3) + math.log(2)) / 2, id="mean of two"),
        pytest.param([[0.0, 100.0]], [0], 100.0, id="far off -> the difference"),
    ],
)
def test_the_relevance_loss_by_hand(logits: list[list[float]], relevance: list[int], expected: float) -> None:
    found = relevance_loss(torch.tensor(logits), torch.tensor(relevance, dtype=torch.int8))
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n_rows", [0, 5])
def test_without_a_relevance_label_the_loss_is_zero_and_has_no_gradient(n_rows: int) -> None:
    logits = (torch.ones(n_rows, 4) * 50).requires_grad_()
    loss = relevance_loss(logits, torch.full((n_rows,), -1, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_relevance_loss_stands_behind_the_tasks() -> None:
    torch.manual_seed(0)
    logits, relevance = torch.randn(6, 2 + 3), torch.tensor([0, 2, -1, 1, 1, -1], dtype=torch.int8)
    labels = as_labels([[1, 0], [0, -1], [1, 1], [0, 0], [-1, 1], [0, 1]])
    tasks = task_losses(logits[:, :2], labels)

    assert torch.equal(all_losses(Outputs(logits[:, :2], None, None), labels, relevance), tasks)
    assert all_losses(Outputs(logits[:, :2], logits[:, 2:], None), labels, relevance).tolist() == [
        *tasks.tolist(),
        relevance_loss(logits[:, 2:], relevance).item(),
    ]
