"""The model input layer: embeddings of categories beside the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

EMBEDDING_STD = 0.1
"""Standard deviation of initial embeddings for most bottoms."""


@dataclass(frozen=True)
class InputShape:
    """Sizes that a bottom is built for.

    Attributes:
        n_numerical: Numerical features.
        n_categorical: Categorical features.
        d_embedding: Width of each categorical embedding.
        d_matching: Width of the matching features; 0 where there is no text.
    """

    n_numerical: int
    n_categorical: int
    d_embedding: int
    d_matching: int = 0

    @property
    def d_flat(self) -> int:
        """Width of all inputs as one vector."""
        return self.n_numerical + self.d_matching + self.n_categorical * self.d_embedding


@dataclass(frozen=True)
class Inputs:
    """The inputs of every bottom (Paper: Sec. 3.3, Eq. (5)).

    Attributes:
        numerical: Continuous and interaction features.
        embedded: One embedding per categorical feature.
        matching: Matching features of query and product; of width 0 where there is no text.
    """

    numerical: Float[Tensor, "rows n_num"]
    embedded: Float[Tensor, "rows n_cat d_embedding"]
    matching: Float[Tensor, "rows d_matching"]

    def flat(self) -> Float[Tensor, "rows d_flat"]:
        """All inputs as one vector per row (Paper: Sec. 3.3, Eq. (5))."""
        return torch.cat([self.numerical, self.matching, self.embedded.flatten(1)], dim=1)


class TabularInputs(nn.Module):
    """Embeds categorical codes (Paper: Sec. 3.3, Eq. (2)).

    All features share one table, each with its own range of rows, so that a batch is one lookup.

    Args:
        category_sizes: Codes of each feature.
        d_embedding: Width of each embedding.
        std: Standard deviation of the initial embeddings.
    """

    starts: Tensor

    def __init__(self, category_sizes: Sequence[int], d_embedding: int, std: float = EMBEDDING_STD) -> None:
        super().__init__()
        self.table = nn.Embedding(max(sum(category_sizes), 1), d_embedding)
        nn.init.normal_(self.table.weight, std=std)
        starts = torch.tensor([0, *category_sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)[:-1]
        self.register_buffer("starts", starts[: len(category_sizes)], persistent=False)

    def forward(self, categorical: Int[Tensor, "rows n_cat"]) -> Float[Tensor, "rows n_cat d_embedding"]:
        """Looks the codes up; code c of feature i is row `starts[i] + c` of the table."""
        return self.table(categorical + self.starts)
