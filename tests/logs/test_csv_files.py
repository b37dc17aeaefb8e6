import codecs
from pathlib import Path

import pytest

from shelfrank.logs import csv_files
from shelfrank.logs.csv_files import inspect_csv

HEADER = "id,name"


def write(folder: Path, *lines: str, end: str, mark: bytes = b"") -> Path:
    file = folder / "rows.csv"
    file.write_bytes(mark + "".join(line + end for line in lines).encode())
    return file


@pytest.mark.parametrize(("end", "name"), [("\n", "LF"), ("\r\n", "CRLF"), ("\r", "CR")])
@pytest.mark.parametrize("n_bytes", [7, 8, 64, 1 << 20])
def test_line_ends_and_headers_are_found_wherever_a_chunk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, name: str, n_bytes: int
) -> None:
    monkeypatch.setattr(csv_files, "_BYTES_AT_ONCE", n_bytes)
    file = write(tmp_path, HEADER, "1,a", "2,bb", HEADER, "3,c c", HEADER, end=end)
    writing = inspect_csv(file)
    assert (writing.line_ends, writing.n_headers) == ((name,), 3)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_chunk_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(csv_files, "_BYTES_AT_ONCE", 100)
    longest: list[int] = []
    split = csv_files._lines
    monkeypatch.setattr(csv_files, "_lines", lambda text, most=-1: (longest.append(len(text)), split(text, most))[1])
    assert inspect_csv(write(tmp_path, *[HEADER] * 200, end=end)).n_headers == 200
    assert max(longest) < 200


def test_blank_lines_and_a_mark_before_the_header_change_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "", HEADER, "1,a", HEADER, end="\n", mark=codecs.BOM_UTF8)
    assert inspect_csv(file).n_headers == 2
