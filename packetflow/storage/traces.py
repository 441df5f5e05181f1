"""Traces that are kept in the node's database: what came of each request, and its spans, until they are too old or too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packetflow.storage.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packetflow.storage.database import Database
    from packetflow.storage.transaction import Transaction

SLICE = 1_000  # rows that one write forgets

SCHEMA = Schema(
    "traces",
    (
        """
        CREATE TABLE traces (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE, parent TEXT, capability TEXT NOT NULL, version TEXT NOT NULL, principal TEXT NOT NULL,
            tenant TEXT NOT NULL, door TEXT NOT NULL, started REAL NOT NULL, duration REAL NOT NULL, outcome TEXT NOT NULL,
            error TEXT, body BLOB NOT NULL
        ) STRICT;
        CREATE INDEX traces_by_time ON traces (started);
        CREATE INDEX traces_by_capability ON traces (capability, started);
        CREATE INDEX traces_by_principal ON traces (principal, started);
        CREATE INDEX traces_by_outcome ON traces (outcome, started) WHERE outcome != 'ok';
        CREATE INDEX traces_by_parent ON traces (parent) WHERE parent IS NOT NULL;
        """,
    ),
)
COLUMNS = "id, parent, capability, version, principal, tenant, door, started, duration, outcome, error, body"
INSERT = f"INSERT OR REPLACE INTO traces ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class TraceRow(NamedTuple):
    """One request. started: seconds since the epoch; duration: seconds; error: its words, None if there is none; body: JSON of
    the rest."""

    id: str
    parent: str | None
    capability: str
    version: str
    principal: str
    tenant: str
    door: str
    started: float
    duration: float
    outcome: str
    error: str | None
    body: bytes


class StoredTraces:
    """The traces in a database. All may wait, and raise StorageUnavailable or Overloaded."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, rows: Sequence[TraceRow]) -> None:
        """Store these; of two with one id the later one stays."""
        self._database.prepare(SCHEMA)
        self._database.append(INSERT, rows)

    def select(self, where: str, parameters: Sequence[Any], limit: int) -> list[TraceRow]:
        """The newest for which a WHERE clause holds."""
        self._database.prepare(SCHEMA)
        statement = f"SELECT {COLUMNS} FROM traces WHERE {where} ORDER BY started DESC, number DESC LIMIT ?"
        return [TraceRow(*row) for row in self._database.read(statement, (*parameters, limit))]

    def count(self) -> int:
        """How many there are."""
        self._database.prepare(SCHEMA)
        return int(self._database.read("SELECT count(*) FROM traces")[0][0])

    def prune(self, before: float, most: int) -> int:
        """Forget those that started before a time (seconds since the epoch), and the oldest beyond so many; how many."""
        self._database.prepare(SCHEMA)

        def work(transaction: Transaction) -> int:
            transaction.execute(
                "DELETE FROM traces WHERE number IN (SELECT number FROM traces WHERE started < ?1 LIMIT ?2)",
                (before, SLICE),
            )
            gone = transaction.changes
            if gone < SLICE:
                transaction.execute(
                    "DELETE FROM traces WHERE number IN (SELECT number FROM traces ORDER BY started LIMIT"
                    " min(?2, max(0, (SELECT count(*) FROM traces) - ?1)))",
                    (most, SLICE - gone),
                )
                gone += transaction.changes
            return gone

        count = 0
        while True:
            forgotten = self._database.write(work)
            count += forgotten
            if forgotten < SLICE:
                return count
