"""What the desk's capabilities take and give: typed values, checked where they come in, frozen afterwards."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CustomerId = Annotated[str, Field(pattern=r"^C-[0-9]{4,12}$", examples=["C-1001"])]
TicketId = Annotated[str, Field(pattern=r"^T-[1-9][0-9]{0,17}$", examples=["T-1"])]
Topic = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", examples=["report_lost_card"])]
Text = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"\S")]

Status = Literal["open", "pending", "closed"]
Author = Literal["agent", "customer"]
STATUSES: tuple[Status, ...] = ("open", "pending", "closed")


class Record(BaseModel):
    """The base of the desk's values: they don't change, and take no field that is not theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Customer(Record):
    """Who asks. unsettled: how many of the customer's tickets are not closed."""

    id: CustomerId
    name: str
    email: str
    phone: str
    city: str
    plan: Literal["basic", "plus", "business"]
    since: date
    unsettled: int = 0


class Reply(Record):
    """One message in a ticket after the first."""

    author: Author
    text: str
    at: datetime


class Ticket(Record):
    """A customer's matter. text: what the customer wrote first. replies: the latest ones, oldest first, of `reply_count`."""

    id: TicketId
    customer_id: CustomerId
    topic: Topic
    status: Status
    text: str
    opened: datetime
    changed: datetime
    reply_count: int = 0
    replies: tuple[Reply, ...] = ()


class TicketPage(Record):
    """Tickets, the newest first. next_cursor: what to ask with for the ones after these; None at the end."""

    tickets: tuple[Ticket, ...]
    next_cursor: TicketId | None


class Share(Record):
    """How many tickets something has."""

    name: str
    tickets: int


class Summary(Record):
    """The tickets opened in a period, both days included (UTC), counted."""

    since: date | None
    until: date | None
    total: int
    by_status: dict[Status, int]
    by_topic: tuple[Share, ...]
    busiest_customers: tuple[Share, ...]
    oldest_open: Ticket | None
