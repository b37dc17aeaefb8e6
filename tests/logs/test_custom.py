"""A shop's own files become a log through a mapping; cells that do not fit are reported, and no row is dropped."""

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import csv

from shelfrank.core.errors import UserError
from shelfrank.core.values import TOO_LARGE
from shelfrank.logs.custom import import_custom
from shelfrank.logs.search_log import SearchLog

DOC = Path(__file__).resolve().parents[2] / "docs" / "your_own_data.md"

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

WIDE: dict[str, list[Any]] = {
    "page": ["7", "7", "8", "8"],
    "at": [NOON, NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=1)],
    "user": ["ann", "ann", None, None],
    "words": ["shoe", "shoe", None, None],
    "sku": ["01", "02", "02", "01"],
    "rank": [1, 2, 1, 2],
    "clicked": [0, 1, 0, 0],
    "name": ["Shoe", "Boot", "Boots", "Shoe"],
    "cost": [5.0, 7.0, 8.0, 5.0],
    "age": [40, 40, None, None],
    "junk": ["x", "x", "x", "x"],
}

COLUMNS: dict[str, Any] = {
    "page": "search_id",
    "at": "timestamp",
    "user": "customer_id",
    "words": "query",
    "sku": "product_id",
    "rank": "position",
    "clicked": "click",
    "name": "title",
    "cost": {"side": "product", "kind": "numerical"},
    "age": {"name": "age_years", "side": "customer", "kind": "numerical", "unit": "years"},
}


def write_mapping(folder: Path, **changes: Any) -> Path:
    content = {"name": "shop", "tables": {"impressions": "clicks.parquet"}, "columns": {"impressions": COLUMNS}}
    path = folder / "mapping.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def write_wide(folder: Path, **changes: Any) -> None:
    pq.write_table(pa.table(WIDE | changes), folder / "clicks.parquet")


def table(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [content for written_in, content in found if written_in == language]


def write_example(folder: Path) -> Path:
    for name, content in zip(("impressions", "products", "customers"), blocks("csv"), strict=True):
        (folder / f"{name}.csv").write_text(content)
    (folder / "mapping.yaml").write_text(blocks("yaml")[0])
    return folder / "mapping.yaml"


def test_the_example_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    assert import_custom(write_example(tmp_path), tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    assert log.manifest.info["rows"] == {"impressions": 4, "products": 3, "customers": 2}
    (warning,) = log.manifest.info["warnings"]
    assert warning["text"] == "impressions.purchase: should be 1 in some row, but it is 0 in every row that has it"
    assert table(log.path, "impressions")[0] == {
        "search_id": "77",
        "timestamp": datetime(2024, 5, 31, 18, 4, 5, tzinfo=UTC),
        "customer_id": "ann",
        "query": "red shoe",
        "product_id": "0012",
        "position": 1,
        "click": 1,
        "add_to_cart": 1,
        "purchase": 0,
        "device": "phone",
    }
    assert table(log.path, "impressions")[3]["customer_id"] is None
    assert table(log.path, "products")[2] == {
        "product_id": "0056",
        "title": "Straw hat",
        "brand": None,
        "price_usd": 19.5,
    }
    assert table(log.path, "customers") == [
        {"customer_id": "ann", "account_age_days": 412.0},
        {"customer_id": "bob", "account_age_days": 3.0},
    ]
    assert [(feature.name, feature.side, feature.kind, feature.log1p) for feature in log.schema.features] == [
        ("device", "context", "categorical", False),
        ("brand", "product", "categorical", False),
        ("price_usd", "product", "numerical", True),
        ("account_age_days", "customer", "numerical", True),
    ]


def test_the_errors_of_the_page_are_the_ones_that_come(tmp_path: Path) -> None:
    mapping = write_example(tmp_path)
    file = tmp_path / "impressions.csv"
    file.write_text(
        file.read_text().replace("0034,1,", "0034,0,").replace("0056,0,", "0099,0,").replace("hat,0012,", "hat,0100,")
    )
    (shown,) = (block for block in blocks("") if block.startswith("impressions.position"))
    with pytest.raises(UserError) as refused:
        import_custom(mapping, tmp_path / "log")
    assert [line.strip() for line in str(refused.value).splitlines()[1:]] == shown.splitlines()


def test_the_wide_example_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(blocks("yaml")[1])
    write_wide(tmp_path, at=[int(time.timestamp()) for time in WIDE["at"]])
    assert import_custom(tmp_path / "mapping.yaml", tmp_path / "log")
    assert [row["timestamp"] for row in table(tmp_path / "log", "impressions")] == WIDE["at"]


def test_a_wide_file_gives_tables_of_products_and_customers(tmp_path: Path) -> None:
    write_wide(tmp_path)
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert table(tmp_path / "log", "products") == [
        {"product_id": "01", "title": "Shoe"},
        {"product_id": "02", "title": "Boots"},
    ]
    assert table(tmp_path / "log", "customers") == [{"customer_id": "ann", "age_years": 40}]
    shown = table(tmp_path / "log", "impressions")
    assert [row["cost"] for row in shown] == [5.0, 7.0, 8.0, 5.0]
    assert [row["query"] for row in shown] == ["shoe", "shoe", "", ""]
    assert [row["purchase"] for row in shown] == [None] * 4
    assert not {"age_years", "title", "junk"} & set(shown[0])
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert info["notes"] == {
        "cost": "differs between rows of 1 product_id: kept in the impressions, with its value at that time",
        "title": "differs between rows of 1 product_id: the latest was kept",
        "columns of clicks.parquet that are not used": ["junk"],
    }
    assert [warning["text"].split(";")[0] for warning in info["warnings"]] == ["impressions.query: should not be blank"]


def test_an_attribute_that_never_changes_goes_to_the_products(tmp_path: Path) -> None:
    write_wide(tmp_path, cost=[5.0, 7.0, 7.0, 5.0])
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert [row["cost"] for row in table(tmp_path / "log", "products")] == [5.0, 7.0]
    assert "cost" not in table(tmp_path / "log", "impressions")[0]


def test_an_attribute_that_becomes_known_stays_with_the_impressions(tmp_path: Path) -> None:
    write_wide(tmp_path, cost=[5.0, None, 7.0, 5.0])
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert [row["cost"] for row in table(tmp_path / "log", "impressions")] == [5.0, None, 7.0, 5.0]


def test_a_customers_attribute_that_anonymous_rows_have_stays_with_the_impressions(tmp_path: Path) -> None:
    write_wide(tmp_path, age=[40, 40, 20, 20])
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert [row["age_years"] for row in table(tmp_path / "log", "impressions")] == [40, 40, 20, 20]
    assert table(tmp_path / "log", "customers") == [{"customer_id": "ann"}]
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["age_years"] == (
        "2 rows without customer_id have a value: kept in the impressions, with its value at that time"
    )


def test_customers_attributes_without_any_customer_id_stay_with_the_impressions(tmp_path: Path) -> None:
    write_wide(tmp_path, age=[40, 40, 20, None], junk=list("xxyy"))
    columns = without("user")["impressions"] | {"junk": {"side": "customer", "kind": "categorical"}}
    import_custom(write_mapping(tmp_path, columns={"impressions": columns}), tmp_path / "log")
    shown = table(tmp_path / "log", "impressions")
    assert [row["age_years"] for row in shown] == [40, 40, 20, None]
    assert [row["junk"] for row in shown] == list("xxyy")
    assert table(tmp_path / "log", "customers") == []
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["age_years"].startswith("3 rows without customer_id have a value: kept in the impressions")
    assert notes["junk"].startswith("4 rows without customer_id have a value: kept in the impressions")


def test_an_attribute_that_changes_and_that_anonymous_rows_have_is_noted_for_both_reasons(tmp_path: Path) -> None:
    write_wide(tmp_path, age=[40, 41, 20, None])
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert SearchLog.open(tmp_path / "log").manifest.info["notes"]["age_years"] == (
        "differs between rows of 1 customer_id and 1 rows without customer_id have a value: kept in the impressions, "
        "with its value at that time"
    )


def test_the_latest_text_of_a_product_is_kept_as_its_title_is(tmp_path: Path) -> None:
    write_wide(tmp_path, junk=["old", "b", "b", "new"])
    columns = COLUMNS | {"junk": {"name": "blurb", "side": "product", "kind": "text"}}
    import_custom(write_mapping(tmp_path, columns={"impressions": columns}), tmp_path / "log")
    assert [row["blurb"] for row in table(tmp_path / "log", "products")] == ["new", "b"]
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["blurb"] == "differs between rows of 1 product_id: the latest was kept"


def test_events_of_visitors_without_impressions_are_noted(tmp_path: Path) -> None:
    write_wide(tmp_path)
    (tmp_path / "events.csv").write_text(
        "user,visit,t,sku,what\nann,v1,2024-05-01T00:00:00Z,01,view\n,v2,2024-05-01T00:00:00Z,01,view\n"
    )
    uses = {"user": "customer_id", "visit": "session_id", "t": "timestamp", "sku": "product_id", "what": "action"}
    tables = {"impressions": "clicks.parquet", "events": "events.csv"}
    mapping = write_mapping(tmp_path, tables=tables, columns={"impressions": COLUMNS, "events": uses})
    import_custom(mapping, tmp_path / "log")
    assert SearchLog.open(tmp_path / "log").manifest.info["notes"]["events"] == (
        "1 rows have only session_id, which no impression has: no visitor's history holds them"
    )


SEVERAL_USES: dict[str, tuple[dict[str, Any], str, str, list[Any]]] = {
    "product and title": ({"sku": ["product_id", "title"]}, "products", "title", ["01", "02"]),
    "product and category": (
        {"sku": ["product_id", {"name": "item", "side": "product", "kind": "categorical"}]},
        *("products", "item", ["01", "02"]),
    ),
    "title and category": (
        {"name": ["title", {"name": "model", "side": "product", "kind": "categorical"}]},
        *("impressions", "model", ["Shoe", "Boot", "Boots", "Shoe"]),
    ),
    "customer and category": (
        {"user": ["customer_id", {"name": "who", "side": "customer", "kind": "categorical"}]},
        *("customers", "who", ["ann"]),
    ),
    "query and category": (
        {"words": ["query", {"name": "destination", "side": "query", "kind": "categorical"}]},
        *("impressions", "destination", ["shoe", "shoe", None, None]),
    ),
    "search and visit": ({"page": ["search_id", "session_id"]}, "impressions", "session_id", ["7", "7", "8", "8"]),
    "position and number": (
        {"rank": ["position", {"name": "engine_rank", "side": "context", "kind": "numerical"}]},
        *("impressions", "engine_rank", [1, 2, 1, 2]),
    ),
    "number": (
        {
            "cost": [
                {"side": "product", "kind": "numerical"},
                {"name": "tier", "side": "product", "kind": "categorical"},
            ]
        },
        *("impressions", "cost", [5.0, 7.0, 8.0, 5.0]),
    ),
    "category of the number": (
        {
            "cost": [
                {"side": "product", "kind": "numerical"},
                {"name": "tier", "side": "product", "kind": "categorical"},
            ]
        },
        *("impressions", "tier", ["5", "7", "8", "5"]),
    ),
}


@pytest.mark.parametrize("name", SEVERAL_USES)
def test_a_column_can_have_several_uses(name: str, tmp_path: Path) -> None:
    uses, held_by, column, expected = SEVERAL_USES[name]
    roles = [use for some in uses.values() for use in some if isinstance(use, str)]
    columns = {key: use for key, use in COLUMNS.items() if use not in roles} | uses
    write_wide(tmp_path)
    import_custom(write_mapping(tmp_path, columns={"impressions": columns}), tmp_path / "log")
    assert [row[column] for row in table(tmp_path / "log", held_by)] == expected
    assert {role for role in roles if role != "title"} <= set(table(tmp_path / "log", "impressions")[0])


@pytest.mark.parametrize("with_products", [False, True])
def test_a_log_without_titles_has_a_note(with_products: bool, tmp_path: Path) -> None:
    write_wide(tmp_path)
    tables, columns = {"impressions": "clicks.parquet"}, without("name")
    if with_products:
        pq.write_table(pa.table({"sku": ["01", "02"]}), tmp_path / "products.parquet")
        tables, columns = tables | {"products": "products.parquet"}, columns | {"products": {"sku": "product_id"}}
    import_custom(write_mapping(tmp_path, tables=tables, columns=columns), tmp_path / "log")
    assert table(tmp_path / "log", "products") == [
        {"product_id": "01", "title": None},
        {"product_id": "02", "title": None},
    ]
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["title"] == (
        "no column has this role: text features and text rankers use the products' other texts and categories"
    )


def test_a_shop_that_knows_no_customer_is_warned(tmp_path: Path) -> None:
    write_wide(tmp_path, words=["shoe", "shoe", "hat", "hat"])
    known = {column: use for column, use in COLUMNS.items() if column not in ("user", "age")}
    import_custom(write_mapping(tmp_path, columns={"impressions": known}), tmp_path / "log")
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert [warning["text"] for warning in info["warnings"]] == [
        "customers: should hold at least one row, but it is empty"
    ]
    assert table(tmp_path / "log", "impressions")[0]["customer_id"] is None


def test_customers_of_events_are_known(tmp_path: Path) -> None:
    write_wide(tmp_path)
    (tmp_path / "events.csv").write_text('user,t,sku,what\nzoe,2024-05-01,01,view\n"",2024-05-01,01,view\n')
    mapping = write_mapping(
        tmp_path,
        tables={"impressions": "clicks.parquet", "events": "events.csv"},
        columns={
            "impressions": COLUMNS,
            "events": {"user": "customer_id", "t": "timestamp", "sku": "product_id", "what": "action"},
        },
    )
    import_custom(mapping, tmp_path / "log")
    assert table(tmp_path / "log", "customers") == [
        {"customer_id": "ann", "age_years": 40},
        {"customer_id": "zoe", "age_years": None},
    ]
    assert [row["customer_id"] for row in table(tmp_path / "log", "events")] == ["zoe", None]
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["timestamps of events.csv without a time zone, read as UTC"] == 2


UTC_NOON = [NOON] * 4
TIMES: dict[str, tuple[Any, str | None, int]] = {
    "iso with Z": (["2024-05-01T12:00:00Z"] * 4, None, 0),
    "iso with offset": (["2024-05-01 14:00:00+02:00"] * 4, None, 0),
    "iso of Java": (["2024-05-01T12:00:00Z[UTC]", "2024-05-01T14:00:00+02:00[Europe/Berlin]"] * 2, None, 0),
    "iso without zone": (["2024-05-01 12:00:00", "2024-05-01T12:00:00Z"] * 2, None, 2),
    "parquet with zone": (pa.array(UTC_NOON, pa.timestamp("ms", tz="Europe/Berlin")), None, 0),
    "parquet without zone": (pa.array([time.replace(tzinfo=None) for time in UTC_NOON], pa.timestamp("us")), None, 4),
    "seconds": ([1714564800] * 4, "s", 0),
    "seconds as text": (["1714564800"] * 4, "s", 0),
    "seconds as floats": ([1714564800.0] * 4, "s", 0),
    "milliseconds": ([1714564800000] * 4, "ms", 0),
    "microseconds": ([1714564800000000] * 4, "us", 0),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_as_utc(name: str, tmp_path: Path) -> None:
    cells, unit, without_zone = TIMES[name]
    write_wide(tmp_path, at=cells)
    import_custom(write_mapping(tmp_path, timestamp_unit=unit), tmp_path / "log")
    assert [row["timestamp"] for row in table(tmp_path / "log", "impressions")] == UTC_NOON
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes.get("timestamps of clicks.parquet without a time zone, read as UTC", 0) == without_zone


def test_fractions_of_a_second_are_kept(tmp_path: Path) -> None:
    write_wide(tmp_path, at=["1714564800.123456"] * 4)
    import_custom(write_mapping(tmp_path, timestamp_unit="s"), tmp_path / "log")
    assert table(tmp_path / "log", "impressions")[0]["timestamp"] == NOON.replace(microsecond=123456)


@pytest.mark.parametrize("cells", [["2405311804"] * 4, [2405311804] * 4], ids=["text", "numbers"])
def test_dates_in_digits_are_not_taken_for_seconds_of_the_future(tmp_path: Path, cells: list[Any]) -> None:
    write_wide(tmp_path, at=cells)
    with pytest.raises(UserError, match=r"must not be in the future, .* 2046-\d\d-\d\d; declare `timestamp_unit: s`"):
        import_custom(write_mapping(tmp_path), tmp_path / "log")
    import_custom(write_mapping(tmp_path, timestamp_unit="s"), tmp_path / "log")


@pytest.mark.parametrize("cell", ["1_000", "1e", "0x10"])
def test_a_number_with_other_marks_than_digits_is_refused(tmp_path: Path, cell: str) -> None:
    write_wide(tmp_path, cost=["1", "2", "3", cell])
    with pytest.raises(UserError, match=rf"must hold numbers.*'{cell}'"):
        import_custom(write_mapping(tmp_path), tmp_path / "log")


CELLS: dict[str, tuple[str, str, Any, list[Any]]] = {
    "labels as booleans": ("clicked", "click", [True, False, True, False], [1, 0, 1, 0]),
    "labels as text": ("clicked", "click", ["true", "False", "1", "0"], [1, 0, 1, 0]),
    "labels as floats": ("clicked", "click", [1.0, 0.0, 1.0, 0.0], [1, 0, 1, 0]),
    "positions as floats": ("rank", "position", [1.0, 2.0, 1.0, 2.0], [1, 2, 1, 2]),
    "positions as text": ("rank", "position", ["1", "2", "1", "2"], [1, 2, 1, 2]),
    "ids as integers": ("sku", "product_id", [1, 2, 2, 1], ["1", "2", "2", "1"]),
    "ids as floats": ("sku", "product_id", [1.0, 2.0, 2.0, 1.0], ["1", "2", "2", "1"]),
    "missing ids as NaN": ("user", "customer_id", [3.0, 3.0, float("nan"), None], ["3", "3", None, None]),
    "numbers as text": ("cost", "cost", ["1", "2.5", "3", "4"], [1.0, 2.5, 3.0, 4.0]),
    "numbers as decimals": ("cost", "cost", pa.array([1, 2, 3, 4]).cast(pa.decimal128(21, 2)), [1.0, 2.0, 3.0, 4.0]),
    "categories as floats": ("kind", "kind", [1.5, 2.0, float("nan"), None], ["1.5", "2", None, None]),
    "categories as booleans": ("kind", "kind", [True, False, True, None], ["true", "false", "true", None]),
    "numbers as booleans": ("cost", "cost", [True, False, True, False], [1, 0, 1, 0]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_converted(name: str, tmp_path: Path) -> None:
    column, target, cells, expected = CELLS[name]
    write_wide(tmp_path, **({"kind": list("wxyz")} | {column: cells}))
    columns = {"impressions": COLUMNS | {"kind": {"side": "context", "kind": "categorical"}}}
    import_custom(write_mapping(tmp_path, columns=columns), tmp_path / "log")
    assert [row[target] for row in table(tmp_path / "log", "impressions")] == expected


@pytest.mark.parametrize("cells", [["true", "true", "0", "0"], [True, True, False, False], [1, 1, 0, 0]])
def test_a_mark_of_randomised_pages_is_read_like_a_label(cells: list[Any], tmp_path: Path) -> None:
    write_wide(tmp_path, shuffled=cells)
    columns = {"impressions": COLUMNS | {"shuffled": "randomised"}}
    import_custom(write_mapping(tmp_path, columns=columns), tmp_path / "log")
    assert [row["randomised"] for row in table(tmp_path / "log", "impressions")] == [1, 1, 0, 0]
    assert "randomised" not in (tmp_path / "log" / "schema.yaml").read_text()


@pytest.mark.parametrize("default", [2, True, "2"])
def test_a_default_is_declared_as_it_is_written(default: object, tmp_path: Path) -> None:
    write_wide(tmp_path, kind=list("wxyz"))
    columns = {"impressions": COLUMNS | {"kind": {"side": "context", "kind": "categorical", "default": default}}}
    import_custom(write_mapping(tmp_path, columns=columns), tmp_path / "log")
    (kind,) = (each for each in SearchLog.open(tmp_path / "log").schema.features if each.name == "kind")
    assert (type(kind.default), kind.default) == (type(default), default)


BAD_CELLS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "label": (
        {"clicked": ["maybe", "1", "2", "0"]},
        ["clicked: must hold 0 or 1 (or true or false); 2 rows, e.g. '2', 'maybe'"],
    ),
    "position": ({"rank": [1.5, 2, 1, 2]}, ["rank: must hold whole numbers; 1 row, e.g. '1.5'"]),
    "number": ({"cost": ["1", "cheap", "3", None]}, ["cost: must hold numbers; 1 row, e.g. 'cheap'"]),
    "id": ({"sku": [1.5, 2.0, 2.0, 1.0]}, [f"sku: must hold text or whole numbers ({TOO_LARGE}); 1 row, e.g. '1.5'"]),
    "time": (
        {"at": ["31.05.2024"] * 4},
        [
            "at: must hold times such as 2024-05-31T18:04:05Z, from 1990 on and before 2100; write the year first, "
            "then month and day; 4 rows, e.g. '31.05.2024'"
        ],
    ),
    "time of no unit": (
        {"at": [20240531] * 4},
        ["at: must hold times such as 2024-05-31T18:04:05Z, from 1990 on and before 2100; 4 rows, e.g. '20240531'"],
    ),
    "several": (
        {"clicked": ["x", "1", "1", "0"], "rank": ["a", "b", "1", "2"]},
        ["rank: must hold whole numbers; 2 rows, e.g. 'a', 'b'",
         "clicked: must hold 0 or 1 (or true or false); 1 row, e.g. 'x'"],
    ),
}  # fmt: skip


def test_times_that_are_no_numbers_are_listed(tmp_path: Path) -> None:
    write_wide(tmp_path, at=["nan", "inf", "1e300", "1714564800"])
    with pytest.raises(
        UserError,
        match=r"at: must hold numbers of s since 1970, from 1990 on and before 2100; 3 rows, .* '1e300', 'inf', 'nan'",
    ):
        import_custom(write_mapping(tmp_path, timestamp_unit="s"), tmp_path / "log")


@pytest.mark.parametrize("name", BAD_CELLS)
def test_cells_that_do_not_fit_are_all_listed(name: str, tmp_path: Path) -> None:
    changes, lines = BAD_CELLS[name]
    write_wide(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        import_custom(write_mapping(tmp_path), tmp_path / "log")
    first, *rest = str(refused.value).splitlines()
    assert first.endswith("clicks.parquet must match the mapping, but some cells do not; correct them:")
    assert sorted(line.strip() for line in rest) == sorted(lines)
    assert not (tmp_path / "log").exists()


def without(column: str) -> dict[str, Any]:
    return {"impressions": {name: use for name, use in COLUMNS.items() if name != column}}


BAD_MAPPINGS: dict[str, tuple[dict[str, Any], str]] = {
    "missing role": (
        {"columns": without("page")},
        "impressions must map a column to the role `search_id`, but the mapping does not; clicks.parquet has page, ",
    ),
    "no label": (
        {"columns": without("clicked")},
        "impressions must map a column to at least one of the roles click, add_to_cart, purchase, but",
    ),
    "customers without a customer": (
        {
            "tables": {"impressions": "clicks.parquet", "customers": "clicks.parquet"},
            "columns": without("user") | {"customers": {"user": "customer_id"}},
        },
        "impressions must map a column to the role `customer_id`, since there is a table of customers, but",
    ),
    "feature of an event": (
        {
            "tables": {"impressions": "clicks.parquet", "events": "clicks.parquet"},
            "columns": {
                "impressions": COLUMNS,
                "events": {"at": "timestamp", "sku": "product_id", "user": "customer_id", "name": "action"}
                | {"cost": {"side": "context", "kind": "numerical"}},
            },
        },
        "events can have no feature, but 'cost' is of context",
    ),
    "roles that no column can have at once": (
        {"columns": {"impressions": COLUMNS | {"words": ["query", "title"], "name": "session_id"}}},
        "one column can have several roles of customer_id, query, search_id, session_id or product_id, title only, "
        "but 'words' in impressions is query, title; map another column to one of them",
    ),
    "label as a role and a feature": (
        {"columns": {"impressions": COLUMNS | {"clicked": ["click", {"side": "product", "kind": "numerical"}]}}},
        "a column with the role 'click' must not be a feature as well, since it is known only after the search, but "
        "'clicked' in impressions is both; remove the feature",
    ),
    "time as a feature": (
        {"columns": {"impressions": COLUMNS | {"at": ["timestamp", {"side": "context", "kind": "numerical"}]}}},
        "a column with the role 'timestamp' must not be a feature as well, since its values never occur again, but",
    ),
    "feature that goes by its role": (
        {
            "tables": {"impressions": "clicks.parquet"},
            "columns": {
                "impressions": without("words")["impressions"]
                | {"query": ["query", {"side": "query", "kind": "categorical"}]}
            },
        },
        "a feature must go by another name than a role, but the one of 'query' in impressions has none; add `name`",
    ),
    "one feature under two names": (
        {
            "columns": {
                "impressions": COLUMNS
                | {"junk": [{"side": "context", "kind": "text"}, {"name": "b", "side": "context", "kind": "text"}]}
            }
        },
        "features of one column must differ in more than their name, but 'junk' in impressions has two of side context",
    ),
    "two features of one name": (
        {
            "columns": {
                "impressions": COLUMNS
                | {"junk": [{"side": "context", "kind": "categorical"}, {"side": "context", "kind": "numerical"}]}
            }
        },
        "mapping.yaml: each feature must be declared once, but junk is declared again",
    ),
    "one role twice in a column": (
        {"columns": {"impressions": COLUMNS | {"sku": ["product_id", "product_id"]}}},
        "impressions must map one column to the role 'product_id', but it maps 2",
    ),
    "no use": (
        {"columns": {"impressions": COLUMNS | {"junk": []}}},
        "columns.impressions.junk: a column must have at least one use; remove a column that is not used",
    ),
    "wrong use in a list": (
        {"columns": {"impressions": COLUMNS | {"words": ["query", {"side": "query"}]}}},
        "columns.impressions.words.1: a column must be a role, such as `product_id`, or a feature with `side` and",
    ),
    "unknown column": (
        {"columns": {"impressions": COLUMNS | {"pag": {"side": "context", "kind": "categorical"}}}},
        "unknown column of clicks.parquet 'pag': choose one of age, at, .*; did you mean 'page'?",
    ),
    "unknown role": (
        {"columns": {"impressions": COLUMNS | {"junk": "serch_id"}}},
        "mapping.yaml: unknown role of impressions 'serch_id': choose one of .*; did you mean 'search_id'?",
    ),
    "role twice": (
        {"columns": {"impressions": COLUMNS | {"junk": "query"}}},
        "mapping.yaml: impressions must map one column to the role 'query', but it maps 2",
    ),
    "feature without a side": (
        {"columns": {"impressions": COLUMNS | {"junk": {"kind": "text"}}}},
        "columns.impressions.junk: a column must be a role, such as `product_id`, or a feature with `side` and `kind`",
    ),
    "role and feature at once": (
        {"columns": {"impressions": COLUMNS | {"junk": {"role": "query", "kind": "text"}}}},
        "columns.impressions.junk: a use must be either the role 'query' or a feature, but it is both; write a list of",
    ),
    "unknown key": (
        {"columns": {"impressions": COLUMNS | {"junk": {"sid": "context", "side": "context", "kind": "text"}}}},
        r"columns.impressions.junk.sid: unknown key, did you mean side\?",
    ),
    "unknown key at the top": (
        {"timestmp_unit": "s"},
        r"mapping.yaml: timestmp_unit: unknown key, did you mean timestamp_unit\?",
    ),
    "unknown key that is near none": (
        {"zzz": "s"},
        "mapping.yaml: zzz: unknown key, choose one of name, tables, columns, timestamp_unit, ",
    ),
    "the wrong way round": (
        {"columns": {"impressions": COLUMNS | {"query": "words"}}},
        "a line of a mapping must read `your column: role`, but `query: words` in impressions begins with a role; "
        "write `words: query`",
    ),
    "key of another kind": (
        {"columns": {"impressions": COLUMNS | {"junk": {"side": "context", "kind": "categorical", "log1p": True}}}},
        "`log1p` must be of a numerical feature, but 'junk' is categorical; remove it or declare another kind",
    ),
    "label as a feature": (
        {"columns": {"impressions": COLUMNS | {"junk": {"name": "purchase", "side": "product", "kind": "text"}}}},
        "mapping.yaml: features.2: 'purchase' is a label and can never be declared as a feature",
    ),
    "mark as a feature": (
        {
            "columns": {
                "impressions": COLUMNS
                | {"junk": ["randomised", {"name": "x", "side": "context", "kind": "categorical"}]}
            }
        },
        "a column with the role 'randomised' must not be a feature as well, since a customer does not see it, but ",
    ),
    "feature twice": (
        {"columns": {"impressions": COLUMNS | {"junk": {"name": "cost", "side": "product", "kind": "text"}}}},
        "mapping.yaml: each feature must be declared once, but cost is declared again",
    ),
    "columns without a table": (
        {"columns": {"impressions": COLUMNS, "products": {"sku": "product_id"}}},
        "`tables` and `columns` must name the same tables, but only one names products",
    ),
    "no impressions": (
        {"tables": {"products": "clicks.parquet"}, "columns": {"products": {"sku": "product_id"}}},
        "mapping.yaml: tables must name the file of `impressions`",
    ),
    "customer feature of a product": (
        {
            "tables": {"impressions": "clicks.parquet", "products": "clicks.parquet"},
            "columns": without("name")
            | {"products": {"sku": "product_id", "name": "title", "junk": {"side": "customer", "kind": "text"}}},
        },
        "a feature in products must be of the side product, but 'junk' is of customer",
    ),
    "title in two tables": (
        {
            "tables": {"impressions": "clicks.parquet", "products": "clicks.parquet"},
            "columns": {"impressions": COLUMNS, "products": {"sku": "product_id", "name": "title"}},
        },
        "the role 'title' must be in products, since there is a table of products",
    ),
    "file missing": (
        {"tables": {"impressions": "clocks.parquet"}},
        "clocks.parquet must be a file, but there is no such file",
    ),
    "folder without Parquet": (
        {"tables": {"impressions": "."}},
        "must be a file or a folder of \\*.parquet files, but it is a folder without any",
    ),
}


@pytest.mark.parametrize("name", BAD_MAPPINGS)
def test_a_mapping_that_cannot_be_meant_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    changes, sentence = BAD_MAPPINGS[name]
    (tmp_path / "sub").mkdir()
    write_wide(tmp_path if name != "folder without Parquet" else tmp_path / "sub")
    with pytest.raises(UserError, match=sentence) as refused:
        import_custom(write_mapping(tmp_path, **changes), tmp_path / "log")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("clicks.csv", "page: a,rank\n1,2\n", "a table"),
        ("clicks.parquet", "PAR1", "a table"),
        ("mapping.yaml", "page,rank\n1,2\n", "a table"),
        ("mapping.yaml", "- page\n- rank\n", "a list"),
        ("mapping.yaml", "page", "a single value"),
        ("mapping.yaml", "", "empty"),
    ],
)
def test_what_is_no_mapping_is_answered_with_one(name: str, content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    said = rf"{name} must be a mapping.yaml, .* but it is {what}; write one such as .*your_column: search_id.*own_data"
    with pytest.raises(UserError, match=said):
        import_custom(tmp_path / name, tmp_path / "log")


BAD_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "must hold rows, but the file is empty"),
    "no Parquet": (lambda path: path.write_bytes(b"page,at\n1,2\n"), "must be a Parquet file, but it cannot be read"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        "must be a Parquet file, but it cannot be read",
    ),
    "damaged": (
        lambda path: path.write_bytes(path.read_bytes()[:4] + bytes(300) + path.read_bytes()[304:]),
        "must be a Parquet file, but it cannot be read",
    ),
    "no rows": (
        lambda path: pq.write_table(pq.read_table(path).slice(0, 0), path),
        "must hold at least one search, but no search is left",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    spoil, sentence = BAD_FILES[name]
    write_wide(tmp_path)
    spoil(tmp_path / "clicks.parquet")
    with pytest.raises(UserError, match=sentence) as refused:
        import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.csv.gz", "clicks.tsv"])
def test_text_files_give_the_same_log_as_parquet(name: str, tmp_path: Path) -> None:
    write_wide(tmp_path)
    import_custom(write_mapping(tmp_path), tmp_path / "parquet")
    options = csv.WriteOptions(delimiter="\t" if "tsv" in name else ",")
    csv.write_csv(pa.table(WIDE), tmp_path / "plain", options)
    content = (tmp_path / "plain").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    import_custom(write_mapping(tmp_path, tables={"impressions": name}), tmp_path / "text")
    for each in ("impressions", "products", "customers"):
        assert table(tmp_path / "text", each) == table(tmp_path / "parquet", each)


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    whole = pa.table(WIDE)
    pq.write_table(whole.slice(0, 2), tmp_path / "days" / "a.parquet")
    pq.write_table(whole.slice(2, 2), tmp_path / "days" / "b.parquet")
    mapping = write_mapping(tmp_path, tables={"impressions": "days"})
    assert import_custom(mapping, tmp_path / "log")
    assert [row["search_id"] for row in table(tmp_path / "log", "impressions")] == ["7", "7", "8", "8"]
    assert not import_custom(mapping, tmp_path / "log")
    pq.write_table(whole.slice(0, 2), tmp_path / "days" / "b.parquet")
    with pytest.raises(UserError, match="must occur once in a search; 2 repeated rows"):
        import_custom(mapping, tmp_path / "log")
    assert len(table(tmp_path / "log", "impressions")) == 4


def _write_days(folder: Path, *lacking: str) -> Path:
    """Two files of days, the second without some columns; the mapping of both."""
    (folder / "days").mkdir()
    whole = pa.table(WIDE)
    pq.write_table(whole.slice(0, 2), folder / "days" / "a.parquet")
    pq.write_table(whole.slice(2, 2).drop_columns(list(lacking)), folder / "days" / "b.parquet")
    return write_mapping(folder, tables={"impressions": "days"})


def test_columns_that_some_files_of_a_folder_lack_are_noted(tmp_path: Path) -> None:
    mapping = _write_days(tmp_path, "age", "user", "junk")
    # A file without rows lacks nothing.
    pq.write_table(pa.table({"page": pa.array([], pa.string())}), tmp_path / "days" / "c.parquet")
    import_custom(mapping, tmp_path / "log")
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    noted = {name: note for name, note in notes.items() if "lack" in name}
    assert noted == {
        f"column {name!r} of days that some of its files lack": "null in 2 rows of b.parquet"
        for name in ("user", "age")
    }


@pytest.mark.parametrize("column", ["page", "at", "words", "sku", "rank"])
def test_a_required_column_must_be_in_all_files_of_a_folder(column: str, tmp_path: Path) -> None:
    mapping = _write_days(tmp_path, column)
    with pytest.raises(UserError, match=rf"must have the column '{column}', .* but b.parquet \(2 rows\) lacks it"):
        import_custom(mapping, tmp_path / "log")


def test_rows_keep_their_order(tmp_path: Path) -> None:
    n_rows = 60_000
    rows = {
        "page": [str(row // 2) for row in range(n_rows)],
        "at": [1714564800] * n_rows,
        "words": ["shoe"] * n_rows,
        "sku": ["01", "02"] * (n_rows // 2),
        "rank": [1, 2] * (n_rows // 2),
        "clicked": ["true", "no"] * (n_rows // 2),
        "name": ["Shoe", "Boot"] * (n_rows // 2),
    }
    # Small row groups, so that several threads work on the file.
    pq.write_table(pa.table(rows), tmp_path / "clicks.parquet", row_group_size=2_048)
    columns = {"impressions": {column: COLUMNS[column] for column in rows}}
    import_custom(write_mapping(tmp_path, columns=columns, timestamp_unit="s"), tmp_path / "log")
    files = SearchLog.open(tmp_path / "log").files("impressions")
    assert pa.concat_tables(map(pq.read_table, files))["search_id"].to_pylist() == rows["page"]


def test_a_time_zone_of_the_machine_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    write_wide(tmp_path, at=[time.astimezone(timezone(timedelta(hours=9))) for time in WIDE["at"]])
    import_custom(write_mapping(tmp_path), tmp_path / "log")
    assert [row["timestamp"] for row in table(tmp_path / "log", "impressions")] == WIDE["at"]
