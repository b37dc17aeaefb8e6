"""Checks how precise a source's times are: refuses numbers that lost digits, notes times that are dates."""

from typing import Any

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.logs.engine import Table, Value, one_row, rows_of, sql_of
from shelfrank.logs.times import ALL_DIGITS, MAX_EXPONENT, MIN_EXPONENT, SCIENTIFIC, place_of_second
from shelfrank.logs.violation import N_EXAMPLES
from shelfrank.logs.writer import SearchLogWriter

MIN_DISTINCT = 3
"""Distinct times that must all lack the seconds; one or two may end in zeros by chance."""

MAX_SHARE = 0.5
"""Share of times in scientific notation above which times with all digits do not prove them exact."""

MIN_SHARE = 0.5
"""Share of midnight times above which a column probably holds dates; any shop has some searches at midnight."""

SEARCHES = ("search is", "searches are", "so that history within a day cannot be seen")
EVENTS = ("event is", "events are", "before all searches of that day")
"""Singular, plural, and the consequence for history."""


def require_whole_times(
    engine: Backend, raw: Table, column: str, place: str, notes: dict[str, Any] | None = None
) -> None:
    """Refuses a column whose numeric times were rounded.

    Programs that drop trailing zeros write 1709280000000 as 1.70928e+12, exactly as a spreadsheet writes any time of
    that hour. So the column decides: it was rounded if no number in scientific notation has its seconds digit, there
    are several distinct ones, some are not whole minutes, and they are most of the times. Otherwise they are noted.
    Exponents without a sign, such as 1.70928E12, come from programs that write all digits. 32-bit floats round times to
    minutes; 64-bit floats hold every unit down to the microsecond.

    Args:
        engine: Reads the file.
        raw: The file's rows.
        column: The column.
        place: The column and the file, for the error.
        notes: Receives a note about accepted numbers whose digits end before the seconds.

    Raises:
        UserError: Where times were rounded.
    """
    cells: Value = raw[column]
    held = cells.type()
    if held.is_floating() and not held.is_float64():
        known = cells.notnull() & ~cells.isnan()
        n = rows_of(engine, raw.aggregate(n=known.sum()))[0]["n"]
        if n:
            are, rounds = ("is", "rounds it") if n == 1 else ("are", "rounds them")
            raise UserError(
                f"{place} must hold times with all digits down to the second, but {n:,} of its numbers {are} "
                f"of type {held}, which {rounds}; write the column as 64-bit integers, 64-bit floats or "
                "timestamps"
            )
    if held.is_string():
        _require_seconds(engine, raw, column, place, notes)


def _require_seconds(engine: Backend, raw: Table, column: str, place: str, notes: dict[str, Any] | None) -> None:
    scientific: Value = raw[column].re_search(SCIENTIFIC)
    if not rows_of(engine, raw.filter(scientific).limit(1).select(column)):
        return
    whole, decimals, exponent = (raw[column].re_extract(SCIENTIFIC, group) for group in (1, 2, 3))
    parts = raw.select(cells=raw[column], whole=whole, decimals=decimals, power=exponent.try_cast("int64"))
    first = parts["power"] + parts["whole"].length() - 1
    digits = (parts["whole"] + parts["decimals"]).try_cast("int64").cast("float64")
    numbers = parts.select("cells", first=first, last=parts["power"] - parts["decimals"].length(), digits=digits)
    is_time = numbers["first"].between(MIN_EXPONENT, MAX_EXPONENT).fill_null(False)
    may_be_rounded = (is_time & (numbers["last"] > place_of_second(numbers["first"]))).fill_null(False)
    ten: Value = ibis.literal(10.0)
    seconds = numbers["digits"] * ten.pow(numbers["last"] - place_of_second(numbers["first"]))
    times = numbers.mutate(is_time=is_time, may_be_rounded=may_be_rounded, seconds=seconds)
    rounded = times["may_be_rounded"]
    sums: dict[str, Value] = {
        "n": rounded.sum(),
        "n_with_second": (times["is_time"] & ~rounded).sum(),
        "n_in_full": times["cells"].re_search(ALL_DIGITS).sum(),
        "n_distinct": times["seconds"].nunique(where=rounded),
        "n_not_whole_minutes": (times["seconds"] % 60 != 0).sum(where=rounded),
    }
    counts = {name: n or 0 for name, n in rows_of(engine, times.aggregate(**sums))[0].items()}
    n = counts["n"]
    if not n:
        return
    examples = times.filter(rounded).select(cell=times["cells"].strip()).distinct().order_by("cell").limit(N_EXAMPLES)
    shown = ", ".join(row["cell"] for row in rows_of(engine, examples))
    if (
        not counts["n_with_second"]
        and counts["n_not_whole_minutes"]
        and counts["n_distinct"] >= MIN_DISTINCT
        and n > MAX_SHARE * (n + counts["n_in_full"])
    ):
        raise UserError(
            f"{place} must hold times with all digits down to the second, but {n:,} of its numbers were rounded where "
            f"the file was written, e.g. {shown}; export the column again as whole numbers or as ISO 8601 times"
        )
    if notes is not None:
        notes[f"{place}, numbers whose digits end before the second"] = (
            f"{n:,}, e.g. {shown}: read as if only zeros follow"
        )


def note_whole_days(
    engine: Backend,
    writer: SearchLogWriter,
    place: str,
    rows: Table,
    what: tuple[str, str, str],
    key: str | None = None,
) -> None:
    """Notes how many times have no time of day, if more than half of them have none.

    Args:
        engine: Holds the rows.
        writer: Receives the note.
        place: The subject of the note.
        rows: Has `whole_day`, whether a time is the start of a day in its own time zone.
        what: `SEARCHES` or `EVENTS`.
        key: The column whose distinct values are counted; None counts rows.
    """
    known = rows.filter(rows["whole_day"].notnull())
    if key is not None:
        known = known.select("whole_day", key).distinct()
    n, n_days = one_row(engine.con, sql_of(engine, known), ["count(*)", "count(*) FILTER (whole_day)"])
    if n_days > MIN_SHARE * n:
        one, many, effect = what
        writer.notes[f"timestamps of {place} without a time of day"] = (
            f"{n_days:,} of {n:,} {one if n == 1 else many} at the start of a day, {effect}; export the time of day too"
        )
