"""The RecSys Challenge 2019 file becomes a log whose every row, time and count is known beforehand."""

import csv
import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.trivago import COLUMNS, ITEM_ACTIONS, import_trivago
from shelfrank.logs.validate import validate

EXCERPT = Path(__file__).resolve().parents[2] / "../shared/data/trivago/train.csv.gz"

SECOND = 1541599523
CLICK = "clickout item"
IMAGE = "interaction item image"

ROWS: list[dict[str, Any]] = [
    # Three actions in one second, then the page that the session clicked on.
    {"action_type": IMAGE, "reference": "11"},
    {"action_type": "filter selection", "reference": "4 Star"},
    {"action_type": "interaction item deals", "reference": "12"},
    {
        "action_type": CLICK,
        "reference": "13",
        "current_filters": "4 Star|Sort by Price|Pool",
        "impressions": "11|13|12|13",
        "prices": "70|-5|x|80",
        "timestamp": SECOND + 1,
    },
    {"action_type": IMAGE, "reference": "no number", "timestamp": SECOND + 2},
    {"action_type": CLICK, "reference": "99", "impressions": "11|12", "prices": "1|2", "timestamp": SECOND + 3},
    {"action_type": CLICK, "reference": "14", "timestamp": SECOND + 4},
    {"action_type": CLICK, "impressions": "11|12", "prices": "1|2", "timestamp": SECOND + 5},
    {"action_type": CLICK, "reference": "x", "impressions": "11|12", "prices": "1|2", "timestamp": SECOND + 6},
    {"action_type": "dance", "reference": "11", "timestamp": SECOND + 7},
    {"action_type": IMAGE, "reference": "11", "timestamp": "soon"},
    # Another session of another user, with a list whose prices do not match it, and the same page once more.
    {"user_id": "u2", "session_id": "b", "step": 1, "action_type": CLICK, "reference": "12", "city": "Köln, Germany",
     "impressions": "12||15", "prices": "7|8", "device": "desktop", "platform": "DE"},
    {"user_id": "u2", "session_id": "b", "step": 1, "action_type": CLICK, "reference": "15", "impressions": "12|15",
     "prices": "7|8"},
]  # fmt: skip


def as_csv(rows: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    usual = {"user_id": "u1", "session_id": "a", "timestamp": SECOND, "platform": "FR", "city": "Nice, France",
             "device": "mobile"}  # fmt: skip
    for step, row in enumerate(rows, start=1):
        writer.writerow(usual | {"step": step} | row)
    return text.getvalue()


def table(log: Path, name: str) -> list[dict[str, Any]]:
    return [row for file in SearchLog.open(log).files(name) for row in pq.read_table(file).to_pylist()]


def at(second: int, step: int) -> datetime:
    return datetime.fromtimestamp(second, UTC).replace(microsecond=step)


@pytest.fixture(params=["train.csv", "train.csv.gz"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    content = as_csv(ROWS).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_clickout_with_its_list_becomes_a_search(source: Path, tmp_path: Path) -> None:
    assert import_trivago(source, tmp_path / "log")
    shown = table(tmp_path / "log", "impressions")
    page = {
        "search_id": "a-4",
        "timestamp": at(SECOND + 1, 4),
        "customer_id": "u1",
        "session_id": "a",
        "query": "nice, france, 4 star, sort by price, pool",
        "add_to_cart": None,
        "purchase": None,
        "city": "Nice, France",
        "sort_order": "Sort by Price",
        "n_filters": 2,
        "device": "mobile",
        "platform": "FR",
        "step": 4,
    }
    other = page | {
        "search_id": "b-1",
        "timestamp": at(SECOND, 1),
        "customer_id": "u2",
        "session_id": "b",
        "query": "köln, germany",
        "city": "Köln, Germany",
        "sort_order": None,
        "n_filters": 0,
        "device": "desktop",
        "platform": "DE",
        "step": 1,
    }
    assert shown == [
        page | {"product_id": "11", "position": 1, "click": 0, "price": 70.0},
        page | {"product_id": "13", "position": 2, "click": 1, "price": None},
        page | {"product_id": "12", "position": 3, "click": 0, "price": None},
        other | {"product_id": "12", "position": 1, "click": 1, "price": None},
        other | {"product_id": "15", "position": 3, "click": 0, "price": None},
    ]


def test_actions_on_items_become_events_in_the_order_of_their_steps(source: Path, tmp_path: Path) -> None:
    import_trivago(source, tmp_path / "log")
    assert [
        (row["session_id"], row["timestamp"], row["product_id"], row["action"])
        for row in table(tmp_path / "log", "events")
    ] == [
        ("a", at(SECOND, 1), "11", IMAGE),
        ("a", at(SECOND, 3), "12", "interaction item deals"),
        ("a", at(SECOND + 3, 6), "99", CLICK),
        ("a", at(SECOND + 4, 7), "14", CLICK),
        ("b", at(SECOND, 1), "15", CLICK),
    ]


def test_what_is_left_out_is_counted_by_reason(source: Path, tmp_path: Path) -> None:
    import_trivago(source, tmp_path / "log")
    assert SearchLog.open(tmp_path / "log").manifest.info["left_out"] == {
        "actions without an item": 2,
        "clickouts of an item outside the shown list (kept as events)": 1,
        "clickouts without a results list (kept as events)": 1,
        "clickouts without a reference (held out by the challenge)": 1,
        "clickouts whose reference is not an item": 1,
        "actions of a type that the challenge does not describe": 1,
        "rows without a readable user, session, time and step": 1,
        "clickouts that repeat an earlier session and step (kept as events)": 1,
        "shown items that repeat an item of their list": 1,
        "shown items without an id": 1,
        "prices that are missing, negative or not a number": 4,
    }


def test_items_that_a_table_of_floats_wrote_are_whole_numbers_in_both_files(tmp_path: Path) -> None:
    page = {"action_type": CLICK, "reference": "12.0", "impressions": "11.0|12.0|13", "prices": "1|2|3"}
    (tmp_path / "train.csv").write_text(as_csv([{"action_type": IMAGE, "reference": "13.0"}, page]))
    (tmp_path / "item_metadata.csv").write_text("item_id,properties\n11.0,Pool\n12,Spa\n13.0,Bar\n")
    import_trivago(tmp_path / "train.csv", tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    shown = table(log.path, "impressions")
    assert [(row["product_id"], row["click"]) for row in shown] == [("11", 0), ("12", 1), ("13", 0)]
    assert [row["product_id"] for row in table(log.path, "events")] == ["13"]
    assert [row["properties"] for row in table(log.path, "products")] == ["Pool", "Spa", "Bar"]
    note = log.manifest.info["notes"]["rows whose item ids are written as floats"]
    assert note == "2 (412.0 is read as 412)"
    assert log.schema.spelling is not None
    assert log.schema.spelling.whole_number_ids == ("product_id",)


@pytest.mark.parametrize(("n_lost", "is_warned"), [(1, False), (2, True)])
def test_a_loss_of_more_than_a_tenth_is_a_warning(tmp_path: Path, n_lost: int, is_warned: bool) -> None:
    page = {"action_type": CLICK, "reference": "11", "impressions": "11|12", "prices": "1|2"}
    rows = [page] * 9 + [{**page, "reference": "99"}] * n_lost
    (tmp_path / "train.csv").write_text(as_csv(rows))
    import_trivago(tmp_path / "train.csv", tmp_path / "log")
    log = SearchLog.open(tmp_path / "log")
    expected = (
        "should hold nearly all click labels of the source, but 2 of 11 (18%) are lost, most of them as: clickouts of "
        "an item outside the shown list (kept as events) (2)"
    )
    lost = [each["must"] for each in log.manifest.info["warnings"] if "nearly all" in each["must"]]
    assert lost == [expected] * is_warned


def test_products_and_customers_are_those_that_occur(source: Path, tmp_path: Path) -> None:
    import_trivago(source, tmp_path / "log")
    assert table(tmp_path / "log", "products") == [
        {"product_id": item, "title": f"item {item}"} for item in ("11", "12", "13", "14", "15", "99")
    ]
    assert table(tmp_path / "log", "customers") == [{"customer_id": "u1"}, {"customer_id": "u2"}]
    assert [str(violation) for violation in validate(tmp_path / "log")] == []


def test_item_metadata_beside_the_file_gives_properties(source: Path, tmp_path: Path) -> None:
    assert import_trivago(source, tmp_path / "log")
    (tmp_path / "item_metadata.csv").write_text("item_id,properties\n11,Pool|Sauna\n12,\n77,Bar\n")
    assert import_trivago(source, tmp_path / "log")
    properties = {row["product_id"]: row["properties"] for row in table(tmp_path / "log", "products")}
    assert properties == {"11": "Pool, Sauna", "12": None, "13": None, "14": None, "15": None, "99": None}
    declared = {feature.name: feature for feature in SearchLog.open(tmp_path / "log").schema.features}
    assert (declared["properties"].side, declared["properties"].kind) == ("product", "text")
    assert declared["properties"].values_of(properties["11"]) == ("Pool", "Sauna")


def test_a_finished_import_of_the_same_bytes_is_not_repeated(source: Path, tmp_path: Path) -> None:
    assert import_trivago(source, tmp_path / "log")
    assert not import_trivago(source, tmp_path / "log")
    changed = as_csv([*ROWS, {"action_type": IMAGE, "reference": "11", "timestamp": SECOND + 99}]).encode()
    source.write_bytes(gzip.compress(changed) if source.suffix == ".gz" else changed)
    assert import_trivago(source, tmp_path / "log")
    assert len(table(tmp_path / "log", "events")) == 6


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "train.csv must be a file, but there is no such file"),
    "empty": (lambda path: path.write_text(""), "train.csv must hold rows, but the file is empty"),
    "header only": (lambda path: path.write_text(as_csv([])), "must hold rows, but it has only a line of column names"),
    "other columns": (
        lambda path: path.write_text(as_csv(ROWS, tuple(name for name in COLUMNS if name not in ("step", "prices")))),
        "must have the columns step, prices, but it has user_id, session_id, timestamp, action_type",
    ),
    "ragged": (
        lambda path: path.write_text(as_csv(ROWS) + "u1,a,1\n"),
        "must have as many cells in each line as its header, which has 12, but line 15 has 3 cells",
    ),
    "latin-1": (
        lambda path: path.write_bytes(as_csv(ROWS).encode("latin-1")),
        "must be text in UTF-8, but its line 13 is not",
    ),
    "no search": (
        lambda path: path.write_text(as_csv(ROWS[:3])),
        r"must hold at least one search, but no search is left \(left out: 1 actions without an item\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    spoil, sentence = REFUSED[name]
    spoil(tmp_path / "train.csv")
    with pytest.raises(UserError, match=sentence):
        import_trivago(tmp_path / "train.csv", tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(as_csv(ROWS * 200).encode())[:-40])
    with pytest.raises(UserError, match="it cannot be read"):
        import_trivago(path, tmp_path / "log")


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not EXCERPT.is_file():
        pytest.skip("the excerpt of the RecSys Challenge 2019 is not beside the checkout (shared/data/trivago)")
    log = tmp_path_factory.mktemp("trivago") / "log"
    import_trivago(EXCERPT, log)
    return log


def test_the_excerpt_agrees_with_a_plain_loop_over_the_csv(excerpt: Path) -> None:
    with gzip.open(EXCERPT, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    clickouts = [row for row in rows if row["action_type"] == CLICK]
    assert (len(rows), len(clickouts)) == (78_842, 10_926)
    assert sum(len(row["impressions"].split("|")) for row in clickouts) == 251_273
    searches = [row for row in clickouts if row["reference"] in row["impressions"].split("|")]
    actions = [row for row in rows if row["action_type"] in ITEM_ACTIONS and row["reference"].isdigit()]
    info = SearchLog.open(excerpt).manifest.info
    assert len(searches) == 10_925
    assert info["rows"]["impressions"] == sum(len(row["impressions"].split("|")) for row in searches) == 251_248
    assert info["rows"]["events"] == len(actions) + 1
    assert info["left_out"] == {
        "actions without an item": len(rows) - len(clickouts) - len(actions),
        "clickouts of an item outside the shown list (kept as events)": 1,
    }
    expected = [
        (f"{row['session_id']}-{row['step']}", item, place, float(price), int(item == row["reference"]))
        for row in searches
        for place, (item, price) in enumerate(
            zip(row["impressions"].split("|"), row["prices"].split("|"), strict=True), start=1
        )
    ]
    names = ("search_id", "product_id", "position", "price", "click")
    (file,) = SearchLog.open(excerpt).files("impressions")
    shown = pq.read_table(file, columns=list(names))
    assert list(zip(*(shown[name].to_pylist() for name in names), strict=True)) == expected
    seen = {item for row in searches for item in row["impressions"].split("|")}
    kept = {row["reference"] for row in [*actions, *clickouts]}
    assert info["rows"]["products"] == len(seen | kept)


def test_in_the_excerpt_every_event_is_at_its_second_and_step(excerpt: Path) -> None:
    with gzip.open(EXCERPT, "rt", encoding="utf-8", newline="") as file:
        expected = [
            (row["session_id"], int(row["timestamp"]) * 1_000_000 + int(row["step"]))
            for row in csv.DictReader(file)
            if row["action_type"] in ITEM_ACTIONS and row["reference"].isdigit()
        ]
    (file,) = SearchLog.open(excerpt).files("events")
    events = pq.read_table(file, columns=["session_id", "timestamp", "action"])
    events = events.filter(pc.field("action") != CLICK)
    times = events["timestamp"].cast(pa.int64())
    assert list(zip(events["session_id"].to_pylist(), times.to_pylist(), strict=True)) == expected
