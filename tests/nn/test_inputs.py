"""Every code of every feature finds its own embedding, and all inputs make one vector."""

import torch

from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs


def test_each_feature_has_its_own_rows_of_the_table() -> None:
    torch.manual_seed(0)
    tabular = TabularInputs(category_sizes=[3, 2], d_embedding=4)

    embedded = tabular(torch.tensor([[2, 0], [0, 1]], dtype=torch.int32))

    table = tabular.table.weight
    assert table.shape == (5, 4)
    assert torch.equal(embedded, torch.stack([table[[2, 3]], table[[0, 4]]]))


def test_flat_is_the_numbers_the_matching_features_and_the_embeddings() -> None:
    embedded = torch.tensor([[[11.0], [21.0]]])
    inputs = Inputs(torch.tensor([[0.5, -1.0]]), embedded, torch.tensor([[7.0, 8.0, 9.0]]))

    assert inputs.flat().tolist() == [[0.5, -1.0, 7.0, 8.0, 9.0, 11.0, 21.0]]
    assert InputShape(n_numerical=2, n_categorical=2, d_embedding=1, d_matching=3).d_flat == 7


def test_features_of_one_kind_only() -> None:
    without_codes = TabularInputs(category_sizes=[], d_embedding=3)(torch.empty(5, 0, dtype=torch.int32))

    assert without_codes.shape == (5, 0, 3)
    assert Inputs(torch.ones(5, 2), without_codes, torch.empty(5, 0)).flat().shape == (5, 2)
