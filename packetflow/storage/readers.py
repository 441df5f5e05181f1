"""Reads of a database: a few connections, each used by one native thread at a time; the hub does not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw
import gevent

from packetflow.otp.errors import PoolFull
from packetflow.otp.pools.threads import ThreadPool
from packetflow.storage.errors import StatementFailed, StorageUnavailable, closed
from packetflow.storage.sqlite import open_reader, told
from packetflow.storage.transaction import Transaction
from packetflow.wire.errors import Overloaded, RequestError, Timeout

T = TypeVar("T")
QUEUE = 1_000  # reads that wait, before more are refused
STEPS = 10_000  # of SQLite's machine, between two looks at whether a read is given up


class _Read:
    """One read under way, which its caller may give up."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False

    def is_given_up(self) -> bool:
        """What SQLite asks while it works: `interrupt` would miss a statement that is about to begin."""
        return self.given_up


class Readers:
    """size: reads at once. damaged: told of damage that a read meets."""

    def __init__(
        self, path: Path, vfs: str | None, size: int, damaged: Callable[[StorageUnavailable], object]
    ) -> None:
        self._path = path
        self._vfs = vfs
        self._damaged = damaged
        self._pool = ThreadPool(size, queue=QUEUE, full="fail", name=f"the readers of {path.name}")
        self._free: deque[apsw.Connection] = deque()
        self._under_way: set[_Read] = set()

    def run(self, work: Callable[[Transaction], T], timeout: float | None, one_moment: bool) -> T:
        """See Database.snapshot. one_moment: False for a single statement, which sees one anyway."""
        read = _Read()
        self._under_way.add(read)
        alarm = gevent.Timeout(timeout)
        try:
            with alarm:
                return self._pool.run(self._do, read, work, one_moment)  # type: ignore[no-any-return]
        except StorageUnavailable as error:
            if error.lasting and error.state == "failed":
                self._damaged(error)
            raise
        except PoolFull as error:
            raise Overloaded(f"{QUEUE} reads wait for the disk already", retry_after=1.0) from error
        except BaseException as error:
            read.given_up = True
            if error is alarm:
                raise Timeout(f"the read was not done within {timeout:g} s") from None
            raise
        finally:
            self._under_way.discard(read)

    def off_the_hub(self, function: Callable[[], T]) -> T:
        """Any other work on files."""
        return self._pool.run(function)  # type: ignore[no-any-return]

    def _do(self, read: _Read, work: Callable[[Transaction], Any], one_moment: bool) -> Any:
        connection = self._free.pop() if self._free else open_reader(self._path, self._vfs)
        transaction = Transaction(connection, self._path)
        connection.set_progress_handler(read.is_given_up, STEPS)
        try:
            if read.given_up:
                raise closed(self._path)
            if one_moment:
                connection.execute("BEGIN /* packetflow */")
            return work(transaction)
        except RequestError as error:
            if read.given_up:  # its caller is gone, or waits while the database is closed
                raise closed(self._path) from error
            if isinstance(error.__cause__, apsw.ReadOnlyError):
                raise StatementFailed("a read can't write: give that statement to `write`") from error
            raise
        except apsw.Error as error:
            raise told(self._path, error) from error
        finally:
            transaction.end()
            connection.set_progress_handler(None)
            if connection.in_transaction:
                connection.execute("ROLLBACK /* packetflow */")
            self._free.append(connection)

    def close(self) -> None:
        """End reads under way, and close the files."""
        for read in list(self._under_way):
            read.given_up = True
        self._pool.close()
        while self._free:
            self._free.pop().close()
