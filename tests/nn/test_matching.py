"""The text matching layer: pooling over real tokens, and what two vectors have in common."""

import numpy as np
import pytest
import torch
from torch import nn

from shelfrank.nn.matching import MATCHINGS, Bucket, RowTexts, TextMatching, TrainedLayers, cross, dot


class Doubling(nn.Module):
    """A layer that doubles every vector and remembers its mask."""

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        self.mask = mask
        return 2.0 * hidden


def test_pooling_takes_the_greatest_value_of_the_real_tokens() -> None:
    # The second text has one token; its padding would win everywhere.
    hidden = torch.tensor([[[1.0, -4.0], [0.5, 3.0]], [[-1.0, -2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    layer = Doubling()

    pooled = TrainedLayers([layer], 2)([Bucket(hidden, mask)])

    assert pooled.tolist() == [[2.0, 6.0], [-2.0, -4.0]]
    assert layer.mask is not None
    assert layer.mask.shape == (2, 1, 1, 2)
    assert (layer.mask[:, 0, 0] == 0).tolist() == mask.tolist()


def test_vectors_come_bucket_by_bucket() -> None:
    buckets = [Bucket(torch.full((1, 2, 3), 1.0), None), Bucket(torch.full((2, 1, 3), 5.0), None)]
    trained = TrainedLayers([], 3)
    assert trained(buckets).tolist() == [[1.0] * 3, [5.0] * 3, [5.0] * 3]
    assert trained([]).shape == (0, 3)


def test_cross_and_dot_by_hand() -> None:
    query, product = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([[4.0, 0.5], [2.0, 2.0]])
    assert cross(query, product).tolist() == [[4.0, 1.0], [6.0, -2.0]]
    assert dot(query, product).tolist() == [[5.0], [4.0]]


@pytest.mark.parametrize("kind", MATCHINGS)
def test_each_row_compares_its_own_texts(kind: str) -> None:
    torch.manual_seed(0)
    matching = TextMatching(TrainedLayers([], 4), kind, batch_norm=False)
    hidden = torch.randn(3, 2, 4)
    pooled = hidden.amax(dim=1).numpy()
    queries, products = [0, 0, 2, 1], [1, 2, 2, 0]

    rows = RowTexts([Bucket(hidden[:1], None), Bucket(hidden[1:], None)], torch.tensor(queries), torch.tensor(products))
    expected = [pooled[q] * pooled[p] for q, p in zip(queries, products, strict=True)]
    if kind == "dot":
        expected = [[each.sum()] for each in expected]

    np.testing.assert_allclose(matching(rows).numpy(), expected, rtol=1e-6)
    assert matching.d_out == len(expected[0])


def test_finished_vectors_are_not_read_again() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    matching = TextMatching(TrainedLayers([Doubling()], 2), "cross", batch_norm=False)
    assert matching(RowTexts(vectors, torch.tensor([0]), torch.tensor([1]))).tolist() == [[3.0, 8.0]]


def test_normalised_features_have_mean_0_and_spread_1_over_a_batch() -> None:
    torch.manual_seed(0)
    matching = TextMatching(TrainedLayers([], 5), "cross", batch_norm=True).train()
    vectors = 3.0 + torch.rand(40, 5)
    features = matching(RowTexts(vectors, torch.arange(20), torch.arange(20, 40)))
    assert features.mean(dim=0).abs().max() < 1e-5
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", MATCHINGS)
def test_vectors_are_normalised_before_they_are_multiplied(kind: str) -> None:
    torch.manual_seed(0)
    matching = TextMatching(TrainedLayers([], 5), kind, batch_norm=False, normalise_vectors=True).train()
    vectors = 3.0 + torch.rand(40, 5)
    query, product = torch.arange(20), torch.arange(20, 40)
    features = matching(RowTexts(vectors, query, product))
    # Each side by its own rows' mean and spread.
    sides = [(some - some.mean(axis=0)) / np.sqrt(some.var(axis=0) + 1e-5) for some in np.split(vectors.numpy(), 2)]
    expected = sides[0] * sides[1]
    expected = expected.sum(axis=1, keepdims=True) if kind == "dot" else expected
    np.testing.assert_allclose(features.detach().numpy(), expected, atol=1e-4)
    matching.eval()
    alone = matching(RowTexts(vectors, query[:1], product[:1]))
    together = matching(RowTexts(vectors, query, product))
    torch.testing.assert_close(alone, together[:1])
