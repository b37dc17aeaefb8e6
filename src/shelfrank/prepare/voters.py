"""Voters on the relevance of a product to a query: clicks, text, and whatever a user plugs in (Paper: Sec. 3.5).

A language model as a voter, the paper's future work, is a `FunctionVoter` around a call to it.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32

from shelfrank.config.relevance import PositionWeight
from shelfrank.core.errors import UserError
from shelfrank.prepare.pairs import PairTable, group_starts, min_max, weighted_ctr

CALL_PAIRS = 50_000
"""A call to a user's function holds about so many pairs, and always whole queries."""

Cosine = Callable[[Int32[np.ndarray, " pairs"], Int32[np.ndarray, " pairs"]], Float32[np.ndarray, " pairs"]]
"""Cosine of (query, product), NaN where one of them has no embedding."""

Relevance = Callable[[Int32[np.ndarray, " pairs"], Int32[np.ndarray, " pairs"]], Float32[np.ndarray, " pairs"]]
"""Relevance of (query, product), in multiples of the mean."""


@runtime_checkable
class Voter(Protocol):
    """Says how relevant each product is to its query."""

    @property
    def name(self) -> str:
        """What the weights of the config call it."""
        ...

    def vote(self, pairs: PairTable) -> Float64[np.ndarray, " pairs"]:
        """One vote per pair, the higher the more relevant; NaN abstains."""
        ...


@dataclass(frozen=True)
class CTRVoter:
    """The weighted click-through rate, normalised within the query (Paper: Sec. 3.5, steps 1 to 5 and 7).

    Votes lie in 0 to 1; a pair without a known click label abstains.

    Attributes:
        position_weight: A key of `POSITION_WEIGHTS`.
        name: What the weights call it.
    """

    position_weight: PositionWeight
    name: str = "ctr"

    def vote(self, pairs: PairTable) -> Float64[np.ndarray, " pairs"]:
        """The normalised weighted click-through rate of each pair."""
        rate = weighted_ctr(pairs.weighted_clicks(self.position_weight), pairs.impressions)
        return min_max(rate, pairs.query_idx)


@dataclass(frozen=True)
class SemanticVoter:
    """The cosine of the query's and the product's embedding (Paper: Sec. 3.5, step 6).

    Paper: step 7 normalises the click-through rate only, so the cosine votes as it is and may be negative.

    Attributes:
        cosine: Gives the cosines; a pair whose cosine is NaN abstains.
        scale: `as_is`, or `min_max` within the query.
        name: What the weights call it.
    """

    cosine: Cosine
    scale: Literal["as_is", "min_max"] = "as_is"
    name: str = "semantic"

    def vote(self, pairs: PairTable) -> Float64[np.ndarray, " pairs"]:
        """The cosine of each pair."""
        cosine = self.cosine(pairs.query_idx, pairs.product_idx).astype(np.float64)
        return min_max(cosine, pairs.query_idx) if self.scale == "min_max" else cosine


@dataclass(frozen=True)
class UnderstandingVoter:
    """The relevance that query understanding learned from the log, normalised within the query.

    Attributes:
        relevance: Gives the click rate that a product's answers to the query make likely.
        name: What the weights call it.
    """

    relevance: Relevance
    name: str = "understanding"

    def vote(self, pairs: PairTable) -> Float64[np.ndarray, " pairs"]:
        """The normalised relevance of each pair."""
        return min_max(self.relevance(pairs.query_idx, pairs.product_idx).astype(np.float64), pairs.query_idx)


@dataclass(frozen=True)
class PairTexts:
    """What a user's function may read of queries and products.

    Attributes:
        queries: Row i is the text of `query_idx` i.
        products: `product_id` and `document`; row i is `product_idx` i.
    """

    queries: pa.ChunkedArray
    products: pa.Table


@dataclass(frozen=True)
class FunctionVoter:
    """Any function or model as a voter.

    The function gets tables of `query`, `product_id`, `document`, `impressions`, `clicks` and `transactions`, whole
    queries at a time, and returns one number in 0 to 1 for each row; NaN or None abstains.

    Attributes:
        name: What the weights call it.
        function: The function.
        texts: The texts of the pairs.
    """

    name: str
    function: Callable[[pa.Table], Any]
    texts: PairTexts

    def vote(self, pairs: PairTable) -> Float64[np.ndarray, " pairs"]:
        """What the function says of each pair.

        Args:
            pairs: The pairs of the training rows.

        Returns:
            One vote per pair.

        Raises:
            UserError: Where it returns something else than one number in 0 to 1, or nothing, for each row.
        """
        votes = np.empty(len(pairs))
        for rows in _calls(pairs):
            try:
                given = self.function(self._table(pairs, rows))
            except Exception as error:
                raise UserError(
                    f"voter {self.name!r} must return a vote for each row, but it fails: "
                    f"{type(error).__name__}: {error}"
                ) from error
            votes[rows] = self._checked(given, rows.stop - rows.start)
        return votes

    def _table(self, pairs: PairTable, rows: slice) -> pa.Table:
        product = pa.array(pairs.product_idx[rows])
        return pa.table(
            {
                "query": self.texts.queries.take(pa.array(pairs.query_idx[rows])),
                "product_id": self.texts.products["product_id"].take(product),
                "document": self.texts.products["document"].take(product),
                "impressions": pairs.impressions[rows],
                "clicks": pairs.clicks[rows],
                "transactions": pairs.transactions[rows],
            }
        )

    def _checked(self, given: Any, n_rows: int) -> Float64[np.ndarray, " rows"]:
        try:
            plain = given.to_pylist() if isinstance(given, pa.Array | pa.ChunkedArray) else given
            votes = np.asarray(plain, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"voter {self.name!r} must return numbers, but it returned {type(given).__name__}"
            ) from error
        if votes.shape != (n_rows,):
            raise UserError(
                f"voter {self.name!r} must return one number for each of {n_rows:,} rows, but it returned an array of "
                f"shape {votes.shape}"
            )
        outside = votes[(votes < 0) | (votes > 1)]
        if len(outside):
            raise UserError(
                f"voter {self.name!r} must return numbers in 0 to 1, but {len(outside):,} of {n_rows:,} lie outside, "
                f"such as {outside[0]:g}; scale them in the function, or return None to abstain"
            )
        return votes


def load_voters(voters: Mapping[str, str], texts: PairTexts) -> list[FunctionVoter]:
    """Imports the voters that a config names.

    Args:
        voters: Name to `package.module:callable`.
        texts: What they may read.

    Returns:
        The voters, in the given order.

    Raises:
        UserError: Where a name does not lead to a callable.
    """
    return [FunctionVoter(name, _load(name, place), texts) for name, place in voters.items()]


def voter_sources(voters: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of each voter's own module file, by the voter's name, so that a changed voter is asked again.

    Args:
        voters: Name to `package.module:callable`.

    Returns:
        The hashes; empty where a module has no file of source.

    Raises:
        UserError: Where a name does not lead to a callable.
    """
    sources = {}
    for name, place in voters.items():
        _load(name, place)
        spec = importlib.util.find_spec(place.partition(":")[0])
        file = Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None
        sources[name] = hashlib.sha256(file.read_bytes()).hexdigest() if file else ""
    return sources


def _load(name: str, place: str) -> Callable[[pa.Table], Any]:
    module, colon, attribute = place.partition(":")
    try:
        if not colon:
            raise ValueError("there is no colon")
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"voters.{name} must be an importable package.module:callable, but {place!r} is not: {error}; "
            "is its folder on PYTHONPATH?"
        ) from error
    if not callable(function):
        raise UserError(f"voters.{name} must name a callable, but {place!r} is a {type(function).__name__}")
    return function


def _calls(pairs: PairTable) -> Iterator[slice]:
    starts = group_starts(pairs.query_idx)
    begin = 0
    for end in np.append(starts[1:], len(pairs)).tolist() if len(pairs) else []:
        if end - begin >= CALL_PAIRS or end == len(pairs):
            yield slice(begin, end)
            begin = end
