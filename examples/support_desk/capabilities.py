"""A customer support desk: seven capabilities over one SQLite file. `packetflow start` serves them; each is a plain function."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated

from pydantic import Field

from packetflow import Context, ResourceSettings, capability, counter, resource

from .records import Author, Customer, CustomerId, Status, Summary, Text, Ticket, TicketId, TicketPage, Topic
from .store import Desk


@resource
def desk(settings: ResourceSettings) -> Iterator[Desk]:
    """The desk of this node, in `support_desk.sqlite` in its data folder."""
    store = Desk(settings.data_folder / "support_desk.sqlite")
    try:
        yield store
    finally:
        store.close()


@capability("customer.lookup", tags=["customer"], examples=[{"customer_id": "C-1001"}], timeout=10.0)
def lookup_customer(customer_id: CustomerId, desk: Annotated[Desk, desk]) -> Customer:
    """Look a customer up by id."""
    return desk.customer(customer_id)


@capability(
    "ticket.open",
    tags=["ticket"],
    examples=[{"customer_id": "C-1001", "text": "My card was stolen", "topic": "report_lost_card"}],
    effects=[counter("tickets_opened")],
    timeout=10.0,
)
def open_ticket(
    customer_id: CustomerId, text: Text, desk: Annotated[Desk, desk], topic: Topic = "general"
) -> Ticket:
    """Open a ticket for a customer.

    Answers `not_found` with the nearest ids if there is no such customer.
    """
    return desk.open_ticket(customer_id, text, topic)


@capability(
    "ticket.find",
    tags=["ticket"],
    examples=[{"query": "stolen card", "status": "open"}, {"customer_id": "C-1001", "limit": 5}],
    timeout=10.0,
)
def find_tickets(
    desk: Annotated[Desk, desk],
    query: Annotated[str | None, Field(min_length=1, max_length=200, examples=["lost lugg*"])] = None,
    status: Status | None = None,
    customer_id: CustomerId | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: TicketId | None = None,
) -> TicketPage:
    """Find tickets by words, status and customer, the newest first.

    query: words that one message must all contain, in any English form; `word*` is a beginning. For the next page ask
    again with `cursor` set to the answer's `next_cursor`.
    """
    return desk.find(query, status, customer_id, limit, cursor)


@capability(
    "ticket.reply",
    tags=["ticket"],
    examples=[{"ticket_id": "T-1", "text": "Your new card is on its way", "author": "agent"}],
    timeout=10.0,
)
def reply_to_ticket(
    ticket_id: TicketId,
    text: Text,
    desk: Annotated[Desk, desk],
    author: Author = "agent",
    reopen: bool = False,
) -> Ticket:
    """Reply in a ticket: an agent's reply makes it pending, a customer's open again.

    A closed ticket answers `conflict`, unless `reopen` is set.
    """
    return desk.reply(ticket_id, text, author, reopen)


@capability(
    "ticket.close",
    tags=["ticket"],
    examples=[{"ticket_id": "T-1", "resolution": "Card blocked and replaced"}],
    effects=[counter("tickets_closed")],
    timeout=10.0,
)
def close_ticket(ticket_id: TicketId, desk: Annotated[Desk, desk], resolution: Text | None = None) -> Ticket:
    """Close a ticket, with a last word to the customer.

    A ticket that is closed already answers `conflict`.
    """
    return desk.close_ticket(ticket_id, resolution)


@capability("ticket.export", tags=["ticket"], examples=[{}, {"status": "open"}], timeout=10.0)
def export_tickets(
    context: Context,
    desk: Annotated[Desk, desk],
    status: Status | None = None,
    customer_id: CustomerId | None = None,
) -> Iterator[Ticket]:
    """Give all tickets of a status or a customer one after the other, the newest first, however many there are."""
    cursor: str | None = None
    given = 0
    while True:
        page = desk.find(None, status, customer_id, 100, cursor)
        yield from page.tickets
        given += len(page.tickets)
        context.progress(given, text="tickets")
        cursor = page.next_cursor
        if cursor is None:
            return


@capability("ticket.summary", tags=["ticket"], examples=[{}, {"since": "2026-01-01", "top": 3}], timeout=10.0)
def summarise_tickets(
    desk: Annotated[Desk, desk],
    since: date | None = None,
    until: date | None = None,
    top: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Summary:
    """Count the tickets opened in a period by status and topic; name the oldest open one and the busiest customers.

    since, until: days in UTC, both included; without them, all tickets.
    """
    return desk.summary(since, until, top)
