"""Imports UBI files: queries with a results list become searches, events on its products become labels.

All other events become history.
"""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.logs.engine import Table, Value, count, open_engine, read_parquet, rows_of
from shelfrank.logs.id_columns import spell_whole_numbers
from shelfrank.logs.json_lines import find_json_lines, keep_json_lines, require_json_lines
from shelfrank.logs.raw_files import sha256
from shelfrank.logs.time_precision import require_whole_times
from shelfrank.logs.ubi.documents import (
    EVENT_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCT_NAMES,
    QUERY_COLUMNS,
    event_row,
    product_row,
    query_row,
)
from shelfrank.logs.ubi.searches import Searches, make_searches
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log

FEATURES = (
    *(Feature(name=name, side=Side.PRODUCT, kind=Kind.CATEGORICAL) for name in PRODUCT_NAMES),
    Feature(name="price", side=Side.PRODUCT, kind=Kind.NUMERICAL, log1p=True),
)

IDS = {
    "search_id": (("queries", "query_id"), ("events", "query_id")),
    "customer_id": (("queries", "client_id"), ("events", "client_id"), ("events", "user_id")),
    "product_id": (("queries", "hits"), ("events", "object_id"), ("products", "product_id")),
}
"""By id column of the log, the files and keys that hold it."""

NO_TITLE = "products without a title in products.jsonl"
NO_PRODUCT_ID = "product rows without an id"
REPEATED_PRODUCT = "product rows that repeat an earlier id"
NOTES = {
    "customer_id": "the client_id, or the user_id where the client has only that user in the whole file",
    "session_id": "each client's queries at most 30 minutes apart; the session_id of events is not used",
    "events": "events outside the results lists or without a query: history, never a label",
    "query_attributes": "not used",
}


def import_ubi(path: Path, out: Path, first_ordinal: int | None = None) -> bool:
    """Imports a folder with `queries.jsonl` and `events.jsonl` as a search log.

    Products get a title and features if the folder has `products.jsonl`. Each file may end in `.ndjson` or `.json` and
    be gzipped; a line is a document, or a hit with the document under `_source`.

    Args:
        path: The folder.
        out: The folder of the log.
        first_ordinal: The ordinal of the topmost product in impression events, 0 or 1; None infers it from where the
            lists begin.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a file is missing, empty or truncated, a line is not a JSON object, lists begin at different
            ordinals, or times were rounded.
    """
    queries, events = require_json_lines(path, "queries"), require_json_lines(path, "events")
    products = find_json_lines(path, "products")
    inputs = {
        "source": "ubi",
        "first_ordinal": first_ordinal,
        "queries": sha256(queries),
        "events": sha256(events),
        "products": sha256(products) if products else None,
    }
    if log_is_current(out, inputs):
        return False
    with tempfile.TemporaryDirectory(prefix="shelfrank-") as scratch, open_engine() as engine:
        kept = {name: Path(scratch) / f"{name}.parquet" for name in ("queries", "events", "products")}
        if products is not None:
            keep_json_lines(products, kept["products"], PRODUCT_COLUMNS, product_row)
        catalogue = read_parquet(engine, [kept["products"]]) if products else None
        features = _known_features(engine, catalogue)
        with write_search_log(out, Schema(name="ubi", features=features), inputs) as writer:
            keep_json_lines(queries, kept["queries"], QUERY_COLUMNS, query_row)
            keep_json_lines(events, kept["events"], EVENT_COLUMNS, event_row)
            tables = {name: read_parquet(engine, [kept[name]]) for name in ("queries", "events")}
            for name, file, table in (("queries", queries, tables["queries"]), ("events", events, tables["events"])):
                require_whole_times(engine, table, "number_text", f"timestamp of {file.name}", writer.notes)
                n = rows_of(engine, table.aggregate(n=table["n_null_words"].sum()))[0]["n"]
                if n:
                    writer.notes[f"ids of {name} that are blank or a null word, read as missing"] = int(n)
            if catalogue is not None:
                tables["products"] = catalogue
            places = {role: [place for place in some if place[0] in tables] for role, some in IDS.items()}
            tables = spell_whole_numbers(engine, writer, tables, places)
            catalogue = tables.get("products")
            searches = make_searches(engine, writer, tables["queries"], tables["events"], first_ordinal)
            write_rows(writer, "impressions", engine, searches.impressions)
            if searches.has_events:
                write_rows(writer, "events", engine, searches.events)
            write_rows(writer, "products", engine, _products(engine, writer, searches, catalogue, features))
            write_rows(writer, "customers", engine, _customers(searches))
            writer.notes.update(NOTES)
    return True


def _known_features(engine: Backend, catalogue: Table | None) -> tuple[Feature, ...]:
    """The features that at least one product of the catalogue has."""
    if catalogue is None:
        return ()
    known = rows_of(engine, catalogue.aggregate(**{each.name: catalogue[each.name].count() for each in FEATURES}))[0]
    return tuple(feature for feature in FEATURES if known[feature.name])


def _products(
    engine: Backend,
    writer: SearchLogWriter,
    searches: Searches,
    catalogue: Table | None,
    features: Collection[Feature],
) -> Table:
    seen = searches.impressions.select("product_id").union(searches.events.select("product_id")).distinct()
    if catalogue is None:
        products = seen.mutate(title=ibis.null("string"))
    else:
        nth = ibis.row_number().over(group_by="product_id", order_by="line")
        rows = catalogue.filter(catalogue["product_id"].notnull()).mutate(nth=nth)
        names = ["title", *(feature.name for feature in features)]
        first = rows.filter(rows["nth"] == 0).select("product_id", *names)
        missing: Mapping[str, Value] = {name: ibis.null(first[name].type()) for name in names}
        products = first.union(seen.anti_join(first, "product_id").mutate(**missing))
        writer.leave_out(NO_PRODUCT_ID, count(engine, catalogue.filter(catalogue["product_id"].isnull())))
        writer.leave_out(REPEATED_PRODUCT, count(engine, rows.filter(rows["nth"] > 0)))
    writer.leave_out(NO_TITLE, count(engine, products.filter(products["title"].isnull())))
    return products.order_by("product_id")


def _customers(searches: Searches) -> Table:
    tables = (searches.impressions, searches.events)
    searched, acted = (table.select("customer_id").drop_null("customer_id") for table in tables)
    return searched.union(acted).distinct().order_by("customer_id")
