"""What the command line's tests call: tickets, and work that is slow, fails, or leaves a mark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import gevent
from pydantic import BaseModel, Field

from packetflow import Context, ResourceSettings, capability, resource


class Ticket(BaseModel):
    """A customer's question."""

    id: str
    customer_id: str
    text: str
    open: bool = True


@resource
def tickets(settings: ResourceSettings) -> Iterator[list[Ticket]]:
    """The tickets, for as long as the node runs."""
    yield []


@resource
def marks(settings: ResourceSettings) -> Iterator[Path]:
    """A file that keeps every mark, also over a restart."""
    yield settings.data_folder / "marks.txt"


@capability("ticket.open", tags=["ticket"], examples=[{"customer_id": "C-1001", "text": "my card is lost"}])
def open_ticket(
    customer_id: str,
    text: Annotated[str, Field(min_length=1, max_length=4000, description="What the customer wrote.")],
    tickets: Annotated[list[Ticket], tickets],
) -> Ticket:
    """Open a ticket for a customer."""
    ticket = Ticket(id=f"T-{len(tickets) + 1}", customer_id=customer_id, text=text)
    tickets.append(ticket)
    return ticket


@capability("ticket.find", tags=["ticket"])
def find_tickets(
    tickets: Annotated[list[Ticket], tickets],
    words: str = "",
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
) -> list[Ticket]:
    """The tickets whose text holds some words."""
    return [ticket for ticket in tickets if words in ticket.text][:limit]


@capability("ticket.export", tags=["ticket"])
def export_tickets(tickets: Annotated[list[Ticket], tickets]) -> Iterator[Ticket]:
    """All tickets, one after the other."""
    yield from list(tickets)


@capability("work.count", tags=["work"])
def count(
    context: Context,
    marks: Annotated[Path, marks],
    upto: int | None = None,
    seconds: float = 0.0,
    fail_at: int | None = None,
) -> Iterator[int]:
    """Count, with some seconds between two numbers; leave the mark -1 at the end, however that comes."""
    number = 0
    try:
        while upto is None or number < upto:
            if number == fail_at:
                raise ValueError("no further")
            yield number
            number += 1
            context.progress(number, upto, "counting")
            gevent.sleep(seconds)
    finally:
        with marks.open("a") as file:
            file.write("-1\n")


@capability("work.steps", tags=["work"])
def steps(count: int, context: Context, seconds: float = 0.0) -> int:
    """Work in steps, and tell how far it is."""
    for number in range(count):
        context.progress(number, count, "stepping")
        gevent.sleep(seconds)
    return count


@capability("ticket.reply", tags=["ticket"])
def reply(ticket_id: str, text: str) -> str:
    """Answer a ticket."""
    return f"{ticket_id}: {text}"


@capability("work.mark", tags=["work"])
def mark(line: int, marks: Annotated[Path, marks], seconds: float = 0.0) -> int:
    """Leave a mark, after some seconds."""
    if seconds:
        gevent.sleep(seconds)
    with marks.open("a") as file:
        file.write(f"{line}\n")
    return line


@capability("work.slow", tags=["work"])
def slow(seconds: float) -> float:
    """Take some seconds."""
    gevent.sleep(seconds)
    return seconds


@capability("work.report", tags=["work"], background=True, owner="the desk")
def report(seconds: float = 0.0, message: str = "") -> dict[str, float]:
    """Write a report, after some seconds."""
    gevent.sleep(seconds)
    if message:
        raise ValueError(message)
    return {"pages": 3.0}


@capability("work.old", tags=["work"], deprecated="use work.echo")
def old(value: str = "") -> str:
    """What is not to be used any more."""
    return value


@capability("work.fail", tags=["work"])
def fail(message: str = "it broke") -> str:
    """Fail."""
    raise ValueError(message)


@capability("work.limited", tags=["work"])
def limited(line: int) -> int:
    """Answer, where the rate limit lets it."""
    return line


@capability("work.echo", tags=["work"])
def echo(
    value: object = None, times: int = 1, loud: bool = False, tags: list[str] | None = None
) -> dict[str, object]:
    """Give back what was given."""
    return {"value": value, "times": times, "loud": loud, "tags": tags}
