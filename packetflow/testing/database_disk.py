"""A disk with faults for the node's database: slow, full, torn at any write, losing at a power cut what was not synced.

It stands between SQLite and the file system (a VFS), so everything above it is the real thing:

    disk = Disk()
    with Database(path, vfs=disk.name) as database: ...
    disk.cut_power(after=17, chance=random.Random(5))
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any, Self

import apsw
from gevent.monkey import get_original

_sleep: Callable[[float], None] = get_original("time", "sleep")
_allocate_lock: Callable[[], Any] = get_original("_thread", "allocate_lock")

SECTOR = 512  # bytes that are written whole or not at all
_numbers = itertools.count(1)  # SQLite keeps file systems by name for the whole process


class PowerCut(apsw.IOError):
    """The disk has no power."""


class _Change:
    """Something that happened to a file and is not synced: where, the bytes there before, the size before, those after."""

    __slots__ = ("after", "before", "offset", "size")

    def __init__(self, offset: int, before: bytes, size: int, after: bytes | None) -> None:
        self.offset = offset
        self.before = before
        self.size = size
        self.after = after  # None: it was cut here


class Disk(apsw.VFS):
    """A file system for SQLite, by its `name`. delay: seconds that each sync takes. room: bytes by which files may still
    grow, None for any. Used by the threads of one database at a time; `close` forgets it."""

    syncs = True  # the machine's own disk, too: it costs time, and matters only to who really loses power

    def __init__(self) -> None:
        self.name = f"packetflow-disk-{next(_numbers)}"
        super().__init__(self.name, base="")
        self.delay = 0.0
        self.room: int | None = None
        self.operations = 0  # writes, cuts and syncs so far
        self.powered = True
        # An operation is done or not when the power is cut by another thread: a sync that was under way has not succeeded.
        self.lock = _allocate_lock()
        self._cut_at: int | None = None
        self._chance: Random | None = None
        self._unsynced: dict[str, list[_Change]] = {}

    def cut_power(self, after: int = 0, chance: Random | None = None) -> None:
        """Cut the power at the operation that comes after so many others; 0: now. All that was not synced is lost, or with
        a chance each sector of it for itself; a write that is under way is torn likewise."""
        with self.lock:
            self._chance = chance
            self._cut_at = self.operations + after
            if not after:
                self._lose()

    def restore_power(self) -> None:
        """What is on the disk can be used again, by who opens it anew."""
        self._cut_at = None
        self.powered = True

    def close(self) -> None:
        """Take the file system out of SQLite; nothing may use it any more."""
        self.unregister()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what SQLite asks of it ------------------------------------------------------------------------------------------

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """Open a file."""
        self.check()
        return _File(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        """Remove a file."""
        with self.lock:
            self.check()
            self._unsynced.pop(name, None)
            super().xDelete(name, sync)

    # ---- what its files tell it ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises PowerCut where there is none."""
        if not self.powered:
            raise PowerCut("the power is cut")

    def operate(self) -> None:
        """One more operation has come to pass."""
        self.check()
        self.operations += 1
        if self._cut_at is not None and self.operations > self._cut_at:
            self._lose()
            self.check()

    def changed(self, name: str, change: _Change) -> None:
        """Something was written that a power cut may take."""
        self._unsynced.setdefault(name, []).append(change)

    def synced(self, name: str) -> None:
        """All of a file is safe."""
        self._unsynced.pop(name, None)

    def _lose(self) -> None:
        self.powered = False
        unsynced, self._unsynced = self._unsynced, {}
        for name, changes in unsynced.items():
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                for change in reversed(changes):
                    if change.before:
                        os.pwrite(descriptor, change.before, change.offset)
                    os.ftruncate(descriptor, change.size)
                if self._chance is not None:
                    self._keep_some(descriptor, changes, self._chance)
            finally:
                os.close(descriptor)

    @staticmethod
    def _keep_some(descriptor: int, changes: list[_Change], chance: Random) -> None:
        for change in changes:
            if change.after is None:
                if chance.random() < 0.5:
                    os.ftruncate(descriptor, change.offset)
                continue
            place, end = change.offset, change.offset + len(change.after)
            while place < end:
                until = min(end, (place // SECTOR + 1) * SECTOR)
                if chance.random() < 0.5:
                    piece = change.after[place - change.offset : until - change.offset]
                    os.pwrite(descriptor, piece, place)
                place = until


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else name

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check()
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        disk = self._disk
        with disk.lock:
            size = self.xFileSize()
            if disk.room is not None:
                growth = offset + len(data) - size
                if growth > disk.room:
                    raise apsw.FullError("the disk is full")
                disk.room -= max(0, growth)
            before = super().xRead(min(len(data), size - offset), offset) if offset < size else b""
            change = _Change(offset, before, size, bytes(data))
            if self._name is not None and disk.powered:
                disk.changed(self._name, change)  # before the power may be cut: so it is torn
            disk.operate()
            super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        disk = self._disk
        with disk.lock:
            now = self.xFileSize()
            if size < now and self._name is not None and disk.powered:
                before = super().xRead(now - size, size)
                disk.changed(self._name, _Change(size, before, now, None))
            disk.operate()
            super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        disk = self._disk
        if disk.delay:
            _sleep(disk.delay)
        with disk.lock:
            disk.operate()
            if disk.syncs:
                super().xSync(flags)
            if self._name is not None:
                disk.synced(self._name)
