"""Gives batches their texts: each different text once, in buckets of about equal length."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from shelfrank.data.batch import Batch
from shelfrank.data.prepared import Split
from shelfrank.nn.matching import Bucket, RowTexts, TrainedLayers
from shelfrank.text.frozen import FrozenTexts

MAX_PADDING = 0.1
"""Share of a bucket's tokens that may be padding."""
READ_TEXTS = 512
"""Texts that are read at a time where a whole split's are; bounds the memory."""


class TextFeed:
    """The texts of prepared data as the frozen layers left them.

    Args:
        frozen: The frozen layers' output of every text.
        query_text: Which text each query is.
        product_text: Which text each product's document is.
        device: Where the tensors go.
    """

    def __init__(
        self,
        frozen: FrozenTexts,
        query_text: Int32[np.ndarray, " queries"],
        product_text: Int32[np.ndarray, " products"],
        device: torch.device,
    ) -> None:
        self.frozen, self.query_text, self.product_text, self.device = frozen, query_text, product_text, device

    def of_batch(self, batch: Batch) -> RowTexts:
        """The texts of a batch, for the trained layers to read."""
        query, product = self.query_text[batch.query_idx], self.product_text[batch.product_idx]
        texts, place = np.unique(np.concatenate([query, product]), return_inverse=True)
        order, buckets = self._buckets(texts.astype(np.int64))
        seat = np.empty(len(texts), np.int64)
        seat[order] = np.arange(len(texts))
        rows = torch.from_numpy(seat[place]).to(self.device)
        return RowTexts(buckets, rows[: len(query)], rows[len(query) :])

    def of_split(self, split: Split, trained: TrainedLayers) -> Callable[[Batch], RowTexts]:
        """Reads every text of a split once; a batch's texts are then looked up among the finished vectors."""
        return FinishedTexts(self, trained, split).of_batch

    @torch.no_grad()
    def read(self, texts: Int64[np.ndarray, " texts"], trained: TrainedLayers) -> Float[Tensor, "texts d"]:
        """The finished vectors of different texts, which must be given in ascending order."""
        vectors = torch.empty(len(texts), trained.d, device=self.device)
        by_length = texts[np.argsort(self.frozen.lengths[texts], kind="stable")]
        for start in range(0, len(texts), READ_TEXTS):
            some = by_length[start : start + READ_TEXTS]
            order, buckets = self._buckets(some)
            vectors[torch.from_numpy(np.searchsorted(texts, some[order])).to(self.device)] = trained(buckets)
        return vectors

    def _buckets(self, texts: Int64[np.ndarray, " texts"]) -> tuple[Int64[np.ndarray, " texts"], list[Bucket]]:
        """The texts' order through the buckets, and the buckets."""
        lengths = self.frozen.lengths[texts]
        order = np.argsort(lengths, kind="stable")
        buckets = []
        for start, end in cut_by_length(lengths[order]):
            hidden, mask = self.frozen.hidden(texts[order[start:end]])
            whole = bool(mask.all())
            buckets.append(Bucket(hidden.to(self.device), None if whole else mask.to(self.device)))
        return order, buckets


class FinishedTexts:
    """The vectors of every text of some splits, for a model whose layers no longer change them.

    Args:
        feed: The texts.
        trained: The layers that read them.
        *splits: Whose texts; a batch must be of one of them.
    """

    def __init__(self, feed: TextFeed, trained: TrainedLayers, *splits: Split) -> None:
        self._feed = feed
        parts = [
            part[np.unique(places)]
            for split in splits
            for part, places in ((feed.query_text, split.query_idx), (feed.product_text, split.product_idx))
        ]
        self._used = np.unique(np.concatenate(parts)).astype(np.int64)
        self._vectors = feed.read(self._used, trained)

    def of_batch(self, batch: Batch) -> RowTexts:
        """The vectors of a batch's texts."""
        query, product = (
            torch.from_numpy(np.searchsorted(self._used, texts)).to(self._feed.device)
            for texts in (self._feed.query_text[batch.query_idx], self._feed.product_text[batch.product_idx])
        )
        return RowTexts(self._vectors, query, product)

    def of_split(self, split: Split, trained: TrainedLayers) -> Callable[[Batch], RowTexts]:
        """The same; there is nothing left to read."""
        return self.of_batch


Texts = TextFeed | FinishedTexts
"""What gives batches their texts."""


def cut_by_length(lengths: Int32[np.ndarray, " texts"]) -> list[tuple[int, int]]:
    """Cuts texts in order of their length into runs, each padded to its longest, of which little is padding.

    Args:
        lengths: Tokens of each text, ascending.

    Returns:
        Where each run begins and ends.

    Example:
        >>> cut_by_length(np.array([2, 2, 2, 9, 10], dtype=np.int32))
        [(0, 3), (3, 5)]
    """
    runs: list[tuple[int, int]] = []
    start, tokens = 0, 0
    values, firsts, counts = np.unique(lengths, return_index=True, return_counts=True)
    for length, first, count in zip(values.tolist(), firsts.tolist(), counts.tolist(), strict=True):
        padded = length * (first + count - start)
        if first > start and padded - tokens - length * count > MAX_PADDING * padded:
            runs.append((start, first))
            start, tokens = first, 0
        tokens += length * count
    return [*runs, (start, len(lengths))] if len(lengths) else runs
