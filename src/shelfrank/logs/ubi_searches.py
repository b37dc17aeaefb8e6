"""Joins the queries and events of User Behavior Insights: searches with labels, and history."""

from dataclasses import dataclass

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS
from shelfrank.engine.embedded import epoch_us
from shelfrank.logs.engine import Table, Value, keep, rows_of
from shelfrank.logs.raw_files import count
from shelfrank.logs.search_log import MOST_LOST, SearchLogWriter
from shelfrank.logs.times import LATEST
from shelfrank.logs.ubi_actions import HISTORY_ONLY, IMPRESSION, KNOWN_ACTIONS, LABEL_OF, NEEDS_QUERY
from shelfrank.logs.ubi_people import name_customers, name_sessions
from shelfrank.logs.whole_days import EVENTS, SEARCHES, note_whole_days

NO_QUERY_ID = "queries without a query_id"
NO_QUERY = "queries without a user_query"
NO_TIME = "queries without a readable timestamp"
REPEATED_QUERY = "queries with the query_id of an earlier one"
NO_LIST = "queries without a shown list"
NO_HIT_ID = "hits without an id"
REPEATED_HIT = "hits that stand in the same list again"

MALFORMED = "events without an action_name or a readable timestamp"
NO_OBJECT = "events on a product that name no object_id"
EARLY = "events more than a day earlier than their query"
LATE = "events more than 30 days after the last query of the file"
NOBODY = "events without a query's list, and of no user, client or session"
NOT_NEEDED = "impression events of queries that have a list, or that are unknown"
FROM_ZERO_LIST = "queries whose list begins at ordinal 0, while the first ordinal is 1"
FROM_ZERO_EVENT = "impression events of lists that begin at ordinal 0, while the first ordinal is 1"
NO_ORDINAL = "impression events without an ordinal of 1 or more"
REPEATED_IMPRESSION = "impression events of a product or position that the query showed already"
NOT_SHOWN = "events on a product that is not in their query's list (kept as events)"
UNKNOWN_QUERY = "events of a query that the log does not hold (kept as events)"
NO_QUERY_OF_ACTION = "carts and purchases without a query_id (kept as events)"

LABEL, SHOWN, HISTORY = "label", "shown", "history"
"""What becomes of an event that is not left out."""

KEPT_AS_EVENTS = (HISTORY, NOT_SHOWN, UNKNOWN_QUERY, NO_QUERY_OF_ACTION)

SLOW_LABELS = "labels that are earlier than their query by the client's clock, kept as labels of that query"
MOVED = "events kept as history whose client's clock is behind, moved later by the most that it is known to be behind"
DECLARED = "counted from 0, as declared"
FROM_ZERO = "counted from 0, as every list that impression events make begins there"

_TOLERANCE: Value = ibis.interval(days=1)
"""The most by which a client's clock may be behind the server's: a wrong time zone, but no other day."""
_MOST_BEHIND_US = 10 * 60 * 1_000_000
"""The most by which a clock that is behind moves other events of its client."""
_CLOCK_HOLDS_US = 60 * 60 * 1_000_000
"""How long after an event, by the client's clock, what it tells of the clock holds for others."""
_LATEST_AFTER: Value = ibis.interval(days=30)
_LONGEST_ACTION = 60


@dataclass(frozen=True)
class Searches:
    """What queries and events become.

    Attributes:
        impressions: The log's impressions, with their labels.
        events: The log's events.
        has_events: Whether there are any.
    """

    impressions: Table
    events: Table
    has_events: bool


@dataclass(frozen=True)
class _Lists:
    """The lists, and where the positions of those that impression events make begin.

    Attributes:
        shown: Query, product, position, and the line of the impression event where one tells it.
        first_ordinal: The ordinal of the topmost product.
        misplaced: Queries whose list begins before it, and is left out.
    """

    shown: Table
    first_ordinal: int
    misplaced: Table


def make_searches(
    engine: Backend, writer: SearchLogWriter, queries: Table, events: Table, first_ordinal: int | None = None
) -> Searches:
    """Makes searches of queries, labels of the events on their lists, and history of the other events.

    Args:
        engine: Where the tables are kept.
        writer: Counts what is left out.
        queries: Rows of `QUERY_COLUMNS`.
        events: Rows of `EVENT_COLUMNS`.
        first_ordinal: The ordinal of the topmost product; None looks where the lists begin.

    Returns:
        The tables of the log.

    Raises:
        UserError: Where the ordinals of impression events begin at 0 in some lists and at 1 in others.
    """
    asked = _asked(engine, writer, queries)
    joined = keep(engine, "joined", _in_time(_joined(events, asked)))
    asked, done = name_sessions(*name_customers(engine, writer, asked, joined))
    asked, done = keep(engine, "asked_in_session", asked), keep(engine, "events", done)
    lists = _lists(engine, writer, asked, done, first_ordinal)
    shown = lists.shown
    fates = keep(engine, "fates", done.mutate(fate=_fate(done, lists, _last_query(engine, asked))))
    _count_fates(engine, writer, fates)
    for name, table in (("queries", queries), ("events", events)):
        n = count(engine, table.filter("without_zone"))
        if n:
            writer.notes[f"timestamps of {name} without a time zone, read as UTC"] = n
        known = table.filter(table["unit"].notnull() & table["timestamp"].notnull())
        for row in rows_of(engine, known.group_by("unit").aggregate(n=known.count()).order_by("unit")):
            writer.notes[f"timestamps of {name} read as {row['unit']} since 1970, as their size shows"] = row["n"]
    kept = fates.filter(fates["fate"].isin(KEPT_AS_EVENTS)).order_by("timestamp", "line")
    note_whole_days(engine, writer, "queries", asked.semi_join(shown, "query_id"), SEARCHES)
    note_whole_days(engine, writer, "events", kept, EVENTS)
    history = kept.select("timestamp", "session_id", "customer_id", product_id=kept["object_id"], action=kept["action"])
    impressions = _impressions(engine, asked, shown, fates)
    return Searches(impressions, history, has_events=bool(rows_of(engine, history.limit(1))))


def _asked(engine: Backend, writer: SearchLogWriter, queries: Table) -> Table:
    """The queries that can become searches, each id once."""
    fate: Value = ibis.cases(
        (queries["query_id"].isnull(), NO_QUERY_ID),
        (queries["user_query"].isnull(), NO_QUERY),
        (queries["timestamp"].isnull(), NO_TIME),
        else_="",
    )
    # Only a query that could be a search makes a later one of its id a repeated one.
    nth = ibis.row_number().over(group_by=("query_id", "fate"), order_by=("timestamp", "line"))
    rows = queries.mutate(fate=fate).mutate(nth=nth)
    again = (rows["fate"] == "") & (rows["nth"] > 0)
    rows = keep(engine, "asked", rows.mutate(fate=again.ifelse(REPEATED_QUERY, rows["fate"])))
    for row in rows_of(engine, rows.group_by("fate").aggregate(n=rows.count()).order_by("fate")):
        if row["fate"] == REPEATED_QUERY:
            writer.leave_out(row["fate"], row["n"])
        elif row["fate"]:
            writer.leave_out(row["fate"], row["n"], of="queries")
    return rows.filter(rows["fate"] == "")


def _joined(events: Table, asked: Table) -> Table:
    """The events with the time of their query, whether its hits are known, and its client where they name none."""
    queries = asked.select(
        "query_id", asked_at=asked["timestamp"], has_hits=asked["hits"].notnull(), client_of_query=asked["client_id"]
    )
    joined = events.left_join(queries, "query_id").drop("query_id_right")
    return joined.mutate(client_id=ibis.coalesce(joined["client_id"], joined["client_of_query"])).drop(
        "client_of_query"
    )


def _in_time(events: Table) -> Table:
    """The events, those of a client whose clock is behind moved later; `told_at` is what the client said.

    An event with a query of the file cannot be before it, so it tells by how much its client's clock is behind. What
    the client tells within the next hour of its clock is moved by the most of it. Nothing earlier is: what a file
    holds of a day does not change by what is done later. Nor does a lag of more than `_MOST_BEHIND` move other events:
    it is rather one event that was held back.
    """
    told_us: Value = epoch_us(events["timestamp"])
    asked_us: Value = epoch_us(events["asked_at"])
    behind_us = asked_us - told_us
    is_slow = (events["timestamp"] < events["asked_at"]) & (events["timestamp"] >= events["asked_at"] - _TOLERANCE)
    own = is_slow.fill_null(False).ifelse(behind_us, 0)
    who = ibis.coalesce(events["client_id"], events["user_id"])
    rows = events.mutate(own_lag=own, who=who, told_us=told_us)
    of_clock = (rows["own_lag"] <= _MOST_BEHIND_US).ifelse(rows["own_lag"], 0)
    before = ibis.window(group_by="who", order_by="told_us", range=(-_CLOCK_HOLDS_US, 0))
    of_client = rows["who"].notnull().ifelse(of_clock.max().over(before), 0)
    rows = rows.mutate(lag=ibis.greatest(rows["own_lag"], of_client))
    moved = rows["timestamp"] + rows["lag"].as_interval("us")
    return rows.mutate(told_at=rows["timestamp"], timestamp=moved).drop("own_lag", "lag", "who", "told_us")


def _lists(engine: Backend, writer: SearchLogWriter, asked: Table, done: Table, declared: int | None) -> _Lists:
    """What queries showed, told by their hits or by impression events."""
    hits = asked["hits"]
    places: Value = ibis.range(hits.length())
    first = places.filter(lambda place: hits[place].notnull() & (hits.index(hits[place]) == place))
    listed = asked.filter(hits.notnull()).select("query_id", "hits", "n_hits_without_id", kept=first)
    listed = keep(engine, "listed", listed)
    placed = listed.select("query_id", "hits", place=listed["kept"].unnest())
    of_hits = placed.select(
        "query_id",
        product_id=placed["hits"][placed["place"]],
        position=(placed["place"] + 1).cast("int32"),
        line=ibis.null("int64"),
    )
    usable = _tells_a_place(done)
    placed_events = done.filter(usable)
    tops = placed_events.group_by("query_id").aggregate(top=placed_events["ordinal"].min())
    tops = keep(engine, "tops", tops)
    first_ordinal = _first_ordinal(engine, writer, tops, declared)
    writer.declare_first_ordinal(first_ordinal)
    misplaced = tops.filter(tops["top"] < first_ordinal).select("query_id")
    usable &= done["query_id"].notin(misplaced["query_id"])
    by_product = ibis.row_number().over(group_by=("query_id", "object_id"), order_by=("timestamp", "line"))
    once = done.filter(usable).mutate(nth=by_product)
    once = once.filter(once["nth"] == 0).drop("nth")
    by_position = ibis.row_number().over(group_by=("query_id", "ordinal"), order_by=("timestamp", "line"))
    once = once.mutate(nth=by_position)
    told = once.filter(once["nth"] == 0)
    of_events = told.select(
        "query_id",
        product_id=told["object_id"],
        position=(told["ordinal"] + (1 - first_ordinal)).cast("int32"),
        line=told["line"],
    )
    shown = keep(engine, "shown", of_hits.union(of_events))
    without_id = listed["n_hits_without_id"].sum()
    again = (listed["hits"].length() - listed["n_hits_without_id"] - listed["kept"].length()).sum()
    for lost in rows_of(engine, listed.aggregate(without_id=without_id, again=again)):
        writer.leave_out(NO_HIT_ID, int(lost["without_id"] or 0), of="impressions")
        writer.leave_out(REPEATED_HIT, int(lost["again"] or 0))
    unlisted, n_misplaced = count(engine, asked.anti_join(shown, "query_id")), count(engine, misplaced)
    writer.leave_out(NO_LIST, unlisted - n_misplaced, of="queries")
    writer.leave_out(FROM_ZERO_LIST, n_misplaced, of="queries")
    writer.kept["queries"] += count(engine, asked) - unlisted
    writer.kept["impressions"] += count(engine, shown)
    return _Lists(shown, first_ordinal, misplaced)


def _first_ordinal(engine: Backend, writer: SearchLogWriter, tops: Table, declared: int | None) -> int:
    """The ordinal of the topmost product: the declared one, or 0 where every list that events make begins there."""
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
    if n_0 > MOST_LOST * n:
        raise UserError(
            f"ordinals of impression events must count from 1, or from 0 in every list, but {n_0:,} of {n:,} lists "
            "begin at 0 and the others do not; let all clients count alike, or say with `first_ordinal` 0 that 0 is "
            "the top of all, and with `first_ordinal` 1 that lists from 0 are to be left out"
        )
    return 1


def _count_fates(engine: Backend, writer: SearchLogWriter, fates: Table) -> None:
    """Counts what is left out, by kind where it could have been a label or an impression, and what was moved."""
    # A click may well be outside the lists; what a cart or purchase followed from is lost without its query.
    could = (fates["query_id"].notnull() & fates["action"].isin(LABEL_OF)) | fates["action"].isin(NEEDS_QUERY)
    placed = (fates["action"] == IMPRESSION) & (fates["has_hits"] == ibis.literal(False))
    by = fates.mutate(
        label=could.ifelse(fates["action"], ibis.null("string")),
        placed=placed.fill_null(False),
        is_slow=(fates["told_at"] < fates["asked_at"]).fill_null(False),
        is_moved=(fates["told_at"] < fates["timestamp"]).fill_null(False),
    )
    by = by.group_by("fate", "label", "placed", "is_slow", "is_moved").aggregate(n=by.count())
    slow = moved = 0
    for row in rows_of(engine, by.order_by("fate", "label", "placed", "is_slow", "is_moved")):
        fate, n = row["fate"], row["n"]
        kind = f"{LABEL_OF[row['label']]} labels" if row["label"] else "impressions" if row["placed"] else None
        if fate == LABEL:
            writer.kept[kind or ""] += n
            slow += n if row["is_slow"] else 0
        elif fate not in (SHOWN, HISTORY):
            writer.leave_out(fate, n, of=None if fate == REPEATED_IMPRESSION else kind)
        moved += n if row["is_moved"] and fate in KEPT_AS_EVENTS else 0
    writer.notes |= {name: n for name, n in ((SLOW_LABELS, slow), (MOVED, moved)) if n}


def _tells_a_place(done: Table) -> Value:
    """Whether an impression event says where its query, whose hits are not known, showed a product."""
    in_time = done["timestamp"] >= done["asked_at"]
    whole = done["object_id"].notnull() & done["ordinal"].notnull()
    return (done["action"] == IMPRESSION) & (done["has_hits"] == ibis.literal(False)) & in_time.fill_null(False) & whole


def _last_query(engine: Backend, asked: Table) -> Value:
    latest = rows_of(engine, asked.aggregate(latest=asked["timestamp"].max()))[0]["latest"]
    return ibis.literal(latest or LATEST)


def _fate(done: Table, lists: _Lists, last_query: Value) -> Value:
    """What becomes of each event."""
    shown = lists.shown
    impression = done["action"] == IMPRESSION
    pair: Value = ibis.literal("\x1f")
    in_list = (done["query_id"] + pair + done["object_id"]).isin(shown["query_id"] + pair + shown["product_id"])
    searched = done["query_id"].isin(shown["query_id"])
    return ibis.cases(
        (done["action"].isnull() | done["timestamp"].isnull(), MALFORMED),
        (done["action"].notin(KNOWN_ACTIONS), _unknown_action(done["action"])),
        (done["object_id"].isnull(), NO_OBJECT),
        (done["timestamp"] < done["asked_at"], EARLY),
        (done["asked_at"].isnull() & (done["timestamp"] > last_query + _LATEST_AFTER), LATE),
        (impression & done["line"].isin(shown["line"]).fill_null(False), SHOWN),
        (impression & done["has_hits"].fill_null(True), NOT_NEEDED),
        (impression & done["ordinal"].isnull(), NO_ORDINAL),
        (impression & done["query_id"].isin(lists.misplaced["query_id"]), FROM_ZERO_EVENT),
        (impression & (done["ordinal"] < lists.first_ordinal), NO_ORDINAL),
        (impression, REPEATED_IMPRESSION),
        (done["action"].isin(LABEL_OF) & in_list.fill_null(False), LABEL),
        (done["customer_id"].isnull() & done["session_id"].isnull(), NOBODY),
        (done["query_id"].isnull() & done["action"].isin(NEEDS_QUERY), NO_QUERY_OF_ACTION),
        (done["action"].isin(HISTORY_ONLY) | done["query_id"].isnull(), HISTORY),
        (searched, NOT_SHOWN),
        else_=UNKNOWN_QUERY,
    )


def _unknown_action(action: Value) -> Value:
    before, after = ibis.literal("event action '"), ibis.literal("'")
    return before + action.substr(0, _LONGEST_ACTION) + after


def _impressions(engine: Backend, asked: Table, shown: Table, fates: Table) -> Table:
    """The lists with the customer, the session and the labels of each."""
    taken = fates.filter(fates["fate"] == LABEL)
    acted = {
        task: taken["action"].isin([action for action, label in LABEL_OF.items() if label == task]) for task in TASKS
    }
    labels = taken.group_by("query_id", product_id=taken["object_id"]).aggregate(
        **{task: done.max() for task, done in acted.items()}
    )
    present = _present_labels(engine, fates)
    queries = asked.select("query_id", "customer_id", "session_id", "user_query", "timestamp", asked_line=asked["line"])
    rows = shown.drop("line").inner_join(queries, "query_id")
    rows = rows.left_join(labels, ["query_id", "product_id"]).drop("query_id_right", "product_id_right")
    impressions = rows.order_by("timestamp", "asked_line", "position").select(
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


def _present_labels(engine: Backend, fates: Table) -> frozenset[str]:
    """The labels that some event of the file sets; any other is a signal that the shop does not send."""
    known = fates.filter(fates["timestamp"].notnull() & fates["action"].isin(LABEL_OF))
    return frozenset(LABEL_OF[row["action"]] for row in rows_of(engine, known.select("action").distinct()))
