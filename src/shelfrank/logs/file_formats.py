"""Recognises files that are no CSV, whatever their name says."""

import re
from pathlib import Path

from shelfrank.core.errors import UserError
from shelfrank.logs.csv_files import opened

_UNPACK = "unpack it and name the CSV file in it"
_EXPORT = "export it as CSV or Parquet"
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive, as an Excel workbook is one", "unpack it, or save the workbook as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook of the old kind", "save it as CSV in UTF-8"),
    (b"\x1f\x8b", "a gzip archive", "give it a name that ends in .csv.gz"),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet"),
    (b"BZh91AY&SY", "a bzip2 archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"ORC", "an ORC file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ARROW1", "an Arrow file", _EXPORT),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    (b"%PDF-", "a PDF document", _EXPORT),
)
"""First bytes, what begins with them, and what to do."""
_TAR = slice(257, 262)
_JSON = re.compile(rb'\s*(?:\{\s*(?:"|\})|\[\s*(?:\{|\[|"|\]))')
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


def require_text_table(path: Path) -> None:
    """Refuses a file that is no CSV by its first bytes.

    Args:
        path: The file, gzipped or not.

    Raises:
        UserError: Where its bytes begin as another format does; the text names the format.
        OSError: Where it cannot be read.
    """
    with opened(path) as raw:
        first = raw.read(1024)
    found = next(((what, advice) for magic, what, advice in _MAGIC if _begins(first, magic)), None)
    if found is None and first[_TAR] == b"ustar":
        found = "a tar archive", _UNPACK
    text = first.removeprefix(b"\xef\xbb\xbf")
    if found is None and _JSON.match(text):
        found = "JSON", "write its records as CSV or Parquet, one row each"
    if found is None and _MARKUP.match(text):
        found = "an HTML or XML page", _EXPORT
    if found is not None:
        what, advice = found
        raise UserError(f"{path} must be a CSV file, but it holds {what}; {advice}")


def _begins(first: bytes, magic: bytes) -> bool:
    # Short marks of letters alone may be how a column's name begins; a binary file has control bytes soon after.
    is_word = magic.isalnum() and len(magic) < 5
    return first.startswith(magic) and (not is_word or any(byte < 9 for byte in first[:64]))
