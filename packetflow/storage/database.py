"""Database: one SQLite file of a node, written by one native thread that commits what has gathered, read beside it.

What a greenlet was told is written is on the disk: it survives `kill -9` and a loss of power (write-ahead log,
`synchronous=FULL`). Group commit never waits on a timer: an idle writer commits at once, a busy one takes all there is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from gevent.hub import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent

from packetflow.otp.errors import HubBlocked, OffloadFailed, WrongThread
from packetflow.otp.threads import get_ident
from packetflow.storage.disk import Disk
from packetflow.storage.errors import StorageUnavailable, cannot_use, closed
from packetflow.storage.readers import Readers
from packetflow.storage.schema import Schema
from packetflow.storage.transaction import Parameters, Row, Transaction
from packetflow.storage.writer import CLOSED, State, Write, Writer
from packetflow.wire.errors import Overloaded

_start_new_thread: Callable[..., int] = get_original("_thread", "start_new_thread")

T = TypeVar("T")
SLICE = 256  # pages that one step of `vacuum` gives back


class Database:
    """A database file. Nothing is opened, and no thread begun, before it is used first.

    Belongs to the hub of the thread that makes it. path: the file, made if there is none; its folder must be there.
    queue: how many writes may wait before more are `overloaded`. readers: how many reads at once. vfs: SQLite's name for
    the file system to use. changed: called in the hub with the new state whenever it can or can't be written any more.

    All that waits raises StorageUnavailable (the file can't be used; the message says what to do), Overloaded, WrongThread
    and HubBlocked where waiting is not possible.
    """

    def __init__(
        self,
        path: Path,
        *,
        queue: int = 10_000,
        readers: int = 2,
        vfs: str | None = None,
        changed: Callable[[State], object] | None = None,
    ) -> None:
        self.path = path
        self._hub: Any = get_hub()
        self._thread = get_ident()
        # In a simulation it is written in turns of this thread.
        self._simulated = getattr(self._hub.loop, "simulated", False)
        self._limit = queue
        self._changed = changed
        self._seen = "new"
        self._waiting = 0
        self._bell: Any = None
        self._running = False  # the writer's thread, or in a simulation its turn
        self._closed = False
        self._prepared: set[str] = set()
        self._writer = Writer(path, vfs, not self._simulated, self._ring)
        self._readers = Readers(path, vfs, readers, self._writer.damaged)

    @property
    def state(self) -> State:
        """Whether it can be written, as the last write or try found it."""
        return self._writer.state

    def check_writable(self) -> None:
        """Raise StorageUnavailable if the last write or try found that it can't be written."""
        self._check()
        state = self._writer.state
        if state.name in ("full", "failed"):
            raise StorageUnavailable(self.path, state.reason, state.next_step, state=state.name)

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return self._waiting

    # ---- writing ----------------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Have `work(transaction)` done and committed; its result, once it is on the disk.

        It runs in the writer's thread, within a savepoint: what it raises undoes it alone and is raised here. It must be
        short, touch nothing but the transaction, and bear to be run again (when another's write has spoilt the common
        transaction). Writes are done in the order in which they came. Who is killed or gives up while waiting leaves the
        line; if the write had begun by then, it may happen all the same.
        """
        return self._wait(Write(getcurrent(), work=work))  # type: ignore[no-any-return]

    def append(self, statement: str, rows: Sequence[Parameters]) -> None:
        """Run one statement for each of the rows and commit: as `write`, and cheaper, for what is often written."""
        if rows.__class__ is not tuple and rows.__class__ is not list:
            rows = tuple(rows)
        self._wait(Write(getcurrent(), None, statement, rows))

    def prepare(self, schema: Schema) -> None:
        """Bring the tables of a part to their newest version; cheap when they are. Before an older one is changed, a copy of
        the whole file is kept beside it. Raises StorageUnavailable, also where a newer PacketFlow wrote them."""
        if schema.part in self._prepared:
            return
        self.write(lambda transaction: None)  # opens it
        version = self.snapshot(lambda transaction: schema.version_in(transaction, self.path))
        if 0 < version < len(schema.steps):
            kept = self.path.with_name(f"{self.path.name}.before-{schema.part}-{len(schema.steps)}")
            kept.unlink(missing_ok=True)  # of a try that failed: it changed nothing, so this copy is the same
            self.backup(kept)
        self.write(lambda transaction: schema.migrate(transaction, self.path))
        self._prepared.add(schema.part)

    def vacuum(self) -> int:
        """Give the room of what was deleted back to the disk, a little at a time between other writes; bytes given back."""
        freed = 0
        while True:
            pages: int
            size: int
            pages, size = self._wait(Write(getcurrent(), alone=_give_back))
            freed += pages * size
            if pages < SLICE:
                return freed

    def backup(self, to: Path) -> None:
        """Copy the database as it is now into a new file, which is on the disk when this returns. Writes go on meanwhile.

        Raises StorageUnavailable, also where `to` is there already or has no room.
        """
        self._open_first()
        part = to.with_name(f"{to.name}.part")
        if to.exists():
            raise StorageUnavailable(to, "is there already", "choose another name", lasting=True)
        try:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._readers.run(lambda reading: reading.execute("VACUUM INTO ?", (str(part),)), None, False)
            self._readers.off_the_hub(lambda: _keep(part, to))
        except OSError as error:
            raise cannot_use(to, error) from error
        except StorageUnavailable as error:
            if error.state != "full":
                raise
            raise StorageUnavailable(to, "its disk is full", "make room on it", state="full") from error
        finally:
            part.unlink(missing_ok=True)

    # ---- reading ----------------------------------------------------------------------------------------------------------

    def read(self, statement: str, parameters: Parameters = (), timeout: float | None = 30.0) -> list[Row]:
        """The rows of one statement; sees every write that was acknowledged before. timeout: seconds."""
        self._open_first()
        return self._readers.run(
            lambda transaction: transaction.execute(statement, parameters), timeout, False
        )

    def snapshot(self, work: Callable[[Transaction], T], timeout: float | None = 30.0) -> T:
        """`work(transaction)` in a reader's thread: all its statements see one moment, and none can write."""
        self._open_first()
        return self._readers.run(work, timeout, True)

    def check(self) -> list[str]:
        """What is wrong with the file, by SQLite's own examination; reads all of it."""
        found = self.read("PRAGMA integrity_check", timeout=None)
        return [str(row[0]) for row in found if row[0] != "ok"]

    def _open_first(self) -> None:
        self._check()
        if not self._writer.is_open:
            self.write(lambda transaction: None)

    # ---- its end ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing more, finish what waits, close the file. Twice is once.

        What can't be brought from the log into the file now (`changed` is told why) is brought there when it is opened next.
        """
        if self._closed:
            return
        self._check()
        self._closed = True
        self._readers.close()
        if self._running or self._waiting:
            try:
                self._stand(Write(getcurrent()))
            except StorageUnavailable as error:
                if self._changed is not None:
                    self._changed(State(error.state, error.reason, error.next_step))
        self._writer.state = CLOSED
        if self._bell is not None:
            self._bell.stop()
            self._bell.close()
            self._bell = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- waiting in the hub -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if get_ident() != self._thread:
            raise WrongThread(f"the database {self.path} belongs to another thread; use System.from_thread")
        if self._closed:
            raise closed(self.path)

    def _wait(self, write: Write) -> Any:
        if get_ident() != self._thread or self._closed:
            self._check()
        if write.greenlet is self._hub:
            raise HubBlocked(
                "the hub's own greenlet (a loop callback) must not wait; spawn a greenlet to write"
            )
        if self._waiting >= self._limit:
            raise Overloaded(f"{self._waiting} writes wait for the disk already", retry_after=1.0)
        return self._stand(write)

    def _stand(self, write: Write) -> Any:
        if not self._running:
            self._start()
        if not self._waiting and self._bell is not None:
            self._bell.ref = True
        self._waiting += 1
        self._writer.queue.put(write)
        hub = self._hub
        try:
            while not write.settled:
                hub.switch()
        except BaseException:
            write.greenlet = None
            raise
        error = write.error
        if error is None:
            return write.value
        try:
            if isinstance(error, Exception):
                raise error
            # SystemExit and the like end who raises them, not who asked for the write.
            raise OffloadFailed("a write", f"it raised {error!r}") from error
        finally:
            del error, write  # no cycle by way of the traceback

    def _start(self) -> None:
        self._running = True
        if self._simulated:
            self._hub.loop.run_callback(self._turn)  # in the hub itself, which those who wait come back to
            return
        if self._bell is None:
            self._bell = self._hub.loop.async_()
            self._bell.start(self._collect)
        try:
            _start_new_thread(self._writer.serve, ())
        except RuntimeError as error:
            self._running = False
            raise StorageUnavailable(
                self.path,
                f"no thread can be started to write it ({error})",
                "raise the limit of threads (ulimit -u)",
            ) from error

    def _turn(self) -> None:
        """What the thread would do, as a turn of the hub."""
        self._running = False
        queue = self._writer.queue
        batch = [queue.get() for _ in range(queue.qsize())]
        self._writer.take(batch)
        # In the hub, as by the thread's bell: who goes on comes back there, not to this greenlet.
        self._hub.loop.run_callback(self._collect)

    def _ring(self) -> None:
        bell = self._bell
        if bell is not None:
            bell.send()

    def _collect(self) -> None:
        self._tell()
        finished = self._writer.finished
        while finished:
            batch = finished.popleft()
            self._waiting -= len(batch)
            if not self._waiting and self._bell is not None:
                self._bell.ref = False
            for write in batch:
                write.settled = True
                waiting, write.greenlet = write.greenlet, None
                if waiting is not None:
                    try:
                        waiting.switch()
                    except BaseException:  # noqa: BLE001 - of a greenlet whose parent is the hub; the others must not suffer
                        self._hub.handle_error(waiting, *sys.exc_info())

    def _tell(self) -> None:
        state = self._writer.state
        if state.name != self._seen:
            self._seen = state.name
            if self._changed is not None:
                self._changed(state)


def _give_back(connection: Any) -> tuple[int, int]:
    before = connection.pragma("freelist_count")
    connection.execute(f"PRAGMA incremental_vacuum({SLICE})").fetchall()
    return before - connection.pragma("freelist_count"), connection.pragma("page_size")


def _keep(part: Path, to: Path) -> None:
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part, to)
    Disk().sync_folder(to.parent)
