"""The masked cross-entropy against hand-made numbers and a loop."""

import math

import numpy as np
import pytest
import torch

from shelfrank.nn.model import Outputs
from shelfrank.train.losses import (
    LossWeights,
    all_losses,
    count_labels,
    listwise_losses,
    relevance_loss,
    task_losses,
    weighted_loss,
)


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


def listwise_by_loop(logits: np.ndarray, labels: np.ndarray, sizes: list[int]) -> list[float]:
    """Minus the mean log-softmax of each search's positive rows, averaged over the searches with a label."""
    losses = []
    for task in range(labels.shape[1]):
        each, start = [], 0
        for size in sizes:
            rows = [row for row in range(start, start + size) if labels[row, task] >= 0]
            total = sum(math.exp(logits[row, task]) for row in rows)
            of_positive = [-math.log(math.exp(logits[row, task]) / total) for row in rows if labels[row, task] == 1]
            if rows:
                each.append(sum(of_positive) / max(1, len(of_positive)))
            start += size
        losses.append(sum(each) / len(each) if each else 0.0)
    return losses


SIZES = [4, 1, 7, 3, 5, 2]


def test_the_listwise_loss_is_the_loops() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(22, 3)) * 3, rng.integers(-1, 2, (22, 3))
    labels[:, 2] = np.minimum(labels[:, 2], 0)
    found = listwise_losses(torch.from_numpy(logits), as_labels(labels.tolist()), torch.tensor(SIZES))
    np.testing.assert_allclose(found.numpy(), listwise_by_loop(logits, labels, SIZES), rtol=1e-9)
    assert found[2].item() == 0.0


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        pytest.param([math.log(3), 0.0], [1, 0], math.log(4 / 3), id="share of 3/4 -> ln 4/3"),
        pytest.param([math.log(3), 0.0], [1, 1], (math.log(4 / 3) + math.log(4)) / 2, id="mean of two positives"),
        pytest.param([math.log(3), 500.0], [1, -1], 0.0, id="a missing label competes with nobody"),
        pytest.param([-400.0, 400.0], [1, 0], 800.0, id="far off -> the difference"),
        pytest.param([7.0], [1], 0.0, id="alone on its page -> 0"),
        pytest.param([7.0, 2.0], [0, 0], 0.0, id="no positive -> 0"),
    ],
)
def test_the_listwise_loss_by_hand(logits: list[float], labels: list[int], expected: float) -> None:
    found = listwise_losses(
        torch.tensor(logits)[:, None], as_labels([[label] for label in labels]), torch.tensor([len(logits)])
    )
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_searches_without_a_positive_and_missing_labels_get_no_listwise_gradient() -> None:
    logits = torch.tensor([[0.3], [1.0], [-0.4], [0.2], [0.9]], requires_grad=True)
    listwise_losses(logits, as_labels([[0], [0], [1], [0], [-1]]), torch.tensor([2, 3])).sum().backward()
    assert logits.grad is not None
    share = 1 / (1 + math.exp(0.6))
    # Half of the second search's gradient: both have a label.
    assert logits.grad[:, 0].tolist() == pytest.approx([0.0, 0.0, (share - 1) / 2, (1 - share) / 2, 0.0])
    none = torch.zeros(2, 1, requires_grad=True)
    listwise_losses(none, as_labels([[-1], [-1]]), torch.tensor([2])).sum().backward()
    assert none.grad is not None
    assert none.grad.tolist() == [[0.0], [0.0]]


def test_a_tasks_loss_is_the_weighted_sum_of_both() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(22, 2)), rng.integers(-1, 2, (22, 2))
    given, sizes, relevance = as_labels(labels.tolist()), torch.tensor(SIZES), torch.full((22,), -1, dtype=torch.int8)
    outputs = Outputs(torch.from_numpy(logits), None, None)
    found = all_losses(outputs, given, relevance, None, sizes, LossWeights((0.5, 0.5), pointwise=2.0, listwise=0.25))
    expected = 2 * np.array(losses_by_loop(logits.tolist(), labels.tolist()))
    np.testing.assert_allclose(found.numpy(), expected + 0.25 * np.array(listwise_by_loop(logits, labels, SIZES)))


def test_the_losses_of_parts_of_a_batch_add_up_to_its_own() -> None:
    rng = np.random.default_rng(3)
    logits, labels = torch.from_numpy(rng.normal(size=(22, 3))), as_labels(rng.integers(-1, 2, (22, 3)).tolist())
    relevance, sizes = torch.full((22,), -1, dtype=torch.int8), torch.tensor(SIZES)
    weights = LossWeights((0.5, 0.3, 0.2), listwise=0.5)

    def part(rows: slice, searches: slice, counts: torch.Tensor | None) -> torch.Tensor:
        outputs = Outputs(logits[rows], None, None)
        return all_losses(outputs, labels[rows], relevance[rows], counts, sizes[searches], weights)

    halves = ((slice(0, 12), slice(0, 3)), (slice(12, 22), slice(3, 6)))
    counts = sum(count_labels(labels[rows], relevance[rows], sizes[searches]) for rows, searches in halves)
    assert isinstance(counts, torch.Tensor)
    whole = part(slice(0, 22), slice(0, 6), None)
    torch.testing.assert_close(part(*halves[0], counts) + part(*halves[1], counts), whole)
