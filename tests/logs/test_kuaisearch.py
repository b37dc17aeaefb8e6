"""KuaiSearch's ranking rows become pages whose order does not tell the label."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.kuaisearch import import_kuaisearch
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.validate import validate

EXCERPT = Path(__file__).resolve().parents[2] / "../shared/data/kuaisearch"


def ranked(item: int, clicked: object = 0, **changes: object) -> dict[str, Any]:
    row = {
        "user_id": 1, "session_id": 5, "query": "舞服", "time_index": 100, "search_entrance": "mall",
        "target_item_id": item, "target_item_price": 59.5, "is_clicked": clicked, "is_purchased": 0,
        "user_fan_number": 9, "user_follow_number": 65, "recently_clicked_item_ids": [1, 2],
        "user_statistical_features": {"user_show_cnt_30d_hist": 4.0, "user_gmv_30d_hist": 1.5},
        "target_item_statistical_features": {"item_show_cnt_30d_hist": 952.0, "item_click_cnt_30d_hist": -1},
    }  # fmt: skip
    return row | changes


RANK = [
    *(ranked(item, clicked=1) for item in range(1, 7)),
    *(ranked(item) for item in range(7, 25)),
    ranked(3, clicked=0),
    ranked(50, time_index=7, user_id=2, is_purchased=1, clicked=1, target_item_price=None),
    ranked(51, clicked=2),
    ranked(52, time_index="soon"),
    ranked(53, query=None),
]
ITEMS = [
    {"item_id": 1, "item_title": "红裙", "brand_name": "UNKNOWN", "seller_name": "s", "category_level1_name": "女装",
     "category_level2_name": "裙", "category_level3_name": "UNKNOWN"},
    {"item_id": 1, "item_title": "again"},
    {"item_id": None, "item_title": "nothing"},
    {"item_id": 999, "item_title": "never shown"},
]  # fmt: skip
USERS = [{"user_id": 1, "gender": "F", "age_bucket": "31-40", "fre_country": "中国", "fre_province": "山东"}]


def import_kuaisearch_of(folder: Path, rank: list[Any], items: list[Any], users: list[Any]) -> Path:
    import_kuaisearch(write_set(folder / "set", rank, items, users), folder / "log")
    return folder / "log"


def write_set(folder: Path, rank: list[Any] = RANK, items: list[Any] = ITEMS, users: list[Any] = USERS) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("rank", rank), ("items", items), ("users", users)):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kuaisearch")
    assert import_kuaisearch(write_set(folder / "set"), folder / "log")
    return folder / "log"


def test_rows_of_a_search_become_a_page(log: Path) -> None:
    shown = rows_of(log, "impressions")
    first = shown[0]
    assert (first["customer_id"], first["product_id"], first["click"], first["purchase"]) == ("2", "50", 1, 1)
    assert first["timestamp"] == datetime(2025, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert (first["price"], first["add_to_cart"]) == (None, None)
    page = shown[1:]
    assert {row["timestamp"] for row in page} == {datetime(2025, 1, 1, 0, 1, 40, tzinfo=UTC)}
    assert [row["position"] for row in page] == list(range(1, 25))
    assert {row["product_id"] for row in page if row["click"]} == {"1", "2", "3", "4", "5", "6"}
    assert {(row["item_show_cnt_30d_hist"], row["item_click_cnt_30d_hist"], row["user_gmv_30d_hist"],
             row["user_fan_number"], row["price"], row["search_entrance"]) for row in page} == {
        (952.0, None, 1.5, 9.0, 59.5, "mall")
    }  # fmt: skip


def test_ids_that_a_table_of_floats_wrote_are_whole_numbers_in_all_files(tmp_path: Path) -> None:
    rank = [ranked(0, clicked=1, target_item_id="412.0", user_id="1.0"), ranked(413, session_id="5.0")]
    items = [{**ITEMS[0], "item_id": "412"}, {**ITEMS[0], "item_id": "413.0"}]
    log = import_kuaisearch_of(tmp_path, rank, items, [{**USERS[0], "user_id": "1.0"}])
    shown = rows_of(log, "impressions")
    assert {(row["product_id"], row["customer_id"], row["session_id"]) for row in shown} == {
        ("412", "1", "5"),
        ("413", "1", "5"),
    }
    assert len({row["search_id"] for row in shown}) == 1
    assert {row["product_id"]: row["title"] for row in rows_of(log, "products")} == {"412": "红裙", "413": "红裙"}
    assert [row["gender"] for row in rows_of(log, "customers")] == ["F"]
    notes = SearchLog.open(log).manifest.info["notes"]
    assert notes["product_id, whole numbers written as floats"] == "2 (412.0 is read as 412)"


def test_positions_do_not_follow_the_files_order_which_reveals_clicks(log: Path) -> None:
    clicked = [row["position"] for row in rows_of(log, "impressions")[1:] if row["click"]]
    assert clicked != [1, 2, 3, 4, 5, 6]
    assert max(clicked) > 12


def test_products_and_customers_are_described_where_they_join(log: Path) -> None:
    products = {row.pop("product_id"): row for row in rows_of(log, "products")}
    assert products["1"] == {
        "title": "红裙", "brand": None, "seller": "s", "category": "女装", "category_level2": "裙",
        "category_level3": None,
    }  # fmt: skip
    assert products["50"]["title"] is None
    assert "999" not in products
    assert [(row["customer_id"], row["gender"], row["city"]) for row in rows_of(log, "customers")] == [
        ("1", "F", None),
        ("2", None, None),
    ]


def test_left_out_rows_are_counted_and_synthetic_values_noted(log: Path) -> None:
    info = SearchLog.open(log).manifest.info
    left_out = dict(info["left_out"])
    assert left_out.pop("values of item_click_cnt_30d_hist that are missing, negative or not a number") == 25
    assert {reason: n for reason, n in left_out.items() if not reason.startswith("values")} == {
        "rows of rank without a user, session, query, time_index, product, and labels of 0 or 1": 3,
        "rows of rank that repeat an earlier search and product": 1,
        "rows of items that repeat an earlier id": 1,
        "rows of items without an id": 1,
        "rows of items that no search uses": 1,
        "products that items lacks": 24,
        "customers that users lacks": 1,
    }
    assert {"position", "timestamp", "events"} <= set(info["notes"])
    assert {violation.severity for violation in validate(log)} == {"warning"}


def spoil_line(folder: Path) -> None:
    text = (folder / "rank.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "rank.jsonl").write_text("\n".join([*text[:2], '{"user_id": ', *text[2:]]), encoding="utf-8")


def truncate(folder: Path) -> None:
    packed = gzip.compress((folder / "rank.jsonl").read_bytes())
    (folder / "rank.jsonl").unlink()
    (folder / "rank.jsonl.gz").write_bytes(packed[:-20])


def recode(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes((folder / "items.jsonl").read_text(encoding="utf-8").encode("gb18030"))


BROKEN = {
    "bad line": (spoil_line, r"rank.jsonl must hold one JSON object per line, but line 3 is not one"),
    "truncated": (truncate, r"rank.jsonl.gz must be complete, but it cannot be read after line"),
    "another encoding": (recode, r"items.jsonl must be text in UTF-8, but its line 1 is not"),
    "no file": (
        lambda folder: (folder / "users.jsonl").unlink(),
        r"must hold users.jsonl or .*items.jsonl, rank.jsonl",
    ),
    "missing keys": (
        lambda folder: (folder / "rank.jsonl").write_text('{"user_id": 1}\n'),
        "must have the columns session_id, query",
    ),
    "no object": (lambda folder: (folder / "users.jsonl").write_text("[1]\n"), "line 1 holds a list"),
    "blank": (lambda folder: (folder / "users.jsonl").write_text("\n\n"), "all its lines are empty"),
    "half a character": (
        lambda folder: (folder / "users.jsonl").write_text('{"user_id": 1, "gender": "\\ud800"}'),
        "there is half a character between lines 1 and 1",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_set_is_refused(what: str, tmp_path: Path) -> None:
    spoil, expected = BROKEN[what]
    folder = write_set(tmp_path / "set")
    spoil(folder)
    with pytest.raises(UserError, match=expected):
        import_kuaisearch(folder, tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(not EXCERPT.is_dir(), reason="the KuaiSearch excerpt is not beside the checkout")
def test_the_published_demo_imports_whole(tmp_path: Path) -> None:
    import_kuaisearch(EXCERPT, tmp_path / "log")
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert info["rows"] == {"impressions": 200, "products": 200, "customers": 2}
    assert info["left_out"] == {
        "products that items lacks": 200,
        "customers that users lacks": 2,
        "rows of items that no search uses": 200,
        "rows of users that no search uses": 200,
    }
    assert sum(row["click"] for row in rows_of(tmp_path / "log", "impressions")) == 24
