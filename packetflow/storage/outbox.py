"""The outbox: events that are published if, and only if, what they tell of is stored.

An event is put in the transaction that stores what it tells of, and taken out when every subscriber has had it: at least
once, since the node may end in between. By its id, which stays the same, a subscriber drops what it has had (`first_time`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from packetflow.otp.clock import Clock
from packetflow.storage.encoding import own_codec
from packetflow.storage.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packetflow.storage.database import Database
    from packetflow.storage.transaction import Row, Transaction

SEEN_SECONDS = 7 * 24 * 3600.0  # how long it is known which events a subscriber has had
SLICE = 1_000  # rows that one write forgets

SCHEMA = Schema(
    "outbox",
    (
        """
        CREATE TABLE outbox (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, payload BLOB NOT NULL, origin TEXT NOT NULL,
            created REAL NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL, last_error TEXT NOT NULL,
            line TEXT NOT NULL
        ) STRICT;
        CREATE INDEX outbox_by_line ON outbox (line, due, number);
        CREATE TABLE outbox_seen (
            subscriber TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (subscriber, id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX outbox_seen_by_age ON outbox_seen (at);
        """,
    ),
)
COLUMNS = "id, topic, payload, origin, created, attempts, last_error, line"
INSERT = (
    "INSERT INTO outbox (id, topic, payload, origin, created, attempts, due, last_error, line)"
    " VALUES (?, ?, ?, ?, ?, 0, ?, '', ?) ON CONFLICT (id) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Event:
    """id: random, lower hex; the same in each delivery. payload: plain data. origin: the run and step, or trace, for people.

    created: seconds since the epoch. attempts: deliveries that failed so far; last_error: of the last. line: who takes it
    out, so that one who is slow holds up nobody else: the node's publisher (empty), or a channel.
    """

    id: str
    topic: str
    payload: Any
    origin: str = ""
    created: float = 0.0
    attempts: int = 0
    last_error: str = ""
    line: str = ""


def put_in(transaction: Transaction, events: Sequence[Event], now: float) -> None:
    """Put events in with what else a transaction stores. The tables have to be there (`DatabaseOutbox.prepare`)."""
    transaction.many(INSERT, _rows(events, now))


def _rows(events: Sequence[Event], now: float) -> list[tuple[Any, ...]]:
    encode = own_codec().encode
    return [
        (one.id, one.topic, encode(one.payload), one.origin, one.created or now, now, one.line)
        for one in events
    ]


class Outbox(Protocol):
    """A place for events to be published. All may wait, and raise StorageUnavailable or Overloaded."""

    def put(self, events: Sequence[Event], transaction: Transaction | None = None) -> None:
        """Have these published. transaction: if and only if that is committed. One whose id is there already is dropped.

        Raises Unencodable for a payload that can't be kept.
        """

    def due(self, limit: int = 100, line: str = "") -> list[Event]:
        """What is to be delivered now of a line, in the order in which it was put."""

    def next_due(self, line: str = "") -> float | None:
        """When something of a line is due, in seconds from now (0: now), None if there is nothing."""

    def waiting(self) -> dict[str, int]:
        """How many events there are, by line; lines without any are left out."""

    def delivered(self, ids: Sequence[str], transaction: Transaction | None = None) -> None:
        """These are done with: they are taken out. transaction: if and only if that is committed."""

    def failed(self, id: str, error: str, again: float) -> None:
        """A delivery failed: it is due again in so many seconds."""

    def first_time(self, subscriber: str, id: str, transaction: Transaction | None = None) -> bool:
        """Whether a subscriber meets this event for the first time; from then on it does not. transaction: if and only if
        that is committed, so that what it does in the node's database is done once."""

    def prune(self) -> int:
        """Forget who has had what, where it is too old; how many."""


class MemoryOutbox:
    """Events in memory: those of a node that has no folder to keep anything in; they end with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codec = own_codec()
        self._events: dict[str, tuple[Event, float]] = {}
        self._seen: dict[tuple[str, str], float] = {}

    def put(self, events: Sequence[Event], transaction: Transaction | None = None) -> None:
        """See Outbox."""
        now = self._clock.utc().timestamp()
        for event in events:
            payload = self._codec.decode(
                self._codec.encode(event.payload)
            )  # as it would come back from a disk
            kept = replace(event, payload=payload, created=event.created or now)
            self._events.setdefault(event.id, (kept, now))

    def due(self, limit: int = 100, line: str = "") -> list[Event]:
        """See Outbox."""
        now = self._clock.utc().timestamp()
        return [event for event, due in self._events.values() if due <= now and event.line == line][:limit]

    def next_due(self, line: str = "") -> float | None:
        """See Outbox."""
        dues = [due for event, due in self._events.values() if event.line == line]
        return max(0.0, min(dues) - self._clock.utc().timestamp()) if dues else None

    def waiting(self) -> dict[str, int]:
        """See Outbox."""
        return dict(Counter(event.line for event, _ in self._events.values()))

    def delivered(self, ids: Sequence[str], transaction: Transaction | None = None) -> None:
        """See Outbox."""
        for id in ids:
            self._events.pop(id, None)

    def failed(self, id: str, error: str, again: float) -> None:
        """See Outbox."""
        if id in self._events:
            event, _ = self._events[id]
            changed = replace(event, attempts=event.attempts + 1, last_error=error)
            self._events[id] = (changed, self._clock.utc().timestamp() + again)

    def first_time(self, subscriber: str, id: str, transaction: Transaction | None = None) -> bool:
        """See Outbox."""
        first = (subscriber, id) not in self._seen
        self._seen.setdefault((subscriber, id), self._clock.utc().timestamp())
        return first

    def prune(self) -> int:
        """See Outbox."""
        oldest = self._clock.utc().timestamp() - SEEN_SECONDS
        old = [key for key, at in self._seen.items() if at < oldest]
        for key in old:
            del self._seen[key]
        return len(old)


class DatabaseOutbox:
    """Events in the node's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._codec = own_codec()

    def prepare(self) -> None:
        """Bring the tables to their newest version: before a method is used in a transaction."""
        self._database.prepare(SCHEMA)

    def put(self, events: Sequence[Event], transaction: Transaction | None = None) -> None:
        """See Outbox."""
        now = self._clock.utc().timestamp()
        if transaction is not None:
            put_in(transaction, events, now)
        else:
            rows = _rows(events, now)
            self.prepare()
            self._database.append(INSERT, rows)

    def due(self, limit: int = 100, line: str = "") -> list[Event]:
        """See Outbox."""
        self.prepare()
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM outbox WHERE line = ? AND due <= ? ORDER BY number LIMIT ?",
            (line, self._clock.utc().timestamp(), limit),
        )
        return [self._event(row) for row in rows]

    def next_due(self, line: str = "") -> float | None:
        """See Outbox."""
        self.prepare()
        (first,) = self._database.read("SELECT min(due) FROM outbox WHERE line = ?", (line,))[0]
        return None if first is None else max(0.0, first - self._clock.utc().timestamp())

    def waiting(self) -> dict[str, int]:
        """See Outbox."""
        self.prepare()
        return dict(self._database.read("SELECT line, count(*) FROM outbox GROUP BY line"))

    def delivered(self, ids: Sequence[str], transaction: Transaction | None = None) -> None:
        """See Outbox."""
        delete, rows = "DELETE FROM outbox WHERE id = ?", [(id,) for id in ids]
        if transaction is not None:
            transaction.many(delete, rows)
        else:
            self.prepare()
            self._database.append(delete, rows)

    def failed(self, id: str, error: str, again: float) -> None:
        """See Outbox."""
        self.prepare()
        self._database.append(
            "UPDATE outbox SET attempts = attempts + 1, last_error = ?, due = ? WHERE id = ?",
            ((error, self._clock.utc().timestamp() + again, id),),
        )

    def first_time(self, subscriber: str, id: str, transaction: Transaction | None = None) -> bool:
        """See Outbox."""
        now = self._clock.utc().timestamp()

        def work(within: Transaction) -> bool:
            within.execute(
                "INSERT INTO outbox_seen VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (subscriber, id, now)
            )
            return within.changes == 1

        if transaction is not None:
            return work(transaction)
        self.prepare()
        return self._database.write(work)

    def prune(self) -> int:
        """See Outbox."""
        self.prepare()
        oldest = self._clock.utc().timestamp() - SEEN_SECONDS
        count = 0

        def work(transaction: Transaction) -> int:
            transaction.execute(
                "DELETE FROM outbox_seen WHERE (subscriber, id) IN"
                " (SELECT subscriber, id FROM outbox_seen WHERE at < ? LIMIT ?)",
                (oldest, SLICE),
            )
            return transaction.changes

        while True:
            forgotten = self._database.write(work)
            count += forgotten
            if forgotten < SLICE:
                return count

    def _event(self, row: Row) -> Event:
        id, topic, payload, origin, created, attempts, last_error, line = row
        return Event(id, topic, self._codec.decode(payload), origin, created, attempts, last_error, line)
