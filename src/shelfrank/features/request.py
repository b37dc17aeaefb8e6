"""What a service is asked, what it is told, and the encoded page that comes of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt64

from shelfrank.data.prepared import Column, Neutral, make_neutral


def _now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Asked:
    """One page to rank.

    Attributes:
        query: The query, spelled as a log would have it.
        product_ids: Candidates in the engine's order.
        customer_id: Who asks; None is an anonymous visitor.
        session_id: The visit; None says nothing about it.
        ts_us: Time of the search in microseconds since 1970, UTC; only what happened strictly before counts.
        positions: The engine's order, from 1; None is the order given.
        context: Declared features of the page by name, such as `device`.
        customer: Declared features of the customer that replace the table's.
        products: For each candidate, declared features that replace the table's or are known per row only, such as
            `price`; empty replaces nothing.
        search_id: The page's id, from which its tie keys follow as offline; None takes the query's text.
    """

    query: str
    product_ids: Sequence[str]
    customer_id: str | None = None
    session_id: str | None = None
    ts_us: int = field(default_factory=_now_us)
    positions: Sequence[int] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    customer: Mapping[str, Any] = field(default_factory=dict)
    products: Sequence[Mapping[str, Any]] = ()
    search_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened after the log was read.

    With a `query` it happened on a results page: `impression` shows a product, a task's name says that its label
    became 1. Without one it is what a log's `events` hold, whatever its action: an engagement with the product
    elsewhere, such as a view of its page.

    An outcome or impression that its page was told of before changes nothing; see `Repeats`.

    Attributes:
        product_id: The product; one that the catalogue lacks is passed over.
        action: What happened.
        ts_us: When, in microseconds since 1970, UTC; of an outcome, as in a log, when its page was shown.
        customer_id: Whose doing; None is an anonymous visitor.
        session_id: In which visit; None says nothing about it.
        query: The query of the results page.
        position: Where an impression stood on its page, from 1; None gives it no attention.
        price: The price shown, for a log that has prices in its impressions.
        search_id: The results page; None takes the events of one visitor, visit, query and moment for one page's.
        client_id: Who did it where `customer_id` is a word for nobody; `spell_event` makes `customer_id` of it.
        ordinal: The position as the source counts it, from 0 or 1; `spell_event` makes `position` of it.
    """

    product_id: str
    action: str
    ts_us: int
    customer_id: str | None = None
    session_id: str | None = None
    query: str | None = None
    position: int | None = None
    price: float | None = None
    search_id: str | None = None
    ordinal: int | None = None
    client_id: str | None = None


@dataclass(frozen=True)
class Page:
    """The candidates of one page, encoded as prepared data is, in the order in which they were given.

    Attributes:
        numerical: Standardised numbers.
        categorical: Codes; 0 is unknown or default.
        product_idx: Row of each product in the catalogue; -1 where it is not there.
        query_idx: Row of the query in the log's queries; -1 where it was never seen.
        tie_keys: Fixed hash of (search, product), by which metrics order equal scores; a page that is served keeps the
            engine's order there.
        unknown: How much was cold: `products` that the catalogue lacks, `customer` and `query` (1 or 0), and given
            `categories` that have no code.
        missing_features: By declared feature that the store reads, for how many candidates a request that could have
            brought it did not; see `RequestCheck.missing`.
        unknown_features: By name, how often a request gave it where nothing reads it.
        numerical_columns: What each column of `numerical` is.
        categorical_columns: What each column of `categorical` is.
    """

    numerical: Float32[np.ndarray, "rows n_num"]
    categorical: Int32[np.ndarray, "rows n_cat"]
    product_idx: Int32[np.ndarray, " rows"]
    query_idx: int
    tie_keys: UInt64[np.ndarray, " rows"]
    unknown: Mapping[str, int]
    missing_features: Mapping[str, int]
    unknown_features: Mapping[str, int]
    numerical_columns: tuple[Column, ...]
    categorical_columns: tuple[Column, ...]

    def unknown_ids(self, asked: Asked) -> list[str]:
        """The candidates that the catalogue lacks, each once, in the order of the request."""
        rows = np.flatnonzero(self.product_idx < 0).tolist()
        return list(dict.fromkeys(asked.product_ids[row] for row in rows))

    def neutral(self, mode: Neutral) -> "Page":
        """The same page with every customer feature at its neutral value; see `Split.neutral`."""
        numerical, categorical = self.numerical.copy(), self.categorical.copy()
        make_neutral(numerical, categorical, self.numerical_columns, self.categorical_columns, mode)
        return replace(self, numerical=numerical, categorical=categorical)
