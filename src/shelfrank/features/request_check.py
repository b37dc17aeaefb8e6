"""The declared features that a request must give, those that it lacks, and those that are not read."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import PRICE, Kind, Side
from shelfrank.features.encoder import Encoder
from shelfrank.features.history_stats import HistoryPlan
from shelfrank.features.levels import CATEGORY
from shelfrank.features.page_features import computed_features
from shelfrank.features.request import PageRequest

Home = Literal["product", "customer", "row"]
Place = Literal["candidates", "customer", "context"]
Needed = Literal["always", "unknown product", "unknown customer"]
NEEDED: Mapping[Home, Needed] = {"row": "always", "product": "unknown product", "customer": "unknown customer"}
"""When a request must give a feature, by the table that holds it."""


@dataclass(frozen=True)
class RequestFeature:
    """A declared feature that a request may give.

    Attributes:
        name: The feature, as requests must spell it.
        kind: `numerical` or `categorical`.
        side: What it describes.
        place: Where a request gives it: in the `features` of each of the `candidates`, or in `customer` or `context`.
        needed: When a request must give it: `always`, or for an `unknown product` or `unknown customer`.
    """

    name: str
    kind: str
    side: str
    place: Place
    needed: Needed


def request_features(facts: Mapping[str, Any], encoder: Encoder) -> tuple[RequestFeature, ...]:
    """The declared features that a store reads from requests.

    Args:
        facts: The store's `store.json`.
        encoder: Its encoder.

    Returns:
        The encoded ones, and those that only computed features read, in the order of the log's schema.
    """
    kinds = {each.name: (Kind.NUMERICAL, each.side) for each in encoder.numerical}
    kinds |= {each.name: (Kind.CATEGORICAL, each.side) for each in encoder.categorical}
    if facts["history"]["has_price"]:
        kinds.setdefault(PRICE, (Kind.NUMERICAL, Side.PRODUCT))
    for name in facts["history"].get("levels", ()):
        kinds.setdefault(name, (Kind.NUMERICAL, Side.PRODUCT))
    by_category = [CATEGORY] if facts["history"].get("by_category") else []
    for name in (*facts["history"]["affinity"], *by_category):
        kinds.setdefault(name, (Kind.CATEGORICAL, Side.PRODUCT))
    return tuple(
        _request_feature(name, *kinds[name], home)
        for home in ("row", "product", "customer")
        for name in facts["features"][home]
        if name in kinds
    )


def made_of_declared(facts: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The declared features that each computed feature of a store is computed from.

    Args:
        facts: The store's `store.json`.

    Returns:
        Names of declared features by computed feature.
    """
    plan = HistoryPlan.from_json(facts["history"])
    config = PrepareConfig.model_validate(facts["config"])
    return {each.feature.name: each.declared for each in computed_features(plan, config)}


def read_by(
    features: Sequence[RequestFeature], columns: Iterable[str], made_of: Mapping[str, frozenset[str]]
) -> tuple[RequestFeature, ...]:
    """Selects the features on which a ranker's score can depend.

    Args:
        features: The features that the store reads.
        columns: The columns that the ranker reads.
        made_of: By computed column, the declared features that it is computed from.

    Returns:
        Those with a column of their own, and those from which a column is computed, as `page_price_rank` is from
        `price`.
    """
    seen = set(columns)
    read = seen.union(*(made_of.get(column, ()) for column in seen))
    return tuple(each for each in features if each.name in read)


class RequestCheck:
    """Compares requests with the features that a store reads.

    Args:
        features: The features that the store reads.
        homes: The table that holds each declared feature, of those that are left out too.
        is_missing: Whether a value of the feature of this name is read as missing.

    Attributes:
        features: The features that the store reads.
    """

    def __init__(
        self,
        features: tuple[RequestFeature, ...],
        homes: Mapping[str, Home],
        is_missing: Callable[[str, Any], bool],
    ) -> None:
        self.features, self._is_missing = features, is_missing
        self._of_rows = [each.name for each in features if homes[each.name] == "row"]
        self._of_visitors = {each.name for each in features if each.side == Side.CUSTOMER.value}
        self._of_products = [each.name for each in features if homes[each.name] == "product"]
        self._of_customers = [each.name for each in features if homes[each.name] == "customer"]
        # What may differ from row to row may be given with the page, the customer or a candidate.
        self._read = {
            place: frozenset(name for name, home in homes.items() if home in ("row", own))
            for place, own in (("context", None), ("customer", "customer"), ("candidates", "product"))
        }

    def missing(self, request: PageRequest, product: Int64[np.ndarray, " rows"], customer: int) -> dict[str, int]:
        """Counts the candidates for which the request lacks a value that it should give.

        Args:
            request: The request.
            product: Row of each candidate in the catalogue, -1 for an unknown one.
            customer: Row of the customer among the known ones, -1 for an unknown one or none.

        Returns:
            The number of candidates by feature, those without any left out. A feature of products counts for unknown
            products, one of customers for all candidates of an unknown customer, and both where the request gives null.
        """
        n_rows = len(product)
        counts = Counter[str]()
        for name in self._of_rows:
            # An anonymous visitor has no features; one that is given as null is missing all the same.
            is_given = (
                name in request.customer or name in request.context or any(name in given for given in request.products)
            )
            if name in self._of_visitors and request.customer_id is None and not is_given:
                continue
            page = request.context.get(name, request.customer.get(name))
            rows = [given.get(name, page) for given in request.products] or [page] * n_rows
            counts[name] = sum(self._is_missing(name, value) for value in rows)
        unknown = product < 0
        given_rows: Sequence[Mapping[str, Any]] = request.products or [{}] * n_rows
        for row in np.flatnonzero(unknown).tolist():
            given = given_rows[row]
            counts.update(name for name in self._of_products if self._is_missing(name, given.get(name)))
        for row, given in enumerate(request.products):
            if given and not unknown[row]:
                counts.update(
                    name for name in self._of_products if name in given and self._is_missing(name, given[name])
                )
        is_unknown = request.customer_id is not None and customer < 0
        for name in self._of_customers:
            if (is_unknown or name in request.customer) and self._is_missing(name, request.customer.get(name)):
                counts[name] = n_rows
        return {name: count for name, count in counts.items() if count}

    def unknown(self, request: PageRequest) -> dict[str, int]:
        """Counts the features of a request that are not read.

        Args:
            request: The request.

        Returns:
            Counts by name: of names that the log does not declare, of other spellings, and of features in the wrong
            place, such as a product's in `context`.
        """
        counts = Counter(request.context.keys() - self._read["context"])
        counts.update(request.customer.keys() - self._read["customer"])
        for given in request.products:
            if given:
                counts.update(given.keys() - self._read["candidates"])
        return dict(sorted(counts.items()))


def _request_feature(name: str, kind: Kind, side: Side, home: Home) -> RequestFeature:
    place: Place = "candidates"
    if home == "customer" or (home == "row" and side is Side.CUSTOMER):
        place = "customer"
    elif home == "row" and side in (Side.QUERY, Side.CONTEXT):
        place = "context"
    return RequestFeature(name, kind.value, side.value, place, NEEDED[home])
