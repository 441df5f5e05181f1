"""The support desk itself: customers and tickets, what may become of a ticket, and what can be asked of all of them."""

from __future__ import annotations

import difflib
import re
import sqlite3
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from packetflow.errors import Conflict, NotFound, ValidationFailed
from packetflow.otp.clock import Clock

from .database import Database
from .records import STATUSES, Author, Customer, Reply, Share, Status, Summary, Ticket, TicketPage
from .schema import migrate, seed

CUSTOMERS = Path(__file__).parent / "data" / "customers.json"
SHOWN_REPLIES = 20  # a ticket carries its latest ones

# What a message makes of a ticket: an agent's waits for the customer, a customer's for an agent. Closing ends either.
AFTER_MESSAGE: dict[Author, Status] = {"agent": "pending", "customer": "open"}

TICKET = """
    SELECT t.number, t.customer, t.topic, t.status, t.opened, t.changed, m.text,
           (SELECT max(number) FROM messages WHERE ticket = t.number) AS replies
    FROM tickets AS t JOIN messages AS m ON m.ticket = t.number AND m.number = 0
"""


class Desk:
    """A support desk in one SQLite file. Calls wait without blocking other greenlets.

    Every method may raise Unavailable, saying what to do, when the file or its disk fails.
    """

    def __init__(self, path: Path, *, customers: Path = CUSTOMERS, clock: Clock | None = None) -> None:
        """Open the desk, or create it with the customers of a JSON file."""
        self._clock = clock or Clock()

        def prepare(connection: sqlite3.Connection) -> None:
            migrate(connection)
            seed(connection, customers)

        self._database = Database(path, prepare)

    def close(self) -> None:
        """Finish what is under way and close the file. Twice is once."""
        self._database.close()

    def customer(self, customer_id: str) -> Customer:
        """One customer. Raises NotFound with the nearest ids."""

        def work(connection: sqlite3.Connection) -> Customer:
            row = connection.execute(
                "SELECT *, (SELECT count(*) FROM tickets WHERE customer = customers.id AND status != 'closed')"
                " AS unsettled FROM customers WHERE id = ?",
                (customer_id,),
            ).fetchone()
            if row is None:
                raise _no_customer(connection, customer_id)
            return Customer.model_validate(dict(row))

        return self._database.read(work)

    def open_ticket(self, customer_id: str, text: str, topic: str) -> Ticket:
        """Open a ticket. Raises NotFound with the nearest ids if there is no such customer."""
        now = self._now()

        def work(connection: sqlite3.Connection) -> Ticket:
            if connection.execute("SELECT 1 FROM customers WHERE id = ?", (customer_id,)).fetchone() is None:
                raise _no_customer(connection, customer_id)
            number = connection.execute(
                "INSERT INTO tickets (customer, topic, status, opened, changed) VALUES (?, ?, 'open', ?, ?)",
                (customer_id, topic, now, now),
            ).lastrowid
            assert number is not None, "an insert gives its row's number"
            _add_message(connection, number, 0, "customer", text, now)
            return _ticket(connection, number)

        return self._database.write(work)

    def reply(self, ticket_id: str, text: str, author: Author, reopen: bool = False) -> Ticket:
        """Add a message. An agent's makes the ticket pending, a customer's open.

        Raises NotFound, and Conflict if the ticket is closed and is not to be reopened.
        """
        now = self._now()

        def work(connection: sqlite3.Connection) -> Ticket:
            ticket = _ticket(connection, _number(ticket_id))
            if ticket.status == "closed" and not reopen:
                raise Conflict(
                    f"{ticket_id} is closed; reply with reopen=true to reopen it",
                    {"ticket": ticket_id, "status": ticket.status},
                )
            _add_message(connection, _number(ticket_id), ticket.reply_count + 1, author, text, now)
            return _set_status(connection, ticket, AFTER_MESSAGE[author], now)

        return self._database.write(work)

    def close_ticket(self, ticket_id: str, resolution: str | None = None) -> Ticket:
        """Close a ticket, with a last word to the customer if there is one. Raises NotFound, and Conflict if it is closed."""
        now = self._now()

        def work(connection: sqlite3.Connection) -> Ticket:
            ticket = _ticket(connection, _number(ticket_id))
            if ticket.status == "closed":
                raise Conflict(
                    f"{ticket_id} is closed already, since {ticket.changed:%Y-%m-%d %H:%M} UTC",
                    {"ticket": ticket_id, "status": ticket.status},
                )
            if resolution is not None:
                _add_message(connection, _number(ticket_id), ticket.reply_count + 1, "agent", resolution, now)
            return _set_status(connection, ticket, "closed", now)

        return self._database.write(work)

    def find(
        self,
        query: str | None = None,
        status: Status | None = None,
        customer_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> TicketPage:
        """Tickets that fit all that is given, the newest first, from those older than `cursor` on.

        query: words that one message of the ticket must all contain, in any of their English forms; `word*` is a beginning.
        Raises ValidationFailed for a query without a word.
        """
        where, values = ["TRUE"], list[Any]()
        if query is not None:
            where.append(
                "t.number IN (SELECT ticket FROM messages WHERE id IN (SELECT rowid FROM words WHERE words MATCH ?))"
            )
            values.append(_match(query))
        for column, operator, value in (
            ("t.status", "=", status),
            ("t.customer", "=", customer_id),
            ("t.number", "<", None if cursor is None else _number(cursor)),
        ):
            if value is not None:
                where.append(f"{column} {operator} ?")
                values.append(value)

        def work(connection: sqlite3.Connection) -> TicketPage:
            rows = connection.execute(
                f"{TICKET} WHERE {' AND '.join(where)} ORDER BY t.number DESC LIMIT ?", (*values, limit + 1)
            ).fetchall()
            tickets = tuple(_from_row(connection, row) for row in rows[:limit])
            return TicketPage(tickets=tickets, next_cursor=tickets[-1].id if len(rows) > limit else None)

        return self._database.read(work)

    def summary(self, since: date | None = None, until: date | None = None, top: int = 5) -> Summary:
        """The tickets opened from `since` to `until`, both days included (UTC), counted; the `top` topics and customers.

        Raises ValidationFailed if the period ends before it begins.
        """
        if since is not None and until is not None and until < since:
            raise _invalid("until", f"expected a day not before {since}", str(until))
        # Times are stored as ISO 8601 text in UTC, which sorts as time does.
        values = {
            "since": "" if since is None else since.isoformat(),
            "end": "9999" if until is None or until == date.max else (until + timedelta(days=1)).isoformat(),
            "top": top,
        }
        period = "opened >= :since AND opened < :end"

        def work(connection: sqlite3.Connection) -> Summary:
            def shares(column: str, tail: str = "LIMIT :top") -> list[Share]:
                counts = (
                    f"SELECT {column}, count(*) FROM tickets WHERE {period} GROUP BY 1 ORDER BY 2 DESC, 1"
                )
                rows = connection.execute(f"{counts} {tail}", values)
                return [Share(name=name, tickets=count) for name, count in rows]

            statuses = {share.name: share.tickets for share in shares("status", "")}
            still_open = f"SELECT number FROM tickets WHERE status = 'open' AND {period}"
            oldest = connection.execute(f"{still_open} ORDER BY opened, number LIMIT 1", values).fetchone()
            return Summary(
                since=since,
                until=until,
                total=sum(statuses.values()),
                by_status={status: statuses.get(status, 0) for status in STATUSES},
                by_topic=tuple(shares("topic")),
                busiest_customers=tuple(shares("customer")),
                oldest_open=None if oldest is None else _ticket(connection, oldest[0]),
            )

        return self._database.read(work)

    def _now(self) -> str:
        return self._clock.utc().isoformat(timespec="milliseconds")


# ---- in the database's thread --------------------------------------------------------------------------------------------


def _ticket(connection: sqlite3.Connection, number: int) -> Ticket:
    row = connection.execute(f"{TICKET} WHERE t.number = ?", (number,)).fetchone()
    if row is None:
        raise _no_ticket(connection, number)
    return _from_row(connection, row)


def _from_row(connection: sqlite3.Connection, row: sqlite3.Row) -> Ticket:
    replies: Iterable[sqlite3.Row] = ()
    if row["replies"]:
        replies = connection.execute(
            "SELECT author, text, at FROM messages WHERE ticket = ? AND number > ? ORDER BY number",
            (row["number"], max(0, row["replies"] - SHOWN_REPLIES)),
        )
    return Ticket(
        id=f"T-{row['number']}",
        customer_id=row["customer"],
        topic=row["topic"],
        status=row["status"],
        text=row["text"],
        opened=datetime.fromisoformat(row["opened"]),
        changed=datetime.fromisoformat(row["changed"]),
        reply_count=row["replies"],
        replies=tuple(
            Reply(author=reply["author"], text=reply["text"], at=datetime.fromisoformat(reply["at"]))
            for reply in replies
        ),
    )


def _add_message(
    connection: sqlite3.Connection, ticket: int, number: int, author: Author, text: str, at: str
) -> None:
    connection.execute(
        "INSERT INTO messages (ticket, number, author, text, at) VALUES (?, ?, ?, ?, ?)",
        (ticket, number, author, text, at),
    )


def _set_status(connection: sqlite3.Connection, ticket: Ticket, status: Status, at: str) -> Ticket:
    number = _number(ticket.id)
    connection.execute("UPDATE tickets SET status = ?, changed = ? WHERE number = ?", (status, at, number))
    return _ticket(connection, number)


def _no_customer(connection: sqlite3.Connection, given: str) -> NotFound:
    ids = [row["id"] for row in connection.execute("SELECT id FROM customers ORDER BY id")]
    nearest = difflib.get_close_matches(given, ids, n=3)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return NotFound(f"no customer {given}{hint}", {"customer": given, "nearest": nearest})


def _no_ticket(connection: sqlite3.Connection, number: int) -> NotFound:
    # Tickets are numbered without gaps and never deleted, so what is not there lies past the newest.
    rows = connection.execute("SELECT number FROM tickets ORDER BY number DESC LIMIT 3")
    nearest = [f"T-{row['number']}" for row in rows]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else "; there are no tickets yet"
    return NotFound(f"no ticket T-{number}{hint}", {"ticket": f"T-{number}", "nearest": nearest})


# ---- what people write ---------------------------------------------------------------------------------------------------


def _number(ticket_id: str) -> int:
    return int(ticket_id.removeprefix("T-"))


def _invalid(path: str, message: str, given: str) -> ValidationFailed:
    fault = {"path": path, "message": message, "given": given[:200]}
    return ValidationFailed(f"{path}: {message}, given {given[:200]!r}", {"faults": [fault]})


def _match(query: str) -> str:
    """The words of a query in FTS5's language, quoted, so that nothing in them means anything to it."""
    words = re.findall(r"(\w+)(\*?)", query)
    if not words:
        raise _invalid("query", "expected at least one word, such as card or refund*", query)
    return " ".join(f'"{word}"{star}' for word, star in words)
