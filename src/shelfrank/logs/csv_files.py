"""Detects how a CSV file is written: separator, encoding and line ends; refuses other file formats."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shelfrank.core.errors import UserError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
"""Separators between cells, with their names in messages."""

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks of other encodings than UTF-8; UTF-32's begins like UTF-16's, so it comes first."""

_LINE_ENDS = {b"\r\n": "CRLF", b"\n": "LF", b"\r": "CR"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_SEPARATOR_BYTES = re.compile(rb'\A(?:\xef\xbb\xbf)?"?sep=."?\r?\n', re.IGNORECASE)
_MAX_SEPARATOR_LINE = 16
"""Characters read from the first line, which may be very long."""

_BYTES_AT_ONCE = 1 << 22
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
"""First bytes, the format, and the advice."""

_TAR = slice(257, 262)
_JSON = re.compile(rb'\s*(?:\{\s*(?:"|\})|\[\s*(?:\{|\[|"|\]))')
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


@dataclass(frozen=True)
class CsvFormat:
    """Encoding, line ends and headers of a CSV file.

    Attributes:
        encoding: The encoding of its byte order mark; `utf-8` without one.
        line_ends: Names of the line ends outside quotes.
        n_headers: Number of lines that are equal to the header.
    """

    encoding: str
    line_ends: tuple[str, ...]
    n_headers: int

    @property
    def needs_copy(self) -> bool:
        """Whether the engine needs a copy in UTF-8 with one kind of line ends."""
        return self.encoding != "utf-8" or len(self.line_ends) > 1


def require_text_table(path: Path) -> None:
    """Refuses a file whose first bytes show another format than CSV.

    Args:
        path: The file, gzipped or not.

    Raises:
        UserError: Where it has another format, which the text names.
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


def header_of(path: Path, separator: str | None) -> tuple[str, list[str]]:
    """Reads the header.

    Args:
        path: The file, gzipped or not.
        separator: The separator; None takes the one of the file's suffix or, if the header does not contain it, the one
            that gives the most names.

    Returns:
        The separator, and the names.

    Raises:
        UnicodeDecodeError: Where the header does not decode.
    """
    with opened(path) as raw:
        encoding = _encoding(raw.read(4))
    declared = separator_line(path)
    with opened(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        if declared is not None:
            text.readline()
            return _split_header(text, separator or declared, fixed=True)
        return _split_header(text, separator or suffix_separator(path), fixed=separator is not None)


def separator_line(path: Path) -> str | None:
    """Reads the separator from a first line such as `sep=;`, which Excel reads and writes.

    Args:
        path: The file, gzipped or not.

    Returns:
        The separator; None if the first line is not of this form.

    Raises:
        UserError: Where the line names a separator that is not in `SEPARATORS`.
        UnicodeDecodeError: Where the line does not decode.
    """
    with opened(path) as raw:
        encoding = _encoding(raw.read(4))
    with opened(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        found = _SEPARATOR_LINE.fullmatch(text.readline(_MAX_SEPARATOR_LINE).rstrip("\r\n"))
    if found is None:
        return None
    if found[1] not in SEPARATORS:
        raise UserError(
            f"{path} must have {', '.join(SEPARATORS.values())} between its cells, but its first line says {found[0]}; "
            "write it again with one of these"
        )
    return found[1]


def suffix_separator(path: Path) -> str:
    """The separator for a file's suffix."""
    return "\t" if ".tsv" in path.suffixes[-2:] else ","


def inspect_csv(path: Path) -> CsvFormat:
    """Scans a whole file for its line ends and repeated headers.

    Args:
        path: The file, gzipped or not.

    Returns:
        Its encoding, line ends and headers.

    Raises:
        UserError: Where the file has NUL bytes, or text that is not in UTF-8.
    """
    with opened(path) as raw:
        encoding = _encoding(raw.read(4))
    decoder = codecs.getincrementaldecoder(encoding)()
    counts = dict.fromkeys(_LINE_ENDS, 0)
    header: bytes | None = None
    n_headers, n_lines, in_quotes, rest = 0, 0, False, b""
    for chunk, is_last in _chunks(path):
        try:
            text = decoder.decode(chunk, is_last)
        except UnicodeDecodeError as error:
            raise _wrong_encoding(path, n_lines + chunk[: error.start].count(b"\n") + 1) from error
        if encoding != "utf-8-sig":
            chunk = text.encode()
        if b"\0" in chunk:
            line = n_lines + chunk[: chunk.index(b"\0")].count(b"\n") + 1
            raise UserError(
                f"{path} must be text in UTF-8, but its line {line} holds a NUL byte; the file is damaged or in UTF-16 "
                "without a mark, so write it again in UTF-8"
            )
        n_lines += chunk.count(b"\n")
        # The last line may continue in the next chunk, and a CR at the end may be half a CRLF.
        chunk = rest + chunk
        cut = len(chunk) if is_last else 1 + max(chunk.rfind(b"\n"), chunk.rfind(b"\r", 0, -1))
        chunk, rest = chunk[:cut], chunk[cut:]
        if header is None and chunk:
            # The `sep=` line is not part of the table.
            chunk = _SEPARATOR_BYTES.sub(b"", chunk, count=1)
            header = _lines(chunk.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n"), n=1)[0]
        parts = chunk.split(b'"')
        outside = b" ".join(parts[in_quotes::2])
        in_quotes ^= len(parts) % 2 == 0
        n_both = outside.count(b"\r\n")
        counts[b"\r\n"] += n_both
        counts[b"\n"] += outside.count(b"\n") - n_both
        counts[b"\r"] += outside.count(b"\r") - n_both
        # A fast byte search excludes nearly all chunks but the first.
        if header and header in chunk:
            n_headers += sum(line.removeprefix(codecs.BOM_UTF8) == header for line in _lines(chunk))
    ends = tuple(name for end, name in _LINE_ENDS.items() if counts[end])
    return CsvFormat("utf-8" if encoding == "utf-8-sig" else encoding, ends, max(n_headers, 1))


def copy_in_utf8(path: Path, out: Path, encoding: str) -> None:
    """Writes a file again in UTF-8 with LF as its only line end, within quotes too."""
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    with (
        opened(path) as raw,
        io.TextIOWrapper(raw, encoding=codec, newline=None) as text,
        out.open("w", encoding="utf-8", newline="\n") as copy,
    ):
        while piece := text.read(_BYTES_AT_ONCE):
            copy.write(piece)


def opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Opens a file as bytes, decompressed if it is gzipped."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def look_like_a_row(names: Sequence[str]) -> bool:
    """Whether a header looks like a row: some names begin with a digit."""
    return any(name.strip()[:1].isdigit() for name in names)


def _lines(text: bytes, n: int = -1) -> list[bytes]:
    """Splits off the first lines of a text at any line end; the remaining text is the last element."""
    return text.replace(b"\r", b"\n").split(b"\n", n)


def _chunks(path: Path) -> Iterator[tuple[bytes, bool]]:
    with opened(path) as raw:
        chunk = raw.read(_BYTES_AT_ONCE)
        while chunk:
            following = raw.read(_BYTES_AT_ONCE)
            yield chunk, not following
            chunk = following


def _encoding(first: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if first.startswith(mark)), "utf-8-sig")


def _split_header(text: Iterable[str], usual: str, fixed: bool) -> tuple[str, list[str]]:
    lines: list[str] = []
    names = next(csv.reader(_recorded(text, lines), delimiter=usual), [])
    if fixed or len(names) > 1:
        return usual, names
    split = {separator: next(csv.reader(lines, delimiter=separator), []) for separator in SEPARATORS}
    best = max(split, key=lambda separator: len(split[separator]))
    return (best, split[best]) if len(split[best]) > 1 else (usual, names)


def _recorded(text: Iterable[str], lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


def _wrong_encoding(path: Path, line: int) -> UserError:
    return UserError(
        f"{path} must be text in UTF-8, but its line {line} is not; it is probably in Latin-1 or Windows-1252, so "
        f"write it again in UTF-8, as with `iconv -f WINDOWS-1252 -t UTF-8`"
    )


def _begins(first: bytes, magic: bytes) -> bool:
    # A short mark of letters may also begin a column name; a binary file has control bytes soon after.
    is_word = magic.isalnum() and len(magic) < 5
    return first.startswith(magic) and (not is_word or any(byte < 9 for byte in first[:64]))
