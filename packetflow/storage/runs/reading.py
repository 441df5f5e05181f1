"""What is read of runs in SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from gevent.lock import BoundedSemaphore
from pydantic_core import from_json

from packetflow.storage.database import Database
from packetflow.storage.outbox import SCHEMA as OUTBOX
from packetflow.storage.outbox import Event as Outgoing
from packetflow.storage.runs.records import Approval, Due, Entry, Event, Loaded, RunFilter, RunRow, WaitRow
from packetflow.storage.runs.schema import RUNS
from packetflow.storage.transaction import Transaction

RUN = (
    "number, id, composition, version, plan, state, principal, tenant, rights, payload, started, updated, ended, expires,"
    " result, error, key, contracts, steps, retries, attempts, note, generation, origin, format"
)
APPROVAL = (
    "a.id, a.run, r.id, r.composition, a.place, a.label, a.who, a.subject, a.opened, a.deadline, a.on_timeout,"
    " a.state, a.decided_by, a.decided_at, a.comment, a.answers"
)
Kind = Literal["text", "number", "time"]
NOW = ":now"  # stands for the time in what is asked for
# What runs can be asked by: kind and SQL of each field. age: seconds since it began; duration: until it ended, or by now.
COLUMNS: Mapping[str, tuple[Kind, str]] = {
    "id": ("text", "id"),
    "state": ("text", "state"),
    "composition": ("text", "composition"),
    "version": ("text", "version"),
    "principal": ("text", "principal"),
    "tenant": ("text", "tenant"),
    "origin": ("text", "origin"),
    "error": ("text", "json_extract(error, '$.code')"),
    "message": ("text", "json_extract(error, '$.message')"),
    "started": ("time", "started"),
    "updated": ("time", "updated"),
    "ended": ("time", "ended"),
    "age": ("number", f"({NOW} - started)"),
    "duration": ("number", f"(coalesce(ended, {NOW}) - started)"),
    "steps": ("number", "steps"),
    "retries": ("number", "retries"),
    "attempts": ("number", "attempts"),
    "note": ("text", "note"),
}
# What text("...") looks through.
WORDS = ("id", "composition", "principal", "note", "error", "message")
MANY = 200  # runs that are read in one statement


class SqliteReading:
    """Runs in a database, which is asked for at each use: after a restart it may be another one.

    published: told of events that were put into the outbox together with what a run came to.
    """

    def __init__(
        self,
        database: Callable[[], Database],
        published: Callable[[Sequence[Outgoing]], object] = lambda events: None,
    ) -> None:
        self._get = database
        self._published = published
        self._preparing = BoundedSemaphore()
        self._database: Database = None  # type: ignore[assignment]  # until _prepare

    def _write(self, work: Any) -> Any:
        self._prepare()
        return self._database.write(work)

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._prepare()
        return self._database.read(statement, parameters)

    def _prepare(self) -> None:
        database = self._get()
        if database is self._database:
            return
        with self._preparing:  # once, however many ask at first
            if database is not self._database:
                database.prepare(RUNS)
                database.prepare(OUTBOX)
                self._database = database

    def due(self, now: float, limit: int) -> list[Due]:
        """See RunStore."""
        rows = self._read(
            "SELECT DISTINCT run, place, kind FROM waits WHERE due <= ? ORDER BY due LIMIT ?", (now, limit)
        )
        return [Due(*row) for row in rows]

    def next_due(self) -> float | None:
        """See RunStore."""
        rows = self._read(
            "SELECT min(due) FROM waits WHERE due IS NOT NULL"
            " UNION ALL SELECT min(expires) FROM runs WHERE ended IS NULL AND expires IS NOT NULL"
        )
        known = [row[0] for row in rows if row[0] is not None]
        return min(known) if known else None

    def expired(self, now: float, limit: int) -> list[int]:
        """See RunStore."""
        rows = self._read(
            "SELECT number FROM runs WHERE ended IS NULL AND expires <= ? ORDER BY expires LIMIT ?",
            (now, limit),
        )
        return [row[0] for row in rows]

    def subscribed(self, event: str, after: tuple[int, str], limit: int) -> list[WaitRow]:
        """See RunStore."""
        rows = self._read(
            "SELECT run, place, kind, label, since, due, event, match, scope FROM waits"
            " WHERE event = ? AND event != '' AND (run, place) > (?, ?) ORDER BY run, place LIMIT ?",
            (event, *after, limit),
        )
        return [WaitRow(*row) for row in rows]

    def waits_of(self, run: int) -> list[WaitRow]:
        """See RunStore."""
        rows = self._read(
            "SELECT run, place, kind, label, since, due, event, match, scope FROM waits WHERE run = ?", (run,)
        )
        return [WaitRow(*row) for row in rows]

    def waits_for(self, runs: Sequence[int]) -> dict[int, list[WaitRow]]:
        """See RunStore."""
        found: dict[int, list[WaitRow]] = {}
        for begin in range(0, len(runs), MANY):
            part = tuple(runs[begin : begin + MANY])
            for row in self._read(
                "SELECT run, place, kind, label, since, due, event, match, scope FROM waits"
                f" WHERE run IN ({marks(part)}) ORDER BY run, place",
                part,
            ):
                found.setdefault(row[0], []).append(WaitRow(*row))
        return found

    def events_of(self, run: int, name: str) -> list[Event]:
        """See RunStore."""
        rows = self._read(
            "SELECT id, name, payload, at FROM run_events WHERE run = ? AND name = ? AND taken = 0 ORDER BY at, id",
            (run, name),
        )
        return [Event(*row) for row in rows]

    def approvals(self, prefix: str = "", only_open: bool = True, run: int | None = None) -> list[Approval]:
        """See RunStore."""
        where = ["a.id >= ?1 AND a.id < ?1 || '~'"]
        if only_open:
            where.append("a.state = 'open'")
        if run is not None:
            where.append("a.run = ?2")
        rows = self._read(
            f"SELECT {APPROVAL} FROM approvals a JOIN runs r ON r.number = a.run WHERE {' AND '.join(where)}"
            " ORDER BY a.opened, a.id LIMIT 1000",
            (prefix, run) if run is not None else (prefix,),
        )
        return [approval_of(row) for row in rows]

    def load(self, numbers: Sequence[int]) -> list[Loaded]:
        """See RunStore."""
        self._prepare()
        loaded: list[Loaded] = []
        for begin in range(0, len(numbers), MANY):
            part = tuple(numbers[begin : begin + MANY])
            rows, entries, waits = self._database.snapshot(partial(_load, numbers=part))
            by_run: dict[int, Loaded] = {row[0]: Loaded(run_of(row), [], []) for row in rows}
            for run, *fields in entries:
                by_run[run].entries.append(
                    Entry(
                        fields[0], fields[1], fields[2], fields[3], from_json(fields[4]), fields[5], fields[6]
                    )
                )
            for run, place in waits:
                by_run[run].waits.append(place)
            loaded += by_run.values()
        return loaded

    def find(self, prefix: str) -> list[RunRow]:
        """See RunStore."""
        rows = self._read(
            f"SELECT {RUN} FROM runs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 20", (prefix,)
        )
        return [run_of(row) for row in rows]

    def listed(self, which: RunFilter) -> list[RunRow]:
        """See RunStore."""
        where: list[str] = ["1"]
        values: list[Any] = []
        for column in ("state", "composition", "principal"):
            wanted = getattr(which, column)
            if wanted is not None:
                where.append(f"{column} = ?")
                values.append(wanted)
        if which.before is not None:
            where.append("number < ?")
            values.append(which.before)
        if which.where is not None:
            where.append(which.where.sql.replace(NOW, repr(which.now)))
            values += which.where.values
        rows = self._read(
            f"SELECT {RUN} FROM runs WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
            (*values, which.limit),
        )
        return [run_of(row) for row in rows]

    def in_state(self, states: Sequence[str], after: int, limit: int) -> list[int]:
        """See RunStore."""
        rows = self._read(
            f"SELECT number FROM runs WHERE ended IS NULL AND state IN ({marks(states)}) AND number > ?"
            " ORDER BY number LIMIT ?",
            (*states, after, limit),
        )
        return [row[0] for row in rows]

    def counts(self) -> dict[str, int]:
        """See RunStore."""
        return dict(self._read("SELECT state, count(*) FROM runs GROUP BY state"))

    def plan(self, digest: str) -> bytes | None:
        """See RunStore."""
        rows = self._read("SELECT body FROM plans WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None


def marks(values: Sequence[object]) -> str:
    """As many parameters as there are values."""
    return ", ".join("?" * len(values))


def _load(reading: Transaction, numbers: Sequence[int]) -> tuple[list[Any], list[Any], list[Any]]:
    return (
        reading.execute(
            f"SELECT {RUN} FROM runs WHERE number IN ({marks(numbers)}) ORDER BY number", numbers
        ),
        reading.execute(
            "SELECT run, place, kind, label, capability, body, at, seconds FROM journal"
            f" WHERE run IN ({marks(numbers)})",
            numbers,
        ),
        reading.execute(f"SELECT DISTINCT run, place FROM waits WHERE run IN ({marks(numbers)})", numbers),
    )


def run_of(row: Sequence[Any]) -> RunRow:
    """A run, of the columns RUN."""
    fields = list(row)
    fields[8] = tuple(json.loads(fields[8]))
    return RunRow(*fields)


def approval_of(row: Sequence[Any]) -> Approval:
    """An approval, of the columns APPROVAL."""
    fields = list(row)
    fields[6] = tuple(json.loads(fields[6]))
    return Approval(*fields)
