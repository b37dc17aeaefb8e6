"""Checks whether a valid log is useful: values in its labels and features, plausible times and customers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb

from shelfrank.core.schema import TASKS
from shelfrank.logs.engine import one_row, sql_name
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
    connection: duckdb.DuckDBPyConnection, structure: Structure, now: datetime | None = None
) -> Iterator[Violation]:
    """Finds pages with nothing to order, times in the future, and one customer id for all guests.

    Args:
        connection: Has the log's tables as views.
        structure: Their structure.
        now: The time; None is this computer's clock.

    Yields:
        The warnings.
    """
    if not {"search_id", "timestamp", "customer_id"} <= structure.columns.get("impressions", {}).keys():
        return
    searches = (
        "(SELECT count(*) AS n, max(timestamp) AS latest, min(customer_id) AS customer FROM impressions "
        "WHERE search_id IS NOT NULL GROUP BY search_id)"
    )
    limit = (now or datetime.now(UTC)) + MAX_CLOCK_SKEW
    ahead = f"count(*) FILTER (latest > '{limit.isoformat()}'::TIMESTAMPTZ)"
    n, n_products, n_ahead, n_customers = one_row(
        connection, searches, ["count(*)", "max(n)", ahead, "count(DISTINCT customer)"]
    )
    if n and n_products == 1:
        must = "should show more than one product in some search, but no search does: there is nothing to order"
        yield Violation("impressions", None, must, "warning")
    if n_ahead:
        must = (
            "should not be in the future, but some searches are more than a day ahead of this computer's clock; they "
            "become the end of the test split"
        )
        yield Violation("impressions", "timestamp", must, "warning", n_ahead, "search")
    if n >= MIN_SEARCHES and n_customers >= MIN_CUSTOMERS:
        of_customers = f"(SELECT customer, count(*) AS n FROM {searches} WHERE customer IS NOT NULL GROUP BY customer)"
        # Of several with as many searches, the first by name.
        customer, n_most = one_row(connection, of_customers, ["arg_min(customer, (-n, customer))", "max(n)"])
        if n_most > MAX_CUSTOMER_SHARE * n:
            must = (
                f"should not be the same in more than a third of all searches, but {customer[:60]!r} has "
                f"{n_most:,} of {n:,}; declare it in null_words if it stands for guests"
            )
            yield Violation("impressions", "customer_id", must, "warning")


def empty_columns(
    connection: duckdb.DuckDBPyConnection, structure: Structure, graded: bool = False
) -> Iterator[Violation]:
    """Finds columns without information: labels that are null or never 1, declared features that are null.

    It is an error if all labels are null; the others are warnings.

    Args:
        connection: Has the log's tables as views.
        structure: Their structure.
        graded: Whether the log has grades, with which a log without labels is usable; then it is only a warning.

    Yields:
        The violations.
    """
    declared: dict[str, list[str]] = {table: [] for table in structure.columns}
    for feature in structure.schema.features if structure.schema else ():
        table = feature_table(feature, structure.columns)
        if table is not None:
            declared[table].append(feature.name)
    for table, features in declared.items():
        labels = TASKS if table == "impressions" and set(TASKS) <= set(structure.columns[table]) else ()
        names = (*labels, *features)
        if not names or not structure.n_rows[table]:
            continue
        known = dict(
            zip(names, one_row(connection, table, [f"count({sql_name(name)})" for name in names]), strict=True)
        )
        if labels:
            yield from _never_positive(connection, [task for task in labels if known[task]])
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


def _never_positive(connection: duckdb.DuckDBPyConnection, tasks: list[str]) -> Iterator[Violation]:
    if not tasks:
        return
    positives = one_row(connection, "impressions", [f"count(*) FILTER ({task} = 1)" for task in tasks])
    never = [task for task, n in zip(tasks, positives, strict=True) if not n]
    if never == tasks:
        verb = "is" if len(never) == 1 else "are"
        must = f"should have a positive label, but {', '.join(never)} {verb} never 1, so no ranker can learn from it"
        yield Violation("impressions", None, must, "warning")
        return
    for task in never:
        yield Violation("impressions", task, "should be 1 in some row, but it is 0 in every row that has it", "warning")
