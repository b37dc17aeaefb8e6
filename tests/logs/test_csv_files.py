"""Line ends and headers are detected across chunks, and other file formats are named."""

import bz2
import codecs
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs import csv_files
from shelfrank.logs.csv_files import inspect_csv, require_text_table
from shelfrank.logs.raw_files import column_names

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
    csv_format = inspect_csv(file)
    assert (csv_format.line_ends, csv_format.n_headers) == ((name,), 3)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_chunk_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(csv_files, "_BYTES_AT_ONCE", 100)
    longest: list[int] = []
    split = csv_files._lines
    monkeypatch.setattr(csv_files, "_lines", lambda text, n=-1: (longest.append(len(text)), split(text, n))[1])
    assert inspect_csv(write(tmp_path, *[HEADER] * 200, end=end)).n_headers == 200
    assert max(longest) < 200


def test_blank_lines_and_a_mark_before_the_header_change_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "", HEADER, "1,a", HEADER, end="\n", mark=codecs.BOM_UTF8)
    assert inspect_csv(file).n_headers == 2


PLAIN = b"sku,name\n1,shoe\n"


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("products.csv", PLAIN)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("products.csv")
        entry.size = len(PLAIN)
        archive.addfile(entry, io.BytesIO(PLAIN))
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"sku": ["1"]}), out)
    return out.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "zip": (_zip(), "holds a ZIP archive, as an Excel workbook is one; unpack it, or save the workbook as CSV"),
    "gzip": (gzip.compress(PLAIN), "holds a gzip archive; give it a name that ends in .csv.gz"),
    "Parquet": (_parquet(), "holds a Parquet file; give it a name that ends in .parquet"),
    "bzip2": (bz2.compress(PLAIN), "holds a bzip2 archive"),
    "xz": (lzma.compress(PLAIN), "holds an xz archive"),
    "tar": (_tar(), "holds a tar archive"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "holds an Excel workbook of the old kind"),
    "JSON lines": (b'{"sku": 1, "name": "shoe"}\n', "holds JSON; write its records as CSV or Parquet"),
    "JSON": (b'\xef\xbb\xbf[\n  {"sku": 1}\n]\n', "holds JSON"),
    "web page": (b"\n<!DOCTYPE html>\n<html>", "holds an HTML or XML page"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named(name: str, tmp_path: Path) -> None:
    content, sentence = OTHERS[name]
    (tmp_path / "products.csv").write_bytes(content)
    with pytest.raises(UserError, match=sentence) as refused:
        column_names(tmp_path / "products.csv")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["zip", "tar", "JSON lines"])
def test_what_an_archive_holds_is_named(name: str, tmp_path: Path) -> None:
    content, sentence = OTHERS[name]
    (tmp_path / "products.csv.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=sentence):
        column_names(tmp_path / "products.csv.gz")


@pytest.mark.parametrize(
    "content",
    [PLAIN, b"PAR1,ORC\n1,2\n", b"ORC,x\n1,2\n", b"[sku],[name]\n1,2\n", b"<sku>,name\n1,2\n", b"", b"{sku},b\n1,2\n"],
)
def test_text_is_no_other_format(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_bytes(content)
    require_text_table(tmp_path / "products.csv")
