"""Files that are no CSV are named for what they are."""

import bz2
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
from shelfrank.logs.csv_files import require_text_table
from shelfrank.logs.raw_files import column_names

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
