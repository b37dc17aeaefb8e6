"""Spells the ids and the query of a page or an event as the log has them."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from shelfrank.core.schema import Spelling
from shelfrank.features.request import Event, PageRequest

IDS = ("product_id", "action", "customer_id", "session_id", "search_id")


def spell_page(request: PageRequest, spelling: Spelling) -> PageRequest:
    """Spells a page as the log would; spelling it again changes nothing.

    Args:
        request: The page; a blank id or a null word is no id.
        spelling: The log's.

    Returns:
        The page.
    """
    query = spelling.query(request.query)
    if spelling.ids == "as_written":
        return request if query == request.query else replace(request, query=query)
    product = spelling.of_id("product_id")
    return replace(
        request,
        query=query,
        product_ids=[product.of(each) or "" for each in request.product_ids],
        customer_id=spelling.of_id("customer_id").of(request.customer_id),
        session_id=spelling.of_id("session_id").of(request.session_id),
        search_id=spelling.of_id("search_id").of(request.search_id),
    )


def spell_event(event: Event, spelling: Spelling) -> Event:
    """Spells an event as the log would; see `spell_page`.

    Args:
        event: The event.
        spelling: The log's, with the words for a missing id.

    Returns:
        The event, with its client as customer where it has none; a missing product or action is empty.
    """
    return spell_events([event], spelling)[0]


def spell_events(events: Iterable[Event], spelling: Spelling) -> list[Event]:
    """Spells events as the log would; see `spell_event`.

    Args:
        events: The events.
        spelling: The log's.

    Returns:
        The events in their order.
    """
    if spelling.ids == "as_written":
        return [_spell_query(event, spelling) for event in events]
    # A page's events share most ids, and a start spells a hundred thousand events.
    product, action, customer, session, search = (cache(spelling.of_id(name).of) for name in IDS)
    return [
        Event(
            product_id=product(event.product_id) or "",
            action=action(event.action) or "",
            ts_us=event.ts_us,
            customer_id=customer(event.customer_id) or customer(event.client_id),
            session_id=session(event.session_id),
            query=None if event.query is None else spelling.query(event.query),
            position=_position(event, spelling),
            price=event.price,
            search_id=search(event.search_id),
        )
        for event in events
    ]


def _spell_query(event: Event, spelling: Spelling) -> Event:
    """Spells an event whose ids stay as they are."""
    query = None if event.query is None else spelling.query(event.query)
    if event.ordinal is None and event.client_id is None and query == event.query:
        return event
    customer, position = event.customer_id, _position(event, spelling)
    if event.client_id is not None:
        customer = customer or event.client_id
    return replace(event, query=query, customer_id=customer, client_id=None, position=position, ordinal=None)


def _position(event: Event, spelling: Spelling) -> int | None:
    return event.position if event.ordinal is None else event.ordinal + 1 - spelling.first_ordinal
