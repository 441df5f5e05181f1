"""Dead letters: what failed for good, kept with its reason until somebody replays or removes it, or it is too old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from packetflow.otp.clock import Clock
from packetflow.storage.encoding import own_codec
from packetflow.storage.schema import Schema

if TYPE_CHECKING:
    from packetflow.storage.database import Database
    from packetflow.storage.transaction import Row, Transaction

KEPT_SECONDS = 30 * 24 * 3600.0
SLICE = 1_000  # rows that one write forgets
COLUMNS = (
    "id, kind, what, body, code, reason, details, principal, tenant, origin, created, replays, last_replay"
)

SCHEMA = Schema(
    "dead_letters",
    (
        """
        CREATE TABLE dead_letters (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, what TEXT NOT NULL, body BLOB NOT NULL,
            code TEXT NOT NULL, reason TEXT NOT NULL, details BLOB NOT NULL,
            principal TEXT NOT NULL, tenant TEXT NOT NULL, origin TEXT NOT NULL,
            created REAL NOT NULL, replays INTEGER NOT NULL, last_replay TEXT NOT NULL
        ) STRICT;
        CREATE INDEX dead_letters_by_age ON dead_letters (created);
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing that failed for good.

    id: random, lower hex. kind: who knows how to replay it (`request`, `event`, or a word of the engine's). what: the
    capability or topic. body: plain data that a replay needs. code, reason, details: of the error. principal, tenant: on
    whose behalf. origin: where it comes from (a trace, a run and its step), for people. created: seconds since the epoch,
    when it was put away. replays: how often that was tried; last_replay: what came of it.
    """

    id: str
    kind: str
    what: str
    body: Any
    code: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)
    principal: str = ""
    tenant: str = ""
    origin: str = ""
    created: float = 0.0
    replays: int = 0
    last_replay: str = ""


class DeadLetters(Protocol):
    """A place for dead letters. All may wait, and raise StorageUnavailable or Overloaded."""

    def put(self, letter: DeadLetter, transaction: Transaction | None = None) -> None:
        """Keep a letter; of two with one id the first. transaction: together with what else is written in it.

        `created` is set where it is 0. Raises Unencodable for a body that can't be kept.
        """

    def newest(
        self, limit: int = 100, *, kind: str | None = None, what: str | None = None
    ) -> list[DeadLetter]:
        """The letters, the newest first."""

    def find(self, prefix: str) -> list[DeadLetter]:
        """Those whose id begins so."""

    def count(self) -> int:
        """How many there are."""

    def replayed(self, id: str, outcome: str) -> None:
        """Note that a replay was tried, and what came of it."""

    def remove(self, id: str) -> bool:
        """Forget a letter; whether it was there."""

    def prune(self) -> int:
        """Forget what is too old; how many."""


class MemoryDeadLetters:
    """Dead letters in memory: those of a node that has no folder to keep anything in. most: the oldest go first."""

    def __init__(self, clock: Clock, seconds: float = KEPT_SECONDS, most: int = 1_000) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._codec = own_codec()
        self._letters: dict[str, DeadLetter] = {}

    def put(self, letter: DeadLetter, transaction: Transaction | None = None) -> None:
        """See DeadLetters."""
        self.prune()
        body = self._codec.decode(self._codec.encode(letter.body))  # as it would come back from a disk
        created = letter.created or self._clock.utc().timestamp()
        self._letters.setdefault(letter.id, replace(letter, body=body, created=created))
        while len(self._letters) > self._most:
            del self._letters[next(iter(self._letters))]

    def newest(
        self, limit: int = 100, *, kind: str | None = None, what: str | None = None
    ) -> list[DeadLetter]:
        """See DeadLetters."""
        found = [
            letter
            for letter in reversed(self._letters.values())
            if kind in (None, letter.kind) and what in (None, letter.what)
        ]
        return found[:limit]

    def find(self, prefix: str) -> list[DeadLetter]:
        """See DeadLetters."""
        return [letter for id, letter in self._letters.items() if id.startswith(prefix)]

    def count(self) -> int:
        """See DeadLetters."""
        return len(self._letters)

    def replayed(self, id: str, outcome: str) -> None:
        """See DeadLetters."""
        letter = self._letters.get(id)
        if letter is not None:
            self._letters[id] = replace(letter, replays=letter.replays + 1, last_replay=outcome)

    def remove(self, id: str) -> bool:
        """See DeadLetters."""
        return self._letters.pop(id, None) is not None

    def prune(self) -> int:
        """See DeadLetters."""
        oldest = self._clock.utc().timestamp() - self._seconds
        old = [id for id, letter in self._letters.items() if letter.created < oldest]
        for id in old:
            del self._letters[id]
        return len(old)


class DatabaseDeadLetters:
    """Dead letters in the node's database."""

    def __init__(self, database: Database, clock: Clock, seconds: float = KEPT_SECONDS) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds
        self._codec = own_codec()

    def prepare(self) -> None:
        """Bring the tables to their newest version: before `put` is used in a transaction."""
        self._database.prepare(SCHEMA)

    def put(self, letter: DeadLetter, transaction: Transaction | None = None) -> None:
        """See DeadLetters."""
        insert = (
            f"INSERT INTO dead_letters ({COLUMNS}) VALUES ({', '.join('?' * 13)}) ON CONFLICT (id) DO NOTHING"
        )
        row = self._row(letter)
        if transaction is not None:
            transaction.execute(insert, row)
        else:
            self.prepare()
            self._database.append(insert, (row,))

    def newest(
        self, limit: int = 100, *, kind: str | None = None, what: str | None = None
    ) -> list[DeadLetter]:
        """See DeadLetters."""
        return self._select(
            "WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR what = ?2) ORDER BY number DESC LIMIT ?3",
            kind,
            what,
            limit,
        )

    def find(self, prefix: str) -> list[DeadLetter]:
        """See DeadLetters."""
        return self._select("WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY number", prefix)

    def count(self) -> int:
        """See DeadLetters."""
        self.prepare()
        return int(self._database.read("SELECT count(*) FROM dead_letters")[0][0])

    def replayed(self, id: str, outcome: str) -> None:
        """See DeadLetters."""
        self.prepare()
        self._database.append(
            "UPDATE dead_letters SET replays = replays + 1, last_replay = ? WHERE id = ?", ((outcome, id),)
        )

    def remove(self, id: str) -> bool:
        """See DeadLetters."""
        return self._delete("id = ?", id) > 0

    def prune(self) -> int:
        """See DeadLetters."""
        oldest = self._clock.utc().timestamp() - self._seconds
        count = 0
        while True:
            forgotten = self._delete(
                "number IN (SELECT number FROM dead_letters WHERE created < ? LIMIT ?)", oldest, SLICE
            )
            count += forgotten
            if forgotten < SLICE:
                return count

    def _select(self, where: str, *parameters: Any) -> list[DeadLetter]:
        self.prepare()
        rows = self._database.read(f"SELECT {COLUMNS} FROM dead_letters {where}", parameters)
        return [self._letter(row) for row in rows]

    def _delete(self, where: str, *parameters: Any) -> int:
        self.prepare()

        def work(transaction: Transaction) -> int:
            transaction.execute(f"DELETE FROM dead_letters WHERE {where}", parameters)
            return transaction.changes

        return self._database.write(work)

    def _row(self, letter: DeadLetter) -> Row:
        return (
            letter.id,
            letter.kind,
            letter.what,
            self._codec.encode(letter.body),
            letter.code,
            letter.reason,
            self._codec.encode(dict(letter.details)),
            letter.principal,
            letter.tenant,
            letter.origin,
            letter.created or self._clock.utc().timestamp(),
            letter.replays,
            letter.last_replay,
        )

    def _letter(self, row: Row) -> DeadLetter:
        id, kind, what, body, code, reason, details, *rest = row
        return DeadLetter(
            id, kind, what, self._codec.decode(body), code, reason, self._codec.decode(details), *rest
        )
