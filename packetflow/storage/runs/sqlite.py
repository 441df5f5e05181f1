"""The store of runs on a node's SQLite database."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic_core import from_json

from packetflow.storage.database import Database
from packetflow.storage.outbox import SCHEMA as OUTBOX
from packetflow.storage.outbox import Event as Outgoing
from packetflow.storage.outbox import put_in
from packetflow.storage.runs.records import (
    OPEN,
    RUNNING,
    WAITING,
    WITHDRAWN,
    Approval,
    Change,
    Drop,
    Due,
    Entry,
    Event,
    Loaded,
    NewRun,
    Publish,
    Put,
    RunFilter,
    RunRow,
    Settled,
    Wait,
    WaitRow,
)
from packetflow.storage.runs.schema import RUNS
from packetflow.storage.transaction import Transaction

PUT = "INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
RUN = (
    "number, id, composition, version, plan, state, principal, tenant, rights, payload, started, updated, ended, expires,"
    " result, error, key, contracts, steps, retries, attempts, note"
)
APPROVAL = (
    "a.id, a.run, r.id, r.composition, a.place, a.label, a.who, a.subject, a.opened, a.deadline, a.on_timeout,"
    " a.state, a.decided_by, a.decided_at, a.comment, a.answers"
)
# At a place or below it: `2`, `2/0`, `2[17]`, `2(1)`, `2!`; the letters behind `/`, `[`, `(` and `!` end each range.
BELOW = (
    "run = ?1 AND (place = ?2 OR (place >= ?2 || '/' AND place < ?2 || '0')"
    " OR (place >= ?2 || '[' AND place < ?2 || '\\') OR (place >= ?2 || '(' AND place < ?2 || ')')"
    " OR (place >= ?2 || '!' AND place < ?2 || '\"'))"
)
MANY = 200  # runs that are read in one statement


class SqliteRuns:
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
        self._database: Database = None  # type: ignore[assignment]  # until _prepare

    def _write(self, work: Any) -> Any:
        self._prepare()
        return self._database.write(work)

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._prepare()
        return self._database.read(statement, parameters)

    def _prepare(self) -> None:
        database = self._get()
        if database is not self._database:
            database.prepare(RUNS)
            database.prepare(OUTBOX)
            self._database = database

    # ---- a run's life -----------------------------------------------------------------------------------------------------

    def create(self, run: NewRun, plan: bytes, changes: Sequence[Change] = ()) -> tuple[int, bool]:
        """See RunStore."""

        def work(transaction: Transaction) -> tuple[int, bool]:
            if run.key is not None:
                known = transaction.execute("SELECT number FROM runs WHERE key = ?", (run.key,))
                if known:
                    return int(known[0][0]), False
            transaction.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (run.plan, plan))
            transaction.execute(
                "INSERT INTO runs (id, composition, version, plan, state, principal, tenant, rights, payload, started,"
                " updated, expires, key, contracts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    run.composition,
                    run.version,
                    run.plan,
                    RUNNING,
                    run.principal,
                    run.tenant,
                    json.dumps(run.rights),
                    run.payload,
                    run.started,
                    run.started,
                    run.expires,
                    run.key,
                    run.contracts,
                ),
            )
            number = transaction.last_row
            _apply(transaction, number, changes, run.started)
            return number, True

        made: tuple[int, bool] = self._write(work)
        return made

    def apply(self, run: int, changes: Sequence[Change]) -> None:
        """See RunStore."""
        self._prepare()
        if len(changes) == 1 and changes[0].__class__ is Put:  # nearly always
            self._database.append(PUT, [(run, *changes[0])])
            return
        now = _moment(changes)
        self._database.write(lambda transaction: _apply(transaction, run, changes, now))
        self._tell(changes)

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Publish):
                self._published(change.events)

    def finish(
        self,
        run: int,
        changes: Sequence[Change],
        state: str,
        result: bytes | None,
        error: bytes | None,
        counts: tuple[int, int],
        now: float,
    ) -> None:
        """See RunStore."""

        def work(transaction: Transaction) -> None:
            _apply(transaction, run, changes, now)
            transaction.execute(
                "UPDATE runs SET state = ?, result = ?, error = ?, steps = ?, retries = ?, ended = ?, updated = ?"
                " WHERE number = ? AND ended IS NULL",
                (state, result, error, *counts, now, now, run),
            )
            transaction.execute("DELETE FROM waits WHERE run = ?", (run,))
            _withdraw(transaction, "run = ?1", (run,), now)

        self._write(work)
        self._tell(changes)

    def park(
        self, run: int, changes: Sequence[Change], waits: int, counts: tuple[int, int], now: float
    ) -> bool:
        """See RunStore."""

        def work(transaction: Transaction) -> bool:
            _apply(transaction, run, changes, now)
            left = transaction.execute("SELECT count(DISTINCT place) FROM waits WHERE run = ?", (run,))[0][0]
            if left < waits:
                return False
            transaction.execute(
                "UPDATE runs SET state = ?, steps = ?, retries = ?, updated = ? WHERE number = ? AND state = ?",
                (WAITING, *counts, now, run, RUNNING),
            )
            return True

        parked: bool = self._write(work)
        self._tell(changes)
        return parked

    def set_state(
        self,
        run: int,
        before: Sequence[str],
        after: str,
        now: float,
        error: bytes | None = None,
        note: str = "",
    ) -> bool:
        """See RunStore."""

        def work(transaction: Transaction) -> bool:
            transaction.execute(
                f"UPDATE runs SET state = ?, error = ?, updated = ?, note = {_ADDED} WHERE number = ?"
                f" AND state IN ({_marks(before)})",
                (after, error, now, note, note, run, *before),
            )
            return transaction.changes > 0

        changed: bool = self._write(work)
        return changed

    def take_up(self, runs: Sequence[int], now: float) -> None:
        """See RunStore."""
        self._prepare()
        self._database.append(
            "UPDATE runs SET attempts = attempts + 1, updated = ? WHERE number = ?",
            [(now, run) for run in runs],
        )

    # ---- what it waits for --------------------------------------------------------------------------------------------------

    def settle(
        self, run: int, place: str, body: bytes, now: float, taken: str | None = None
    ) -> Settled | None:
        """See RunStore."""

        def work(transaction: Transaction) -> Settled | None:
            settled = _settle(transaction, run, place, body, now)
            if settled is not None and taken is not None:
                transaction.execute("UPDATE run_events SET taken = 1 WHERE run = ? AND id = ?", (run, taken))
            return settled

        settled: Settled | None = self._write(work)
        return settled

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

    def keep_event(self, run: int, event: Event) -> bool:
        """See RunStore."""

        def work(transaction: Transaction) -> bool:
            transaction.execute(
                "INSERT OR IGNORE INTO run_events (run, id, name, payload, at) VALUES (?, ?, ?, ?, ?)",
                (run, *event),
            )
            return transaction.changes > 0

        new: bool = self._write(work)
        return new

    def events_of(self, run: int, name: str) -> list[Event]:
        """See RunStore."""
        rows = self._read(
            "SELECT id, name, payload, at FROM run_events WHERE run = ? AND name = ? AND taken = 0 ORDER BY at, id",
            (run, name),
        )
        return [Event(*row) for row in rows]

    # ---- approvals ------------------------------------------------------------------------------------------------------------

    def decide(
        self, id: str, state: str, who: str, comment: str, values: bytes, now: float
    ) -> tuple[Approval, Settled | None]:
        """See RunStore."""

        def work(transaction: Transaction) -> tuple[Approval, Settled | None]:
            transaction.execute(
                "UPDATE approvals SET state = ?, decided_by = ?, decided_at = ?, comment = ?, answers = ?"
                " WHERE id = ? AND state = ?",
                (state, who, now, comment, values, id, OPEN),
            )
            changed = transaction.changes > 0
            (row,) = transaction.execute(
                f"SELECT {APPROVAL} FROM approvals a JOIN runs r ON r.number = a.run WHERE a.id = ?", (id,)
            )
            approval = _approval(row)
            if not changed:
                return approval, None
            body = json.dumps(
                {"state": state, "by": who, "comment": comment, "values": from_json(values), "id": id}
            ).encode()
            return approval, _settle(transaction, approval.run, approval.place, body, now)

        decided: tuple[Approval, Settled | None] = self._write(work)
        return decided

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
        return [_approval(row) for row in rows]

    # ---- reading --------------------------------------------------------------------------------------------------------------

    def load(self, numbers: Sequence[int]) -> list[Loaded]:
        """See RunStore."""
        self._prepare()
        loaded: list[Loaded] = []
        for begin in range(0, len(numbers), MANY):
            part = tuple(numbers[begin : begin + MANY])
            rows, entries, waits = self._database.snapshot(partial(_load, numbers=part))
            by_run: dict[int, Loaded] = {row[0]: Loaded(_run(row), [], []) for row in rows}
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
        return [_run(row) for row in rows]

    def listed(self, which: RunFilter) -> list[RunRow]:
        """See RunStore."""
        where, values = ["1"], []
        for column in ("state", "composition", "principal"):
            wanted = getattr(which, column)
            if wanted is not None:
                where.append(f"{column} = ?")
                values.append(wanted)
        if which.before is not None:
            where.append("number < ?")
            values.append(which.before)
        rows = self._read(
            f"SELECT {RUN} FROM runs WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
            (*values, which.limit),
        )
        return [_run(row) for row in rows]

    def in_state(self, states: Sequence[str], after: int, limit: int) -> list[int]:
        """See RunStore."""
        rows = self._read(
            f"SELECT number FROM runs WHERE ended IS NULL AND state IN ({_marks(states)}) AND number > ?"
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

    # ---- keeping --------------------------------------------------------------------------------------------------------------

    def remove_ended(self, before: float, limit: int) -> int:
        """See RunStore."""

        def work(transaction: Transaction) -> int:
            rows = transaction.execute(
                "SELECT number FROM runs WHERE ended < ? ORDER BY ended LIMIT ?", (before, limit)
            )
            for table, column in (
                ("journal", "run"),
                ("waits", "run"),
                ("run_events", "run"),
                ("approvals", "run"),
                ("runs", "number"),
            ):
                transaction.many(f"DELETE FROM {table} WHERE {column} = ?", rows)
            if rows and len(rows) < limit:  # the last of them: plans that nobody needs any more go too
                transaction.execute("DELETE FROM plans WHERE digest NOT IN (SELECT plan FROM runs)")
            return len(rows)

        removed: int = self._write(work)
        return removed


_ADDED = "CASE WHEN ? = '' THEN note ELSE trim(note || char(10) || ?, char(10)) END"


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _moment(changes: Sequence[Change]) -> float:
    return max((change.at for change in changes if isinstance(change, Put)), default=0.0)


def _apply(transaction: Transaction, run: int, changes: Sequence[Change], now: float) -> None:
    for change in changes:
        if isinstance(change, Put):
            transaction.execute(PUT, (run, *change))
        elif isinstance(change, Drop):
            transaction.execute(f"DELETE FROM journal WHERE {BELOW}", (run, change.place))
            transaction.execute(f"DELETE FROM waits WHERE {BELOW}", (run, change.place))
            _withdraw(transaction, BELOW, (run, change.place), now)
        elif isinstance(change, Wait):
            transaction.execute(
                "INSERT OR IGNORE INTO waits SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
                " WHERE NOT EXISTS (SELECT 1 FROM journal WHERE run = ?1 AND place = ?2)",
                (
                    run,
                    change.place,
                    change.kind,
                    change.label,
                    change.since,
                    change.due,
                    change.event,
                    change.match,
                    change.scope,
                ),
            )
        elif isinstance(change, Publish):
            put_in(transaction, change.events, now)
        else:
            transaction.execute(
                "INSERT OR IGNORE INTO approvals (id, run, place, label, who, subject, opened, deadline, on_timeout, state)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    change.id,
                    run,
                    change.place,
                    change.label,
                    json.dumps(change.who),
                    change.subject,
                    change.opened,
                    change.deadline,
                    change.on_timeout,
                    OPEN,
                ),
            )


def _withdraw(transaction: Transaction, where: str, values: Sequence[Any], now: float) -> None:
    transaction.execute(
        f"UPDATE approvals SET state = '{WITHDRAWN}', decided_at = {now!r} WHERE state = '{OPEN}' AND {where}",
        values,
    )


def _settle(transaction: Transaction, run: int, place: str, body: bytes, now: float) -> Settled | None:
    rows = transaction.execute("DELETE FROM waits WHERE run = ? AND place = ? RETURNING label", (run, place))
    if not rows:
        return None
    label = rows[0][0]
    transaction.execute(PUT, (run, place, "wait", label, "", body, now, 0.0))
    transaction.execute(
        "UPDATE runs SET state = ?, updated = ? WHERE number = ? AND state = ?", (RUNNING, now, run, WAITING)
    )
    state = transaction.execute("SELECT state FROM runs WHERE number = ?", (run,))[0][0]
    return Settled(run, state, Entry(place, "wait", label, "", from_json(body), now))


def _load(reading: Transaction, numbers: Sequence[int]) -> tuple[list[Any], list[Any], list[Any]]:
    marks = _marks(numbers)
    return (
        reading.execute(f"SELECT {RUN} FROM runs WHERE number IN ({marks}) ORDER BY number", numbers),
        reading.execute(
            "SELECT run, place, kind, label, capability, body, at, seconds FROM journal"
            f" WHERE run IN ({marks})",
            numbers,
        ),
        reading.execute(f"SELECT DISTINCT run, place FROM waits WHERE run IN ({marks})", numbers),
    )


def _run(row: Sequence[Any]) -> RunRow:
    fields = list(row)
    fields[8] = tuple(json.loads(fields[8]))
    return RunRow(*fields)


def _approval(row: Sequence[Any]) -> Approval:
    fields = list(row)
    fields[6] = tuple(json.loads(fields[6]))
    return Approval(*fields)
