"""Every broken rule of the data contract is reported with table, column, count and keys; a valid log has none."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shelfrank.core.errors import UserError
from shelfrank.logs.search_log import COLUMN_TYPES, REQUIRED_COLUMNS
from shelfrank.logs.validate import require_valid, validate
from shelfrank.logs.violation import Violation

TYPES = {
    **COLUMN_TYPES,
    "device": pa.string(),
    "price": pa.float64(),
    "age": pa.float32(),
    "blurb": pa.string(),
    "stock": pa.int64(),
}

SCHEMA = """
version: 1
name: tiny
features:
- {name: device, side: context, kind: categorical}
- {name: price, side: product, kind: numerical, log1p: true}
- {name: stock, side: product, kind: numerical}
- {name: age, side: customer, kind: numerical}
- {name: blurb, side: product, kind: text}
"""


@dataclass
class Log:
    """A small valid log that a test breaks before it is written."""

    tables: dict[str, list[dict[str, Any]]]
    types: dict[str, pa.DataType] = field(default_factory=lambda: dict(TYPES))
    schema: str = SCHEMA

    @property
    def shown(self) -> list[dict[str, Any]]:
        return self.tables["impressions"]

    def drop(self, table: str, column: str) -> None:
        for row in self.tables[table]:
            del row[column]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for name, rows in self.tables.items():
            columns = {column: None for row in rows for column in row}
            schema = pa.schema([(column, self.types[column]) for column in columns])
            self.write_part(folder, name, pa.Table.from_pylist(rows, schema=schema))
        (folder / "schema.yaml").write_text(self.schema)
        return folder

    @staticmethod
    def write_part(folder: Path, table: str, rows: pa.Table) -> None:
        (folder / table).mkdir(exist_ok=True)
        pq.write_table(rows, folder / table / f"part-{len(list((folder / table).iterdir())):05d}.parquet")


def page(search: str, customer: str | None, products: str, clicked: str = "") -> list[dict[str, Any]]:
    hour = int(search[1:])
    labels = {product: int(product == clicked) for product in products}
    return [
        {
            "search_id": search,
            "timestamp": datetime(2024, 5, 1, hour, tzinfo=UTC),
            "customer_id": customer,
            "session_id": f"session-{search}",
            "query": "red shoe",
            "product_id": product,
            "position": position,
            "click": labels[product],
            "add_to_cart": labels[product],
            "purchase": labels[product],
            "device": "phone",
        }
        for position, product in enumerate(products, start=1)
    ]


@pytest.fixture
def log() -> Log:
    events = [
        {"timestamp": datetime(2024, 5, 1, tzinfo=UTC), "customer_id": "ann", "session_id": None, "product_id": "a",
         "action": "view"},
        {"timestamp": datetime(2024, 5, 1, tzinfo=UTC), "customer_id": None, "session_id": "x", "product_id": "b",
         "action": "view"},
    ]  # fmt: skip
    products = [
        {"product_id": product, "title": f"Shoe {product}", "price": 9.5, "stock": 3, "blurb": "red"}
        for product in "abcd"
    ]
    customers = [{"customer_id": "ann", "age": 40.0}, {"customer_id": "bob", "age": None}]
    impressions = page("s1", "ann", "abc", "b") + page("s2", None, "cdb") + page("s3", "bob", "ad", "a")
    return Log({"impressions": impressions, "products": products, "customers": customers, "events": events})


def set_cell(table: str, row: int, **cells: Any) -> Callable[[Log], None]:
    return lambda log: log.tables[table][row].update(cells)


def set_search(search: str, **cells: Any) -> Callable[[Log], None]:
    def change(log: Log) -> None:
        for row in log.shown:
            if row["search_id"] == search:
                row.update(cells)

    return change


def set_all(table: str, **cells: Any) -> Callable[[Log], None]:
    def change(log: Log) -> None:
        for row in log.tables[table]:
            row.update(cells)

    return change


def repeat_row(table: str, row: int) -> Callable[[Log], None]:
    return lambda log: log.tables[table].append(dict(log.tables[table][row]))


def error(table: str, column: str | None, must: str, count: int = 1, unit: str = "", *examples: str) -> Violation:
    return Violation(table, column, must, "error", count, unit, examples)


def warning(table: str, column: str | None, must: str, count: int = 1, unit: str = "", *examples: str) -> Violation:
    return Violation(table, column, must, "warning", count, unit, examples)


ONE_IN_SEARCH = "must be the same in all rows of a search"
FIRST = "search_id=s1 product_id=a"

CASES: dict[str, tuple[Callable[[Log], Any], Violation]] = {
    "search id null": (
        set_cell("impressions", 0, search_id=None),
        error(
            "impressions", "search_id", "must not be null or empty", 1, "row", "search_id=null product_id=a"
        ),
    ),
    "product id empty": (
        lambda log: log.tables["products"].append(log.tables["products"][0] | {"product_id": ""}),
        error("products", "product_id", "must not be null or empty", 1, "row", "product_id=''"),
    ),
    "customer id of the table null": (
        lambda log: log.tables["customers"].append({"customer_id": None, "age": None}),
        error("customers", "customer_id", "must not be null or empty", 1, "row", "customer_id=null"),
    ),
    "unknown session written as empty text": (
        set_search("s2", session_id=""),
        error(
            "impressions", "session_id", "must be null where it is not known, not an empty text", 3, "row",
            *(f"search_id=s2 product_id={p} session_id=''" for p in "bcd"),
        ),
    ),
    "timestamp before 1990": (
        set_search("s3", timestamp=datetime(1970, 1, 1, tzinfo=UTC)),
        error(
            "impressions", "timestamp", "must be from 1990 on and before 2100", 2, "row",
            *(f"search_id=s3 product_id={p} timestamp=1970-01-01 00:00:00+00:00" for p in "ad"),
        ),
    ),
    "timestamp from 2100 on": (
        set_cell("events", 0, timestamp=datetime(2100, 1, 1, tzinfo=UTC)),
        error(
            "events", "timestamp", "must be from 1990 on and before 2100", 1, "row",
            "customer_id=ann session_id=null product_id=a timestamp=2100-01-01 00:00:00+00:00",
        ),
    ),
    "event without a time": (
        set_cell("events", 0, timestamp=None),
        error(
            "events", "timestamp", "must not be null", 1, "row",
            "customer_id=ann session_id=null product_id=a timestamp=null",
        ),
    ),
    "event without a visitor": (
        set_cell("events", 1, session_id=None),
        warning(
            "events", "customer_id",
            "should be known where session_id is null; otherwise no history contains the event", 1, "row",
            "customer_id=null session_id=null product_id=b",
        ),
    ),
    "blank query": (
        set_search("s3", query="  "),
        warning(
            "impressions", "query", "should not be blank", 2, "row",
            "search_id=s3 product_id=a query=  ", "search_id=s3 product_id=d query=  ",
        ),
    ),
    "query null": (
        set_search("s3", query=None),
        error(
            "impressions", "query", "must not be null", 2, "row",
            "search_id=s3 product_id=a query=null", "search_id=s3 product_id=d query=null",
        ),
    ),
    "position 0": (
        set_cell("impressions", 0, position=0),
        error("impressions", "position", "must be 1 or more", 1, "row", f"{FIRST} position=0"),
    ),
    "position null": (
        set_cell("impressions", 0, position=None),
        error("impressions", "position", "must not be null", 1, "row", f"{FIRST} position=null"),
    ),
    "position twice in a search": (
        set_cell("impressions", 0, position=2),
        error(
            "impressions", "position", "must occur once in a search", 1, "repeated row", "search_id=s1 position=2"
        ),
    ),
    "product twice in a search": (
        set_cell("impressions", 0, product_id="c"),
        error(
            "impressions", "product_id", "must occur once in a search", 1, "repeated row",
            "search_id=s1 product_id=c",
        ),
    ),
    "product twice in its table": (
        repeat_row("products", 1),
        error("products", "product_id", "must occur once in the table", 1, "repeated row", "product_id=b"),
    ),
    "customer twice in its table": (
        repeat_row("customers", 0),
        error("customers", "customer_id", "must occur once in the table", 1, "repeated row", "customer_id=ann"),
    ),
    "unknown product": (
        set_cell("impressions", 0, product_id="zzz"),
        error("impressions", "product_id", "must be a product_id of products", 1, "id", "product_id=zzz"),
    ),
    "unknown customer": (
        set_search("s1", customer_id="eve"),
        error("impressions", "customer_id", "must be a customer_id of customers", 1, "id", "customer_id=eve"),
    ),
    "event of an unknown product": (
        set_cell("events", 0, product_id="zzz"),
        warning("events", "product_id", "should be a product_id of products", 1, "id", "product_id=zzz"),
    ),
    "event of an unknown customer": (
        set_cell("events", 0, customer_id="eve"),
        warning("events", "customer_id", "should be a customer_id of customers", 1, "id", "customer_id=eve"),
    ),
    "label 2": (
        set_cell("impressions", 1, click=2),
        error(
            "impressions", "click", "must be 0, 1 or null", 1, "row", "search_id=s1 product_id=b click=2"
        ),
    ),
    "mark 2": (
        set_search("s3", randomised=2),
        error(
            "impressions", "randomised", "must be 0, 1 or null", 2, "row",
            *(f"search_id=s3 product_id={p} randomised=2" for p in "ad"),
        ),
    ),
    "mark of one row of a search": (
        set_cell("impressions", 0, randomised=1),
        error("impressions", "randomised", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "label known in part of a search": (
        set_cell("impressions", 0, purchase=None),
        error(
            "impressions", "purchase", "must be known in all rows of a search or in none", 1, "search",
            "search_id=s1",
        ),
    ),
    "no label at all": (
        set_all("impressions", click=None, add_to_cart=None, purchase=None),
        error(
            "impressions", None,
            "must have labels, but click, add_to_cart, purchase are null in every row; import at least one signal",
        ),
    ),
    "purchase without a cart": (
        set_cell("impressions", 1, add_to_cart=0),
        warning(
            "impressions", "purchase", "should be 0 where add_to_cart is 0", 1, "row",
            "search_id=s1 product_id=b purchase=1",
        ),
    ),
    "cart without a click": (
        set_cell("impressions", 0, add_to_cart=1),
        warning("impressions", "add_to_cart", "should be 0 where click is 0", 1, "row", f"{FIRST} add_to_cart=1"),
    ),
    "infinite number": (
        set_cell("products", 0, price=float("inf")),
        error("products", "price", "must be finite", 1, "row", "product_id=a price=inf"),
    ),
    "enormous number": (
        set_cell("products", 0, price=1e20),
        error("products", "price", "must be of a magnitude below 1e+20", 1, "row", "product_id=a price=1e+20"),
    ),
    "not a number": (
        set_cell("customers", 0, age=float("nan")),
        error(
            "customers", "age", "must not be NaN; write null where it is missing", 1, "row",
            "customer_id=ann age=nan",
        ),
    ),
    "negative amount": (
        set_cell("products", 0, price=-1.0),
        error(
            "products", "price", "must be 0 or more, since schema.yaml declares log1p", 1, "row",
            "product_id=a price=-1.0",
        ),
    ),
    "two times in a search": (
        set_cell("impressions", 0, timestamp=datetime(2024, 5, 2, tzinfo=UTC)),
        error("impressions", "timestamp", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "two customers in a search": (
        set_cell("impressions", 0, customer_id="bob"),
        error("impressions", "customer_id", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "customer known in part of a search": (
        set_cell("impressions", 0, customer_id=None),
        error("impressions", "customer_id", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "two sessions in a search": (
        set_cell("impressions", 0, session_id="other"),
        error("impressions", "session_id", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "two queries in a search": (
        set_cell("impressions", 0, query="hat"),
        error("impressions", "query", ONE_IN_SEARCH, 1, "search", "search_id=s1"),
    ),
    "title null": (
        set_cell("products", 2, title=None),
        warning(
            "products", "title", "should not be null or blank", 1, "row", "product_id=c title=null"
        ),
    ),
    "feature null in every row": (
        set_all("products", blurb=None),
        warning(
            "products", "blurb", "should have a value in some row, but the declared feature is null in every row"
        ),
    ),
    "column missing": (
        lambda log: log.drop("customers", "age"),
        error(
            "customers", "age",
            "must be a column or in impressions, since schema.yaml declares it (customer), but it is missing",
        ),
    ),
    "context feature missing": (
        lambda log: log.drop("impressions", "device"),
        error(
            "impressions", "device", "must be a column, since schema.yaml declares it (context), but it is missing"
        ),
    ),
    "feature in two tables": (
        set_all("impressions", price=2.0),
        error(
            "products", "price",
            "must be in one table, since it is one declared feature, but it is in products and impressions",
        ),
    ),
    "numerical feature of type text": (
        lambda log: (log.types.update(stock=pa.string()), set_all("products", stock="3")(log)),
        error(
            "products", "stock",
            "must be a number, since schema.yaml declares it as numerical, but it is of type string",
        ),
    ),
    "text feature of type int": (
        lambda log: (log.types.update(blurb=pa.int64()), set_all("products", blurb=3)(log)),
        error(
            "products", "blurb", "must be text, since schema.yaml declares it as text, but it is of type int64"
        ),
    ),
    "position of another type": (
        lambda log: log.types.update(position=pa.int64()),
        error(
            "impressions", "position", "must be of type int32, but it is int64; cast it in the source"
        ),
    ),
    "time without a zone": (
        lambda log: log.types.update(timestamp=pa.timestamp("us")) or log.tables.pop("events"),
        error(
            "impressions", "timestamp",
            "must be of type timestamp[us, tz=UTC], but it is timestamp[us]; cast it in the source",
        ),
    ),
    "required column missing": (
        lambda log: log.drop("products", "title"),
        error(
            "products", "title",
            "must be a column of the table, but it is missing; the columns are product_id, price, stock, blurb",
        ),
    ),
    "events without any owner column": (
        lambda log: (log.drop("events", "customer_id"), log.drop("events", "session_id")),
        error("events", None, "must have the column customer_id, session_id, or both, but it has neither"),
    ),
    "label declared as a feature": (
        lambda log: setattr(log, "schema", SCHEMA + "- {name: purchase, side: product, kind: numerical}\n"),
        error(
            "schema.yaml", None, "features.5: 'purchase' is a label and can never be declared as a feature"
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_broken_rule_is_reported_with_its_place_count_and_keys(name: str, log: Log, tmp_path: Path) -> None:
    change, expected = CASES[name]
    change(log)
    assert validate(log.write(tmp_path)) == [expected]


def test_a_valid_log_breaks_no_rule(log: Log, tmp_path: Path) -> None:
    assert validate(log.write(tmp_path)) == []
    assert require_valid(tmp_path) == []


def test_events_and_some_labels_may_be_absent(log: Log, tmp_path: Path) -> None:
    del log.tables["events"]
    set_all("impressions", add_to_cart=None, purchase=None)(log)
    assert validate(log.write(tmp_path)) == []


def test_a_product_feature_may_live_in_impressions(log: Log, tmp_path: Path) -> None:
    log.drop("products", "price")
    set_all("impressions", price=2.0)(log)
    set_cell("impressions", 2, price=-2.0)(log)
    (violation,) = validate(log.write(tmp_path))
    assert (violation.table, violation.column, violation.examples) == (
        "impressions",
        "price",
        ("search_id=s1 product_id=c price=-2.0",),
    )


def test_text_may_be_stored_in_any_layout(log: Log, tmp_path: Path) -> None:
    log.types.update(query=pa.large_string(), device=pa.dictionary(pa.int32(), pa.string()))
    assert validate(log.write(tmp_path)) == []


def test_search_and_product_ids_that_mirror_each_other_are_no_duplicates(log: Log, tmp_path: Path) -> None:
    log.tables["products"].append(log.tables["products"][0] | {"product_id": "s1"})
    log.shown.append(log.shown[0] | {"search_id": "a", "product_id": "s1"})
    assert validate(log.write(tmp_path / "mirrored")) == []
    log.shown.append(log.shown[-1] | {"position": 2})
    (violation,) = validate(log.write(tmp_path / "repeated"))
    assert (violation.count, violation.examples) == (1, ("search_id=a product_id=s1",))


@pytest.mark.parametrize("severity", ["warning", "error"])
def test_a_purchase_without_a_click_is_a_warning_or_an_error(severity: Any, log: Log, tmp_path: Path) -> None:
    set_cell("impressions", 1, click=0)(log)
    violations = validate(log.write(tmp_path), purchase_without_click=severity)
    word = "should" if severity == "warning" else "must"
    assert [str(violation) for violation in violations] == [
        f"impressions.add_to_cart: {word} be 0 where click is 0; 1 row, e.g. search_id=s1 product_id=b add_to_cart=1",
        f"impressions.purchase: {word} be 0 where click is 0; 1 row, e.g. search_id=s1 product_id=b purchase=1",
    ]
    assert {violation.severity for violation in violations} == {severity}


def test_every_error_is_listed_and_warnings_are_returned(log: Log, tmp_path: Path) -> None:
    set_cell("impressions", 0, position=0)(log)
    set_cell("products", 0, price=float("nan"))(log)
    set_cell("customers", 0, customer_id="")(log)
    set_search("s3", query="")(log)
    with pytest.raises(UserError) as refused:
        require_valid(log.write(tmp_path))
    first, *lines = str(refused.value).split("\n")
    assert first == "the search log must keep the data contract, but it breaks 4 rules; correct the source and repeat"
    assert [line.split(":")[0].strip() for line in lines] == [
        "impressions.customer_id",
        "impressions.position",
        "products.price",
        "customers.customer_id",
    ]
    set_cell("impressions", 0, position=1)(log)
    set_cell("products", 0, price=1.0)(log)
    set_cell("customers", 0, customer_id="ann")(log)
    (kept,) = require_valid(log.write(tmp_path / "mended"))
    assert kept == {
        "table": "impressions",
        "column": "query",
        "must": "should not be blank",
        "severity": "warning",
        "count": 2,
        "unit": "row",
        "examples": ["search_id=s3 product_id=a query=''", "search_id=s3 product_id=d query=''"],
        "text": "impressions.query: should not be blank; 2 rows, "
        "e.g. search_id=s3 product_id=a query='', search_id=s3 product_id=d query=''",
    }


def test_a_schema_that_is_no_yaml_is_reported_in_one_sentence(log: Log, tmp_path: Path) -> None:
    log.schema = "version: ["
    (violation,) = validate(log.write(tmp_path))
    assert violation.table == "schema.yaml"
    assert str(violation).startswith("schema.yaml: must be YAML: while parsing")
    assert "\n" not in str(violation)


def test_a_long_list_of_offenders_is_counted_in_full_and_shown_in_part(log: Log, tmp_path: Path) -> None:
    for row in log.shown:
        row["position"] -= 10
    (below,) = validate(log.write(tmp_path))
    assert (below.count, len(below.examples)) == (8, 5)


def test_a_missing_table_is_reported(log: Log, tmp_path: Path) -> None:
    shutil.rmtree(log.write(tmp_path) / "products")
    (violation,) = validate(tmp_path)
    assert str(violation) == "products: must hold at least one part file products/*.parquet, but there is none"


def test_a_missing_schema_is_reported(log: Log, tmp_path: Path) -> None:
    (log.write(tmp_path) / "schema.yaml").unlink()
    (violation,) = validate(tmp_path)
    assert str(violation) == "schema.yaml: must exist, but there is no such file"


def test_a_truncated_file_is_reported_and_its_table_is_not_checked_further(log: Log, tmp_path: Path) -> None:
    file = log.write(tmp_path) / "products" / "part-00000.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    (violation,) = validate(tmp_path)
    assert violation == error(
        "products", None, "must be complete Parquet files; write the log again", 1, "file",
        "products/part-00000.parquet",
    )  # fmt: skip


def test_a_damaged_page_behind_a_good_footer_is_reported(log: Log, tmp_path: Path) -> None:
    file = log.write(tmp_path) / "impressions" / "part-00000.parquet"
    damaged = bytearray(file.read_bytes())
    damaged[4:400] = bytes(396)
    file.write_bytes(bytes(damaged))
    violations = validate(tmp_path)
    assert [(violation.table, violation.severity) for violation in violations] == [("impressions", "error")]
    assert str(violations[0]).startswith("impressions: must be readable to the last row; write the log again (")


@pytest.mark.parametrize(
    ("table", "severity"), [("impressions", "error"), ("products", "error"), ("customers", "warning")]
)
def test_an_empty_table_is_reported(table: str, severity: str, log: Log, tmp_path: Path) -> None:
    folder = log.write(tmp_path)
    file = folder / table / "part-00000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    violations = [violation for violation in validate(folder) if violation.table == table and violation.column is None]
    assert [violation.severity for violation in violations] == [severity]
    assert "hold at least one row, but it is empty" in violations[0].must


def test_part_files_that_differ_are_reported(log: Log, tmp_path: Path) -> None:
    folder = log.write(tmp_path)
    other = pa.table({"product_id": ["e"], "title": ["E"], "price": ["cheap"], "blurb": ["x"]})
    log.write_part(folder, "products", other)
    assert [str(violation) for violation in validate(folder)] == [
        "products.price: must have one type in all part files, but it is double and string",
        "products.stock: must be in all part files, but 1 of 2 lack it",
    ]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be the folder of a search log, but there is no such folder"):
        validate(tmp_path / "nowhere")


def test_paths_are_not_patterns(log: Log, tmp_path: Path) -> None:
    assert validate(log.write(tmp_path / "a=1 [x]*?")) == []


def test_required_columns_of_the_contract_are_all_checked(log: Log, tmp_path: Path) -> None:
    for table, columns in REQUIRED_COLUMNS.items():
        for column in columns:
            log.drop(table, column)
        for row in log.tables[table]:
            row["device"] = "phone"
    missing = {
        (violation.table, violation.column)
        for violation in validate(log.write(tmp_path))
        if "missing" in violation.must
    }
    assert missing >= {(table, column) for table, columns in REQUIRED_COLUMNS.items() for column in columns}


cell = st.tuples(
    st.sampled_from(["s1", "s2", "s3"]), st.sampled_from("abcd"), st.integers(-1, 4), st.sampled_from([0, 1, 2, None])
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(cell, min_size=1, max_size=40))
def test_counts_agree_with_a_plain_loop(cells: list[tuple[str, str, int, int | None]], tmp_path: Path) -> None:
    rows = [
        page(search, None, product)[0] | {"position": position, "click": label}
        for search, product, position, label in cells
    ]
    products = [{"product_id": product, "title": product, "price": 1.0, "stock": 1, "blurb": "x"} for product in "abcd"]
    shutil.rmtree(tmp_path)
    Log({"impressions": rows, "products": products, "customers": [{"customer_id": "ann", "age": 1.0}]}).write(tmp_path)
    violations = {
        (violation.column, violation.must.split(";")[0], violation.unit): violation.count
        for violation in validate(tmp_path)
    }
    labels = {search: [label for other, _, _, label in cells if other == search] for search, *_ in cells}
    expected = {
        ("position", "must be 1 or more", "row"): sum(position < 1 for _, _, position, _ in cells),
        ("position", "must occur once in a search", "repeated row"): len(cells) - len({(s, p) for s, _, p, _ in cells}),
        ("product_id", "must occur once in a search", "repeated row"): len(cells)
        - len({(s, p) for s, p, _, _ in cells}),
        ("click", "must be 0, 1 or null", "row"): sum(label == 2 for *_, label in cells),
        ("click", "must be known in all rows of a search or in none", "search"): sum(
            0 < sum(label is None for label in held) < len(held) for held in labels.values()
        ),
    }
    for rule, count in expected.items():
        assert violations.get(rule, 0) == count, rule
