"""Turns the engine's errors about a raw file into sentences that its owner can act on."""

import re
from pathlib import Path

from shelfrank.core.errors import UserError

LONGEST_LINE = 80
"""Characters of a line that an error shows."""
_PLACE = re.compile(r"CSV Error on Line: (\d+)\s*(?:Original Line: ?(.*))?", re.DOTALL)
_CELLS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_ADVICE = re.compile(r"\s*Possible (?:fixes|solution)s?:", re.IGNORECASE)


def unreadable(path: Path, error: Exception, is_parquet: bool) -> UserError:
    """Says why a raw file cannot be read, without the advice that its reader gives to programmers.

    Args:
        path: The file.
        error: What reading it raised.
        is_parquet: Whether it was read as Parquet.

    Returns:
        The error, to be raised by the caller.
    """
    text = str(error) or type(error).__name__
    place = None if is_parquet else _PLACE.search(text)
    if place is None:
        kind = "a Parquet file" if is_parquet else "a CSV file in UTF-8 with as many cells in each line as its header"
        reason = " ".join(_ADVICE.split(text)[0].split())
        return UserError(f"{path} must be {kind}, but it cannot be read: {reason[:300]}; write it again")
    number, rest = place.groups()
    cells = _CELLS.search(rest or "")
    line = _CELLS.split(_ADVICE.split(rest or "")[0])[0].split("\n")[0].rstrip("\r")
    shown = repr(line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…")
    if cells is not None:
        expected, found = map(int, cells.groups())
        advice = (
            "put cells that hold the separator in quotes, or write the file with another separator"
            if found > expected
            else "remove the line if it is no row, such as a total at the end, or write its missing cells as empty ones"
        )
        have = "1 cell" if found == 1 else f"{found} cells"
        return UserError(
            f"{path} must have as many cells in each line as its header, which has {expected}, but line {number} has "
            f"{have}: {shown}; {advice}"
        )
    if "quote" in _ADVICE.split(text)[0].replace(line, ""):
        return UserError(
            f"{path} must close each quote at the end of the cell that it begins, but line {number} does not: {shown}; "
            'put a cell that holds quotes in quotes, and write each of its own twice, as in "12"" shoe"'
        )
    if "Maximum line size" in text:
        return UserError(
            f"{path} must have lines of at most 2 MB, but line {number} is longer: {shown}; look for a quote that is "
            "never closed"
        )
    reason = " ".join(_ADVICE.split(text)[0].split())
    return UserError(f"{path} must be a CSV file, but line {number} cannot be read: {reason[:300]}; mend the line")
