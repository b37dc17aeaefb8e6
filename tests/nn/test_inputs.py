"""Every code of every feature finds its own embedding, and numbers pass unchanged."""

import torch

from shelfrank.nn.inputs import TabularInputs


def test_each_feature_has_its_own_rows_of_the_table() -> None:
    torch.manual_seed(0)
    tabular = TabularInputs(n_numerical=2, category_sizes=[3, 2], d_embedding=4)
    numerical = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
    categorical = torch.tensor([[2, 0], [0, 1]], dtype=torch.int32)

    inputs = tabular(numerical, categorical)

    table = tabular.table.weight
    assert table.shape == (5, 4)
    assert torch.equal(inputs.embedded, torch.stack([table[[2, 3]], table[[0, 4]]]))
    assert torch.equal(inputs.numerical, numerical)


def test_flat_is_the_numbers_then_the_embeddings_in_order() -> None:
    tabular = TabularInputs(n_numerical=2, category_sizes=[3, 2], d_embedding=1)
    with torch.no_grad():
        tabular.table.weight.copy_(torch.tensor([[10.0], [11.0], [12.0], [20.0], [21.0]]))

    flat = tabular(torch.tensor([[0.5, -1.0]]), torch.tensor([[1, 1]], dtype=torch.int32)).flat()

    assert flat.tolist() == [[0.5, -1.0, 11.0, 21.0]]
    assert tabular.d_flat == 4


def test_features_of_one_kind_only() -> None:
    numbers_only = TabularInputs(n_numerical=2, category_sizes=[], d_embedding=3)
    codes_only = TabularInputs(n_numerical=0, category_sizes=[2], d_embedding=3)

    assert numbers_only(torch.ones(5, 2), torch.empty(5, 0, dtype=torch.int32)).flat().shape == (5, 2)
    assert codes_only(torch.empty(5, 0), torch.ones(5, 1, dtype=torch.int32)).flat().shape == (5, 3)
