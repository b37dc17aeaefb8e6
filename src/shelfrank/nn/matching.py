"""The text matching layer: the trained encoder layers, max pooling, and the comparison of query and product."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.batch_norm import BatchNorm


@dataclass(frozen=True)
class Bucket:
    """Texts of about equal length, as the frozen layers left them.

    Attributes:
        hidden: One vector per token.
        mask: True for real tokens; None where every token is.
    """

    hidden: Float[Tensor, "texts tokens d"]
    mask: Bool[Tensor, "texts tokens"] | None


@dataclass(frozen=True)
class RowTexts:
    """The texts of some rows, each different text once.

    Attributes:
        texts: Buckets that the trained layers have yet to encode, or the texts' finished vectors.
        query: Which text is the row's query, counted through the buckets.
        product: Which one is its product's document.
    """

    texts: Sequence[Bucket] | Float[Tensor, "texts d"]
    query: Int[Tensor, " rows"]
    product: Int[Tensor, " rows"]


class TrainedLayers(nn.Module):
    """The encoder's last layers, which are trained, and max pooling over tokens (Paper: Sec. 3.3, Eq. (3)).

    Args:
        layers: Encoder layers that take hidden states and an additive mask, as those of BERT do; may be empty.
        d: Width of a token's vector.
    """

    def __init__(self, layers: Sequence[nn.Module], d: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.d = d

    def forward(self, buckets: Sequence[Bucket]) -> Float[Tensor, "texts d"]:
        """One vector per text, bucket by bucket."""
        if not buckets:
            return torch.empty(0, self.d)
        return torch.cat([self._pool(bucket) for bucket in buckets])

    def _pool(self, bucket: Bucket) -> Float[Tensor, "texts d"]:
        hidden, mask = bucket.hidden, bucket.mask
        additive = None
        if mask is not None:
            lowest = torch.finfo(hidden.dtype).min
            additive = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(~mask, lowest)[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, additive)
        if mask is not None:
            # Paper: Eq. (3) pools over the text's tokens, so padding is masked.
            hidden = hidden.masked_fill(~mask[:, :, None], -torch.inf)
        return hidden.amax(dim=1).float()


def cross(query: Float[Tensor, "rows d"], product: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    """Element-wise product of the two vectors (Paper: Sec. 3.3, Eq. (4))."""
    return query * product


def dot(query: Float[Tensor, "rows d"], product: Float[Tensor, "rows d"]) -> Float[Tensor, "rows 1"]:
    """Scalar product, which the paper compares `cross` with (Paper: Table 4)."""
    return (query * product).sum(dim=1, keepdim=True)


MATCHINGS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[int], int]]] = {
    "cross": (cross, lambda d: d),
    "dot": (dot, lambda d: 1),
}
"""Every matching by its name in the config, and how wide its output is for vectors of a width."""


class TextMatching(nn.Module):
    """Matching features of a row's query and product.

    Args:
        trained: The encoder's trained layers.
        kind: A name in `MATCHINGS`.
        batch_norm: Whether each feature is normalised.
        normalise_vectors: Whether the two vectors are normalised before they are multiplied.
        group: The processes that share a batch.

    Attributes:
        d_out: Number of features.
    """

    def __init__(
        self,
        trained: TrainedLayers,
        kind: str,
        batch_norm: bool,
        normalise_vectors: bool = False,
        group: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.trained = trained
        self._match, width = MATCHINGS[kind]
        self.d_out = width(trained.d)
        # Unstated: maxima lie above 0, each dimension at its own height, and the heights times each side's deviations
        # outweigh their common part; normalising the products afterwards cannot separate the two.
        self.norm_query, self.norm_product = (
            BatchNorm(trained.d, group) if normalise_vectors else nn.Identity() for _ in range(2)
        )
        # Unstated: products of two maxima are far from 0, unlike every other input.
        self.norm = BatchNorm(self.d_out, group) if batch_norm else nn.Identity()

    def forward(self, rows: RowTexts) -> Float[Tensor, "rows d_out"]:
        """Encodes the texts that have no vector yet, and compares each row's query and product."""
        vectors = rows.texts if isinstance(rows.texts, Tensor) else self.trained(rows.texts)
        return self.compare(vectors[rows.query], vectors[rows.product])

    def compare(self, query: Float[Tensor, "rows d"], product: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d_out"]:
        """The features of pairs of finished vectors."""
        return self.norm(self._match(self.norm_query(query), self.norm_product(product)))
