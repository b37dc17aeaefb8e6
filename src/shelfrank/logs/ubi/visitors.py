"""Tells who asked each query of User Behavior Insights and in which session, whatever was done with its list."""

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.logs.engine import Table, Value, count, keep
from shelfrank.logs.writer import SearchLogWriter

SESSION_GAP_MINUTES = 30
"""The longest time between two queries of one session."""

SEVERAL_USERS = "clients of several users, each a customer of its own"
NO_CUSTOMER = "queries without a client_id, of nobody since not all of them have events with a user_id"


def name_customers(engine: Backend, writer: SearchLogWriter, queries: Table, events: Table) -> tuple[Table, Table]:
    """Adds `customer_id`: the only user that a client ever was in the file, else the client.

    Whether something was done with a list must not tell by whom it was asked. So a client is the same customer in all
    its queries, and queries without a client have their events' user only where each of them has one.

    Args:
        engine: Where the tables are kept.
        writer: Its notes count the clients of several users, and the queries of nobody.
        queries: Has `query_id` and `client_id`.
        events: Has `query_id`, `client_id`, `user_id`, `timestamp` and `line`. A client that is missing where the
            query has one is the query's.

    Returns:
        The queries and the events.
    """
    told = events.filter(events["client_id"].notnull() & events["user_id"].notnull())
    users = told.group_by("client_id").aggregate(n_users=told["user_id"].nunique(), only_user=told["user_id"].min())
    users = keep(engine, "users", users)
    n_several = count(engine, users.filter(users["n_users"] > 1))
    if n_several:
        writer.notes[SEVERAL_USERS] = n_several
    only = users.filter(users["n_users"] == 1).drop("n_users")
    asked = queries.left_join(only, "client_id").drop("client_id_right")
    done = events.left_join(only, "client_id").drop("client_id_right")
    asked = asked.left_join(_users_without_client(engine, writer, queries, events), "query_id").drop("query_id_right")
    of_query = ibis.coalesce(asked["only_user"], asked["client_id"], asked["user_of_events"])
    of_event = ibis.coalesce(done["only_user"], done["client_id"], done["user_id"])
    asked = asked.mutate(customer_id=of_query).drop("only_user", "user_of_events")
    return keep(engine, "asked_by", asked), done.mutate(customer_id=of_event).drop("only_user")


def name_sessions(queries: Table, events: Table) -> tuple[Table, Table]:
    """Adds `session_id`: queries of one client, or of one customer without a client, that follow each other soon.

    Sessions are made of queries alone, since a session that only events tell would tell of the events. An event has
    its query's session, or that of its client's latest query where that was asked soon before it.

    Args:
        queries: Has `query_id`, `client_id`, `customer_id`, `timestamp` and `line`.
        events: Has these, and `asked_at`, the time of its query where that is known.

    Returns:
        The queries and the events.
    """
    soon: Value = ibis.interval(minutes=SESSION_GAP_MINUTES)
    asked = queries.mutate(person=ibis.coalesce(queries["client_id"], queries["customer_id"]))
    order = ("timestamp", "line")
    previous = asked["timestamp"].lag().over(group_by="person", order_by=order)
    asked = asked.mutate(starts=(asked["timestamp"] > previous + soon).fill_null(False).cast("int64"))
    nth = asked["starts"].sum().over(ibis.cumulative_window(group_by="person", order_by=order))
    # Counting in time order, not within the file, keeps an id whatever is asked later.
    asked = asked.mutate(session_id=asked["person"] + "#" + nth.cast("string")).drop("starts")

    # Queries of one moment are of one session, so that no tie is left to chance.
    moments = asked.filter(asked["person"].notnull())
    moments = moments.select("person", latest_at="timestamp", latest_session="session_id").distinct()
    done = events.mutate(person=ibis.coalesce(events["client_id"], events["user_id"]))
    done = done.left_join(asked.select("query_id", session_of_query="session_id"), "query_id").drop("query_id_right")
    done = done.asof_join(moments, on=done["timestamp"] >= moments["latest_at"], predicates="person")
    recent = done["timestamp"] <= done["latest_at"] + soon
    latest = recent.ifelse(done["latest_session"], ibis.null("string"))
    done = done.mutate(session_id=done["asked_at"].notnull().ifelse(done["session_of_query"], latest))
    return asked.drop("person"), done.drop("person", "person_right", "latest_at", "latest_session", "session_of_query")


def _users_without_client(engine: Backend, writer: SearchLogWriter, queries: Table, events: Table) -> Table:
    """The user of the first event of each query without a client; none where some such query has none."""
    nobodys = queries.filter(queries["client_id"].isnull())
    of_users = events.filter(events["user_id"].notnull()).semi_join(nobodys, "query_id")
    nth = ibis.row_number().over(group_by="query_id", order_by=("timestamp", "line"))
    first = of_users.mutate(nth=nth)
    first = first.filter(first["nth"] == 0).select("query_id", user_of_events="user_id")
    first = keep(engine, "users_without_client", first)
    if not count(engine, nobodys.anti_join(first, "query_id")):
        return first
    writer.notes[NO_CUSTOMER] = count(engine, nobodys)
    return first.limit(0)
