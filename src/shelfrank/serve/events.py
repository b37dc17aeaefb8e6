"""Reads the events that clients send, each by itself."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from shelfrank.core.errors import UserError
from shelfrank.features.request import Event
from shelfrank.logs.ubi.documents import LABEL_OF
from shelfrank.logs.ubi.live import is_history, live_row, why_unused
from shelfrank.serve.api import MAX_ID, MAX_TEXT, microseconds

ROUNDED_ID = "an id that is a float of 2^53 or more, which stands for several"
AHEAD_S = 300
"""Seconds by which a client's clock may be ahead of the service's."""
FROM_THE_FUTURE = "dated more than 5 minutes ahead of the service's clock"
UNUSABLE_TEXT = "an id or query that is too long or not text"


def read_events(records: Iterable[dict[str, Any]]) -> tuple[list[Event], Counter[str]]:
    """Reads a batch of User Behavior Insights.

    Args:
        records: The events.

    Returns:
        The events that a bundle may use, and by reason the number of others.
    """
    events: list[Event] = []
    unused: Counter[str] = Counter()
    now_us = time.time_ns() // 1000
    for record in records:
        try:
            row = live_row(record)
        except UserError:
            unused[ROUNDED_ID] += 1
            continue
        reason = why_unused(row) or _unusable_text(row)
        if reason is not None:
            unused[reason] += 1
            continue
        event = _event(row, now_us)
        if event.ts_us > now_us + AHEAD_S * 1_000_000:
            unused[FROM_THE_FUTURE] += 1
        else:
            events.append(event)
    return events, unused


def _event(row: dict[str, Any], now_us: int) -> Event:
    action: str = row["action"]
    return Event(
        product_id=row["object_id"],
        action=LABEL_OF.get(action, action),
        ts_us=now_us if row["is_now"] else microseconds(row["timestamp"]),
        customer_id=row["user_id"] or row["client_id"],
        client_id=row["client_id"] if row["user_id"] else None,
        session_id=row["session_id"],
        query=None if is_history(row) else row["user_query"],
        search_id=row["query_id"],
        ordinal=row["ordinal"],
    )


def _unusable_text(row: dict[str, Any]) -> str | None:
    # No request can name a longer one, and memory is bounded by a number of events.
    ids = [row[name] for name in ("query_id", "client_id", "user_id", "object_id", "session_id")]
    limits = [(each, MAX_ID) for each in ids] + [(row["user_query"], MAX_TEXT)]
    is_usable = all(text is None or (len(text) <= limit and is_text(text)) for text, limit in limits)
    return None if is_usable else UNUSABLE_TEXT


def is_text(text: str) -> bool:
    """Checks that no character is half a surrogate pair, which JSON can hold but no text file."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
