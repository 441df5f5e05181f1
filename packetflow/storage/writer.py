"""The writer of a database: takes all writes that have gathered, each in a savepoint of its own, and commits them as one.

It runs in a native thread (in a simulation, in turns of the hub's) and touches nothing of the hub. A file that can't be
written is a state, not a crash: who waits gets StorageUnavailable, and the next write tries again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from gevent.monkey import get_original
from greenlet import greenlet

from packetflow.otp.threads import destroy_own_hub
from packetflow.storage.checkpoint import Checkpoints
from packetflow.storage.errors import StatementFailed, StorageUnavailable
from packetflow.storage.sqlite import DISK_ERRORS, guard, open_writer, told, unavailable, wal_of
from packetflow.storage.transaction import Parameters, Transaction

_SimpleQueue: Callable[[], Any] = get_original("queue", "SimpleQueue")
_Empty: type[Exception] = get_original("queue", "Empty")

MOST = 2_048  # writes in one commit
PROBE = 1.0  # seconds between two tries while the file can't be written
# Texts that no statement of others has, so that none finds ours among the compiled ones.
BEGIN = "BEGIN IMMEDIATE /* packetflow */"
COMMIT = "COMMIT /* packetflow */"
ROLLBACK = "ROLLBACK /* packetflow */"
SAVEPOINT = "SAVEPOINT packetflow_write /* packetflow */"
RELEASE = "RELEASE packetflow_write /* packetflow */"
ROLLBACK_TO = "ROLLBACK TO packetflow_write /* packetflow */"
TOUCH = "UPDATE packetflow_parts SET version = version WHERE part = 'packetflow' /* packetflow */"
TOUCHABLE = "INSERT OR IGNORE INTO packetflow_parts VALUES ('packetflow', 0) /* packetflow */"


class State(NamedTuple):
    """How a database is. name: `new` (not opened yet), `writable`, `full`, `failed` or `closed`. reason and next_step: of
    one that can't be written."""

    name: str
    reason: str = ""
    next_step: str = ""


NEW = State("new")
WRITABLE = State("writable")
CLOSED = State("closed")


class Write:
    """One write and the greenlet that waits for it. One of: rows for a statement; work for a transaction; `alone`, work
    with the connection itself, outside of any transaction; none of them, the end."""

    __slots__ = ("alone", "error", "greenlet", "rows", "settled", "statement", "value", "work")

    def __init__(
        self,
        waiting: greenlet,
        work: Callable[[Transaction], Any] | None = None,
        statement: str | None = None,
        rows: Sequence[Parameters] = (),
        alone: Callable[[apsw.Connection], Any] | None = None,
    ) -> None:
        self.greenlet: greenlet | None = waiting
        self.work = work
        self.statement = statement
        self.rows = rows
        self.alone = alone
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None


class Writer:
    """path: the database file. vfs: SQLite's name of the file system to use, None for the usual one. wake: tells the hub
    that something is in `finished`."""

    def __init__(self, path: Path, vfs: str | None, threaded: bool, wake: Callable[[], object]) -> None:
        self.path = path
        self.queue: Any = _SimpleQueue()
        self.finished: deque[list[Write]] = deque()
        self.state = NEW
        self._vfs = vfs
        self._wake = wake
        self._connection: apsw.Connection | None = None
        self._guarded = False
        self._lasting: StorageUnavailable | None = None
        self._place: tuple[int, int] | None = None
        self._log_place: tuple[int, int] | None = None
        self._checkpoints = Checkpoints(path, vfs, threaded)

    # ---- its thread -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """The life of the thread."""
        while self.turn():
            pass
        destroy_own_hub()  # a work may have used gevent here

    def turn(self) -> bool:
        """Wait for writes and do all that have gathered; whether there is more to come."""
        queue = self.queue
        try:
            first = queue.get() if self.state is WRITABLE or self.state is NEW else queue.get(timeout=PROBE)
        except _Empty:
            self._probe()
            return True
        batch = [first]
        for _ in range(min(queue.qsize(), MOST - 1)):
            batch.append(queue.get())  # noqa: PERF401 - who puts may put more meanwhile
        return self.take(batch)

    def take(self, batch: list[Write]) -> bool:
        """Do these writes and tell who waits; whether there is more to come."""
        last = batch[-1]
        ended = last.work is None and last.statement is None and last.alone is None
        try:
            for part in _parts(batch[:-1] if ended else batch):
                self._do(part)
            if ended:
                self._end()
        except BaseException as error:  # noqa: BLE001 - who waits gets it; the thread must live
            self._fail(batch, error)
        self.finished.append(batch)
        del last, batch
        try:
            self._wake()
        except Exception:  # noqa: BLE001 - the hub is gone, and with it everybody who could be told
            if not ended:
                self._end()
            return False
        if not ended and self._connection is not None and self.state is WRITABLE:
            self._checkpoints.after_commit(self._connection)
        return not ended

    @property
    def is_open(self) -> bool:
        """Whether the file could be opened; read by the hub."""
        return self._connection is not None

    def _do(self, batch: list[Write]) -> None:
        try:
            if self._lasting is not None:
                raise self._lasting
            connection = self._connection or self._open()
            commits = self._checkpoints.commits
            if batch[0].alone is not None:
                self._do_alone(connection, batch[0])
                good = True
            else:
                good = self._commit(connection, batch)
            self._check_places()
        except StorageUnavailable as error:
            self._set_state(error)
            self._fail(batch, error)
        else:
            # Who writes nothing finds nothing out.
            if good and (self.state is NEW or self._checkpoints.commits != commits):
                self.state = WRITABLE

    def _open(self) -> apsw.Connection:
        connection = open_writer(self.path, self._vfs)
        guard(connection, lambda: self._guarded)
        self._checkpoints.watch(connection)
        self._place, self._log_place = _place_of(self.path), None
        self._connection = connection
        return connection

    def _end(self) -> None:
        self._checkpoints.close()
        connection, self._connection = self._connection, None
        if self.state is not WRITABLE and self.state is not NEW and connection is not None:
            # The file may be another one's by now: closing must not remove its log.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.state = CLOSED
        if connection is not None:
            try:
                connection.close()
            except apsw.Error as error:
                raise unavailable(self.path, error) from error

    # ---- states ---------------------------------------------------------------------------------------------------------

    def damaged(self, error: StorageUnavailable) -> None:
        """A reader has met damage: nothing more is written into this file."""
        self._set_state(error)

    def _set_state(self, error: StorageUnavailable) -> None:
        if self.state is CLOSED:
            return
        if error.lasting:
            self._lasting = error
        self.state = State(error.state, error.reason, error.next_step)

    def _probe(self) -> None:
        """Nobody wants to write now: find out whether one could."""
        if self._lasting is not None:
            return
        before = self.state
        self._do([Write(_NOBODY, work=_touch)])
        if self.state != before:
            try:
                self._wake()
            except Exception:  # noqa: BLE001 - as above
                pass

    def _check_places(self) -> None:
        """Whether what was written can be found again: a file that was removed takes writes as before."""
        place, log = _place_of(self.path), _place_of(wal_of(self.path))
        if self._log_place is None:
            self._log_place = log
        if place != self._place or log != self._log_place:
            raise StorageUnavailable(
                self.path,
                "it or its log was moved, removed or replaced while in use",
                "put both back, or restart the node",
            )

    # ---- one commit -------------------------------------------------------------------------------------------------------

    def _commit(self, connection: apsw.Connection, batch: list[Write]) -> bool:
        """Whether the file took the last of them."""
        try:
            self._transact(connection, batch)
        except _Gone as gone:
            if len(batch) == 1 or self.state is not WRITABLE:
                self._lost(batch, gone)
                return False
        else:
            return True
        # Who spoilt it is not known: each has a transaction of its own now.
        good = True
        for write in batch:
            write.value = write.error = None
            try:
                self._transact(connection, [write])
            except _Gone as again:
                good = False
                self._lost([write], again)
            else:
                good = True
        return good

    def _lost(self, batch: list[Write], gone: _Gone) -> None:
        if isinstance(gone.error, StorageUnavailable):
            if gone.error.lasting:
                raise gone.error
            self._set_state(gone.error)
        self._fail(batch, gone.error)

    def _transact(self, connection: apsw.Connection, batch: list[Write]) -> None:
        """All of a batch, or nothing: raises _Gone."""
        execute = connection.execute
        try:
            execute(BEGIN)
            place, count = 0, len(batch)
            while place < count:
                write = batch[place]
                place += 1
                if write.greenlet is None:  # given up before it began
                    continue
                statement = write.statement
                if statement is None:
                    self._work(connection, write)
                    continue
                begin = place - 1
                while place < count and batch[place].statement == statement:
                    place += 1
                self._append(connection, statement, batch[begin:place])
            execute(COMMIT)
        except apsw.Error as error:
            self._roll_back(connection)
            raise _Gone(told(self.path, error)) from error
        except BaseException:
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: apsw.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute(ROLLBACK)
            except apsw.Error:  # the disk fails: SQLite has done what it could, and the next BEGIN tells
                pass

    def _append(self, connection: apsw.Connection, statement: str, group: list[Write]) -> None:
        """Rows for one statement, all at once; if that fails, those of each write alone."""
        connection.execute(SAVEPOINT)
        self._guarded = True
        try:
            if len(group) == 1:
                connection.executemany(statement, group[0].rows)
            else:
                connection.executemany(
                    statement,
                    chain.from_iterable([write.rows for write in group if write.greenlet is not None]),
                )
        except Exception as error:  # noqa: BLE001 - who waits gets it
            self._guarded = False
            self._back_to_savepoint(connection, error)
            if len(group) > 1:
                for write in group:
                    self._append(connection, statement, [write])
            else:
                group[0].error = told(self.path, error) if isinstance(error, apsw.Error) else error
        else:
            self._guarded = False
            connection.execute(RELEASE)

    def _work(self, connection: apsw.Connection, write: Write) -> None:
        connection.execute(SAVEPOINT)
        transaction = Transaction(connection, self.path)
        self._guarded = True
        try:
            assert write.work is not None
            write.value = write.work(transaction)
        except BaseException as error:  # noqa: BLE001 - who waits gets it
            self._guarded = False
            transaction.end()
            self._back_to_savepoint(connection, error)
            write.error = error
        else:
            self._guarded = False
            transaction.end()
            if not connection.in_transaction:
                raise _Gone(StatementFailed("the work has swallowed an error that ended its transaction"))
            connection.execute(RELEASE)

    def _back_to_savepoint(self, connection: apsw.Connection, error: BaseException) -> None:
        """Undo what a write has done. Raises _Gone if more than that is lost."""
        if isinstance(error, DISK_ERRORS):
            raise _Gone(unavailable(self.path, error)) from error
        if isinstance(error, StorageUnavailable) and error.path == self.path:
            raise _Gone(error) from error
        if not connection.in_transaction:
            raise _Gone(told(self.path, error) if isinstance(error, apsw.Error) else error) from error
        connection.execute(ROLLBACK_TO)
        connection.execute(RELEASE)

    def _do_alone(self, connection: apsw.Connection, write: Write) -> None:
        assert write.alone is not None
        if write.greenlet is None:
            return
        try:
            write.value = write.alone(connection)
        except apsw.Error as error:
            self._roll_back(connection)
            failure = told(self.path, error)
            if isinstance(failure, StorageUnavailable):
                raise failure from error
            write.error = failure

    def _fail(self, batch: list[Write], error: BaseException) -> None:
        for write in batch:
            if write.error is None:
                write.value, write.error = None, error


class _Gone(Exception):
    """The whole transaction is gone, for this reason."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


_NOBODY = greenlet()  # waits for what the writer does of its own accord


def _touch(transaction: Transaction) -> None:
    transaction.execute(TOUCHABLE)
    transaction.execute(TOUCH)


def _place_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _parts(batch: list[Write]) -> list[list[Write]]:
    """A batch in pieces that can be one transaction each."""
    if not any(write.alone is not None for write in batch):
        return [batch] if batch else []
    parts: list[list[Write]] = []
    for write in batch:
        if write.alone is not None or not parts or parts[-1][0].alone is not None:
            parts.append([write])
        else:
            parts[-1].append(write)
    return parts
