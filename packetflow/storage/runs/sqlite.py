"""The store of runs on a node's SQLite database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from packetflow.storage.outbox import put_in
from packetflow.storage.runs.reading import APPROVAL, SqliteReading, approval_of, marks
from packetflow.storage.runs.records import (
    FORMAT,
    OPEN,
    RUNNING,
    WAITING,
    WITHDRAWN,
    Again,
    Approval,
    Change,
    Drop,
    Entry,
    Event,
    Forget,
    NewRun,
    Publish,
    Put,
    Settled,
    Wait,
)
from packetflow.storage.transaction import Transaction

PUT = "INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# At a place or below it: `2`, `2/0`, `2[17]`, `2(1)`, `2!`; the letters behind `/`, `[`, `(` and `!` end each range.
BELOW = (
    "run = ?1 AND (place = ?2 OR (place >= ?2 || '/' AND place < ?2 || '0')"
    " OR (place >= ?2 || '[' AND place < ?2 || '\\') OR (place >= ?2 || '(' AND place < ?2 || ')')"
    " OR (place >= ?2 || '!' AND place < ?2 || '\"'))"
)


class SqliteRuns(SqliteReading):
    """All that a store of runs can do."""

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
                " updated, expires, key, contracts, origin, format)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    run.origin,
                    FORMAT,
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
                f" AND state IN ({marks(before)})",
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

    def again(self, run: int, again: Again, now: float) -> bool:
        """See RunStore."""

        def work(transaction: Transaction) -> bool:
            transaction.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (again.plan, again.body))
            transaction.execute(
                "UPDATE runs SET state = ?, plan = ?, version = ?, contracts = ?, generation = generation + ?, expires = ?,"
                f" ended = NULL, result = NULL, error = NULL, updated = ?, note = {_ADDED}"
                f" WHERE number = ? AND state IN ({marks(again.before)})",
                (
                    RUNNING,
                    again.plan,
                    again.version,
                    again.contracts,
                    int(again.generation),
                    again.expires,
                    now,
                    again.note,
                    again.note,
                    run,
                    *again.before,
                ),
            )
            if not transaction.changes:
                return False
            _apply(transaction, run, again.changes, now)
            return True

        changed: bool = self._write(work)
        return changed

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
            approval = approval_of(row)
            if not changed:
                return approval, None
            body = json.dumps(
                {"state": state, "by": who, "comment": comment, "values": from_json(values), "id": id}
            ).encode()
            return approval, _settle(transaction, approval.run, approval.place, body, now)

        decided: tuple[Approval, Settled | None] = self._write(work)
        return decided

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

    def vacuum(self) -> int:
        """See RunStore."""
        self._prepare()
        return self._database.vacuum()


_ADDED = "CASE WHEN ? = '' THEN note ELSE trim(note || char(10) || ?, char(10)) END"


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
        elif isinstance(change, Forget):
            for table in ("journal", "waits"):
                transaction.execute(f"DELETE FROM {table} WHERE run = ? AND place = ?", (run, change.place))
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
