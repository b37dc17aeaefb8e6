"""Reads the two official files of Census-Income (KDD)."""

# pyarrow.compute makes its functions when it is imported, where no static checker sees them.
# pyright: reportAttributeAccessIssue=false

import gzip
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shelfrank.core.errors import UserError
from shelfrank.logs.raw_files import raw_files
from shelfrank.paper.census.columns import COLUMNS, IS_HEAVY_TAILED, TARGETS

PARTS = ("data", "test")
"""The official training and test files, by the end of their names."""

NUMBER = r"^-?\d+(\.\d+)?$"


def census_file(folder: Path, part: str) -> Path:
    """Finds an official file, gzipped or not; a folder with neither is a `UserError`."""
    plain = folder / f"census-income.{part}"
    zipped = folder / f"{plain.name}.gz"
    for file in (plain, zipped):
        if file.is_file():
            return raw_files(file)[0]
    raise UserError(
        f"{folder} must hold {plain.name} or {zipped.name}, but it holds neither; unpack the Census-Income (KDD) data "
        "of the UCI Machine Learning Repository there"
    )


def read_people(file: Path) -> pa.Table:
    """Reads a file's people as text, blanks around a value taken off.

    Args:
        file: `census-income.data` or `census-income.test`, gzipped or not.

    Returns:
        A row per person with the columns `COLUMNS`; every number is one, and every target has a known value.

    Raises:
        UserError: Where the file cannot be read, a row has another number of columns, or a value is none of its column.
    """
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as opened:
            table = pyarrow.csv.read_csv(
                opened,
                pyarrow.csv.ReadOptions(column_names=list(COLUMNS)),
                pyarrow.csv.ParseOptions(quote_char=False),
                pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=False),
            )
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise UserError(
            f"{file} must be a CSV file in UTF-8 of {len(COLUMNS)} columns without a header, but it cannot be read: "
            f"{' '.join(str(error).split())[:300]}; download it again"
        ) from error
    people = pa.table({name: pc.utf8_trim_whitespace(table[name]) for name in COLUMNS})
    for name in IS_HEAVY_TAILED:
        _refuse(file, name, people[name], pc.match_substring_regex(people[name], NUMBER), "a number")
    for target in TARGETS.values():
        values = sorted(target.positive | target.negative)
        known = pc.is_in(people[target.column], value_set=pa.array(values))
        _refuse(file, target.column, people[target.column], known, f"one of {', '.join(map(repr, values))}")
    return people


def _refuse(file: Path, name: str, values: pa.ChunkedArray, fits: pa.ChunkedArray, wanted: str) -> None:
    if pc.all(fits).as_py():
        return
    row = pc.index(fits, False).as_py()
    raise UserError(
        f"{file} must have {wanted} as {name}, column {COLUMNS.index(name) + 1}, but row {row + 1:,} has "
        f"{values[row].as_py()!r}; use the official file"
    )
