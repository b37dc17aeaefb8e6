"""Imports KuaiSearch: searches of a shop in a short-video app, with the texts of its products.

The ranking file has one line per shown product, in an order that reveals the labels: clicked products come first. So
positions come from a hash instead.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.schema import Feature, Kind, Schema, Side
from shelfrank.logs.engine import Table, Value, count, keep, open_engine, read_parquet, rows_of
from shelfrank.logs.id_columns import spell_whole_numbers
from shelfrank.logs.json_lines import keep_json_lines, require_json_lines
from shelfrank.logs.json_values import Record, id_of, number_of, text_of, whole_of
from shelfrank.logs.raw_files import sha256
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log

FILES = ("items", "users", "rank")
KEYS = {"items": "product_id", "users": "customer_id"}
IDS = {
    "customer_id": (("rank", "user_id"), ("users", "customer_id")),
    "session_id": (("rank", "session_id"),),
    "product_id": (("rank", "product_id"), ("items", "product_id")),
}
"""By id column of the log, the tables and columns that hold it."""

START = datetime(2025, 1, 1, tzinfo=UTC)
"""The time of `time_index` 0, with one second per step; the data set publishes neither."""

# 68 years of steps: every time stays within the data contract.
_LAST_INDEX = 2**31 - 1
PRODUCT_COUNTS = ("item_show_cnt_30d_hist", "item_click_cnt_30d_hist", "item_order_cnt_30d_hist")
CUSTOMER_COUNTS = (
    "user_show_cnt_30d_hist",
    "user_click_cnt_30d_hist",
    "user_order_cnt_30d_hist",
    "user_gmv_30d_hist",
    "user_fan_number",
    "user_follow_number",
)
NUMBERS = ("price", *PRODUCT_COUNTS, *CUSTOMER_COUNTS)
CUSTOMER_NAMES = {
    "gender": "gender",
    "age_bucket": "age_bucket",
    "fre_country": "country",
    "fre_province": "province",
    "fre_city": "city",
}
PRODUCT_NAMES = {
    "brand_name": "brand",
    "seller_name": "seller",
    "category_level1_name": "category",
    "category_level2_name": "category_level2",
    "category_level3_name": "category_level3",
}
MISSING_NAME = "UNKNOWN"
"""The data set's word for a missing brand or category."""

FEATURES = (
    *(Feature(name=name, side=Side.CUSTOMER, kind=Kind.CATEGORICAL) for name in CUSTOMER_NAMES.values()),
    *(Feature(name=name, side=Side.CUSTOMER, kind=Kind.NUMERICAL, log1p=True) for name in CUSTOMER_COUNTS),
    *(Feature(name=name, side=Side.PRODUCT, kind=Kind.CATEGORICAL) for name in PRODUCT_NAMES.values()),
    *(Feature(name=name, side=Side.PRODUCT, kind=Kind.NUMERICAL, log1p=True) for name in ("price", *PRODUCT_COUNTS)),
    Feature(name="search_entrance", side=Side.CONTEXT, kind=Kind.CATEGORICAL),
)

RANK_KEYS = ("user_id", "session_id", "query", "time_index", "target_item_id", "is_clicked", "is_purchased")
RANK_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("user_id", "session_id", "query", "product_id", "search_entrance")),
        *((name, pa.int64()) for name in ("time_index", "click", "purchase")),
        *((name, pa.float64()) for name in NUMBERS),
    ]
)

UNREADABLE = "rows of rank without a user, session, query, time_index, product, and labels of 0 or 1"
REPEATED = "rows of rank that repeat an earlier search and product"
NO_PRODUCT = "products that items lacks"
NO_CUSTOMER = "customers that users lacks"
REPEATED_NAMES = {
    "items": "rows of items that repeat an earlier id",
    "users": "rows of users that repeat an earlier id",
}
NOTES = {
    "position": "from a hash: the shown position is not published, and the file's order reveals the clicks",
    "timestamp": "2025-01-01 plus time_index in seconds: only the order is published, not the unit or the start",
    "events": "none: the times of recently clicked and purchased items are not published",
    "price": "in the source's unit, which it does not name",
    "counts": "columns that end in 30d_hist are the source's own counts of the previous 30 days",
}


def import_kuaisearch(path: Path, out: Path) -> bool:
    """Imports the folder with `rank.jsonl`, `items.jsonl` and `users.jsonl` as a search log.

    Args:
        path: The folder; each file may be gzipped.
        out: The folder of the log.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a file is missing, empty, truncated, or of another format.
    """
    files = {name: require_json_lines(path, name) for name in FILES}
    inputs = {"source": "kuaisearch", **{name: sha256(file) for name, file in files.items()}}
    if log_is_current(out, inputs):
        return False
    with (
        write_search_log(out, Schema(name="kuaisearch", features=FEATURES), inputs) as writer,
        tempfile.TemporaryDirectory(prefix="shelfrank-") as scratch,
        open_engine() as engine,
    ):
        kept = {name: Path(scratch) / f"{name}.parquet" for name in FILES}
        keep_json_lines(files["rank"], kept["rank"], RANK_COLUMNS, _rank_row, RANK_KEYS)
        keep_json_lines(
            files["items"], kept["items"], _names("product_id", "title", PRODUCT_NAMES), _item_row, ("item_id",)
        )
        keep_json_lines(
            files["users"], kept["users"], _names("customer_id", None, CUSTOMER_NAMES), _user_row, ("user_id",)
        )
        tables = {name: read_parquet(engine, [file]) for name, file in kept.items()}
        tables = spell_whole_numbers(engine, writer, tables, IDS)
        shown = _shown(engine, writer, tables["rank"])
        write_rows(writer, "impressions", engine, _impressions(shown))
        products = _described(engine, writer, shown, "items", tables["items"], NO_PRODUCT)
        write_rows(writer, "products", engine, products)
        customers = _described(engine, writer, shown, "users", tables["users"], NO_CUSTOMER)
        write_rows(writer, "customers", engine, customers)
        writer.notes.update(NOTES)
    return True


def _rank_row(record: Record) -> Record:
    counts = {**_object(record, "user_statistical_features"), **_object(record, "target_item_statistical_features")}
    counts |= {name: record.get(name) for name in ("user_fan_number", "user_follow_number")}
    counts["price"] = record.get("target_item_price")
    time_index = whole_of(record.get("time_index"))
    query = record.get("query")
    return {
        "user_id": id_of(record.get("user_id")),
        "session_id": id_of(record.get("session_id")),
        "query": query if isinstance(query, str) else None,
        "product_id": id_of(record.get("target_item_id")),
        "search_entrance": text_of(record.get("search_entrance")),
        "time_index": time_index if time_index is not None and 0 <= time_index <= _LAST_INDEX else None,
        "click": _label(record.get("is_clicked")),
        "purchase": _label(record.get("is_purchased")),
        **{name: _amount(counts.get(name)) for name in NUMBERS},
    }


def _item_row(record: Record) -> Record:
    names = {name: _name(record.get(key)) for key, name in PRODUCT_NAMES.items()}
    return {"product_id": id_of(record.get("item_id")), "title": text_of(record.get("item_title")), **names}


def _user_row(record: Record) -> Record:
    names = {name: _name(record.get(key)) for key, name in CUSTOMER_NAMES.items()}
    return {"customer_id": id_of(record.get("user_id")), **names}


def _names(key: str, title: str | None, names: dict[str, str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in (key, *([title] if title else []), *names.values())])


def _object(record: Record, key: str) -> Record:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    name = text_of(value)
    return None if name == MISSING_NAME else name


def _amount(value: object) -> float | None:
    number = number_of(value)
    return number if number is not None and number >= 0 else None


def _label(value: object) -> int | None:
    number = whole_of(value)
    return number if number in (0, 1) else None


def _shown(engine: Backend, writer: SearchLogWriter, rows: Table) -> Table:
    """The usable rows of the ranking file with their search, page by page."""
    keys = ("user_id", "session_id", "query", "time_index", "product_id", "click", "purchase")
    readable = ibis.and_(*(rows[key].notnull() for key in keys))
    dash: Value = ibis.literal("-")
    parts = [rows["user_id"], rows["session_id"], rows["time_index"].cast("string"), rows["query"].hexdigest("md5")[:8]]
    readable_rows = rows.filter(readable).mutate(search_id=dash.join(parts))
    by_product = ibis.row_number().over(group_by=("search_id", "product_id"), order_by="line")
    numbered = keep(engine, "numbered", readable_rows.mutate(nth=by_product))
    place = (numbered["search_id"] + dash + numbered["product_id"]).hexdigest("md5")
    page = ibis.row_number().over(group_by="search_id", order_by=(place, "product_id"))
    kept = numbered.filter(numbered["nth"] == 0).mutate(position=page.cast("int32") + 1)
    shown = kept.order_by("time_index", "search_id", "position").rename(customer_id="user_id")
    shown = keep(engine, "shown", shown)
    writer.leave_out(UNREADABLE, count(engine, rows.filter(~readable)), of="impressions")
    writer.leave_out(REPEATED, count(engine, numbered.filter(numbered["nth"] > 0)), of="impressions")
    writer.kept["impressions"] += count(engine, shown)
    for lost in rows_of(engine, shown.aggregate(**{name: shown[name].isnull().sum() for name in NUMBERS})):
        for name, n in lost.items():
            writer.leave_out(f"values of {name} that are missing, negative or not a number", n or 0)
    return shown


def _impressions(shown: Table) -> Table:
    start = ibis.literal(int(START.timestamp()))
    return shown.select(
        "search_id",
        *("customer_id", "session_id", "query", "product_id", "position"),
        *("search_entrance", *NUMBERS),
        timestamp=(shown["time_index"] + start).as_timestamp("s").cast("timestamp('UTC', 6)"),
        click=shown["click"].cast("int8"),
        add_to_cart=ibis.null("int8"),
        purchase=shown["purchase"].cast("int8"),
    )


def _described(engine: Backend, writer: SearchLogWriter, shown: Table, file: str, rows: Table, unknown: str) -> Table:
    """The products or customers of the searches, with the columns of their own file."""
    key = KEYS[file]
    nth = ibis.row_number().over(group_by=key, order_by="line")
    numbered = rows.filter(rows[key].notnull()).mutate(nth=nth)
    names = [name for name in rows.columns if name not in ("line", key)]
    first = numbered.filter(numbered["nth"] == 0).select(key, *names, known=ibis.literal(True))
    seen = shown.select(key).distinct()
    described = seen.left_join(first, key).select(key, *names, "known").order_by(key)
    described = keep(engine, f"described_{key}", described)
    writer.leave_out(f"rows of {file} without an id", count(engine, rows.filter(rows[key].isnull())))
    writer.leave_out(REPEATED_NAMES[file], count(engine, numbered.filter(numbered["nth"] > 0)))
    writer.leave_out(unknown, count(engine, described.filter(described["known"].isnull())))
    unused = first.anti_join(seen, key)
    writer.leave_out(f"rows of {file} that no search uses", count(engine, unused))
    return described.drop("known")
