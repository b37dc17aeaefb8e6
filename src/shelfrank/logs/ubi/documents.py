"""Reads one UBI query, event or product from its JSON object, and says what each action means."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa

from shelfrank.core.values import CategorySpelling
from shelfrank.logs.json_values import Record, id_of, is_null_word, number_of, text_of, whole_of
from shelfrank.logs.times import (
    EARLIEST,
    LATEST,
    PER_SECOND,
    is_in_future,
    number_text,
    unit_of_number,
    with_decimal_point,
)

LABEL_OF = {"click": "click", "click_through": "click", "add_to_cart": "add_to_cart", "purchase": "purchase"}
"""The one label that an action on a product of the results page sets."""

NEEDS_QUERY = ("add_to_cart", "purchase")
"""Actions that count as labels only with the query that led to them, wherever in the shop they happen."""

IMPRESSION = "impression"
HISTORY_ONLY = ("watch", "view")
"""Actions that are always history, never a label."""

KNOWN_ACTIONS = (*LABEL_OF, IMPRESSION, *HISTORY_ONLY)
TIMESTAMP = pa.timestamp("us", tz="UTC")
QUERY_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("query_id", "client_id", "user_query")),
        ("timestamp", TIMESTAMP),
        ("hits", pa.list_(pa.string())),
        ("n_hits_without_id", pa.int64()),
        ("n_null_words", pa.int64()),
        ("without_zone", pa.bool_()),
        ("whole_day", pa.bool_()),
        ("unit", pa.string()),
        ("number_text", pa.string()),
    ]
)

EVENT_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("action", "query_id", "client_id", "user_id", "object_id")),
        ("timestamp", TIMESTAMP),
        ("ordinal", pa.int64()),
        ("n_null_words", pa.int64()),
        ("without_zone", pa.bool_()),
        ("whole_day", pa.bool_()),
        ("unit", pa.string()),
        ("number_text", pa.string()),
    ]
)

PRODUCT_NAMES = ("brand", "color", "age_group", "category")
PRODUCT_COLUMNS = pa.schema(
    [*((name, pa.string()) for name in ("product_id", "title", *PRODUCT_NAMES)), ("price", pa.float64())]
)

_ID_KEYS = ("product_id", "object_id", "id", "_id")
_REGION_OF_OFFSET = re.compile(r"(?<=[Zz0-9])\[[A-Za-z0-9/_+-]+\]$")
_WHOLE_DAY = re.compile(r"[0-9W-]+(?:[Tt ]00(?::?00(?::?00(?:[.,]0+)?)?)?(?:[Zz+-].*)?)?")
_MAX_ORDINAL = 2**31 - 1


def source_of(record: Record) -> Record:
    """The document itself: an export of search hits wraps each document in `_source`."""
    inner = record.get("_source")
    return inner if isinstance(inner, dict) else record


def query_row(record: Record) -> Record:
    """Reads a query; a missing or malformed field is null."""
    source = source_of(record)
    given = source.get("query_response_hit_ids")
    ids = [id_of(hit) for hit in given] if isinstance(given, list) else []
    timestamp, without_zone = read_time(source.get("timestamp"))
    query = source.get("user_query")
    return {
        "query_id": id_of(source.get("query_id")),
        "client_id": id_of(source.get("client_id")),
        "user_query": query if isinstance(query, str) else None,
        "timestamp": timestamp,
        # A hit without an id keeps its place, so that later hits keep their positions.
        "hits": ids if any(ids) else None,
        "n_hits_without_id": ids.count(None),
        "n_null_words": sum(is_null_word(source.get(name)) for name in ("query_id", "client_id")),
        "without_zone": without_zone,
        "whole_day": None if timestamp is None else is_whole_day(source.get("timestamp")),
        "unit": unit_of_time(source.get("timestamp")),
        "number_text": number_text(source.get("timestamp")),
    }


def event_row(record: Record, read_id: Callable[[object], str | None] = id_of) -> Record:
    """Reads an event; a missing or malformed field is null.

    Args:
        record: The event.
        read_id: Reads each id, and decides whether a word such as null is an id. Actions are always read by `id_of`.

    Returns:
        A row of `EVENT_COLUMNS`.
    """
    source = source_of(record)
    attributes = _object(source, "event_attributes")
    timestamp, without_zone = read_time(source.get("timestamp"))
    names = {name: read_id(source.get(name)) for name in ("query_id", "client_id", "user_id")}
    return {
        "action": id_of(source.get("action_name")),
        **names,
        "object_id": _object_id(attributes, read_id),
        "timestamp": timestamp,
        "ordinal": _ordinal(attributes),
        "n_null_words": sum(is_null_word(source.get(name)) for name in names),
        "without_zone": without_zone,
        "whole_day": None if timestamp is None else is_whole_day(source.get("timestamp")),
        "unit": unit_of_time(source.get("timestamp")),
        "number_text": number_text(source.get("timestamp")),
    }


def product_row(record: Record) -> Record:
    """Reads a product of a catalogue; a missing or malformed field is null."""
    source = source_of(record)
    ids = (id_of(holder.get(key)) for holder in (source, record) for key in _ID_KEYS)
    price = number_of(source.get("price"))
    return {
        "product_id": next((found for found in ids if found), None),
        "title": text_of(source.get("title")) or text_of(source.get("name")),
        "price": price if price is not None and price >= 0 else None,
        **{name: _names(source.get(name)) for name in PRODUCT_NAMES},
    }


def read_time(value: object) -> tuple[datetime | None, bool]:
    """Reads ISO 8601 or a number since 1970: milliseconds, or the only other unit in which it is a valid time.

    A number that would be in the future in that other unit is not a time but probably a date in digits.

    Args:
        value: The JSON value.

    Returns:
        The time, or None where it is neither or outside the data contract; and whether it has no time zone and was
        read as UTC.
    """
    time: datetime | None = None
    without_zone = False
    number = _number_of_time(value)
    if isinstance(value, str) and number is None:
        try:
            # Java appends the region to the offset.
            time = datetime.fromisoformat(_REGION_OF_OFFSET.sub("", value))
            without_zone = time.tzinfo is None
            time = time.replace(tzinfo=UTC) if without_zone else time.astimezone(UTC)
        except (ValueError, OverflowError):
            return None, False
    else:
        unit = None if number is None else unit_of_number(number)
        if number is not None and unit is not None:
            time = datetime.fromtimestamp(number / PER_SECOND[unit], UTC)
            if unit != "ms" and is_in_future(time):
                return None, False
    if time is None or not EARLIEST <= time < LATEST:
        return None, False
    return time, without_zone


def is_whole_day(value: object) -> bool:
    """Whether a time that `read_time` reads is a date or the start of a day, in its own time zone."""
    number = _number_of_time(value)
    if number is None:
        return isinstance(value, str) and _WHOLE_DAY.fullmatch(value) is not None
    unit = unit_of_number(number)
    return unit is not None and number % (86_400 * PER_SECOND[unit]) == 0


def unit_of_time(value: object) -> str | None:
    """The unit of a time that is a number in another unit than milliseconds."""
    number = _number_of_time(value)
    unit = None if number is None else unit_of_number(number)
    return None if unit == "ms" else unit


def _number_of_time(value: object) -> float | None:
    return number_of(with_decimal_point(value))


def _object(record: Record, key: str) -> Record:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _object_id(attributes: Record, read_id: Callable[[object], str | None]) -> str | None:
    shown = _object(attributes, "object")
    field = shown.get("object_id_field")
    # Without object_id, object_id_field may name the key that holds the id.
    given = [shown.get("object_id"), shown.get(field) if isinstance(field, str) else None]
    # A word such as null is an id only if neither key holds another value.
    return next((found for read in (id_of, read_id) for found in map(read, given) if found), None)


def _ordinal(attributes: Record) -> int | None:
    # UBI before 1.3 nested the number: position.ordinal.index, or position.index.
    position = _object(attributes, "position")
    given = position.get("ordinal", position.get("index"))
    if isinstance(given, dict):
        given = given.get("index")
    ordinal = whole_of(given)
    return ordinal if ordinal is not None and 0 <= ordinal < _MAX_ORDINAL else None


def _names(value: object) -> str | None:
    if isinstance(value, list):
        return " > ".join(name for name in map(text_of, value) if name) or None
    # A category that is a JSON number or boolean is spelled like the same text.
    return CategorySpelling().of(value) if isinstance(value, bool | int | float) else text_of(value)
