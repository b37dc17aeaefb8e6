"""Imports the RecSys Challenge 2019 (trivago): sessions of a hotel search with the lists that were shown.

A clickout row holds the items of the page and their prices, so each becomes one search; the session's other actions
on items become events. The published data have no carts, no purchases and no text of items.
"""

from pathlib import Path
from typing import Any

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.core.values import NULL_WORDS, IdSpelling
from shelfrank.logs.engine import Table, Value, count, open_engine, rows_of
from shelfrank.logs.raw_files import column_names, file_beside, read_raw, readable, require_columns, sha256
from shelfrank.logs.time_columns import starts_a_day
from shelfrank.logs.time_precision import SEARCHES, note_whole_days, require_whole_times
from shelfrank.logs.times import EARLIEST, LATEST
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log

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

METADATA_FILES = ("item_metadata.csv", "item_metadata.csv.gz")
SORT_ORDERS = (
    "sort by price",
    "sort by distance",
    "sort by rating",
    "sort by popularity",
    "focus on distance",
    "focus on rating",
    "best value",
)
"""Entries of `current_filters` that sort the list rather than restrict it, in lower case."""

FEATURES = (
    Feature(name="city", side=Side.QUERY, kind=Kind.CATEGORICAL),
    Feature(name="sort_order", side=Side.QUERY, kind=Kind.CATEGORICAL),
    Feature(name="n_filters", side=Side.QUERY, kind=Kind.NUMERICAL, unit="filters"),
    # A price depends on the item, the stay and the day: a product feature that is known per impression.
    Feature(name="price", side=Side.PRODUCT, kind=Kind.NUMERICAL, log1p=True),
    Feature(name="device", side=Side.CONTEXT, kind=Kind.CATEGORICAL),
    Feature(name="platform", side=Side.CONTEXT, kind=Kind.CATEGORICAL),
    Feature(name="step", side=Side.CONTEXT, kind=Kind.NUMERICAL, unit="actions", log1p=True),
)

PROPERTIES = Feature(name="properties", side=Side.PRODUCT, kind=Kind.TEXT, separator=",")
CLICKS = "click labels"
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
NO_ITEM_CLICKED = "clickouts whose reference is not an item"
NO_LIST = "clickouts without a results list (kept as events)"
NOT_SHOWN = "clickouts of an item outside the shown list (kept as events)"
REPEATED = "clickouts that repeat an earlier session and step (kept as events)"
NO_ITEM = "actions without an item"
UNKNOWN_ACTION = "actions of a type that the challenge does not describe"
LOST_CLICKS = (HELD_OUT, NO_ITEM_CLICKED, NO_LIST, NOT_SHOWN, REPEATED)
KEPT_AS_EVENTS = (EVENT, NO_LIST, NOT_SHOWN, REPEATED)
ITEM = IdSpelling(whole_numbers=True)
_ITEM = r"^([0-9]+)\.0+$"
_LISTED_ITEM = r"\b([0-9]+)\.0+(\||$)"
"""Item ids written as floats: every id of the challenge is a whole number, so 412.0 is 412."""

_FIRST_SECOND, _LAST_SECOND = int(EARLIEST.timestamp()), int(LATEST.timestamp()) - 1

NOTES = {
    "price": "in the currency of the source, which the challenge does not name",
    "title": "only the item's id: the challenge publishes no item text",
    "timestamp": "the source's second, plus the step within the session as microseconds",
    "query": "the city, the active filters and the sort order: customers type no text",
}


def import_trivago(path: Path, out: Path) -> bool:
    """Imports the challenge's `train.csv` (or `train.csv.gz`) as a search log.

    Items get their properties as a text feature if `item_metadata.csv` is in the same folder.

    Args:
        path: The file.
        out: The folder of the log.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a file is missing, empty, truncated, or of another format.
    """
    require_columns(path, column_names(path), COLUMNS)
    metadata = file_beside(path, *METADATA_FILES)
    inputs = {
        "source": "trivago",
        "file": sha256(path),
        "item_metadata": sha256(metadata) if metadata else None,
    }
    if log_is_current(out, inputs):
        return False
    features = (*FEATURES, PROPERTIES) if metadata else FEATURES
    with (
        write_search_log(out, Schema(name="trivago", features=features), inputs) as writer,
        open_engine() as engine,
    ):
        rows = classify(engine, path, writer.notes)
        writer.declare_whole_numbers(["product_id"])
        n_floats = count(engine, rows.filter("has_floats"))
        if n_floats:
            writer.notes["rows whose item ids are written as floats"] = f"{n_floats:,} (412.0 is read as 412)"
        searches = _searches(engine, rows)
        events = _events(rows)
        # The microseconds hold the step.
        days = searches.select(whole_day=starts_a_day(searches["timestamp"].truncate("s")))
        note_whole_days(engine, writer, path.name, days, SEARCHES)
        impressions = _impressions(searches)
        _count_left_out(writer, engine, rows, searches, impressions)
        write_rows(writer, "impressions", engine, impressions)
        write_rows(writer, "events", engine, events)
        write_rows(writer, "products", engine, _products(engine, searches, events, metadata, writer.notes))
        write_rows(writer, "customers", engine, _customers(rows))
        writer.notes.update(NOTES)
    return True


def classify(engine: Backend, path: Path, notes: dict[str, Any] | None = None) -> Table:
    """Reads the file once and assigns each row its time and outcome.

    Args:
        engine: Holds the rows.
        path: The challenge's `train.csv` or `train.csv.gz`.
        notes: Receives facts about the file's format.

    Returns:
        The rows with their place in the file (`line`), the shown list as an array, and their `outcome`: `SEARCH`,
        `EVENT`, or the reason why they are not a search.

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
    # The source has whole seconds, which several actions share. The step as microseconds keeps their order, so that
    # "strictly before" follows the session, and never reaches the next second.
    in_order = cells["step"].between(0, 999_999) & cells["second"].between(_FIRST_SECOND, _LAST_SECOND)
    second = in_order.ifelse(cells["second"], ibis.null("int64")).as_timestamp("s")
    of_item = cells["action_type"].isin((CLICKOUT, *ITEM_ACTIONS)).fill_null(False)
    floats = (of_item & cells["reference"].re_search(_ITEM)) | cells["impressions"].re_search(_LISTED_ITEM)
    cells = cells.mutate(
        timestamp=second + cells["step"].as_interval("us"),
        reference=of_item.ifelse(cells["reference"].re_replace(_ITEM, r"\1"), cells["reference"]),
        # One pass over the text is faster than one pass per item.
        shown=cells["impressions"].re_replace(_LISTED_ITEM, r"\1\2").split("|"),
        has_floats=floats.fill_null(False),
    )
    with readable(path):
        rows = engine.create_table("classified", cells.mutate(outcome=_outcome(cells)).drop("impressions"), temp=True)
    if not rows_of(engine, rows.limit(1)):
        raise UserError(f"{path} must hold rows, but it has only a line of column names")
    return _without_repeats(engine, rows)


def _outcome(cells: Table) -> Value:
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
    """Keeps the first search of each session and step, which together identify a search."""
    searches = rows.filter(rows["outcome"] == SEARCH)
    nth = ibis.row_number().over(group_by=("session_id", "step"), order_by="line")
    repeats = searches.mutate(nth=nth).filter(ibis._["nth"] > 0).select("line")
    lines = engine.create_table("repeats", repeats, temp=True)
    return rows.mutate(outcome=rows["line"].isin(lines["line"]).ifelse(REPEATED, rows["outcome"]))


def _searches(engine: Backend, rows: Table) -> Table:
    """One row per search, in the file's order, with its lists."""
    pages = rows.filter(rows["outcome"] == SEARCH)
    filters, shown = pages["current_filters"].split("|"), pages["shown"]
    sort_orders = filters.filter(lambda name: name.lower().isin(SORT_ORDERS))
    n_sort_orders = sort_orders.length().fill_null(0)
    separator: Value = ibis.literal(", ")
    every_place: Value = ibis.range(shown.length())
    searches = pages.select(
        *("line", "session_id", "timestamp", "step", "reference", "device", "platform", "city", "shown"),
        search_id=pages["session_id"] + "-" + pages["step"].cast("string"),
        customer_id=pages["user_id"],
        query=separator.join([pages["city"], filters.join(", ")]),
        sort_order=(n_sort_orders > 0).ifelse(sort_orders[0], ibis.null("string")),
        n_filters=(filters.length().fill_null(0) - n_sort_orders).cast("int32"),
        prices=pages["prices"].split("|"),
        # A repeated item keeps its first place.
        kept=every_place.filter(lambda place: (shown[place] != "") & (shown.index(shown[place]) == place)),
    )
    return engine.create_table("searches", searches.order_by("line"), temp=True)


def _impressions(searches: Table) -> Table:
    # Unnesting keeps the order of the searches without another sort.
    rows = searches.mutate(place=searches["kept"].unnest())
    product = rows["shown"][rows["place"]]
    matched = rows["prices"].length() == rows["shown"].length()
    price = matched.ifelse(rows["prices"][rows["place"]], ibis.null("string")).try_cast("float64")
    is_price = (price >= 0) & ~price.isnan() & ~price.isinf()
    return rows.select(
        *("search_id", "timestamp", "customer_id", "session_id", "query"),
        product_id=product,
        position=(rows["place"] + 1).cast("int32"),
        click=(product == rows["reference"]).cast("int8"),
        add_to_cart=ibis.null("int8"),
        purchase=ibis.null("int8"),
        price=is_price.ifelse(price, ibis.null("float64")),
        **{name: rows[name] for name in ("city", "sort_order", "n_filters", "device", "platform", "step")},
    )


def _events(rows: Table) -> Table:
    kept = rows.filter(rows["outcome"].isin(KEPT_AS_EVENTS)).order_by("line")
    return kept.select(
        *("timestamp", "session_id"),
        customer_id=kept["user_id"],
        product_id=kept["reference"],
        action=kept["action_type"],
    )


def _customers(rows: Table) -> Table:
    kept = rows.filter(rows["outcome"].isin((SEARCH, *KEPT_AS_EVENTS)))
    return kept.select(customer_id=kept["user_id"]).distinct().order_by("customer_id")


def _products(engine: Backend, searches: Table, events: Table, metadata: Path | None, notes: dict[str, Any]) -> Table:
    shown = searches.select(product_id=searches["shown"].unnest())
    items = shown.filter(shown["product_id"] != "").union(events.select("product_id")).distinct()
    prefix: Value = ibis.literal("item ")
    products = items.mutate(title=prefix + items["product_id"])
    if metadata is None:
        return products.order_by("product_id")
    require_columns(metadata, column_names(metadata), ("item_id", "properties"))
    published = read_raw(engine, metadata, notes)
    texts = published["properties"].replace("|", ", ").min()
    with readable(metadata):
        described = published.group_by(product_id=ITEM.expression(published["item_id"])).aggregate(properties=texts)
        described = engine.create_table("item_metadata", described, temp=True)
    return products.left_join(described, "product_id").select(*products.columns, "properties").order_by("product_id")


def _count_left_out(writer: SearchLogWriter, engine: Backend, rows: Table, searches: Table, impressions: Table) -> None:
    for outcome in rows_of(engine, rows.group_by("outcome").aggregate(n=rows.count()).order_by("outcome")):
        if outcome["outcome"] == SEARCH:
            writer.kept[CLICKS] += outcome["n"]
        elif outcome["outcome"] != EVENT:
            writer.leave_out(outcome["outcome"], outcome["n"], of=CLICKS if outcome["outcome"] in LOST_CLICKS else None)
    writer.kept["impressions"] += count(engine, impressions)
    without_id = searches["shown"].filter(lambda item: item == "").length()
    again = searches["shown"].length() - without_id - searches["kept"].length()
    for lost in rows_of(engine, searches.aggregate(without_id=without_id.sum(), again=again.sum())):
        writer.leave_out("shown items without an id", lost["without_id"] or 0, of="impressions")
        writer.leave_out("shown items that repeat an item of their list", lost["again"] or 0)
    for lost in rows_of(engine, impressions.aggregate(price=impressions["price"].isnull().sum())):
        writer.leave_out("prices that are missing, negative or not a number", lost["price"] or 0)
