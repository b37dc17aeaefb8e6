"""Checks whether a valid log is useful: values in its labels and features, plausible times and customers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.schema import TASKS
from shelfrank.logs.engine import Table, Value, rows_of
from shelfrank.logs.structure import Structure, feature_table
from shelfrank.logs.violation import Violation

MAX_CLOCK_SKEW = timedelta(days=1)
"""How far a time may be ahead of this computer's clock, for missing time zones and wrong clocks."""

MAX_CUSTOMER_SHARE = 1 / 3
"""Share of all searches above which a customer id probably stands for all guests."""

MIN_SEARCHES = 100
MIN_CUSTOMERS = 4
"""Numbers of searches and customers below which one customer may plausibly have most searches."""


def usefulness_warnings(
    engine: Backend, tables: Mapping[str, Table], structure: Structure, now: datetime | None = None
) -> Iterator[Violation]:
    """Finds pages with nothing to order, times in the future, and one customer id for all guests.

    Args:
        engine: Runs the counts.
        tables: The log's tables.
        structure: Its structure.
        now: The time; None is this computer's clock.

    Yields:
        The warnings.
    """
    columns = structure.columns.get("impressions", {})
    if "impressions" not in tables or not {"search_id", "timestamp", "customer_id"} <= columns.keys():
        return
    rows = tables["impressions"].drop_null("search_id")
    searches = rows.group_by("search_id").aggregate(
        n=rows.count(), at=rows["timestamp"].max(), customer=rows["customer_id"].min()
    )
    latest = ibis.literal((now or datetime.now(UTC)) + MAX_CLOCK_SKEW)
    ahead: Value = searches["at"] > latest
    counts = rows_of(
        engine,
        searches.aggregate(
            n=searches.count(),
            n_products=searches["n"].max(),
            n_ahead=ahead.sum(),
            n_customers=searches["customer"].nunique(),
        ),
    )[0]
    if counts["n"] and counts["n_products"] == 1:
        must = "should show more than one product in some search, but no search does: there is nothing to order"
        yield Violation("impressions", None, must, "warning")
    if counts["n_ahead"]:
        must = (
            "should not be in the future, but some searches are more than a day ahead of this computer's clock; they "
            "become the end of the test split"
        )
        yield Violation("impressions", "timestamp", must, "warning", counts["n_ahead"], "search")
    if counts["n"] >= MIN_SEARCHES and counts["n_customers"] >= MIN_CUSTOMERS:
        known = searches.drop_null("customer")
        of_customers = known.group_by("customer").aggregate(n=known.count())
        (most,) = rows_of(engine, of_customers.order_by([ibis.desc("n"), "customer"]).limit(1))
        if most["n"] > MAX_CUSTOMER_SHARE * counts["n"]:
            must = (
                f"should not be the same in more than a third of all searches, but {most['customer'][:60]!r} has "
                f"{most['n']:,} of {counts['n']:,}; declare it in null_words if it stands for guests"
            )
            yield Violation("impressions", "customer_id", must, "warning")


def empty_columns(
    engine: Backend, tables: Mapping[str, Table], structure: Structure, graded: bool = False
) -> Iterator[Violation]:
    """Finds columns without information: labels that are null or never 1, declared features that are null.

    It is an error if all labels are null; the others are warnings.

    Args:
        engine: Runs the counts.
        tables: The log's tables.
        structure: Its structure.
        graded: Whether the log has grades, with which a log without labels is usable; then it is only a warning.

    Yields:
        The violations.
    """
    declared: dict[str, list[str]] = {table: [] for table in tables}
    for feature in structure.schema.features if structure.schema else ():
        table = feature_table(feature, structure.columns)
        if table is not None:
            declared[table].append(feature.name)
    for table, features in declared.items():
        labels = TASKS if table == "impressions" and set(TASKS) <= set(structure.columns[table]) else ()
        names = (*labels, *features)
        if not names or not structure.n_rows[table]:
            continue
        rows = tables[table]
        counts = [rows[name].count().name(f"n_{place}") for place, name in enumerate(names)]
        known = dict(zip(names, rows_of(engine, rows.aggregate(counts))[0].values(), strict=True))
        if labels:
            yield from _never_positive(engine, rows, [task for task in labels if known[task]])
        if labels and not any(known[task] for task in labels) and graded:
            must = f"should have labels, but {', '.join(labels)} are null in every row: only the grades can be used"
            yield Violation(table, None, must, "warning")
        elif labels and not any(known[task] for task in labels):
            must = f"must have labels, but {', '.join(labels)} are null in every row; import at least one signal"
            yield Violation(table, None, must)
        for name in features:
            if not known[name]:
                must = "should have a value in some row, but the declared feature is null in every row"
                yield Violation(table, name, must, "warning")


def _never_positive(engine: Backend, rows: Table, tasks: list[str]) -> Iterator[Violation]:
    if not tasks:
        return
    positives = rows_of(engine, rows.aggregate([(rows[task] == 1).sum().name(task) for task in tasks]))[0]
    never = [task for task in tasks if not positives[task]]
    if never == tasks:
        verb = "is" if len(never) == 1 else "are"
        must = f"should have a positive label, but {', '.join(never)} {verb} never 1, so no ranker can learn from it"
        yield Violation("impressions", None, must, "warning")
        return
    for task in never:
        yield Violation("impressions", task, "should be 1 in some row, but it is 0 in every row that has it", "warning")
