"""Units, zones, positions, marks and line ends are recognised, or refused with the advice."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from shelfrank.core.errors import UserError
from shelfrank.logs.custom import import_custom
from shelfrank.logs.search_log import SearchLog

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HEADER = ["page", "at", "words", "sku", "rank", "clicked", "name", "cost"]
ROLES = {"page": "search_id", "at": "timestamp", "words": "query", "sku": "product_id", "rank": "position",
         "clicked": "click", "name": "title", "cost": {"side": "product", "kind": "numerical"}}  # fmt: skip


def rows(**changed: list[str]) -> list[list[str]]:
    cells = {
        "page": ["1", "1", "2", "2"],
        "at": ["2024-05-01T12:00:00Z"] * 4,
        "words": ["a", "a", "b", "b"],
        "sku": ["x", "y", "x", "y"],
        "rank": ["1", "2", "1", "2"],
        "clicked": ["1", "0", "0", "1"],
        "name": ["X", "Y", "X", "Y"],
        "cost": ["1.5", "2.5", "1.5", "2.5"],
    } | changed
    return [list(row) for row in zip(*cells.values(), strict=True)]


def imported(
    folder: Path, content: str | bytes | list[list[str]], file: str = "wide.csv", **settings: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The impressions, the products and what the manifest says."""
    if isinstance(content, list):
        content = "\n".join(",".join(row) for row in [HEADER, *content]) + "\n"
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    mapping = {"name": "shop", "tables": {"impressions": file}, "columns": {"impressions": ROLES}} | settings
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    import_custom(folder / "mapping.yaml", folder / "log")
    log = SearchLog.open(folder / "log")
    shown, products = (
        [row for part in log.files(table) for row in pq.read_table(part).to_pylist()]
        for table in ("impressions", "products")
    )
    return shown, products, log.manifest.info


TIMES = {
    "zone by name": ("2024-05-01 14:00 Europe/Berlin", None),
    "zone in brackets": ("2024-05-01T14:00:00+02:00[Europe/Berlin]", None),
    "offset without a colon": ("2024-05-01T14:00:00+0200", None),
    "offset after a space": ("2024-05-01 14:00:00 +02:00", None),
    "no seconds": ("2024-05-01T12:00Z", None),
    "slashes": ("2024/05/01 12:00 UTC", None),
    "seconds": ("1714564800", "s"),
    "milliseconds": ("1714564800000", "ms"),
    "microseconds": ("1714564800000000", "us"),
    "nanoseconds": ("1714564800000000000", "ns"),
    "exponent": ("1.7145648e9", "s"),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_are_read_in_their_unit_and_zone(name: str, tmp_path: Path) -> None:
    text, unit = TIMES[name]
    shown, _, info = imported(tmp_path, rows(at=[text] * 4))
    assert {row["timestamp"] for row in shown} == {NOON}
    assert info["notes"].get("timestamps of wide.csv") == (
        unit and f"numbers of {unit} since 1970, as their size indicates"
    )
    assert "timestamps of wide.csv without a time zone, read as UTC" not in info["notes"]


REFUSED_TIMES = {
    "abbreviation": ("2024-05-01 14:00:00 CEST", None, "a zone must be an offset such as \\+02:00"),
    "ambiguous abbreviation": ("2024-05-01 14:00:00 EST", None, "a zone must be an offset such as \\+02:00"),
    "unknown region": ("2024-05-01 14:00 Europe/Berlino", None, "a name such as Europe/Berlin"),
    "day first": ("01/05/2024 12:00", None, "write the year first"),
    "milliseconds as seconds": ("1714564800000", "s", "declare `timestamp_unit: ms`"),
    "nanoseconds as microseconds": ("1714564800000000000", "us", "declare `timestamp_unit: ns`"),
    "text with a unit": ("2024-05-01T12:00:00Z", "ms", "remove `timestamp_unit`"),
    "before 1990": ("1970-01-01T00:00:00Z", None, "from 1990 on and before 2100"),
    "after 2100": ("9999-12-31T00:00:00Z", None, "from 1990 on and before 2100"),
    "a word": ("infinity", None, "times such as"),
    "beyond the calendar": ("1e300", "s", "numbers of s since 1970"),
}


@pytest.mark.parametrize("name", REFUSED_TIMES)
def test_invalid_times_are_refused_with_advice(name: str, tmp_path: Path) -> None:
    text, unit, sentence = REFUSED_TIMES[name]
    with pytest.raises(UserError, match=rf"at: must hold .*{sentence}"):
        imported(tmp_path, rows(at=[text] * 4), timestamp_unit=unit)


def test_a_unit_is_not_guessed_where_some_cells_are_of_another(tmp_path: Path) -> None:
    mixed = ["1714564800", "1714564800", "1714564800000", "1714564800000"]
    with pytest.raises(UserError, match=r"at: must hold times .*declare `timestamp_unit:"):
        imported(tmp_path, rows(at=mixed))


NUMBERS = {
    "thousands": (None, ["1,234.5", "2.5"], [1234.5, 2.5]),
    "millions": (None, ["1,234,567", "2"], [1_234_567.0, 2.0]),
    "spaces": (None, [" 3 ", "3.0"], [3.0, 3.0]),
    "decimal comma": (",", ["1.234,5", "2,5"], [1234.5, 2.5]),
    "thousands of a decimal comma": (",", ["1.234", "12"], [1234.0, 12.0]),
    "declared point": (".", ["1,234", "0.5"], [1234.0, 0.5]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_read_with_their_marks(name: str, tmp_path: Path) -> None:
    mark, (first, second), expected = NUMBERS[name]
    content = "\n".join(";".join(row) for row in [HEADER, *rows(cost=[first, second] * 2)])
    _, products, info = imported(tmp_path, content, decimal_mark=mark)
    assert [row["cost"] for row in products] == expected
    assert info["notes"]["separator of wide.csv"] == "a semicolon, detected in the line of column names"


@pytest.mark.parametrize("number", ["1,234", "2,5", "1.234,5", "0,125"])
def test_an_ambiguous_comma_is_refused(number: str, tmp_path: Path) -> None:
    content = "\n".join(";".join(row) for row in [HEADER, *rows(cost=[number] * 4)])
    with pytest.raises(UserError, match=r"cost: must hold numbers; .*comma.*declare `decimal_mark"):
        imported(tmp_path, content)


def test_positions_from_0_are_recognised_and_noted(tmp_path: Path) -> None:
    shown, _, info = imported(tmp_path, rows(rank=["0", "1.0", "0", "1"]))
    assert [row["position"] for row in shown] == [1, 2, 1, 2]
    assert info["notes"]["positions of wide.csv"] == "counted from 0, since every list begins there"


@pytest.mark.parametrize(
    ("ranks", "first", "sentence"),
    [
        (["0", "1", "0", "1"], 1, "every list begins at 0; declare `first_position: 0`"),
        (["1", "2", "1", "2"], 0, "every list begins at 1; remove `first_position`"),
        (["0", "1", "1", "2"], None, "1 of 2 lists begin at 0; declare `first_position: 0` if"),
        (["-1", "1", "1", "2"], None, "position: must be 1 or more"),
    ],
)
def test_positions_that_contradict_the_mapping_are_refused(
    ranks: list[str], first: int | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        imported(tmp_path, rows(rank=ranks), first_position=first)


PLAIN = "\n".join(",".join(row) for row in [HEADER, *rows()]) + "\n"
FORMATS: dict[str, bytes] = {
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "CR": PLAIN.replace("\n", "\r").encode(),
    "CRLF, then LF": PLAIN.replace("\n", "\r\n", 3).encode(),
    "LF, then CR": (PLAIN[:100].replace("\n", "\r") + PLAIN[100:]).encode(),
    "BOM": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, mixed": PLAIN.replace("\n", "\r\n", 2).encode("utf-16"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "empty columns at the end": "".join(f"{line},,\n" for line in PLAIN.splitlines()).encode(),
    "separator named": ("sep=;\n" + PLAIN.replace(",", ";")).encode(),
    "comma named": ("SEP=,\r\n" + PLAIN.replace("\n", "\r\n")).encode("utf-8-sig"),
    "tab named, UTF-16": ("sep=\t\r\n" + PLAIN.replace(",", "\t").replace("\n", "\r\n")).encode("utf-16"),
    "separator named, header again": (
        "sep=;\n" + PLAIN.replace(",", ";") + PLAIN.replace(",", ";").splitlines()[0] + "\n"
    ).encode(),
    "header again": (PLAIN + PLAIN.splitlines()[0] + "\n").encode(),
    "quotes": "".join('"' + line.replace(",", '","') + '"\n' for line in PLAIN.splitlines()).encode(),
}


@pytest.fixture(scope="module")
def of_plain_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The impressions and products of the plain file."""
    return imported(tmp_path_factory.mktemp("plain"), PLAIN)[:2]


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_every_format_are_read_alike(
    name: str, of_plain_file: tuple[list[dict[str, Any]], list[dict[str, Any]]], tmp_path: Path
) -> None:
    shown, products, info = imported(tmp_path, FORMATS[name])
    assert (shown, products) == of_plain_file
    if name not in ("CRLF", "CR", "BOM", "quotes", "empty columns at the end"):
        assert any("wide.csv" in note for note in info["notes"])


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "Latin-1": (PLAIN.replace("X", "K\xf6ln").encode("latin-1"), "line 2 is not; it is probably in Latin-1"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "holds a NUL byte; the file is damaged or in UTF-16"),
    "no header": (PLAIN.split("\n", 1)[1].encode(), "its first line looks like a row|the line of names is missing"),
    "a name twice": (PLAIN.replace("name", "page", 1).encode(), "must name each column once, but page is repeated"),
    "names alike": (
        PLAIN.replace("name", "name,COST", 1).encode(),
        "another whose name differs from 'cost' by case only",
    ),
    "backslashes": (PLAIN.replace("X", '"a \\"b\\", c"').encode(), "must close each quote at the end of its cell"),
    "another separator named": (("sep=^\n" + PLAIN).encode(), r"its first line says sep=\^; write it again"),
    "too few cells": ((PLAIN + "3,2024-05-01T12:00:00Z\n").encode(), "as many cells in each line as its header"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_gives_one_sentence(name: str, tmp_path: Path) -> None:
    content, sentence = UNREADABLE[name]
    with pytest.raises(UserError, match=sentence) as refused:
        imported(tmp_path, content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_declared_separator_is_taken(separator: str, tmp_path: Path) -> None:
    content = PLAIN.replace(",", separator).replace("words", "words", 1)
    assert len(imported(tmp_path, content, separator=separator)[0]) == 4


def test_unused_columns_may_differ_by_case_only(tmp_path: Path) -> None:
    content = "".join(f"{line},{more}\n" for line, more in zip(PLAIN.splitlines(), ["Z,z", *["1,2"] * 4], strict=True))
    assert len(imported(tmp_path, content)[0]) == 4


def test_a_log_without_a_positive_label_gives_a_warning(tmp_path: Path) -> None:
    info = imported(tmp_path, rows(clicked=["0"] * 4))[2]
    assert info["warnings"][0]["must"] == (
        "should have a positive label, but click is never 1, so no ranker can learn from it"
    )
