"""One tower per task and that of the relevance label, each against a loop with the same weights."""

import numpy as np
import pytest
import torch

import plain_loops
from plain_loops import array, block_of, linear_layers, stack_layers
from shelfrank.nn.towers import RelevanceTower, Towers


@pytest.mark.parametrize("layers", [(6, 4), (6,), ()], ids=["two hidden layers", "one", "none"])
def test_a_tower_is_dense_layers_and_one_linear_unit(layers: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    towers = Towers(3, 5, layers, batch_norm=False, dropout=0.0)
    mixtures = torch.randn(7, 3, 5)

    expected = [
        [
            plain_loops.linear(
                plain_loops.dense(row[task], stack_layers(towers.hidden, 3, task)), block_of(towers.out, task)
            )[0]
            for task in range(3)
        ]
        for row in array(mixtures).tolist()
    ]

    np.testing.assert_allclose(array(towers(mixtures)), expected, atol=1e-5)


def test_a_task_does_not_see_another_tasks_mixture() -> None:
    torch.manual_seed(4)
    towers = Towers(3, 5, (6,), batch_norm=True, dropout=0.0).eval()
    mixtures = torch.randn(7, 3, 5)
    changed = mixtures.clone()
    changed[:, 1] += 1.0

    before, after = towers(mixtures), towers(changed)

    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert (before[:, 1] != after[:, 1]).all()


@pytest.mark.parametrize("layers", [(6, 4), ()], ids=["two hidden layers", "none"])
def test_the_relevance_tower_is_dense_layers_and_a_linear_unit_per_class(layers: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    tower = RelevanceTower(4, 5, layers, batch_norm=False, dropout=0.0)
    mixture = torch.randn(7, 5)

    out = (array(tower.out.weight), array(tower.out.bias))
    expected = [
        plain_loops.linear(plain_loops.dense(row, linear_layers(tower.hidden)), out) for row in array(mixture).tolist()
    ]

    np.testing.assert_allclose(array(tower(mixture)), expected, atol=1e-5)
    assert tower(mixture[:0]).shape == (0, 4)
