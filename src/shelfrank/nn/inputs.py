"""The model input layer: embeddings of categories beside the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

EMBEDDING_STD = 0.1


@dataclass(frozen=True)
class Inputs:
    """What every bottom receives.

    Attributes:
        numerical: Continuous and interaction features.
        embedded: One embedding per categorical feature.
    """

    numerical: Float[Tensor, "rows n_num"]
    embedded: Float[Tensor, "rows n_cat d_embedding"]

    def flat(self) -> Float[Tensor, "rows d_flat"]:
        """All inputs as one vector per row (Paper: Sec. 3.3, Eq. (5))."""
        return torch.cat([self.numerical, self.embedded.flatten(1)], dim=1)


class TabularInputs(nn.Module):
    """Embeds categorical codes (Paper: Sec. 3.3, Eq. (2)) and passes numbers on.

    All features share one table, each with its own range of rows, so that a batch is one lookup.
    """

    starts: Tensor

    def __init__(self, n_numerical: int, category_sizes: Sequence[int], d_embedding: int) -> None:
        super().__init__()
        self.n_numerical, self.n_categorical = n_numerical, len(category_sizes)
        self.d_flat = n_numerical + self.n_categorical * d_embedding
        self.table = nn.Embedding(max(sum(category_sizes), 1), d_embedding)
        nn.init.normal_(self.table.weight, std=EMBEDDING_STD)
        starts = torch.tensor([0, *category_sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)[:-1]
        self.register_buffer("starts", starts[: self.n_categorical], persistent=False)

    def forward(self, numerical: Float[Tensor, "rows n_num"], categorical: Int[Tensor, "rows n_cat"]) -> Inputs:
        """Looks the codes up; code c of feature i is row `starts[i] + c` of the table."""
        return Inputs(numerical, self.table(categorical + self.starts))
