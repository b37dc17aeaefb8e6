"""Assigns a customer and a session to each query and event, without using what happened on the results page."""

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.logs.engine import Table, Value, count, keep
from shelfrank.logs.writer import SearchLogWriter

SESSION_GAP_MINUTES = 30
"""The longest time between two queries of one session."""

SEVERAL_USERS = "clients with several users, each kept as a customer of its own"
NO_CUSTOMER = "queries without a client_id, left anonymous since not all of them have events with a user_id"


def name_customers(engine: Backend, writer: SearchLogWriter, queries: Table, events: Table) -> tuple[Table, Table]:
    """Adds `customer_id`: the only user that a client ever was in the file, else the client.

    The customer of a search must not depend on whether its results page was clicked. So a client is the same customer
    in all of its queries, and queries without a client get the user of their events only where each of them has one.

    Args:
        engine: Holds the tables.
        writer: Notes the number of clients with several users and of anonymous queries.
        queries: Has `query_id` and `client_id`.
        events: Has `query_id`, `client_id`, `user_id`, `timestamp` and `line`. An event without a client already has
            its query's.

    Returns:
        The queries and the events.
    """
    known = events.filter(events["client_id"].notnull() & events["user_id"].notnull())
    users = known.group_by("client_id").aggregate(n_users=known["user_id"].nunique(), only_user=known["user_id"].min())
    users = keep(engine, "users", users)
    n_several = count(engine, users.filter(users["n_users"] > 1))
    if n_several:
        writer.notes[SEVERAL_USERS] = n_several
    only = users.filter(users["n_users"] == 1).drop("n_users")
    users_of_events = _users_without_client(engine, writer, queries, events)
    queries = queries.left_join(only, "client_id").drop("client_id_right")
    events = events.left_join(only, "client_id").drop("client_id_right")
    queries = queries.left_join(users_of_events, "query_id").drop("query_id_right")
    customer_of_query = ibis.coalesce(queries["only_user"], queries["client_id"], queries["user_of_events"])
    customer_of_event = ibis.coalesce(events["only_user"], events["client_id"], events["user_id"])
    queries = queries.mutate(customer_id=customer_of_query).drop("only_user", "user_of_events")
    return keep(engine, "queries_of_customers", queries), events.mutate(customer_id=customer_of_event).drop("only_user")


def name_sessions(queries: Table, events: Table) -> tuple[Table, Table]:
    """Adds `session_id`: queries of one client (or customer without a client) within 30 minutes share a session.

    Only queries define sessions: a session defined by events would leak whether there were any. An event joins its
    query's session, or the session of its client's latest query if that query is at most 30 minutes older.

    Args:
        queries: Has `query_id`, `client_id`, `customer_id`, `timestamp` and `line`.
        events: Has these, and `queried_at`, the time of its query where the query is known.

    Returns:
        The queries and the events.
    """
    gap: Value = ibis.interval(minutes=SESSION_GAP_MINUTES)
    queries = queries.mutate(visitor=ibis.coalesce(queries["client_id"], queries["customer_id"]))
    order = ("timestamp", "line")
    previous = queries["timestamp"].lag().over(group_by="visitor", order_by=order)
    queries = queries.mutate(starts=(queries["timestamp"] > previous + gap).fill_null(False).cast("int64"))
    nth = queries["starts"].sum().over(ibis.cumulative_window(group_by="visitor", order_by=order))
    # Numbered in time order, so that later queries leave earlier session ids unchanged.
    queries = queries.mutate(session_id=queries["visitor"] + "#" + nth.cast("string")).drop("starts")

    # A visitor's queries with one timestamp share a session, so `distinct` leaves no ties to the join.
    latest = queries.filter(queries["visitor"].notnull())
    latest = latest.select("visitor", latest_at="timestamp", latest_session="session_id").distinct()
    of_query = queries.select("query_id", session_of_query="session_id")
    events = events.mutate(visitor=ibis.coalesce(events["client_id"], events["user_id"]))
    events = events.left_join(of_query, "query_id").drop("query_id_right")
    events = events.asof_join(latest, on=events["timestamp"] >= latest["latest_at"], predicates="visitor")
    is_recent = events["timestamp"] <= events["latest_at"] + gap
    of_latest = is_recent.ifelse(events["latest_session"], ibis.null("string"))
    events = events.mutate(session_id=events["queried_at"].notnull().ifelse(events["session_of_query"], of_latest))
    events = events.drop("visitor", "visitor_right", "latest_at", "latest_session", "session_of_query")
    return queries.drop("visitor"), events


def _users_without_client(engine: Backend, writer: SearchLogWriter, queries: Table, events: Table) -> Table:
    """The user of the first event of each query without a client; no rows if any such query has no such event."""
    without_client = queries.filter(queries["client_id"].isnull())
    of_users = events.filter(events["user_id"].notnull()).semi_join(without_client, "query_id")
    nth = ibis.row_number().over(group_by="query_id", order_by=("timestamp", "line"))
    first = of_users.mutate(nth=nth)
    first = first.filter(first["nth"] == 0).select("query_id", user_of_events="user_id")
    first = keep(engine, "users_without_client", first)
    if not count(engine, without_client.anti_join(first, "query_id")):
        return first
    writer.notes[NO_CUSTOMER] = count(engine, without_client)
    return first.limit(0)
