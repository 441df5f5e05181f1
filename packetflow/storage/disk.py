"""Disk: what a node writes into its files goes by this object, so that a simulation can put a disk of its own in its place.

It knows what is written, what is on the disk for certain (`sync`), and names; it does not know what is in a file.
"""

from __future__ import annotations

import os
from pathlib import Path


class DiskFile:
    """An open file. Nothing in it is on the disk for certain before `sync`; whatever goes wrong raises OSError."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The system's number of it, for locks. Raises ValueError when it is closed."""
        if self._descriptor < 0:
            raise ValueError("the file is closed")
        return self._descriptor

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._descriptor < 0

    def size(self) -> int:
        """How many bytes it holds."""
        return os.fstat(self.fileno()).st_size

    def read(self, size: int, offset: int = 0) -> bytes:
        """At most `size` bytes from there on."""
        return os.pread(self.fileno(), size, offset)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Write all of it there. A part may have been written when it raises."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, size: int = 0) -> None:
        """Cut it, or let it grow by zeros, to this size."""
        os.ftruncate(self.fileno(), size)

    def sync(self) -> None:
        """Returns when all that was written is on the disk. A full disk may tell only here."""
        os.fsync(self.fileno())

    def close(self) -> None:
        """Give it back, and a lock on it too. Twice is once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Disk:
    """The machine's own. Every method raises OSError."""

    @property
    def vfs(self) -> str | None:
        """SQLite's name of the file system that databases on it use; None: SQLite's own."""
        return None

    def make_folder(self, path: Path) -> None:
        """A folder for the node's user alone, and those above it; one that is there stays as it is."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, path: Path, *, new: bool = False) -> DiskFile:
        """A file to read and write, made if there is none. new: it must not be there, not even as a link (FileExistsError)."""
        return DiskFile(self._descriptor(path, new))

    @staticmethod
    def _descriptor(path: Path, new: bool) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0), 0o600)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name in the same folder; what had that name before is gone. For certain after `sync_folder`."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens if there is none. For certain after `sync_folder`."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Returns when the names in a folder are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Have `path` hold these bytes, whole or not at all: under another name first, which takes its place when it is whole.

        When it raises, the file is as it was. Whether the new one outlives a loss of power says `sync_folder`, afterwards.
        """
        new = path.with_name(f".{path.name}.new")
        self.remove(new)  # what a process that died here has left
        file = self.open(new, new=True)
        try:
            file.write(data)
            file.sync()
            file.close()
            self.rename(new, path)
        except BaseException:
            file.close()
            self._give_up(new)
            raise

    def _give_up(self, path: Path) -> None:
        try:
            self.remove(path)
        except OSError:
            pass  # the next `replace` does it; the error that led here says more
