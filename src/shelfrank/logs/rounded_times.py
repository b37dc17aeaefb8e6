"""Refuses times that are numbers and lost digits before they were imported, so that different moments became one."""

from ibis.backends.duckdb import Backend

from shelfrank.errors import UserError
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.times import SCIENTIFIC

N_SHOWN = 5

_LEAST_EXPONENT, _GREATEST_EXPONENT = 8, 18
"""Exponents of the times of the data contract, from seconds in 1990 to nanoseconds in 2099."""


def require_whole_times(engine: Backend, raw: Table, column: str, place: str) -> None:
    """Refuses a column of times in which numbers were rounded.

    Numbers such as 1.70928E+12 are rounded unless their digits reach the second. Those without a sign, such as
    1.70928E12, are from programs that write all digits but the zeros at the end. Floats of 32 bits round times to
    minutes; floats of 64 bits hold every unit down to the microsecond.

    Args:
        engine: Where the file is read.
        raw: The file's rows.
        column: The column.
        place: The column and the file, for the error.

    Raises:
        UserError: Where its times were rounded.
    """
    cells: Value = raw[column]
    held = cells.type()
    if held.is_floating() and not held.is_float64():
        known = cells.notnull() & ~cells.isnan()
        n = rows_of(engine, raw.aggregate(n=known.sum()))[0]["n"]
        if n:
            raise UserError(
                f"{place} must hold times with all digits down to the second, but {n:,} of its numbers are "
                f"of type {held}, which rounds them; write the column as 64-bit integers, 64-bit floats or "
                "timestamps"
            )
    if not held.is_string():
        return
    is_rounded = _is_rounded(cells)
    n = rows_of(engine, raw.aggregate(n=is_rounded.sum()))[0]["n"]
    if n:
        examples = raw.filter(is_rounded).select(cell=cells.strip()).distinct().order_by("cell").limit(N_SHOWN)
        shown = ", ".join(row["cell"] for row in rows_of(engine, examples))
        raise UserError(
            f"{place} must hold times with all digits down to the second, but {n:,} of its "
            f"numbers were rounded where the file was written, e.g. {shown}; export the column as text or as whole "
            "numbers"
        )


def _is_rounded(cells: Value) -> Value:
    """Whether a cell is a time in scientific notation whose last digit stands for more than a second."""
    whole, decimals, exponent = (cells.re_extract(SCIENTIFIC, group) for group in (1, 2, 3))
    first = exponent.try_cast("int64") + whole.length() - 1
    last = exponent.try_cast("int64") - decimals.length()
    # The size tells the unit: 1.7e9 is in seconds, 1.7e12 in milliseconds, and so on.
    of_second = (first - _LEAST_EXPONENT) // 3 * 3
    return (first.between(_LEAST_EXPONENT, _GREATEST_EXPONENT) & (last > of_second)).fill_null(False)
