"""Notes where the times of searches or events are dates, so that nothing is known of their order within a day."""

from ibis.backends.duckdb import Backend

from shelfrank.logs.engine import Table, rows_of
from shelfrank.logs.search_log import SearchLogWriter

MIN_SHARE = 0.5
"""Share of the times above which they are taken for dates; a shop has some searches at midnight."""

SEARCHES = ("search is", "searches are", "so that history within a day cannot be seen")
EVENTS = ("event is", "events are", "before all searches of that day")
"""What one time is of, what several are of, and what follows."""


def note_whole_days(
    engine: Backend,
    writer: SearchLogWriter,
    place: str,
    rows: Table,
    what: tuple[str, str, str],
    key: str | None = None,
) -> None:
    """Notes how many times have no time of day, where more than half of them have none.

    Args:
        engine: Where the rows are kept.
        writer: Gets the note.
        place: What the times are of.
        rows: Has `whole_day`, whether a time is the start of a day in the zone in which it was written.
        what: `SEARCHES` or `EVENTS`.
        key: The column whose values are counted once; None counts rows.
    """
    known = rows.filter(rows["whole_day"].notnull())
    if key is not None:
        known = known.select("whole_day", key).distinct()
    counts = rows_of(engine, known.aggregate(n=known.count(), n_days=known["whole_day"].sum()))[0]
    n, n_days = counts["n"], counts["n_days"] or 0
    if n_days > MIN_SHARE * n:
        one, many, effect = what
        writer.notes[f"timestamps of {place} without a time of day"] = (
            f"{n_days:,} of {n:,} {one if n == 1 else many} at the start of a day, {effect}; export the time of day too"
        )
