"""A page to rank, an event, and the encoded page."""

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
class PageRequest:
    """One page to rank.

    Attributes:
        query: The query, as the user typed it.
        product_ids: Candidates in the engine's order.
        customer_id: The customer; None is an anonymous visitor.
        session_id: The visit; None where it is unknown.
        ts_us: Time of the search in microseconds since 1970, UTC; only strictly earlier events count.
        positions: Position of each candidate in the engine's order, from 1; None is the order of `product_ids`.
        context: Declared features of the page by name, such as `device`.
        customer: Declared features of the customer that replace the table's.
        products: For each candidate, declared features that replace the table's or are known per row only, such as
            `price`; empty replaces nothing.
        search_id: The page's id, which decides its tie keys as offline; None uses the text of the query.
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
    """An impression or an action after the log was read.

    With a `query` it belongs to a results page: `impression` shows a product, and the name of a task sets its label to
    1. Without one it is an event as in a log's `events`, whatever its action: an engagement with the product elsewhere,
    such as a view of its page.

    A repeated impression or outcome of a page changes nothing; see `EventDeduplicator`.

    Attributes:
        product_id: The product; an event of one that the catalogue lacks is skipped.
        action: `impression`, a task, or the name of any other action.
        ts_us: Time in microseconds since 1970, UTC; of an outcome, as in a log, the time at which its page was shown.
        customer_id: The customer; None is an anonymous visitor.
        session_id: The visit; None where it is unknown.
        query: The query of the results page.
        position: Position of an impression on its page, from 1; None gives it no attention.
        price: The price shown, for a log that has prices in its impressions.
        search_id: The results page; None groups events by customer, visit, query and time.
        client_id: The visitor where `customer_id` means nobody; `spell_event` moves it to `customer_id`.
        ordinal: The position as the source counts it, from 0 or 1; `spell_event` turns it into `position`.
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
    """The candidates of one page in the order of the request, encoded as prepared data is.

    Attributes:
        numerical: Standardised numbers.
        categorical: Codes; 0 is unknown or default.
        product_idx: Row of each product in the catalogue; -1 for an unknown product.
        query_idx: Row of the query in the log's queries; -1 for a new query.
        tie_keys: Fixed hash of (search, product), by which metrics order equal scores; a served page keeps the
            engine's order of them.
        unknown: Counts of what is unknown: `products` that the catalogue lacks, `customer` and `query` (1 or 0), and
            `categories` of the request that have no code.
        missing_features: By declared feature, the number of candidates for which the request lacks a value that it
            should give; see `RequestCheck.missing`.
        unknown_features: By name, how often the request gave a feature that is not read there.
        numerical_columns: The columns of `numerical`.
        categorical_columns: The columns of `categorical`.
        clipped_features: By feature, for how many candidates its number, as given in the request or computed from one,
            is clipped to what training saw.
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
    clipped_features: Mapping[str, int] = field(default_factory=dict)

    def unknown_ids(self, request: PageRequest) -> list[str]:
        """The candidates that the catalogue lacks, each once, in the order of the request."""
        rows = np.flatnonzero(self.product_idx < 0).tolist()
        return list(dict.fromkeys(request.product_ids[row] for row in rows))

    def neutral(self, mode: Neutral) -> "Page":
        """The same page with every customer feature at its neutral value; see `Split.neutral`."""
        numerical, categorical = self.numerical.copy(), self.categorical.copy()
        make_neutral(numerical, categorical, self.numerical_columns, self.categorical_columns, mode)
        return replace(self, numerical=numerical, categorical=categorical)
