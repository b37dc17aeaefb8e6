"""Clicks become searches with sampled products, in an order that does not tell the label."""

import gzip
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.bestbuy import import_bestbuy
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.validate import validate

EXCERPT = Path(__file__).resolve().parents[2] / "../shared/data/bestbuy/train.csv.gz"

HEADER = "user,sku,category,query,click_time,query_time\n"
ROWS = (
    "u1,007,games,halo,2011-09-14 12:46:28.66,2011-09-14 12:45:07.064\n"
    "u1,8,games,halo,2011-09-14 12:47:00,2011-09-14 12:45:07.064\n"
    "u1,8,games,halo,2011-09-14 12:47:09,2011-09-14 12:45:07.064\n"
    'u1,9,films,"alien, ""director\'s cut""",2011-09-15 12:47:09,2011-09-15 12:45:07\n'
    "u2,10,games,zumba,2011-09-14 12:47:09,2011-09-14 12:46:00\n"
    "u2,11,games,fifa,2011-09-14 12:00:00,2011-09-14 12:46:00\n"
    "u2,11,games,,2011-09-14 12:47:00,2011-09-14 12:46:00\n"
    "u2,11,games,fifa,2011-09-14 12:47:00,yesterday\n"
    "u3,12,games,fifa,2011-09-16 12:47:00,2011-09-16 12:46:00\n"
)
NAMES = "007\tJames Bond – the game\n8\tHalo\n8\tHalo again\n9\t \n"


def write_train(folder: Path) -> Path:
    path = folder / "train.csv"
    path.write_text(HEADER + ROWS, encoding="utf-8")
    (folder / "sku_name.tsv").write_text(NAMES, encoding="utf-8")
    return path


def rows_of(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


def pages_of(log: Path) -> dict[str, list[dict[str, Any]]]:
    pages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(log, "impressions"):
        pages[row["query"]].append(row)
    return pages


def test_clicks_of_one_user_query_and_time_become_one_search(tmp_path: Path) -> None:
    assert import_bestbuy(write_train(tmp_path), tmp_path / "log")
    pages = pages_of(tmp_path / "log")
    assert {query: {row["product_id"]: row["click"] for row in rows} for query, rows in pages.items()} == {
        "halo": {"007": 1, "8": 1, "10": 0, "12": 0},
        'alien, "director\'s cut"': {"9": 1},
        "zumba": {"10": 1, "007": 0, "8": 0, "12": 0},
        "fifa": {"12": 1, "007": 0, "8": 0, "10": 0},
    }
    halo = pages["halo"]
    assert [row["position"] for row in halo] == [1, 2, 3, 4]
    same = ("timestamp", "customer_id", "add_to_cart", "purchase")
    assert {tuple(row[name] for name in same) for row in halo} == {
        (datetime(2011, 9, 14, 12, 45, 7, 64_000, UTC), "u1", None, None)
    }
    assert rows_of(tmp_path / "log", "products")[:3] == [
        {"product_id": "007", "title": "James Bond – the game", "category": "games"},
        {"product_id": "10", "title": None, "category": "games"},
        {"product_id": "12", "title": None, "category": "games"},
    ]
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert info["left_out"] == {
        "clicks without a user, a product, a category, a query and a readable query_time": 2,
        "clicks whose click_time is missing or before the query": 1,
        "clicks that repeat a product of their search": 1,
        "products without a title in sku_name.tsv": 3,
    }
    assert "sampled" in info["notes"]["impressions"]
    assert "without meaning" in info["notes"]["position"]
    assert {violation.severity for violation in validate(tmp_path / "log")} <= {"warning"}
    assert import_bestbuy(tmp_path / "train.csv", tmp_path / "log") is False


def test_no_query_becomes_a_title(tmp_path: Path) -> None:
    write_train(tmp_path)
    (tmp_path / "sku_name.tsv").unlink()
    import_bestbuy(tmp_path / "train.csv", tmp_path / "log")
    assert {row["title"] for row in rows_of(tmp_path / "log", "products")} == {None}


def test_the_sample_is_the_same_for_other_searches_beside_it(tmp_path: Path) -> None:
    path = write_train(tmp_path)
    import_bestbuy(path, tmp_path / "all", n_negatives=1)
    rows = (HEADER + ROWS).splitlines(keepends=True)
    path.write_text("".join(row for row in rows if "alien" not in row), encoding="utf-8")
    import_bestbuy(path, tmp_path / "fewer", n_negatives=1)
    first, second = pages_of(tmp_path / "all"), pages_of(tmp_path / "fewer")
    assert [len(first[query]) for query in ("halo", "zumba", "fifa")] == [3, 2, 2]
    assert {query: first[query] for query in second} == dict(second)


@pytest.mark.parametrize("other", ["9", "A9"])
def test_products_that_a_table_of_floats_wrote_are_whole_where_all_are_numbers(tmp_path: Path, other: str) -> None:
    when = "2011-09-14 12:47:00,2011-09-14 12:46:00"
    rows = "".join(f"u{n},{sku},games,halo,{when}\n" for n, sku in enumerate(("8.0", "8", other)))
    (tmp_path / "train.csv").write_text(HEADER + rows)
    (tmp_path / "sku_name.tsv").write_text("8.0\tHalo\n8\tHalo again\n")
    import_bestbuy(tmp_path / "train.csv", tmp_path / "log")
    titles = {row["product_id"]: row["title"] for row in rows_of(tmp_path / "log", "products")}
    notes = SearchLog.open(tmp_path / "log").manifest.info["notes"]
    if other == "9":
        assert titles == {"8": "Halo", "9": None}
        assert notes["product_id, whole numbers written as floats"] == "2 (412.0 is read as 412)"
    else:
        assert titles == {"8": "Halo again", "8.0": "Halo", "A9": None}
        assert notes["product_id, ids that end in .0"].startswith("2, kept as they are")


@pytest.mark.parametrize(("n_lost", "is_warned"), [(1, False), (2, True)])
def test_a_loss_of_more_than_a_tenth_is_a_warning(tmp_path: Path, n_lost: int, is_warned: bool) -> None:
    times = ["2011-09-14 12:47:00"] * 9 + ["2011-09-14 11:00:00"] * n_lost
    rows = "".join(f"u{n},{n % 2},games,halo,{time},2011-09-14 12:46:00\n" for n, time in enumerate(times))
    (tmp_path / "train.csv").write_text(HEADER + rows)
    import_bestbuy(tmp_path / "train.csv", tmp_path / "log")
    expected = (
        "should hold nearly all click labels of the source, but 2 of 11 (18%) are lost, most of them as: clicks whose "
        "click_time is missing or before the query (2)"
    )
    warnings = SearchLog.open(tmp_path / "log").manifest.info["warnings"]
    assert [each["must"] for each in warnings if "nearly all" in each["must"]] == [expected] * is_warned


BROKEN = {
    "missing column": ((HEADER + ROWS).replace("query_time\n", "time\n").encode(), "must have the columns query_time"),
    "another encoding": ((HEADER + ROWS).replace("halo", "hälo").encode("latin-1"), "must be text in UTF-8"),
    "short line": (
        (HEADER + "u1,7,games\n").encode(),
        "must have as many cells in each line as its header, which has 6, but line 2 has 3 cells",
    ),
    "no rows": (HEADER.encode(), "at least one search"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused(what: str, tmp_path: Path) -> None:
    content, expected = BROKEN[what]
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        import_bestbuy(tmp_path / "train.csv", tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("lost_bytes", [4, 20, 200])
def test_a_truncated_file_is_refused(lost_bytes: int, tmp_path: Path) -> None:
    content = HEADER + "".join(f"u{n},{n},games,halo,2011-09-14 12:46:28,2011-09-14 12:45:07\n" for n in range(500))
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(content.encode())[:-lost_bytes])
    with pytest.raises(UserError, match="cannot be read"):
        import_bestbuy(tmp_path / "train.csv.gz", tmp_path / "log")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(b"8\tHalo\n9 Alien\n", "line 2 does not"), (b"8\tH\xe4lo\n", "must be text in UTF-8")],
)
def test_broken_names_are_refused(names: bytes, expected: str, tmp_path: Path) -> None:
    path = write_train(tmp_path)
    (tmp_path / "sku_name.tsv").write_bytes(names)
    with pytest.raises(UserError, match=expected):
        import_bestbuy(path, tmp_path / "log")


@pytest.mark.skipif(not EXCERPT.is_file(), reason="the Best Buy excerpt is not beside the checkout")
def test_positions_of_the_excerpt_do_not_reveal_the_click(tmp_path: Path) -> None:
    import_bestbuy(EXCERPT, tmp_path / "log")
    info = SearchLog.open(tmp_path / "log").manifest.info
    assert info["left_out"] == {"products without a title in sku_name.tsv": 11}
    assert info["rows"] == {"impressions": 33_892 + 9 * 32_249, "products": 393, "customers": 30_387}
    shown = pq.read_table(tmp_path / "log/impressions", columns=["position", "click"]).to_pydict()
    clicked = Counter(p for p, click in zip(shown["position"], shown["click"], strict=True) if click)
    # 33,892 clicks over ten places: 3,389 each, with a standard deviation of 55.
    assert all(3_100 < clicked[position] < 3_700 for position in range(1, 11))
