"""Queries as vectors: tokenizer and graph in this process, with a cache."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from shelfrank.bundle.scorers import only_requested_outputs, open_graph
from shelfrank.core.errors import UserError


class QueryReader:
    """Runs a graph that computes one or more vectors of a query, and caches those of the latest queries.

    Args:
        graph: The graph.
        tokenizer: Its `tokenizer.json`.
        max_tokens: For each vector, in the graph's order, the maximum number of tokens of a query, special ones
            included.
        cached: Size of the cache, in queries; the least recently used are dropped.
    """

    def __init__(self, graph: Path, tokenizer: Path, max_tokens: Sequence[int], cached: int) -> None:
        self.session = open_graph(graph)
        self.options = only_requested_outputs()
        self.outputs: list[str] = [each.name for each in self.session.get_outputs()]
        by_limit = {limit: _tokenizer(tokenizer, limit) for limit in max_tokens}
        self.tokenizers = [by_limit[limit] for limit in max_tokens]
        self.cached = cached
        self._queries: OrderedDict[str, dict[int, Float32[np.ndarray, "1 d"]]] = OrderedDict()

    def make_encoders(self) -> "tuple[QueryEncoder, ...]":
        """Makes the encoder of each vector, in the graph's order."""
        # The reader does not store them: an old bundle's graph would be in a cycle, and stay in memory.
        return tuple(QueryEncoder(self, place) for place in range(len(self.outputs)))

    def tokens(self, text: str, place: int) -> list[int]:
        """The token ids of a text for one of the vectors."""
        return self.tokenizers[place].encode(text).ids

    def known(self, text: str, place: int) -> Float32[np.ndarray, "1 d"] | None:
        """Looks up a vector in the cache."""
        vectors = self._queries.get(text)
        if vectors is None:
            return None
        self._queries.move_to_end(text)
        return vectors.get(place)

    def read(self, text: str, place: int) -> Float32[np.ndarray, "1 d"]:
        """Runs the graph for a vector, and for those before it in the same pass.

        Those for which the text is truncated at another length need a pass of their own.
        """
        ids = self.tokens(text, place)
        own = self.tokenizers[place]
        places = [i for i in range(place + 1) if self.tokenizers[i] is own or self.tokens(text, i) == ids]
        names = [self.outputs[i] for i in places]
        computed = self.session.run(names, {"ids": np.array([ids], dtype=np.int64)}, self.options)
        vectors = self._queries.setdefault(text, {})
        vectors.update(zip(places, computed, strict=True))
        if len(self._queries) > self.cached:
            self._queries.popitem(last=False)
        return vectors[place]

    def forget(self) -> None:
        """Empties the cache, for measurements."""
        self._queries.clear()


class QueryEncoder:
    """Turns a query into one of the vectors of a graph.

    Args:
        reader: The reader that runs the graph.
        place: Index of the vector.

    Attributes:
        hits: Vectors from the cache, including those of a pass for another vector.
        misses: Passes of the graph.
    """

    def __init__(self, reader: QueryReader, place: int) -> None:
        self.reader, self.place = reader, place
        self.hits = self.misses = 0

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text."""
        return self.reader.tokens(text, self.place)

    def vector(self, text: str) -> Float32[np.ndarray, "1 d"]:
        """The vector of a text."""
        vector = self.reader.known(text, self.place)
        if vector is not None:
            self.hits += 1
            return vector
        self.misses += 1
        return self.reader.read(text, self.place)

    def forget(self) -> None:
        """Empties the cache, for measurements."""
        self.reader.forget()


def _tokenizer(file: Path, max_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError("serving needs tokenizers; install it with: pip install 'shelfrank[serve]'") from error
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
