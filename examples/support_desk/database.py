"""One SQLite file behind one native thread, so that the hub never waits for a disk.

Greenlets hand functions over and wait. The thread takes all that have gathered meanwhile: writes share one transaction
(each in a savepoint of its own, so one that fails takes no other with it) and one sync of the disk; reads follow. An idle
database commits at once, a busy one groups; nothing waits for a timer. A write is answered after its commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from packetflow.errors import RequestError, Unavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

PATIENCE = 5.0  # seconds that a statement waits while another process holds the file

# What a fault of the file or its disk means to people, by SQLite's primary result code.
REMEDIES = {
    sqlite3.SQLITE_FULL: "its disk is full; make room, nothing that was acknowledged is lost",
    sqlite3.SQLITE_READONLY: "it can't be written; give this user the right to write the file and its folder",
    sqlite3.SQLITE_PERM: "it can't be opened; give this user the right to read and write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; expected a file in a folder that exists and can be written",
    sqlite3.SQLITE_BUSY: "another process holds it; end that one, or try again",
    sqlite3.SQLITE_LOCKED: "another process holds it; end that one, or try again",
    sqlite3.SQLITE_IOERR: "its disk fails to read or write; check the disk and the free room on it",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; move it away and start anew, or put a backup in its place",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; move it away and start anew, or put a backup in its place",
}


class _Job:
    """A function that somebody waits for. outcome: the value, or the error, once it ran."""

    __slots__ = ("abandoned", "done", "error", "value", "work", "writes")

    def __init__(self, work: Work[Any], writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.done: AsyncResult[None] = AsyncResult()


class Database:
    """An open SQLite file. `read` and `write` may be called from any greenlet of the thread that opened it."""

    def __init__(self, path: Path, prepare: Work[None]) -> None:
        """Open or create the file and run `prepare` in a transaction. Raises Unavailable, saying what to do, if that fails."""
        self.path = path
        self._pool = ThreadPool(1)
        self._waiting: list[_Job] = []
        self._driver: gevent.Greenlet[..., None] | None = None
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        failure = self._pool.apply(self._open, (prepare,))
        if failure is not None:
            self._pool.kill()
            raise failure

    def read(self, work: Work[T]) -> T:
        """Run `work(connection)`, which reads only. Raises what it raises; Unavailable if the file fails."""
        value: T = self._submit(_Job(work, writes=False))
        return value

    def write(self, work: Work[T]) -> T:
        """Run `work(connection)` in a transaction: all of it, on disk when this returns, or nothing. Raises like `read`.

        If the waiting greenlet is ended, work that has not begun is dropped; work that has begun is finished.
        """
        value: T = self._submit(_Job(work, writes=True))
        return value

    def close(self) -> None:
        """Finish what was handed over, then close the file and its thread. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._driver is not None:
            self._driver.join()
        self._pool.apply(self._close)
        self._pool.kill()

    def _submit(self, job: _Job) -> Any:
        if self._closed:
            raise Unavailable(f"{self.path} is closed")
        self._waiting.append(job)
        if self._driver is None:
            self._driver = gevent.spawn(self._drive)
        try:
            job.done.get()
        except BaseException:
            job.abandoned = True
            raise
        if job.error is not None:
            raise job.error
        return job.value

    def _drive(self) -> None:
        """Carry jobs to the thread until none is left. Its own greenlet, so that no caller's end takes others' with it."""
        batch: list[_Job] = []
        try:
            while self._waiting:
                batch, self._waiting = [job for job in self._waiting if not job.abandoned], []
                self._pool.apply(self._run, (batch,))
                for job in batch:
                    job.done.set(None)
        finally:
            self._driver = None
            for job in [*batch, *self._waiting]:
                if not job.done.ready():  # only if this greenlet itself was ended
                    job.error = Unavailable(
                        f"{self.path}: the desk stops; whether this was done is not known"
                    )
                    job.done.set(None)

    # ---- in the thread: nothing here may raise, gevent would print it ----------------------------------------------------

    def _open(self, prepare: Work[None]) -> Exception | None:
        try:
            connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        except sqlite3.Error as error:
            return unavailable(self.path, error) or error
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            prepare(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - raised in the opener's greenlet
            connection.close()  # takes an open transaction back
            return unavailable(self.path, error) or error
        self._connection = connection
        return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _run(self, batch: list[_Job]) -> None:
        assert self._connection is not None, "jobs come after a good opening"
        writes = [job for job in batch if job.writes]
        if writes:
            self._run_writes(self._connection, writes)
        for job in batch:
            if not job.writes:
                try:
                    job.value = job.work(self._connection)
                except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                    job.error = unavailable(self.path, error) or error

    def _run_writes(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._run_write(connection, job)
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001
            # The file failed, and nothing of this transaction is there: each caller is told.
            for job in jobs:
                job.error = job.error or unavailable(self.path, error) or error
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _run_write(self, connection: sqlite3.Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.value = job.work(connection)
        except BaseException as error:
            if not connection.in_transaction or unavailable(self.path, error) is not None:
                raise  # SQLite gave the whole transaction up, or the disk did
            job.error = error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")


def unavailable(path: Path, error: BaseException) -> RequestError | None:
    """The typed error for a fault of the file or its disk, with what to do; None for any other fault."""
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    remedy = REMEDIES.get(code & 0xFF) if code is not None else None
    if remedy is None:
        return None
    return Unavailable(f"{path}: {remedy} ({error})", {"file": str(path), "reason": str(error)})
