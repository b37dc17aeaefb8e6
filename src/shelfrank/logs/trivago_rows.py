"""Reads the rows of the RecSys Challenge 2019 and says of each what becomes of it."""

from pathlib import Path
from typing import Any

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.values import NULL_WORDS, IdSpelling
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.raw_files import read_raw, readable
from shelfrank.logs.time_precision import require_whole_times
from shelfrank.logs.times import EARLIEST, LATEST

COLUMNS = (
    "user_id",
    "session_id",
    "timestamp",
    "step",
    "action_type",
    "reference",
    "platform",
    "city",
    "device",
    "current_filters",
    "impressions",
    "prices",
)

CLICKOUT = "clickout item"
ITEM_ACTIONS = (
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    "search for item",
)
OTHER_ACTIONS = ("filter selection", "change of sort order", "search for destination", "search for poi")

SEARCH, EVENT = "search", "event"
UNREADABLE = "rows without a readable user, session, time and step"
HELD_OUT = "clickouts without a reference (held out by the challenge)"
NO_ITEM_CLICKED = "clickouts whose reference is no item"
NO_LIST = "clickouts without a shown list (kept as events)"
NOT_SHOWN = "clickouts of an item that is not in the shown list (kept as events)"
REPEATED = "clickouts with the session and step of an earlier one (kept as events)"
NO_ITEM = "actions that name no item"
UNKNOWN_ACTION = "actions of a type that the challenge does not describe"

LOST_CLICKS = (HELD_OUT, NO_ITEM_CLICKED, NO_LIST, NOT_SHOWN, REPEATED)
KEPT_AS_EVENTS = (EVENT, NO_LIST, NOT_SHOWN, REPEATED)

ITEM = IdSpelling(whole_numbers=True)
_ITEM = r"^([0-9]+)\.0+$"
_LISTED_ITEM = r"\b([0-9]+)\.0+(\||$)"
"""Items as a table of floats writes them: every item of the challenge is a whole number, so 412.0 is 412."""

_FIRST_SECOND, _LAST_SECOND = int(EARLIEST.timestamp()), int(LATEST.timestamp()) - 1


def classify(engine: Backend, path: Path, notes: dict[str, Any] | None = None) -> Table:
    """Reads the file once, gives each row its time, and says what becomes of it.

    Args:
        engine: Where the rows are kept.
        path: The challenge's `train.csv` or `train.csv.gz`.
        notes: Told what was recognised of how the file is written.

    Returns:
        The rows with their place in the file (`line`), the shown list as an array, and their `fate`:
        `SEARCH`, `EVENT`, or the reason why they are no search.

    Raises:
        UserError: Where the file cannot be read, has no rows, or has times that were rounded.
    """
    raw = read_raw(engine, path, notes)
    with readable(path):
        require_whole_times(engine, raw, "timestamp", f"timestamp of {path.name}", notes)
    cells = raw.select(
        *(
            IdSpelling(NULL_WORDS if name in ("user_id", "session_id") else ()).expression(raw[name]).name(name)
            for name in COLUMNS
            if name not in ("timestamp", "step")
        ),
        second=raw["timestamp"].try_cast("int64"),
        step=raw["step"].try_cast("int64"),
        line=ibis.row_number(),
    )
    # The source has whole seconds, and several actions share one. The step orders them: as microseconds it
    # makes "strictly before" follow the session's order, and it never reaches into the next second.
    in_order = cells["step"].between(0, 999_999) & cells["second"].between(_FIRST_SECOND, _LAST_SECOND)
    second = in_order.ifelse(cells["second"], ibis.null("int64")).as_timestamp("s")
    of_item = cells["action_type"].isin((CLICKOUT, *ITEM_ACTIONS)).fill_null(False)
    floats = (of_item & cells["reference"].re_search(_ITEM)) | cells["impressions"].re_search(_LISTED_ITEM)
    cells = cells.mutate(
        timestamp=second + cells["step"].as_interval("us"),
        reference=of_item.ifelse(cells["reference"].re_replace(_ITEM, r"\1"), cells["reference"]),
        # One pass over the text is faster than one over each of its items.
        shown=cells["impressions"].re_replace(_LISTED_ITEM, r"\1\2").split("|"),
        has_floats=floats.fill_null(False),
    )
    with readable(path):
        rows = engine.create_table("classified", cells.mutate(fate=_fate(cells)).drop("impressions"), temp=True)
    if not rows_of(engine, rows.limit(1)):
        raise UserError(f"{path} must hold rows, but it has only a line of column names")
    return _without_repeats(engine, rows)


def _fate(cells: Table) -> Value:
    clickout = cells["action_type"] == CLICKOUT
    names_item = cells["reference"].re_search("^[0-9]+$")
    return ibis.cases(
        (cells["user_id"].isnull() | cells["session_id"].isnull() | cells["timestamp"].isnull(), UNREADABLE),
        (clickout & cells["reference"].isnull(), HELD_OUT),
        (clickout & ~names_item, NO_ITEM_CLICKED),
        (clickout & cells["impressions"].isnull(), NO_LIST),
        (clickout & ~cells["shown"].contains(cells["reference"]), NOT_SHOWN),
        (clickout, SEARCH),
        (cells["action_type"].isin(ITEM_ACTIONS) & names_item, EVENT),
        (cells["action_type"].isin((*ITEM_ACTIONS, *OTHER_ACTIONS)), NO_ITEM),
        else_=UNKNOWN_ACTION,
    )


def _without_repeats(engine: Backend, rows: Table) -> Table:
    """Session and step name a search, so that of several with the same ones only the first can be one."""
    searches = rows.filter(rows["fate"] == SEARCH)
    nth = ibis.row_number().over(group_by=("session_id", "step"), order_by="line")
    repeats = searches.mutate(nth=nth).filter(ibis._["nth"] > 0).select("line")
    lines = engine.create_table("repeats", repeats, temp=True)
    return rows.mutate(fate=rows["line"].isin(lines["line"]).ifelse(REPEATED, rows["fate"]))
