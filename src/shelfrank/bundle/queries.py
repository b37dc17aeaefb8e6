"""Queries as vectors: tokenizer and graph in this process, and the latest vectors kept."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from shelfrank.bundle.scorers import only_what_is_asked, open_graph
from shelfrank.core.errors import UserError


class QueryReader:
    """Runs a graph that gives one vector of a query or more, and keeps what came of the latest queries.

    Args:
        graph: The graph.
        tokenizer: Its `tokenizer.json`.
        max_tokens: For each vector, in the graph's order, the tokens that are read of a query for it, special ones
            included.
        cached: Queries whose vectors are kept, the latest used.
    """

    def __init__(self, graph: Path, tokenizer: Path, max_tokens: Sequence[int], cached: int) -> None:
        self.session = open_graph(graph)
        self.options = only_what_is_asked()
        self.outputs: list[str] = [each.name for each in self.session.get_outputs()]
        by_limit = {limit: _tokenizer(tokenizer, limit) for limit in max_tokens}
        self.tokenizers = [by_limit[limit] for limit in max_tokens]
        self.cached = cached
        self._queries: OrderedDict[str, dict[int, Float32[np.ndarray, "1 d"]]] = OrderedDict()

    def make_encoders(self) -> "tuple[QueryEncoder, ...]":
        """What gives each vector, in the graph's order."""
        # The reader does not keep them: an old bundle's graph would be in a cycle, and stay in memory.
        return tuple(QueryEncoder(self, place) for place in range(len(self.outputs)))

    def tokens(self, text: str, place: int) -> list[int]:
        """The token ids of a text for one of the vectors."""
        return self.tokenizers[place].encode(text).ids

    def known(self, text: str, place: int) -> Float32[np.ndarray, "1 d"] | None:
        """A vector that is kept."""
        vectors = self._queries.get(text)
        if vectors is None:
            return None
        self._queries.move_to_end(text)
        return vectors.get(place)

    def read(self, text: str, place: int) -> Float32[np.ndarray, "1 d"]:
        """Runs the graph for a vector, and for those before it in the same pass.

        A text that is cut at another length for these is another text to them, and is left to a pass of its own.
        """
        ids = self.tokens(text, place)
        own = self.tokenizers[place]
        places = [i for i in range(place + 1) if self.tokenizers[i] is own or self.tokens(text, i) == ids]
        names = [self.outputs[i] for i in places]
        made = self.session.run(names, {"ids": np.array([ids], dtype=np.int64)}, self.options)
        vectors = self._queries.setdefault(text, {})
        vectors.update(zip(places, made, strict=True))
        if len(self._queries) > self.cached:
            self._queries.popitem(last=False)
        return vectors[place]

    def forget(self) -> None:
        """Empties the cache, for measurements."""
        self._queries.clear()


class QueryEncoder:
    """Turns a query into one of the vectors that a graph gives.

    Args:
        reader: What runs the graph.
        place: Which of its vectors.

    Attributes:
        hits: Vectors that were known, be it from a pass for another vector.
        misses: Passes that were made.
    """

    def __init__(self, reader: QueryReader, place: int) -> None:
        self.reader, self.place = reader, place
        self.hits = self.misses = 0

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text."""
        return self.reader.tokens(text, self.place)

    def vector(self, text: str) -> Float32[np.ndarray, "1 d"]:
        """The vector of a text."""
        found = self.reader.known(text, self.place)
        if found is not None:
            self.hits += 1
            return found
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
