from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Schema
from shelfrank.logs.custom import import_custom
from shelfrank.logs.search_log import SearchLog

HEADER = "page,at,user,words,sku,rank,clicked,name,region,price"
ROWS = (
    "1,2024-05-01T12:00:00Z,{0},Red Shoe,7,1,1,Shoe,{1},{2}",
    "2,2024-05-02T12:00:00Z,{3},red  shoe ,8,1,0,Boot,{4},{5}",
    "3,2024-05-03T12:00:00Z,ann,RED SHOE,9,1,1,Hat,EU,3",
)
COLUMNS: dict[str, Any] = {
    "page": "search_id",
    "at": "timestamp",
    "user": "customer_id",
    "words": "query",
    "sku": "product_id",
    "rank": "position",
    "clicked": "click",
    "name": "title",
    "region": {"side": "context", "kind": "categorical"},
    "price": {"side": "context", "kind": "numerical"},
}


def imported(folder: Path, users: tuple[str, str], regions: tuple[str, str] = ("EU", "EU"), **keys: Any) -> SearchLog:
    prices = keys.pop("prices", ("1", "2"))
    filled = [
        row.format(users[0], regions[0], prices[0], users[1], regions[1], prices[1]) for row in ROWS[: keys.pop("n", 3)]
    ]
    (folder / "clicks.csv").write_text("\n".join([HEADER, *filled, ""]), encoding="utf-8")
    columns = {**COLUMNS, **keys.pop("columns", {})}
    mapping = {"name": "shop", "tables": {"impressions": "clicks.csv"}, "columns": {"impressions": columns}, **keys}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
    import_custom(folder / "mapping.yaml", folder / "log")
    return SearchLog.open(folder / "log")


def column(log: SearchLog, name: str, table: str = "impressions") -> list[Any]:
    return pa.concat_tables([pq.read_table(file) for file in log.files(table)])[name].to_pylist()


@pytest.mark.parametrize("word", ["NULL", "NA", "\\N", "nan", "None", "<NA>", " ", "\u00a0", "undefined"])
def test_null_words_of_customers_are_anonymous_and_counted(tmp_path: Path, word: str) -> None:
    log = imported(tmp_path, (word, "bob"))
    assert column(log, "customer_id") == [None, "bob", "ann"]
    note = log.manifest.info["notes"]["user of clicks.csv, words or blanks read as missing"]
    assert note == f"{word.strip() or 'blank'} (1)"


def test_null_words_of_a_column_replace_the_built_in_ones(tmp_path: Path) -> None:
    user = {"role": "customer_id", "null_words": ["guest"]}
    log = imported(tmp_path, ("guest", "NA"), columns={"user": user})
    assert column(log, "customer_id") == [None, "NA", "ann"]
    assert log.schema.spelling is not None
    assert log.schema.spelling.of_id("customer_id").of("guest") is None


def test_words_that_yaml_takes_for_something_else_are_texts(tmp_path: Path) -> None:
    log = imported(tmp_path, ("NULL", "-1"), null_words=[None, -1])
    assert column(log, "customer_id") == [None, None, "ann"]


def test_whole_numbers_written_as_floats_are_whole_where_all_ids_are_numbers(tmp_path: Path) -> None:
    log = imported(tmp_path, ("400.0", "401"), n=2)
    assert column(log, "customer_id") == ["400", "401"]
    assert log.schema.spelling is not None
    assert set(log.schema.spelling.whole_number_ids) == {"customer_id", "product_id", "search_id"}


def test_ids_that_end_in_zero_stay_and_are_noted_where_others_are_no_numbers(tmp_path: Path) -> None:
    log = imported(tmp_path, ("400.0", "401"))
    assert column(log, "customer_id") == ["400.0", "401", "ann"]
    assert log.manifest.info["notes"]["user of clicks.csv, ids that end in .0"].startswith("1, kept as they are")


@pytest.mark.parametrize("rounded", ["1.23457E+11", "9007199254740992.0"])
def test_ids_that_were_rounded_are_refused(tmp_path: Path, rounded: str) -> None:
    with pytest.raises(UserError, match=r"user of clicks.csv must hold ids, but 1 of its numbers was rounded"):
        imported(tmp_path, (rounded, "401"), n=2)


def test_words_among_numbers_are_missing(tmp_path: Path) -> None:
    log = imported(tmp_path, ("ann", "bob"), prices=("NULL", " 2 "))
    assert column(log, "price") == [None, 2.0, 3.0]
    assert log.manifest.info["notes"]["price of clicks.csv, words or blanks read as missing"] == "NULL (1)"


def test_a_region_called_na_stays_and_is_noted(tmp_path: Path) -> None:
    log = imported(tmp_path, ("ann", "bob"), regions=("NA", "NULL"))
    assert column(log, "region") == ["NA", None, "EU"]
    note = log.manifest.info["notes"]["region, words that may mean missing, kept as categories"]
    assert note.startswith("NA (1)")


def test_categories_that_differ_by_case_are_noted_or_folded(tmp_path: Path) -> None:
    log = imported(tmp_path, ("ann", "bob"), regions=("eu", "Eu "))
    assert column(log, "region") == ["eu", "Eu", "EU"]
    assert "EU / Eu / eu" in log.manifest.info["notes"]["region, categories that differ by case only"]
    folded = {"region": {"side": "context", "kind": "categorical", "fold_case": True}}
    (tmp_path / "folded").mkdir()
    log = imported(tmp_path / "folded", ("ann", "bob"), regions=("eu", "Eu "), columns=folded)
    assert column(log, "region") == ["eu", "eu", "eu"]


@pytest.mark.parametrize(
    ("queries", "expected"),
    [
        ("folded", ["red shoe", "red shoe", "red shoe"]),
        ("trimmed", ["Red Shoe", "red shoe", "RED SHOE"]),
        ("as_written", ["Red Shoe", "red  shoe ", "RED SHOE"]),
    ],
)
def test_queries_are_folded_unless_the_mapping_says_otherwise(
    tmp_path: Path, queries: str, expected: list[str]
) -> None:
    log = imported(tmp_path, ("ann", "bob"), queries=queries)
    assert column(log, "query") == expected
    assert log.schema.spelling is not None
    assert [log.schema.spelling.query(text) for text in ("RED SHOE",)] == [expected[2]]


def tables_imported(folder: Path, tables: dict[str, dict[str, Any]], uses: dict[str, dict[str, Any]]) -> SearchLog:
    """Imports Parquet tables whose impressions are one list a row; columns are named as their roles."""
    n_rows = len(next(iter(tables["impressions"].values())))
    whole: dict[str, Any] = {
        "search_id": [f"s{i}" for i in range(n_rows)],
        "timestamp": [datetime(2024, 5, 1, 12, i, tzinfo=UTC) for i in range(n_rows)],
        "query": ["shoe"] * n_rows,
        "product_id": ["1"] * n_rows,
        "position": [1] * n_rows,
        "click": [1] * n_rows,
    }
    columns: dict[str, dict[str, Any]] = {}
    for table, given in tables.items():
        content = {**whole, **given} if table == "impressions" else given
        if table == "events":
            content = {"timestamp": [whole["timestamp"][0]] * len(content["product_id"]), **content}
        pq.write_table(pa.table(content), folder / f"{table}.parquet")
        columns[table] = {name: uses.get(table, {}).get(name, name) for name in content}
    mapping = {"name": "shop", "tables": {table: f"{table}.parquet" for table in tables}, "columns": columns}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
    import_custom(folder / "mapping.yaml", folder / "log")
    return SearchLog.open(folder / "log")


NUMBER = {"side": "context", "kind": "numerical", "null_words": [-1]}
CATEGORY = {"side": "context", "kind": "categorical", "null_words": [-1]}


@pytest.mark.parametrize(
    ("use", "given", "expected"),
    [
        (NUMBER, [-1.0, 2.5], [None, 2.5]),
        (NUMBER, [-1, 2], [None, 2]),
        (NUMBER, [Decimal("-1.00"), Decimal("2.50")], [None, 2.5]),
        (NUMBER, pa.array([-1, 2], pa.float32()), [None, 2]),
        (NUMBER, ["-1", "2.5"], [None, 2.5]),
        (NUMBER, ["-1.00", "2.5"], [None, 2.5]),
        (CATEGORY, [-1.0, 2.5], [None, "2.5"]),
        (CATEGORY, [-1, 2], [None, "2"]),
        (CATEGORY, [Decimal("-1.0"), Decimal("2.5")], [None, "2.5"]),
        (CATEGORY, ["-1.0", "2"], [None, "2"]),
        ({**CATEGORY, "null_words": [False]}, [False, True], [None, "true"]),
        ({**CATEGORY, "null_words": [-1.0]}, [-1, 2], [None, "2"]),
    ],
)
def test_null_words_hold_whatever_the_columns_type(
    tmp_path: Path, use: dict[str, Any], given: Any, expected: list[Any]
) -> None:
    log = tables_imported(tmp_path, {"impressions": {"x": given}}, {"impressions": {"x": use}})
    assert column(log, "x") == expected
    assert log.manifest.info["notes"]["x of impressions.parquet, words or blanks read as missing"].endswith("(1)")


@pytest.mark.parametrize(
    "given", [[-1, 412], [-1.0, 412.0], ["-1", "412"], ["-1.0", "412.0"], [Decimal("-1.0"), Decimal("412.0")]]
)
def test_a_null_word_is_anonymous_in_columns_of_every_type(tmp_path: Path, given: list[Any]) -> None:
    user = {"role": "customer_id", "null_words": [-1]}
    log = tables_imported(tmp_path, {"impressions": {"customer_id": given}}, {"impressions": {"customer_id": user}})
    assert column(log, "customer_id") == [None, "412"]
    assert column(log, "customer_id", "customers") == ["412"]
    assert log.schema.spelling is not None
    assert [log.schema.spelling.of_id("customer_id").of(each) for each in (-1, -1.0, "-1", 412.0)] == [None] * 3 + [
        "412"
    ]


def test_decimals_are_spelled_alike_as_ids_and_as_categories(tmp_path: Path) -> None:
    given = [Decimal("412.00"), Decimal("2.50")]
    content = {"impressions": {"customer_id": given, "size": given}}
    use = {"side": "context", "kind": "categorical"}
    log = tables_imported(tmp_path, content, {"impressions": {"size": use}})
    assert log.schema.spelling is not None
    expected = [log.schema.spelling.of_id("customer_id").of(each) for each in given]
    assert column(log, "customer_id") == column(log, "size") == expected == ["412", "2.5"]


def test_null_words_of_customers_and_sessions_are_their_own(tmp_path: Path) -> None:
    user = {"role": "customer_id", "null_words": ["1"]}
    given = {"customer_id": ["1", "2"], "session_id": ["1", "2"]}
    log = tables_imported(tmp_path, {"impressions": given}, {"impressions": {"customer_id": user}})
    assert column(log, "customer_id") == [None, "2"]
    assert column(log, "session_id") == ["1", "2"]
    spelling = Schema.load(log.path / "schema.yaml").spelling
    assert spelling is not None
    assert [spelling.of_id(name).of("1") for name in ("customer_id", "session_id")] == [None, "1"]
    assert spelling.of_id("session_id").of("NULL") is None


def test_null_words_of_products_are_those_of_the_logs_live_products(tmp_path: Path) -> None:
    use = {"role": "product_id", "null_words": []}
    log = tables_imported(tmp_path, {"impressions": {"product_id": ["NA", "2"]}}, {"impressions": {"product_id": use}})
    assert column(log, "product_id") == ["NA", "2"]
    spelling = Schema.load(log.path / "schema.yaml").spelling
    assert spelling is not None
    assert [spelling.of_id(name).of("NA") for name in ("product_id", "search_id")] == ["NA", None]


def test_null_words_that_one_table_declares_hold_in_all_that_are_joined_by_the_column(tmp_path: Path) -> None:
    log = tables_imported(
        tmp_path,
        {"impressions": {"customer_id": ["NA", "guest"]}, "customers": {"customer_id": ["NA", "bob"]}},
        {"impressions": {"customer_id": {"role": "customer_id", "null_words": ["guest"]}}},
    )
    assert column(log, "customer_id") == ["NA", None]
    assert column(log, "customer_id", "customers") == ["NA", "bob"]


MANY = {
    "floats among events": (
        {
            "impressions": {"customer_id": ["412"]},
            "events": {"product_id": ["1"], "action": ["view"], "customer_id": ["412.0"]},
        },
        *("customer_id", {"impressions": ["412"], "events": ["412"], "customers": ["412"]}),
    ),
    "names among events": (
        {
            "impressions": {"customer_id": ["412"]},
            "events": {"product_id": ["1", "1"], "action": ["view"] * 2, "customer_id": ["412.0", "guest-7"]},
        },
        *(
            "customer_id",
            {"impressions": ["412"], "events": ["412.0", "guest-7"], "customers": ["412", "412.0", "guest-7"]},
        ),
    ),
    "names among impressions": (
        {
            "impressions": {"product_id": ["1.0", "A2", "1"]},
            "events": {"product_id": ["1"], "action": ["view"], "session_id": ["v"]},
        },
        *("product_id", {"impressions": ["1.0", "A2", "1"], "events": ["1"], "products": ["1", "1.0", "A2"]}),
    ),
    "floats among products": (
        {
            "impressions": {"product_id": ["412", "7"]},
            "products": {"product_id": ["412.0", "7.0"], "title": ["A", "B"]},
        },
        *("product_id", {"impressions": ["412", "7"], "products": ["412", "7"]}),
    ),
    "numbers and texts": (
        {"impressions": {"product_id": [412, 7]}, "products": {"product_id": ["412.0", "7.0"], "title": ["A", "B"]}},
        *("product_id", {"impressions": ["412", "7"], "products": ["412", "7"]}),
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_ids_are_spelled_alike_in_all_tables(tmp_path: Path, name: str) -> None:
    tables, role, expected = MANY[name]
    log = tables_imported(tmp_path, tables, {})
    assert {table: column(log, role, table) for table in expected} == expected
    notes = log.manifest.info["notes"]
    kept = [note for note in notes if note.endswith("ids that end in .0")]
    assert bool(kept) == any(each.endswith(".0") for ids in expected.values() for each in ids)


@pytest.mark.parametrize(
    ("shown", "known"), [(["412.0", "B7"], ["412", "B7"]), (["412", "7"], ["412.0", "B7.0", "7", "A9"])]
)
def test_an_error_names_ids_that_differ_by_their_decimals(tmp_path: Path, shown: list[str], known: list[str]) -> None:
    tables = {"impressions": {"product_id": shown}, "products": {"product_id": known, "title": known}}
    with pytest.raises(
        UserError,
        match="be a product_id of products, but all of these differ from one of products by decimals that are 0",
    ):
        tables_imported(tmp_path, tables, {})


@pytest.mark.parametrize("rounded", ["1.23457E+11", "1.2e+18", "9007199254740992.0"])
def test_ids_that_were_rounded_are_refused_among_others_too(tmp_path: Path, rounded: str) -> None:
    with pytest.raises(UserError, match=r"customer_id of impressions.parquet must hold ids, but 2 of its numbers were"):
        tables_imported(tmp_path, {"impressions": {"customer_id": [rounded, rounded, "guest1"]}}, {})


@pytest.mark.parametrize(
    ("use", "word", "expected"),
    [
        ({"role": "title"}, "NULL", None),
        ({"role": "title"}, "\\N", None),
        ({"role": "title"}, "NA", "NA"),
        ({"role": "title"}, " Null ", " Null "),
        ({"role": "title", "null_words": ["N/A"]}, "N/A ", None),
        ({"role": "title", "null_words": []}, "NULL", "NULL"),
        ({"side": "product", "kind": "text"}, "(null)", None),
        ({"side": "product", "kind": "text", "null_words": ["-"]}, "-", None),
    ],
)
def test_words_for_no_title_or_text_are_missing(
    tmp_path: Path, use: dict[str, Any], word: str, expected: str | None
) -> None:
    tables = {"impressions": {}, "products": {"product_id": ["1", "2"], "name": [word, "Shoe"]}}
    tables["impressions"] = {"product_id": ["1", "2"]}
    log = tables_imported(tmp_path, tables, {"products": {"name": use}})
    assert column(log, "title" if "role" in use else "name", "products") == [expected, "Shoe"]
    noted = "name of products.parquet, words or blanks read as missing" in log.manifest.info["notes"]
    assert noted == (expected is None)


def test_a_query_has_the_null_words_of_its_column_only(tmp_path: Path) -> None:
    words = {"role": "query", "null_words": ["null"]}
    given = {"impressions": {"query": ["null", "NA"]}}
    log = tables_imported(tmp_path, given, {"impressions": {"query": words}})
    assert column(log, "query") == ["", "na"]
    assert log.manifest.info["notes"]["query of impressions.parquet, words or blanks read as missing"] == "null (1)"


def test_null_words_of_the_mapping_hold_for_texts_too(tmp_path: Path) -> None:
    columns = {"name": [{"role": "title"}, {"name": "words_of_it", "side": "product", "kind": "text"}]}
    log = imported(tmp_path, ("ann", "bob"), columns=columns, null_words=["Boot"])
    assert column(log, "title", "products") == ["Shoe", None, "Hat"]
    assert column(log, "words_of_it", "products") == ["Shoe", None, "Hat"]


@pytest.mark.parametrize(("one", "other"), [("Nike", "NIKE"), ("Straße", "STRASSE"), (" true", "TRUE")])
def test_a_category_that_differs_by_case_only_is_the_products_own_where_case_is_folded(
    tmp_path: Path, one: str, other: str
) -> None:
    brand = {"side": "product", "kind": "categorical", "fold_case": True}
    log = tables_imported(tmp_path, {"impressions": {"brand": [one, other]}}, {"impressions": {"brand": brand}})
    assert column(log, "brand", "products") == [one.strip().casefold()]


def test_missing_values_are_noted_for_each_use_of_a_column(tmp_path: Path) -> None:
    uses = [{"side": "context", "kind": kind, "name": kind} for kind in ("numerical", "categorical")]
    log = tables_imported(tmp_path, {"impressions": {"stars": ["NA", "4"]}}, {"impressions": {"stars": uses}})
    assert (column(log, "numerical"), column(log, "categorical")) == ([None, 4.0], ["NA", "4"])
    notes = log.manifest.info["notes"]
    assert notes["stars of impressions.parquet, words or blanks read as missing by numerical"] == "NA (1)"
