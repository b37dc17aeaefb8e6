"""Ids are found in their table, known ones or not, and only known ones are kept."""

from pathlib import Path

import pytest

from shelfrank.data.prepared import id_hashes
from shelfrank.features import ids
from shelfrank.features.ids import Ids, save_ids

TABLE = [f"p{i}" for i in range(50)]


@pytest.fixture
def table(tmp_path: Path) -> Ids:
    save_ids(tmp_path / "ids", TABLE)
    return Ids(tmp_path / "ids")


@pytest.mark.parametrize("wanted", [["p3", "p3", "p49"], ["x", "p7", "", "p0", "x"], ["y"], []], ids=str)
def test_a_page_of_ids_is_found(table: Ids, wanted: list[str]) -> None:
    for _ in range(2):
        rows, hashes = table.find(wanted)
        assert rows.tolist() == [TABLE.index(each) if each in TABLE else -1 for each in wanted]
        assert hashes.tolist() == id_hashes(wanted).tolist()


def test_an_empty_table_knows_nothing(tmp_path: Path) -> None:
    save_ids(tmp_path / "ids", [])
    rows, hashes = Ids(tmp_path / "ids").find(["p1", "p2"])
    assert rows.tolist() == [-1, -1]
    assert hashes.tolist() == id_hashes(["p1", "p2"]).tolist()


def test_ids_that_are_not_there_take_no_memory(table: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        assert table.row(f"a new query {number}") == -1
    assert not table._places
    monkeypatch.setattr(ids, "REMEMBERED", 10)
    for each in TABLE:
        assert table.row(each) == TABLE.index(each)
        assert len(table._places) <= 10
