"""Idempotency keys that are kept: which key of whom had which payload, and what it was answered.

A key whose request is under way is the node's own matter and not kept here: a crash frees it thereby.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from packetflow.otp.clock import Clock
from packetflow.storage.schema import Schema

if TYPE_CHECKING:
    from packetflow.storage.database import Database

KEPT_SECONDS = 24 * 3600.0
KEPT_IN_MEMORY = 20_000  # answers; the oldest go first
SLICE = 1_000  # rows that one write forgets

SCHEMA = Schema(
    "idempotency",
    (
        """
        CREATE TABLE idempotency_keys (
            scope TEXT NOT NULL, capability TEXT NOT NULL, key TEXT NOT NULL,
            digest BLOB NOT NULL, answer BLOB NOT NULL, kept REAL NOT NULL,
            PRIMARY KEY (scope, capability, key)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX idempotency_keys_by_age ON idempotency_keys (kept);
        """,
    ),
)


class Place(NamedTuple):
    """Whose key it is, of which capability."""

    scope: str
    capability: str
    key: str


class Kept(NamedTuple):
    """digest: of the payload. answer: what the request ended with, encoded by who keeps it."""

    digest: bytes
    answer: bytes


class IdempotencyKeys(Protocol):
    """A place to keep keys in. All may wait, and raise StorageUnavailable or Overloaded."""

    def check(self) -> None:
        """Raise StorageUnavailable if an answer could not be kept now: before anything is run whose answer must be."""

    def find(self, place: Place) -> Kept | None:
        """What was kept in the last 24 hours (`KEPT_SECONDS`, or what the configuration says)."""

    def keep(self, place: Place, kept: Kept) -> None:
        """Keep an answer: when this returns it is safe, as far as the place promises. The first one stays."""

    def prune(self) -> int:
        """Forget what is too old; how many."""


class MemoryKeys:
    """Keys in memory: those of a node that has no folder to keep anything in."""

    def __init__(self, clock: Clock, seconds: float = KEPT_SECONDS, most: int = KEPT_IN_MEMORY) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[Place, tuple[float, Kept]] = OrderedDict()

    def check(self) -> None:
        """There is always room: the oldest go."""

    def find(self, place: Place) -> Kept | None:
        """See IdempotencyKeys."""
        self.prune()
        found = self._kept.get(place)
        return None if found is None else found[1]

    def keep(self, place: Place, kept: Kept) -> None:
        """See IdempotencyKeys."""
        self.prune()
        self._kept.setdefault(place, (self._clock.utc().timestamp(), kept))
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def prune(self) -> int:
        """See IdempotencyKeys."""
        oldest = self._clock.utc().timestamp() - self._seconds
        count = 0
        while self._kept and next(iter(self._kept.values()))[0] < oldest:
            self._kept.popitem(last=False)
            count += 1
        return count


class DatabaseKeys:
    """Keys in the node's database: they survive its end."""

    def __init__(self, database: Database, clock: Clock, seconds: float = KEPT_SECONDS) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds

    def check(self) -> None:
        """See IdempotencyKeys."""
        self._database.prepare(SCHEMA)
        self._database.check_writable()

    def find(self, place: Place) -> Kept | None:
        """See IdempotencyKeys."""
        self._database.prepare(SCHEMA)
        rows = self._database.read(
            "SELECT digest, answer FROM idempotency_keys WHERE scope = ? AND capability = ? AND key = ? AND kept >= ?",
            (*place, self._oldest()),
        )
        return Kept(*rows[0]) if rows else None

    def keep(self, place: Place, kept: Kept) -> None:
        """See IdempotencyKeys."""
        self._database.prepare(SCHEMA)
        now = self._clock.utc().timestamp()
        # One that is too old to be found is no first.
        self._database.append(
            "INSERT INTO idempotency_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE"
            " SET digest = ?4, answer = ?5, kept = ?6 WHERE kept < ?7",
            ((*place, kept.digest, kept.answer, now, now - self._seconds),),
        )

    def prune(self) -> int:
        """See IdempotencyKeys."""
        self._database.prepare(SCHEMA)
        count = 0
        while True:
            forgotten = self._database.write(
                lambda transaction: (
                    transaction.execute(
                        "DELETE FROM idempotency_keys WHERE (scope, capability, key) IN (SELECT scope, capability, key"
                        " FROM idempotency_keys WHERE kept < ? LIMIT ?)",
                        (self._oldest(), SLICE),
                    ),
                    transaction.changes,
                )[1]
            )
            count += forgotten
            if forgotten < SLICE:
                return count

    def _oldest(self) -> float:
        return self._clock.utc().timestamp() - self._seconds
