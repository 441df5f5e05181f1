"""Checkpoints: what the write-ahead log has gathered is brought into the database file, beside the writer and not by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from gevent.monkey import get_original

from packetflow.storage.sqlite import PATIENCE

_SimpleQueue: Callable[[], Any] = get_original("queue", "SimpleQueue")
_allocate_lock: Callable[[], Any] = get_original("_thread", "allocate_lock")
_start_new_thread: Callable[..., int] = get_original("_thread", "start_new_thread")

DUE = 1_000  # pages in the log from which on a checkpoint is worth while
TOO_LONG = 4 * DUE  # pages from which on the writer itself waits until the log begins anew


class Checkpoints:
    """Decides when; has a native thread of its own, begun when it is needed first. Used by the writer's thread alone.

    threaded: False does it in the writer's own turn (a simulation).
    """

    def __init__(self, path: Path, vfs: str | None, threaded: bool) -> None:
        self._path = path
        self._vfs = vfs
        self._threaded = threaded
        self._pages = 0
        self.commits = 0  # that wrote something
        self._due = DUE
        self._too_long = TOO_LONG
        self._requests: Any = None
        self._ended: Any = None  # a lock that the thread holds while it lives
        self._busy = False
        self.error: apsw.Error | None = None  # of the last one

    def watch(self, connection: apsw.Connection) -> None:
        """Count what this connection writes to the log."""
        connection.set_wal_hook(self._grown)

    def _grown(self, _connection: object, _database: str, pages: int) -> int:
        if pages < self._pages:  # the log has begun anew
            self._due, self._too_long = DUE, TOO_LONG
        self._pages = pages
        self.commits += 1
        return apsw.SQLITE_OK

    def after_commit(self, writer: apsw.Connection) -> None:
        """Does what is due; called when nobody waits for the commit any more."""
        if self._pages < self._due or self._busy:
            return
        if self._pages >= self._too_long:
            self._too_long = self._pages + DUE
            self._begin_anew(writer)
        elif self._threaded:
            self._due = self._pages + DUE
            self._ask()
        else:
            self._due = self._pages + DUE
            self._checkpoint(writer, apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _begin_anew(self, writer: apsw.Connection) -> None:
        # Somebody who reads for long keeps the log from beginning anew; the writer does not wait for that.
        writer.set_busy_timeout(0)
        self._checkpoint(writer, apsw.SQLITE_CHECKPOINT_RESTART)
        writer.set_busy_timeout(PATIENCE)

    def _checkpoint(self, connection: apsw.Connection, mode: int) -> None:
        try:
            connection.wal_checkpoint(mode=mode)
        except (apsw.BusyError, apsw.LockedError):
            return  # later
        except apsw.Error as error:  # the log keeps what could not be brought over; the writer looks at this
            self.error = error
        else:
            self.error = None

    def _ask(self) -> None:
        if self._requests is None:
            self._requests, self._ended = _SimpleQueue(), _allocate_lock()
            self._ended.acquire()
            try:
                _start_new_thread(self._serve, ())
            except RuntimeError:  # no thread is to be had now: the writer does it when the log is too long
                self._requests = None
                return
        self._busy = True
        self._requests.put(True)

    def _serve(self) -> None:
        connection: apsw.Connection | None = None
        try:
            while self._requests.get():
                try:
                    if connection is None:
                        connection = apsw.Connection(
                            str(self._path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs
                        )
                        connection.execute("PRAGMA synchronous=FULL").fetchall()
                    self._checkpoint(connection, apsw.SQLITE_CHECKPOINT_PASSIVE)
                except apsw.Error as error:
                    self.error = error
                finally:
                    self._busy = False
        finally:
            if connection is not None:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.close()
            self._ended.release()

    def close(self) -> None:
        """End the thread."""
        if self._requests is not None:
            self._requests.put(None)
            self._ended.acquire()
            self._requests = None
