"""Graded pairs of queries and documents, and the loss that puts them in the order of their grades."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from shelfrank.text.pairs import Pairs

QUERIES, DOCUMENTS = 16, 4
"""Queries of a step, and documents of each: with a batch of 64 pairs the step encodes about twice as many texts."""


@dataclass(frozen=True)
class GradedPairs:
    """Documents of queries that have at least two different grades.

    Attributes:
        queries: The queries.
        documents: The documents.
        document_idx: Each pair's document; the pairs of a query stand together.
        grades: Each pair's grade, from 0 to 1.
        starts: The pairs of query i are `starts[i]` to `starts[i + 1]`.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    document_idx: Int64[np.ndarray, " pairs"]
    grades: Float64[np.ndarray, " pairs"]
    starts: Int64[np.ndarray, " queries_plus_1"]

    @classmethod
    def of(cls, queries: Sequence[str], documents: Sequence[str], grades: Sequence[float]) -> "GradedPairs":
        """Takes the mean grade of each different pair, and leaves out queries whose documents all have the same.

        Args:
            queries: A query for each judgment; texts that differ only in case and spaces are equal.
            documents: Its document.
            grades: Its grade, on any scale.

        Returns:
            The pairs, in an order that depends on the texts alone.
        """
        pairs, own = Pairs.numbered(queries, documents)
        low, high = min(grades, default=0.0), max(grades, default=0.0)
        given = (np.asarray(grades, np.float64) - low) / max(high - low, 1e-300)
        means = np.bincount(own, weights=given, minlength=len(pairs)) / np.maximum(pairs.counts, 1)
        starts = np.searchsorted(pairs.query_idx, np.arange(len(pairs.queries) + 1))
        differ = [len(np.unique(means[start:end])) > 1 for start, end in pairwise(starts)]
        kept = np.array(differ, bool)[pairs.query_idx]
        sizes = np.diff(starts)[differ]
        return cls(
            tuple(query for query, has_two in zip(pairs.queries, differ, strict=True) if has_two),
            pairs.documents,
            pairs.document_idx[kept],
            means[kept],
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.document_idx)

    def draw(
        self, random: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " queries"], list[Int64[np.ndarray, " own"]]]:
        """Some queries, and of each some pairs with at least two different grades."""
        queries = np.sort(random.permutation(len(self.queries))[:QUERIES])
        rows = []
        for query in queries.tolist():
            own = random.permutation(np.arange(int(self.starts[query]), int(self.starts[query + 1])))
            first, others = own[:DOCUMENTS], own[DOCUMENTS:]
            if len(np.unique(self.grades[first])) == 1:
                other = others[self.grades[others] != self.grades[first[0]]][:1]
                first = np.concatenate([first[:-1], other])
            rows.append(first)
        return queries, rows


def graded_loss(
    cosines: Float[Tensor, " pairs"],
    grades: Float[Tensor, " pairs"],
    owner: Int64[Tensor, " pairs"],
    scale: float,
) -> Float[Tensor, ""]:
    """The logistic loss of every two documents of a query of which one has a higher grade (RankNet).

    Differs: the paper fine-tunes on pairs alone (Sec. 3.2). The contrastive loss knows chosen documents and random
    ones; this one also knows which of a query's documents are better than others.

    Args:
        cosines: Of queries and documents.
        grades: The documents' grades.
        owner: Which query each pair belongs to.
        scale: Factor on the cosine.

    Returns:
        The mean over the twos; 0, without gradient, where there are none.

    Example:
        The better document is ahead by a cosine of 0.1, times 10: ln(1 + e^-1).

        >>> graded_loss(torch.tensor([0.5, 0.4]), torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), 10.0)
        tensor(0.3133)
    """
    better = (owner[:, None] == owner[None, :]) & (grades[:, None] > grades[None, :])
    ahead = scale * (cosines[:, None] - cosines[None, :])
    return torch.nn.functional.softplus(-ahead[better]).sum() / better.sum().clamp(min=1)
