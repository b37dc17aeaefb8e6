from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.errors import UserError
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
def test_words_for_no_customer_are_nobody_and_counted(tmp_path: Path, word: str) -> None:
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
    with pytest.raises(UserError, match=r"user of clicks.csv must hold ids, but 1 of its numbers were rounded"):
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
