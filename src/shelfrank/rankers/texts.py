"""A problem's texts: its queries, its products' documents, and the encoder that reads them."""

import numpy as np
import torch

from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.data.prepared import Split
from shelfrank.rankers.base import Problem
from shelfrank.text.bert import load_cut_encoder
from shelfrank.text.frozen import FrozenTexts
from shelfrank.train.text_feed import TextFeed


class ProblemTexts:
    """The encoder of a problem, and the feed of its texts, made on demand.

    Args:
        problem: A problem with texts.

    Raises:
        UserError: Where the encoder cannot be had.
    """

    def __init__(self, problem: Problem) -> None:
        assert problem.texts is not None, "text matching needs the problem's texts"
        self.texts, self.config = problem.texts, problem.config.neural.text
        self.encoder = load_cut_encoder(self.config.model, self.config.trained_layers, self.config.dropout)
        self.frozen: FrozenTexts | None = None

    def feed(self, device: torch.device, used_by: Split | None = None) -> TextFeed:
        """The texts for a device; where the cache has no room for all, those that `used_by` uses most are kept."""
        queries, products = self.texts.queries(), self.texts.documents()
        if not any(document.strip() for document in products):
            raise UserError(
                f"text matching needs products with texts, but {self.texts.prepared.path} has none; set "
                "neural.text.matching to none, or import titles"
            )
        if self.frozen is None:
            uses = None
            if used_by is not None:
                counts = (
                    np.bincount(idx, minlength=len(texts))
                    for idx, texts in ((used_by.query_idx, queries), (used_by.product_idx, products))
                )
                uses = np.concatenate(list(counts)).astype(np.int64)
            self.encoder.frozen.to(device)
            # The first process fills the cache for the others.
            with processes().lead_first():
                self.frozen = FrozenTexts(
                    self.encoder,
                    [*queries, *products],
                    self.texts.cache,
                    self.config.max_tokens,
                    self.config.cache_mb,
                    self.config.cache_dtype,
                    uses,
                )
        numbers = np.arange(len(queries) + len(products), dtype=np.int32)
        return TextFeed(self.frozen, numbers[: len(queries)], numbers[len(queries) :], device)

    def notes(self) -> list[str]:
        """Cost and cache use of the texts, for people."""
        if self.frozen is None:
            return []
        use = self.frozen.use
        kept = use.found + use.computed
        notes = [
            f"text encoder {self.encoder.name}, {len(self.encoder.trained)} of its layers trained",
            f"output of its frozen layers for {kept:,} texts kept in {use.mb:.0f} MB, {use.computed:,} computed now",
        ]
        if use.recomputed:
            notes.append(f"{use.recomputed:,} texts beyond text.cache_mb are encoded anew at each use")
        if use.truncated:
            notes.append(
                f"{use.truncated:,} texts were cut at {min(self.config.max_tokens, self.encoder.max_tokens)} tokens"
            )
        if use.damaged:
            notes.append(f"{use.damaged} damaged files of the text cache were computed anew")
        return notes
