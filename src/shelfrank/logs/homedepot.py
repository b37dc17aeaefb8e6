"""Imports Home Depot Product Search Relevance: real queries and products with human relevance grades.

Each query becomes one judged list, which no customer saw: it has grades and no click labels.
"""

import csv
import gzip
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS, Feature, Kind, Schema, Side
from shelfrank.core.values import NULL_WORDS, IdSpelling
from shelfrank.logs.engine import Table, Value, count, keep, open_engine
from shelfrank.logs.id_columns import spell_whole_numbers
from shelfrank.logs.raw_files import (
    column_names,
    file_beside,
    raw_files,
    read_raw,
    readable,
    reason_of,
    require_columns,
    sha256,
)
from shelfrank.logs.writer import SearchLogWriter, log_is_current, write_rows, write_search_log

COLUMNS = ("id", "product_uid", "product_title", "search_term", "relevance")
DESCRIPTION_COLUMNS = ("product_uid", "product_description")
ATTRIBUTE_COLUMNS = ("product_uid", "name", "value")
TIMESTAMP = datetime(2016, 1, 1, tzinfo=UTC)
"""The time of every search: the data set has none, and the contract requires one."""

MIN_GRADE, MAX_GRADE = 1.0, 3.0

DESCRIPTION = Feature(name="description", side=Side.PRODUCT, kind=Kind.TEXT)
ATTRIBUTES = {
    "MFG Brand Name": Feature(name="brand", side=Side.PRODUCT, kind=Kind.CATEGORICAL),
    "Color Family": Feature(name="color", side=Side.PRODUCT, kind=Kind.CATEGORICAL),
}
"""By attribute name in attributes.csv, the feature that it becomes."""

UNREADABLE = "judgments without an id, a product, a query and a grade from 1 to 3"
REPEATED = "judgments that repeat an earlier query and product"
NO_TITLE = "products without a title"
NOTES = {
    "grade": "human judgments of relevance from 1 to 3, in truth/impressions; there are no click labels",
    "position": "the order of the judgments in the file; no list was shown",
    "timestamp": "the same for every search: the data set has no times",
    "search_id": "the id of the query's first judgment",
    "title": "the first in the file if judgments of one product differ",
}

_ID = IdSpelling(NULL_WORDS)


def import_homedepot(path: Path, out: Path) -> bool:
    """Imports the competition's `train.csv` (or `train.csv.gz`) as a log of judged lists.

    Products get their description, brand and color if `product_descriptions.csv` and `attributes.csv` are in the same
    folder, gzipped or not.

    Args:
        path: The file, or the folder that holds it.
        out: The folder of the log.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where a file is missing, empty, truncated, or of another format.
    """
    judgments = _judgments_file(path)
    rows = _read_judgments(judgments)
    descriptions = _beside(judgments, "product_descriptions.csv", DESCRIPTION_COLUMNS)
    attributes = _beside(judgments, "attributes.csv", ATTRIBUTE_COLUMNS)
    inputs = {
        "source": "homedepot",
        "file": sha256(judgments),
        "product_descriptions": sha256(descriptions) if descriptions else None,
        "attributes": sha256(attributes) if attributes else None,
    }
    if log_is_current(out, inputs):
        return False
    described = (DESCRIPTION,) if descriptions else ()
    features = (*described, *ATTRIBUTES.values()) if attributes else described
    with write_search_log(out, Schema(name="homedepot", features=features), inputs) as writer, open_engine() as engine:
        tables = _tables(engine, writer, rows, descriptions, attributes)
        judged = _judged(engine, writer, tables["judgments"])
        write_rows(writer, "impressions", engine, _impressions(judged))
        write_rows(writer, "truth/impressions", engine, judged.select("search_id", "product_id", "grade"))
        write_rows(writer, "products", engine, _products(engine, writer, judged, tables))
        writer.write("customers", pa.table({"customer_id": pa.array([], pa.string())}))
        writer.notes.update(NOTES)
    return True


def _judgments_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    file = file_beside(path / "train.csv", "train.csv", "train.csv.gz")
    if file is None:
        raise UserError(
            f"{path} must be the competition's train.csv or a folder that holds it, but it is a folder without it"
        )
    return file


def _beside(judgments: Path, name: str, columns: tuple[str, ...]) -> Path | None:
    file = file_beside(judgments, name, f"{name}.gz")
    if file is not None:
        require_columns(file, column_names(file), columns)
    return file


def _read_judgments(path: Path) -> pa.Table:
    """Reads the judgments, which are in Latin-1, with their row numbers."""
    raw_files(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="latin-1", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            require_columns(path, names, COLUMNS)
            rows = []
            for row in reader:
                if len(row) != len(names):
                    raise csv.Error(f"line {reader.line_num} has {len(row)} cells, and the header {len(names)}")
                rows.append(row)
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(
            f"{path} must be the competition's CSV file, but it cannot be read: {reason_of(error)}; download it again"
        ) from error
    if not rows:
        raise UserError(f"{path} must hold rows, but it has only a line of column names")
    cells = dict(zip(names, zip(*rows, strict=True), strict=True))
    return pa.table({name: pa.array(cells[name], pa.string()) for name in COLUMNS}).append_column(
        "line", pa.array(range(len(rows)), pa.int64())
    )


def _tables(
    engine: Backend, writer: SearchLogWriter, rows: pa.Table, descriptions: Path | None, attributes: Path | None
) -> dict[str, Table]:
    """The files' rows with their ids spelled."""
    judgments = keep(engine, "raw_judgments", ibis.memtable(rows))
    tables = {"judgments": judgments.mutate(id=_ID.expression(judgments["id"]))}
    for name, file, columns in (
        ("descriptions", descriptions, DESCRIPTION_COLUMNS),
        ("attributes", attributes, ATTRIBUTE_COLUMNS),
    ):
        if file is not None:
            raw = read_raw(engine, file, writer.notes)
            with readable(file):
                tables[name] = keep(engine, name, raw.select(*columns))
    tables = {name: table.mutate(product_uid=_ID.expression(table["product_uid"])) for name, table in tables.items()}
    products = [(name, "product_uid") for name in tables]
    return spell_whole_numbers(engine, writer, tables, {"search_id": [("judgments", "id")], "product_id": products})


def _judged(engine: Backend, writer: SearchLogWriter, raw: Table) -> Table:
    """The usable judgments, query by query in the file's order."""
    grade = raw["relevance"].try_cast("float64")
    cells = raw.select(
        *("line", "id"),
        product_id=raw["product_uid"],
        title=raw["product_title"].nullif(""),
        query=raw["search_term"].nullif(""),
        grade=grade.between(MIN_GRADE, MAX_GRADE).ifelse(grade, ibis.null("float64")),
    )
    whole = cells["id"].notnull() & cells["product_id"].notnull() & cells["query"].notnull() & cells["grade"].notnull()
    cells = keep(engine, "judgments", cells.mutate(whole=whole))
    nth = ibis.row_number().over(group_by=("query", "product_id"), order_by="line")
    pairs = cells.filter(cells["whole"]).mutate(nth=nth)
    kept = pairs.filter(pairs["nth"] == 0)
    in_query = ibis.window(group_by="query", order_by="line")
    ranked = kept.mutate(
        search_id=kept["id"].first().over(in_query),
        first_line=kept["line"].first().over(in_query),
        position=ibis.row_number().over(in_query).cast("int32") + 1,
    )
    judged = keep(engine, "judged", ranked.order_by("first_line", "line"))
    writer.leave_out(UNREADABLE, count(engine, cells.filter(~cells["whole"])), of="judgments")
    writer.kept["judgments"] += count(engine, pairs)
    writer.leave_out(REPEATED, count(engine, pairs.filter(pairs["nth"] > 0)))
    return judged


def _impressions(judged: Table) -> Table:
    time: Value = ibis.literal(TIMESTAMP)
    return judged.select(
        "search_id",
        timestamp=time.cast("timestamp('UTC', 6)"),
        customer_id=ibis.null("string"),
        query=judged["query"],
        product_id=judged["product_id"],
        position=judged["position"],
        **{task: ibis.null("int8") for task in TASKS},
    )


def _products(engine: Backend, writer: SearchLogWriter, judged: Table, tables: Mapping[str, Table]) -> Table:
    title = judged["title"].argmin(judged["line"], where=judged["title"].notnull())
    products = judged.group_by("product_id").aggregate(title=title)
    writer.leave_out(NO_TITLE, count(engine, products.filter(products["title"].isnull())))
    if "descriptions" in tables:
        raw = tables["descriptions"]
        text: Value = raw["product_description"].nullif("").min()
        described = raw.group_by(product_id=raw["product_uid"]).aggregate(description=text)
        products = products.left_join(described, "product_id").drop("product_id_right")
    if "attributes" in tables:
        raw = tables["attributes"]
        # An attribute with several values deterministically takes the smallest.
        taken: dict[str, Value] = {
            feature.name: raw["value"].nullif("").min(where=raw["name"] == name) for name, feature in ATTRIBUTES.items()
        }
        known = raw.group_by(product_id=raw["product_uid"]).aggregate(**taken)
        products = products.left_join(known, "product_id").drop("product_id_right")
    return products.order_by("product_id")
