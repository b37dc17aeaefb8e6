"""Joins UBI queries and events: searches with labels, and history."""

from dataclasses import dataclass

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.engine.embedded import epoch_us
from shelfrank.logs.engine import Table, Value, count, keep, rows_of
from shelfrank.logs.time_precision import EVENTS, SEARCHES, note_whole_days
from shelfrank.logs.times import LATEST
from shelfrank.logs.ubi.documents import HISTORY_ONLY, IMPRESSION, KNOWN_ACTIONS, LABEL_OF, NEEDS_QUERY
from shelfrank.logs.ubi.visitors import name_customers, name_sessions
from shelfrank.logs.writer import MAX_LOST_SHARE, SearchLogWriter

NO_QUERY_ID = "queries without a query_id"
NO_QUERY = "queries without a user_query"
NO_TIME = "queries without a readable timestamp"
REPEATED_QUERY = "queries that repeat an earlier query_id"
NO_LIST = "queries without a results list"
NO_HIT_ID = "hits without an id"
REPEATED_HIT = "hits that repeat a product of their list"
MALFORMED = "events without an action_name or a readable timestamp"
NO_OBJECT = "events without an object_id"
EARLY = "events more than a day earlier than their query"
LATE = "events more than 30 days after the last query of the file"
NO_VISITOR = "events outside any results list, without a user, client or session"
NOT_NEEDED = "impression events of queries that have a list or are unknown"
FROM_ZERO_LIST = "queries whose list begins at ordinal 0, while the first ordinal is 1"
FROM_ZERO_EVENT = "impression events of lists that begin at ordinal 0, while the first ordinal is 1"
NO_ORDINAL = "impression events without an ordinal of 1 or more"
REPEATED_IMPRESSION = "impression events that repeat a product or position of their query"
NOT_SHOWN = "events on a product outside their query's list (kept as events)"
UNKNOWN_QUERY = "events of a query that is not in the log (kept as events)"
NO_QUERY_OF_ACTION = "carts and purchases without a query_id (kept as events)"

LABEL, SHOWN, HISTORY = "label", "shown", "history"
"""Outcomes of the events that are not left out."""

KEPT_AS_EVENTS = (HISTORY, NOT_SHOWN, UNKNOWN_QUERY, NO_QUERY_OF_ACTION)
SLOW_LABELS = "labels earlier than their query by the client's clock, kept as labels of that query"
MOVED = "history events of clients whose clock is behind, moved later by its largest known lag"
DECLARED = "counted from 0, as declared"
FROM_ZERO = "counted from 0, since every list of impression events begins there"
_MAX_LABEL_LAG: Value = ibis.interval(days=1)
"""Largest lag of a client's clock at which its events keep their query: a wrong time zone, but not another day."""
_MAX_CLOCK_LAG_US = 10 * 60 * 1_000_000
"""Largest lag by which other events of the client are moved."""
_LAG_VALID_US = 60 * 60 * 1_000_000
"""How long a lag that one event shows is assumed for the client's later events."""
_MAX_AGE: Value = ibis.interval(days=30)
_MAX_ACTION_LENGTH = 60


@dataclass(frozen=True)
class Searches:
    """The log's tables that queries and events make.

    Attributes:
        impressions: The log's impressions, with their labels.
        events: The log's events.
        has_events: Whether `events` has a row.
    """

    impressions: Table
    events: Table
    has_events: bool


@dataclass(frozen=True)
class _Lists:
    """The results lists of queries.

    Attributes:
        shown: Query, product, position, and the line of the impression event where the list comes from events.
        first_ordinal: The ordinal of the topmost product in impression events.
        misplaced: Queries whose list begins before that ordinal; it is left out.
    """

    shown: Table
    first_ordinal: int
    misplaced: Table


def make_searches(
    engine: Backend, writer: SearchLogWriter, queries: Table, events: Table, first_ordinal: int | None = None
) -> Searches:
    """Turns queries into searches, events on their lists into labels, and the other events into history.

    Args:
        engine: Holds the tables.
        writer: Counts what is left out.
        queries: Rows of `QUERY_COLUMNS`.
        events: Rows of `EVENT_COLUMNS`.
        first_ordinal: The ordinal of the topmost product; None infers it from where the lists begin.

    Returns:
        The tables of the log.

    Raises:
        UserError: Where the ordinals of impression events begin at 0 in some lists and at 1 in others.
    """
    usable = _usable_queries(engine, writer, queries)
    joined = keep(engine, "joined", _on_server_time(_with_queries(events, usable)))
    usable, joined = name_sessions(*name_customers(engine, writer, usable, joined))
    usable, joined = keep(engine, "queries_in_session", usable), keep(engine, "events_in_session", joined)
    lists = _lists(engine, writer, usable, joined, first_ordinal)
    shown = lists.shown
    outcomes = keep(engine, "outcomes", joined.mutate(outcome=_outcome(joined, lists, _last_query(engine, usable))))
    _count_outcomes(engine, writer, outcomes)
    for name, table in (("queries", queries), ("events", events)):
        n = count(engine, table.filter("without_zone"))
        if n:
            writer.notes[f"timestamps of {name} without a time zone, read as UTC"] = n
        known = table.filter(table["unit"].notnull() & table["timestamp"].notnull())
        for row in rows_of(engine, known.group_by("unit").aggregate(n=known.count()).order_by("unit")):
            writer.notes[f"timestamps of {name} read as {row['unit']} since 1970, as their size indicates"] = row["n"]
    kept = outcomes.filter(outcomes["outcome"].isin(KEPT_AS_EVENTS)).order_by("timestamp", "line")
    note_whole_days(engine, writer, "queries", usable.semi_join(shown, "query_id"), SEARCHES)
    note_whole_days(engine, writer, "events", kept, EVENTS)
    history = kept.select("timestamp", "session_id", "customer_id", product_id=kept["object_id"], action=kept["action"])
    impressions = _impressions(engine, usable, shown, outcomes)
    return Searches(impressions, history, has_events=bool(rows_of(engine, history.limit(1))))


def _usable_queries(engine: Backend, writer: SearchLogWriter, queries: Table) -> Table:
    """The queries that can become searches, deduplicated by id."""
    outcome: Value = ibis.cases(
        (queries["query_id"].isnull(), NO_QUERY_ID),
        (queries["user_query"].isnull(), NO_QUERY),
        (queries["timestamp"].isnull(), NO_TIME),
        else_="",
    )
    # Only usable queries count as earlier occurrences of an id.
    nth = ibis.row_number().over(group_by=("query_id", "outcome"), order_by=("timestamp", "line"))
    rows = queries.mutate(outcome=outcome).mutate(nth=nth)
    again = (rows["outcome"] == "") & (rows["nth"] > 0)
    rows = keep(engine, "usable_queries", rows.mutate(outcome=again.ifelse(REPEATED_QUERY, rows["outcome"])))
    for row in rows_of(engine, rows.group_by("outcome").aggregate(n=rows.count()).order_by("outcome")):
        if row["outcome"] == REPEATED_QUERY:
            writer.leave_out(row["outcome"], row["n"])
        elif row["outcome"]:
            writer.leave_out(row["outcome"], row["n"], of="queries")
    return rows.filter(rows["outcome"] == "")


def _with_queries(events: Table, queries: Table) -> Table:
    """Adds the query's time and whether its hits are known, and fills in a missing client from the query."""
    known = queries.select(
        "query_id",
        queried_at=queries["timestamp"],
        has_hits=queries["hits"].notnull(),
        client_of_query=queries["client_id"],
    )
    joined = events.left_join(known, "query_id").drop("query_id_right")
    return joined.mutate(client_id=ibis.coalesce(joined["client_id"], joined["client_of_query"])).drop(
        "client_of_query"
    )


def _on_server_time(events: Table) -> Table:
    """Moves events of clients whose clock is behind; `client_time` keeps the original time.

    An event cannot precede its query, so an earlier time shows the lag of the client's clock. The client's events of
    the next hour (by its own clock) are moved by the largest lag seen. Earlier events are not: appending events to a
    file must not change its earlier rows. A lag above `_MAX_CLOCK_LAG_US` moves only the event itself, which was
    probably delayed.
    """
    client_us: Value = epoch_us(events["timestamp"])
    query_us: Value = epoch_us(events["queried_at"])
    behind_us = query_us - client_us
    is_slow = (events["timestamp"] < events["queried_at"]) & (
        events["timestamp"] >= events["queried_at"] - _MAX_LABEL_LAG
    )
    own = is_slow.fill_null(False).ifelse(behind_us, 0)
    visitor = ibis.coalesce(events["client_id"], events["user_id"])
    rows = events.mutate(event_lag=own, visitor=visitor, client_us=client_us)
    valid_lag = (rows["event_lag"] <= _MAX_CLOCK_LAG_US).ifelse(rows["event_lag"], 0)
    before = ibis.window(group_by="visitor", order_by="client_us", range=(-_LAG_VALID_US, 0))
    client_lag = rows["visitor"].notnull().ifelse(valid_lag.max().over(before), 0)
    rows = rows.mutate(lag=ibis.greatest(rows["event_lag"], client_lag))
    moved = rows["timestamp"] + rows["lag"].as_interval("us")
    return rows.mutate(client_time=rows["timestamp"], timestamp=moved).drop("event_lag", "lag", "visitor", "client_us")


def _lists(engine: Backend, writer: SearchLogWriter, queries: Table, events: Table, declared: int | None) -> _Lists:
    """The products that queries showed, from their hits or else from impression events."""
    hits = queries["hits"]
    places: Value = ibis.range(hits.length())
    first = places.filter(lambda place: hits[place].notnull() & (hits.index(hits[place]) == place))
    listed = queries.filter(hits.notnull()).select("query_id", "hits", "n_hits_without_id", kept=first)
    listed = keep(engine, "listed", listed)
    placed = listed.select("query_id", "hits", place=listed["kept"].unnest())
    of_hits = placed.select(
        "query_id",
        product_id=placed["hits"][placed["place"]],
        position=(placed["place"] + 1).cast("int32"),
        line=ibis.null("int64"),
    )
    usable = _gives_position(events)
    impression_events = events.filter(usable)
    tops = impression_events.group_by("query_id").aggregate(top=impression_events["ordinal"].min())
    tops = keep(engine, "tops", tops)
    first_ordinal = _first_ordinal(engine, writer, tops, declared)
    writer.declare_first_ordinal(first_ordinal)
    misplaced = tops.filter(tops["top"] < first_ordinal).select("query_id")
    usable &= events["query_id"].notin(misplaced["query_id"])
    by_product = ibis.row_number().over(group_by=("query_id", "object_id"), order_by=("timestamp", "line"))
    once = events.filter(usable).mutate(nth=by_product)
    once = once.filter(once["nth"] == 0).drop("nth")
    by_position = ibis.row_number().over(group_by=("query_id", "ordinal"), order_by=("timestamp", "line"))
    once = once.mutate(nth=by_position)
    first_events = once.filter(once["nth"] == 0)
    of_events = first_events.select(
        "query_id",
        product_id=first_events["object_id"],
        position=(first_events["ordinal"] + (1 - first_ordinal)).cast("int32"),
        line=first_events["line"],
    )
    shown = keep(engine, "shown", of_hits.union(of_events))
    without_id = listed["n_hits_without_id"].sum()
    again = (listed["hits"].length() - listed["n_hits_without_id"] - listed["kept"].length()).sum()
    for lost in rows_of(engine, listed.aggregate(without_id=without_id, again=again)):
        writer.leave_out(NO_HIT_ID, int(lost["without_id"] or 0), of="impressions")
        writer.leave_out(REPEATED_HIT, int(lost["again"] or 0))
    unlisted, n_misplaced = count(engine, queries.anti_join(shown, "query_id")), count(engine, misplaced)
    writer.leave_out(NO_LIST, unlisted - n_misplaced, of="queries")
    writer.leave_out(FROM_ZERO_LIST, n_misplaced, of="queries")
    writer.kept["queries"] += count(engine, queries) - unlisted
    writer.kept["impressions"] += count(engine, shown)
    return _Lists(shown, first_ordinal, misplaced)


def _first_ordinal(engine: Backend, writer: SearchLogWriter, tops: Table, declared: int | None) -> int:
    """The ordinal of the topmost product: the declared one, or 0 if every list of impression events begins there."""
    counts = rows_of(
        engine, tops.aggregate(n=tops.count(), n_0=(tops["top"] == 0).sum(), n_1=(tops["top"] == 1).sum())
    )[0]
    n, n_0, n_1 = (counts[name] or 0 for name in ("n", "n_0", "n_1"))
    for first, n_others in ((0, n_1), (1, n_0)):
        if declared == first and n and n_others == n:
            raise UserError(
                f"ordinals of impression events must count from {first}, as `first_ordinal` {first} says, but every "
                f"list begins at {1 - first}; leave it out"
            )
    if declared is not None:
        if declared == 0:
            writer.notes["ordinals of impression events"] = DECLARED
        return declared
    if n_0 and n_0 == n:
        writer.notes["ordinals of impression events"] = FROM_ZERO
        return 0
    if n_0 > MAX_LOST_SHARE * n:
        raise UserError(
            f"ordinals of impression events must count from 1, or from 0 in every list, but {n_0:,} of {n:,} lists "
            "begin at 0 and the others do not; let all clients count alike, or give `first_ordinal` 0 if 0 is always "
            "the top, or `first_ordinal` 1 to leave out the lists from 0"
        )
    return 1


def _count_outcomes(engine: Backend, writer: SearchLogWriter, outcomes: Table) -> None:
    """Counts what is left out (by kind if it could have been a label or an impression) and what was moved."""
    # A click may well be outside the lists; a cart or purchase without its query is a lost label.
    could = (outcomes["query_id"].notnull() & outcomes["action"].isin(LABEL_OF)) | outcomes["action"].isin(NEEDS_QUERY)
    placed = (outcomes["action"] == IMPRESSION) & (outcomes["has_hits"] == ibis.literal(False))
    by = outcomes.mutate(
        label=could.ifelse(outcomes["action"], ibis.null("string")),
        placed=placed.fill_null(False),
        is_slow=(outcomes["client_time"] < outcomes["queried_at"]).fill_null(False),
        is_moved=(outcomes["client_time"] < outcomes["timestamp"]).fill_null(False),
    )
    by = by.group_by("outcome", "label", "placed", "is_slow", "is_moved").aggregate(n=by.count())
    slow = moved = 0
    for row in rows_of(engine, by.order_by("outcome", "label", "placed", "is_slow", "is_moved")):
        outcome, n = row["outcome"], row["n"]
        kind = f"{LABEL_OF[row['label']]} labels" if row["label"] else "impressions" if row["placed"] else None
        if outcome == LABEL:
            writer.kept[kind or ""] += n
            slow += n if row["is_slow"] else 0
        elif outcome not in (SHOWN, HISTORY):
            writer.leave_out(outcome, n, of=None if outcome == REPEATED_IMPRESSION else kind)
        moved += n if row["is_moved"] and outcome in KEPT_AS_EVENTS else 0
    writer.notes |= {name: n for name, n in ((SLOW_LABELS, slow), (MOVED, moved)) if n}


def _gives_position(events: Table) -> Value:
    """Whether an impression event gives the position of a product for a query without hits."""
    in_time = events["timestamp"] >= events["queried_at"]
    whole = events["object_id"].notnull() & events["ordinal"].notnull()
    return (
        (events["action"] == IMPRESSION)
        & (events["has_hits"] == ibis.literal(False))
        & in_time.fill_null(False)
        & whole
    )


def _last_query(engine: Backend, queries: Table) -> Value:
    latest = rows_of(engine, queries.aggregate(latest=queries["timestamp"].max()))[0]["latest"]
    return ibis.literal(latest or LATEST)


def _outcome(events: Table, lists: _Lists, last_query: Value) -> Value:
    """The outcome of each event: how it is used, or why it is left out."""
    shown = lists.shown
    impression = events["action"] == IMPRESSION
    pair: Value = ibis.literal("\x1f")
    in_list = (events["query_id"] + pair + events["object_id"]).isin(shown["query_id"] + pair + shown["product_id"])
    searched = events["query_id"].isin(shown["query_id"])
    return ibis.cases(
        (events["action"].isnull() | events["timestamp"].isnull(), MALFORMED),
        (events["action"].notin(KNOWN_ACTIONS), _unknown_action(events["action"])),
        (events["object_id"].isnull(), NO_OBJECT),
        (events["timestamp"] < events["queried_at"], EARLY),
        (events["queried_at"].isnull() & (events["timestamp"] > last_query + _MAX_AGE), LATE),
        (impression & events["line"].isin(shown["line"]).fill_null(False), SHOWN),
        (impression & events["has_hits"].fill_null(True), NOT_NEEDED),
        (impression & events["ordinal"].isnull(), NO_ORDINAL),
        (impression & events["query_id"].isin(lists.misplaced["query_id"]), FROM_ZERO_EVENT),
        (impression & (events["ordinal"] < lists.first_ordinal), NO_ORDINAL),
        (impression, REPEATED_IMPRESSION),
        (events["action"].isin(LABEL_OF) & in_list.fill_null(False), LABEL),
        (events["customer_id"].isnull() & events["session_id"].isnull(), NO_VISITOR),
        (events["query_id"].isnull() & events["action"].isin(NEEDS_QUERY), NO_QUERY_OF_ACTION),
        (events["action"].isin(HISTORY_ONLY) | events["query_id"].isnull(), HISTORY),
        (searched, NOT_SHOWN),
        else_=UNKNOWN_QUERY,
    )


def _unknown_action(action: Value) -> Value:
    before, after = ibis.literal("event action '"), ibis.literal("'")
    return before + action.substr(0, _MAX_ACTION_LENGTH) + after


def _impressions(engine: Backend, queries: Table, shown: Table, outcomes: Table) -> Table:
    """The lists with their customer, session and labels."""
    labelled = outcomes.filter(outcomes["outcome"] == LABEL)
    sets = {
        task: labelled["action"].isin([action for action, label in LABEL_OF.items() if label == task]) for task in TASKS
    }
    labels = labelled.group_by("query_id", product_id=labelled["object_id"]).aggregate(
        **{task: is_set.max() for task, is_set in sets.items()}
    )
    present = _present_labels(engine, outcomes)
    columns = ("query_id", "customer_id", "session_id", "user_query", "timestamp")
    rows = shown.drop("line").inner_join(queries.select(*columns, query_line=queries["line"]), "query_id")
    rows = rows.left_join(labels, ["query_id", "product_id"]).drop("query_id_right", "product_id_right")
    impressions = rows.order_by("timestamp", "query_line", "position").select(
        "timestamp",
        search_id=rows["query_id"],
        customer_id=rows["customer_id"],
        session_id=rows["session_id"],
        query=rows["user_query"],
        product_id=rows["product_id"],
        position=rows["position"],
        **{task: rows[task].fill_null(False).cast("int8") if task in present else ibis.null("int8") for task in TASKS},
    )
    return keep(engine, "impressions", impressions)


def _present_labels(engine: Backend, outcomes: Table) -> frozenset[str]:
    """The labels that some event of the file sets; the shop does not send the others."""
    known = outcomes.filter(outcomes["timestamp"].notnull() & outcomes["action"].isin(LABEL_OF))
    return frozenset(LABEL_OF[row["action"]] for row in rows_of(engine, known.select("action").distinct()))
