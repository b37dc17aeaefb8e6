"""Spells the ids and the query of a page or an event as the log has them."""

from dataclasses import replace

from shelfrank.core.schema import Spelling
from shelfrank.features.request import Event, PageRequest


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
    if event.ordinal is not None:
        event = replace(event, position=event.ordinal + 1 - spelling.first_ordinal, ordinal=None)
    query = None if event.query is None else spelling.query(event.query)
    if spelling.ids == "as_written":
        if event.client_id is not None:
            event = replace(event, customer_id=event.customer_id or event.client_id, client_id=None)
        return event if query == event.query else replace(event, query=query)
    customer = spelling.of_id("customer_id")
    return replace(
        event,
        product_id=spelling.of_id("product_id").of(event.product_id) or "",
        action=spelling.of_id("action").of(event.action) or "",
        query=query,
        customer_id=customer.of(event.customer_id) or customer.of(event.client_id),
        client_id=None,
        session_id=spelling.of_id("session_id").of(event.session_id),
        search_id=spelling.of_id("search_id").of(event.search_id),
    )
