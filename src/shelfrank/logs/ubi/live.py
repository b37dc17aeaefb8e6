"""Reads a live UBI event with the rules of the import.

A live event carries its query's text as `user_query`; a file has a separate document for each query.
"""

from shelfrank.logs.json_values import Record, named_of
from shelfrank.logs.times import may_be_rounded
from shelfrank.logs.ubi.documents import HISTORY_ONLY, IMPRESSION, KNOWN_ACTIONS, event_row, source_of

# A bundle's log may also read a word of these fields as missing.
UNREADABLE = "no action or no readable time"
UNKNOWN_ACTION = "unknown action"
NO_PRODUCT = "no product"
NO_QUERY = "impression without a query"
NO_ORDINAL = "impression without an ordinal of 1 or more"
NO_VISITOR = "no user, client or session"


def live_row(record: Record) -> Record:
    """Reads an event; a missing or malformed field is null.

    Args:
        record: The event.

    Returns:
        The row of `event_row` with `session_id`, `user_query`, and `is_now`: whether the event has no time at all.
    """
    source = source_of(record)
    query, time = source.get("user_query"), source.get("timestamp")
    # The bundle's log declares which words mean a missing id.
    row = event_row(source, named_of)
    return {
        **row,
        # In a file the other times show whether this one was rounded; a single event has no others.
        "timestamp": None if may_be_rounded(time) else row["timestamp"],
        "session_id": named_of(source.get("session_id")),
        "user_query": query if isinstance(query, str) else None,
        "is_now": time is None,
    }


def is_history(row: Record) -> bool:
    """Whether an event only counts as history, not as an impression or label of a results page."""
    return row["action"] in HISTORY_ONLY or row["user_query"] is None


def why_unused(row: Record) -> str | None:
    """The reason why no bundle can use an event; None where one may.

    Reasons are checked in the order of the import, which leaves out the same events.

    Args:
        row: A row of `live_row`.

    Returns:
        The reason.
    """
    if row["action"] is None or (row["timestamp"] is None and not row["is_now"]):
        return UNREADABLE
    if row["action"] not in KNOWN_ACTIONS:
        return UNKNOWN_ACTION
    if row["object_id"] is None:
        return NO_PRODUCT
    if row["action"] == IMPRESSION:
        if row["user_query"] is None:
            return NO_QUERY
        # Whether ordinals start at 0 is declared by the bundle's log.
        return NO_ORDINAL if row["ordinal"] is None else None
    if is_history(row) and not (row["user_id"] or row["client_id"] or row["session_id"]):
        return NO_VISITOR
    return None
