"""Judged queries become lists with grades, in the official file's own encoding."""

import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.homedepot import import_homedepot
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.validate import validate

EXCERPT = Path(__file__).resolve().parents[2] / "../shared/data/homedepot/train.csv.gz"

HEADER = '"id","product_uid","product_title","search_term","relevance"\n'
ROWS = (
    '2,"100001","Café ""12 in."" bracket","angle bracket","3"\n'
    '3,"100001","Another title","l bracket","2.5"\n'
    '9,"100002","\x89, and two\nlines","angle bracket","1.33"\n'
    '10,"100002","Again","angle bracket","3"\n'
    '11,"100003","","deck over","4"\n'
    '12,"100003","","","2"\n'
    '13,"100004","","deck over","nan"\n'
    '14,"100005","","deck over","1"\n'
)
DESCRIPTIONS = '"product_uid","product_description"\n"100001","Strong – in UTF-8"\n"999999","unseen"\n'
ATTRIBUTES = (
    '"product_uid","name","value"\n"100001","MFG Brand Name","Simpson"\n"100001","Bullet01","x"\n'
    '"100002","Color Family","Red"\n"",,\n'
)


def write_train(folder: Path, text: str = HEADER + ROWS) -> Path:
    path = folder / "train.csv"
    path.write_bytes(text.encode("latin-1"))
    return path


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


def test_each_query_becomes_a_list_with_grades_and_no_labels(tmp_path: Path) -> None:
    assert import_homedepot(write_train(tmp_path), tmp_path / "log")
    shown = rows_of(tmp_path / "log", "impressions")
    assert [(row["search_id"], row["query"], row["product_id"], row["position"]) for row in shown] == [
        ("2", "angle bracket", "100001", 1),
        ("2", "angle bracket", "100002", 2),
        ("3", "l bracket", "100001", 1),
        ("14", "deck over", "100005", 1),
    ]
    same = ("timestamp", "customer_id", "click", "add_to_cart", "purchase")
    assert {tuple(row[name] for name in same) for row in shown} == {
        (datetime(2016, 1, 1, tzinfo=UTC), None, None, None, None)
    }
    assert rows_of(tmp_path / "log", "truth/impressions") == [
        {"search_id": row["search_id"], "product_id": row["product_id"], "grade": grade}
        for row, grade in zip(shown, (3.0, 1.33, 2.5, 1.0), strict=True)
    ]
    log = SearchLog.open(tmp_path / "log")
    assert pq.read_schema(log.files("truth/impressions")[0]).field("grade").type == "double"
    assert "human judgments" in log.manifest.info["notes"]["grade"]
    assert log.manifest.info["left_out"] == {
        "judgments without an id, a product, a query and a grade from 1 to 3": 3,
        "judgments that repeat an earlier query and product": 1,
        "products without a title": 1,
    }
    assert {violation.severity for violation in validate(tmp_path / "log")} == {"warning"}
    assert import_homedepot(tmp_path, tmp_path / "log") is False


def test_ids_that_a_table_of_floats_wrote_are_whole_numbers_in_all_files(tmp_path: Path) -> None:
    write_train(tmp_path, HEADER + '"2.0","7","Lamp","lamp","3"\n"3.0","8.0","Desk","lamp","1"\n')
    (tmp_path / "product_descriptions.csv").write_text("product_uid,product_description\n7.0,Bright\n8,Flat\n")
    (tmp_path / "attributes.csv").write_text(
        "product_uid,name,value\n7.0,Color Family,Red\n8.0,Color Family,Blue\n,,\n"
    )
    import_homedepot(tmp_path, tmp_path / "log")
    shown = rows_of(tmp_path / "log", "impressions")
    assert [(row["search_id"], row["product_id"]) for row in shown] == [("2", "7"), ("2", "8")]
    products = [(row["description"], row["color"]) for row in rows_of(tmp_path / "log", "products")]
    assert products == [("Bright", "Red"), ("Flat", "Blue")]
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    assert notes["product_id, whole numbers written as floats"] == "4 (412.0 is read as 412)"


def test_products_get_the_columns_of_the_other_files(tmp_path: Path) -> None:
    write_train(tmp_path)
    (tmp_path / "product_descriptions.csv.gz").write_bytes(gzip.compress(DESCRIPTIONS.encode()))
    (tmp_path / "attributes.csv").write_text(ATTRIBUTES, encoding="utf-8")
    import_homedepot(tmp_path, tmp_path / "log")
    assert rows_of(tmp_path / "log", "products") == [
        {"product_id": "100001", "title": 'Café "12 in." bracket', "description": "Strong – in UTF-8",
         "brand": "Simpson", "color": None},
        {"product_id": "100002", "title": "\x89, and two\nlines", "description": None, "brand": None, "color": "Red"},
        {"product_id": "100005", "title": None, "description": None, "brand": None, "color": None},
    ]  # fmt: skip
    features = SearchLog.open(tmp_path / "log").schema.features
    assert [feature.name for feature in features] == ["description", "brand", "color"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (HEADER.replace("relevance", "grade").encode() + b"1,2,3,4,5\n", "must have the columns relevance"),
        (HEADER.encode(), "only a line of column names"),
        ((HEADER + ROWS).encode("utf-16"), "must have the columns id"),
        ((HEADER + '2,"1","a","b"\n').encode(), "line 2 has 4 cells, and the header 5"),
        (HEADER.encode() + b'2,"1","a","b","7"\n', "at least one search, but no search is left"),
    ],
)
def test_a_broken_file_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        import_homedepot(tmp_path, tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress((HEADER + ROWS).encode("latin-1"))[:-20])
    with pytest.raises(UserError, match="cannot be read: Compressed file ended"):
        import_homedepot(tmp_path / "train.csv.gz", tmp_path / "log")


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the Home Depot excerpt is not beside the checkout")
def test_the_excerpt_keeps_every_judgment(tmp_path: Path) -> None:
    import_homedepot(EXCERPT, tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    assert log.manifest.info["left_out"] == {}
    assert log.manifest.info["rows"]["impressions"] == 59_474
    shown = pq.read_table(log.path / "impressions", columns=["search_id", "product_id"])
    graded = pq.read_table(log.path / "truth/impressions")
    assert shown.equals(graded.select(["search_id", "product_id"]))
    assert len(set(shown["search_id"].to_pylist())) == 9_436
    assert Counter(graded["grade"].to_pylist())[3.0] == 15_411
