"""Spells the ids and the query of a page or an event as the log has them."""

from dataclasses import replace

from shelfrank.online.asked import Asked, Event
from shelfrank.schema import Spelling


def spell_page(asked: Asked, spelling: Spelling) -> Asked:
    """The same page, spelled; spelling it again changes nothing.

    Args:
        asked: What was asked; a customer or a session of a null word or of blanks is nobody.
        spelling: The log's.

    Returns:
        The page.
    """
    query = spelling.query(asked.query)
    if spelling.ids == "as_written":
        return asked if query == asked.query else replace(asked, query=query)
    product = spelling.of_id("product_id")
    return replace(
        asked,
        query=query,
        product_ids=[product.of(each) or "" for each in asked.product_ids],
        customer_id=spelling.of_id("customer_id").of(asked.customer_id),
        session_id=spelling.of_id("session_id").of(asked.session_id),
        search_id=spelling.of_id("search_id").of(asked.search_id),
    )


def spell_event(event: Event, spelling: Spelling) -> Event:
    """The same event, spelled; see `spell_page`."""
    if event.ordinal is not None:
        event = replace(event, position=event.ordinal + 1 - spelling.first_ordinal, ordinal=None)
    query = None if event.query is None else spelling.query(event.query)
    if spelling.ids == "as_written":
        return event if query == event.query else replace(event, query=query)
    customer, session, search = (
        spelling.of_id(name).of(value)
        for name, value in (
            ("customer_id", event.customer_id),
            ("session_id", event.session_id),
            ("search_id", event.search_id),
        )
    )
    return replace(
        event,
        product_id=spelling.of_id("product_id").of(event.product_id) or "",
        query=query,
        customer_id=customer,
        session_id=session,
        search_id=search,
    )
