"""What totals there are: sums over the past of a key, and what a log allows.

Nothing here needs an engine, so that a service computes features without one. `totals.py` computes totals of a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shelfrank.core.schema import TASKS

PRICE = "price"
MILLIONTHS = 1_000_000
DAY_US = 86_400_000_000
LATE = frozenset({*TASKS, "clicked_price", "clicked_priced"})
"""What becomes known only after the delay of outcomes."""

KEYS = {
    "product": ("product_idx",),
    "query": ("query_idx",),
    "query_product": ("query_idx", "product_idx"),
    "customer": ("customer_key",),
    "customer_product": ("customer_key", "product_idx"),
    "session": ("session_key",),
    "session_product": ("session_key", "product_idx"),
}
"""Timeline columns of each key; `query|<feature>` and `customer|<feature>` pair with a product feature's code."""


@dataclass(frozen=True, order=True)
class Total:
    """One sum or maximum.

    Attributes:
        key: A name in `KEYS`, or `query|` or `customer|` with an affinity feature's name.
        of: What is summed: `impression`, a task, `known_<task>` (impressions whose label is known), `event`,
            `engaged`, `attention` (millionths), `clicked_price` (millionths of ln price), or `clicked_priced`; or
            `last_us`, the latest moment of engagement.
        days: How far back it looks; 0 sees all time.
    """

    key: str
    of: str
    days: float = 0.0

    @cached_property
    def column(self) -> str:
        """Its column in a batch of rows."""
        return f"{self.key}.{self.of}" + (f".{self.days:g}d" if self.days else "")

    @cached_property
    def dtype(self) -> type[np.signedinteger]:
        """Type of its values."""
        return np.int64 if self.of in {"attention", "clicked_price", "last_us"} else np.int32


@dataclass(frozen=True)
class HistoryPlan:
    """What a log has.

    Attributes:
        tasks: Tasks whose labels the log has.
        partly: Those of them whose labels some impressions lack.
        affinity: Product features, as integer codes `<name>_code`, whose values are matched with past engagement.
        has_events: Whether the log has events outside its result pages.
        has_sessions: Whether the log has sessions.
        has_price: Whether rows carry `price`.
    """

    tasks: tuple[str, ...]
    partly: tuple[str, ...]
    affinity: tuple[str, ...]
    has_events: bool
    has_sessions: bool
    has_price: bool


def columns_of(key: str) -> tuple[str, ...]:
    """The timeline's columns that make a key."""
    if key in KEYS:
        return KEYS[key]
    side, _, feature = key.partition("|")
    return (*KEYS[side], f"{feature}_code")


def measures_of(totals: Sequence[Total], tasks: Sequence[str]) -> tuple[str, ...]:
    """The timeline's columns that some totals are sums of."""
    needed: set[str] = set()
    for total in totals:
        if total.of in {"engaged", "last_us"}:
            needed |= {"event", *tasks[:1]}
        elif total.of in {"clicked_price", "clicked_priced"}:
            needed |= {"click", "log_price"}
        elif total.of != "impression":
            needed.add(total.of)
    return tuple(sorted(needed))
