"""Errors of the engine about a raw file become sentences that its owner can act on."""

from pathlib import Path

import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.engine import open_engine, rows_of
from shelfrank.logs.raw_files import read_raw, readable

HEAD = "a,b,c\n1,2,3\n"
LINES: dict[str, tuple[str, str]] = {
    "too few": (HEAD + "4,5\n6,7,8\n", "has 3, but line 3 has 2 cells: '4,5'; remove the line if"),
    "trailer": (
        HEAD + "(60 rows)\n",
        r"has 3, but line 3 has 1 cell: '\(60 rows\)'; remove the line if it is not",
    ),
    "too many": (HEAD + "4,Red, blue,6\n", "has 3, but line 3 has 4 cells: '4,Red, blue,6'; put cells that hold the"),
    "stray quote": (
        HEAD + '4,"Best" shoe,6\n',
        "line 3 does not: '4,\"Best\" shoe,6'; put a cell that contains",
    ),
    "never closed": (HEAD + '4,"Best shoe,6\n7,8,9\n', "must close each quote .*line 3 does not: '4,\"Best shoe,6'"),
    "long": (HEAD + "4," + "x" * 3_000_000 + ",6\n", "must have lines of at most 2 MB, but line 3 is longer"),
    "quoted words": (HEAD + "quote,Possible fix,6,7\n", "line 3 has 4 cells: 'quote,Possible fix,6,7'"),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_line_that_cannot_be_read_is_shown_with_what_to_do(name: str, separator: str, tmp_path: Path) -> None:
    content, sentence = LINES[name]
    file = tmp_path / ("file.csv" if separator == "," else "file.tsv")
    file.write_text(content.replace(",", separator))
    expected = pytest.raises(UserError, match=sentence.replace(",", r"(?:,|\\t)"))
    with expected as refused, open_engine() as engine, readable(file):
        rows_of(engine, read_raw(engine, file))
    message = str(refused.value)
    assert len(message) < 450
    assert not any(
        word in message for word in ("strict_mode", "null_padding", "ignore_errors", "max_line_size", "Auto-")
    )
    assert "\n" not in message
