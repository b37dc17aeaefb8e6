"""Queries as vectors: tokenizer and graph in this process, and the latest vectors kept."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from shelfrank.bundle.scorers import open_graph
from shelfrank.errors import UserError


class QueryEncoder:
    """Turns a query into its vector.

    Args:
        graph: The encoder's graph.
        tokenizer: Its `tokenizer.json`.
        max_tokens: Tokens that are read of a query, special ones included.
        cached: Vectors that are kept, the latest used.
    """

    def __init__(self, graph: Path, tokenizer: Path, max_tokens: int, cached: int) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise UserError("serving needs tokenizers; install it with: pip install 'shelfrank[serve]'") from error
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.no_padding()
        self.session = open_graph(graph)
        self.cached = cached
        self.hits = self.misses = 0
        self._vectors: OrderedDict[str, Float32[np.ndarray, "1 d"]] = OrderedDict()

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text."""
        return self.tokenizer.encode(text).ids

    def vector(self, text: str) -> Float32[np.ndarray, "1 d"]:
        """The vector of a text."""
        found = self._vectors.get(text)
        if found is not None:
            self.hits += 1
            self._vectors.move_to_end(text)
            return found
        self.misses += 1
        (vector,) = self.session.run(None, {"ids": np.array([self.tokens(text)], dtype=np.int64)})
        self._vectors[text] = vector
        if len(self._vectors) > self.cached:
            self._vectors.popitem(last=False)
        return vector

    def forget(self) -> None:
        """Empties the cache, for measurements."""
        self._vectors.clear()
