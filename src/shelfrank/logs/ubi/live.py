"""Reads an event of User Behavior Insights as it happens, as the import reads it from a file.

Live, an event tells of its query itself by `user_query`; a file has a document for each query.
"""

from shelfrank.logs.json_values import Record, named_of
from shelfrank.logs.times import is_short
from shelfrank.logs.ubi.documents import HISTORY_ONLY, IMPRESSION, KNOWN_ACTIONS, event_row, source_of

# The log of a bundle may read a word as none of these, too.
UNREADABLE = "no action or no readable time"
UNKNOWN_ACTION = "unknown action"
NO_PRODUCT = "no product"
NO_QUERY = "impression without a query"
NO_ORDINAL = "impression without an ordinal of 1 or more"
NOBODY = "of no user, client or session"


def live_row(record: Record) -> Record:
    """Reads an event; what is missing or malformed is null.

    Args:
        record: The event.

    Returns:
        What `event_row` reads, `session_id`, `user_query`, and `is_now`: whether the event tells no time at all.
    """
    source = source_of(record)
    query, time = source.get("user_query"), source.get("timestamp")
    # Which words mean that there is no id is for the log of the bundle to say.
    row = event_row(source, named_of)
    return {
        **row,
        # A file's other times show whether this one was rounded; an event by itself has none.
        "timestamp": None if is_short(time) else row["timestamp"],
        "session_id": named_of(source.get("session_id")),
        "user_query": query if isinstance(query, str) else None,
        "is_now": time is None,
    }


def is_history(row: Record) -> bool:
    """Whether an event is history, and neither an impression nor a label of a results page."""
    return row["action"] in HISTORY_ONLY or row["user_query"] is None


def why_unused(row: Record) -> str | None:
    """Why an event says nothing to any bundle; None where it may say something.

    The order of reasons is that of the import, which leaves the same events out.

    Args:
        row: What `live_row` read.

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
        # Whether 0 is the top is the log's to say, not one event's.
        return NO_ORDINAL if row["ordinal"] is None else None
    if is_history(row) and not (row["user_id"] or row["client_id"] or row["session_id"]):
        return NOBODY
    return None
