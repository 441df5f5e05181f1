"""The disk of a simulated node: it may be slow, full or faulty, and a crash takes what was not synced, whole or in part.

The files are real, so that whatever reads them does so as ever. Beside them stands what would be left after a crash.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from packetflow.otp.simulation.loop import SimulatedLoop
from packetflow.storage.disk import Disk, DiskFile

if TYPE_CHECKING:
    from packetflow.testing.simulated_database_disk import SimulatedDatabaseDisk


class Content:
    """What a file holds for certain, and what was done to it since, in order: (offset, bytes), or (size, None) for a cut."""

    def __init__(self, certain: bytes = b"") -> None:
        self.certain = bytearray(certain)
        self.since: list[tuple[int, bytes | None]] = []

    def settle(self) -> None:
        """All of it is certain."""
        for offset, data in self.since:
            self.apply(offset, data)
        self.since.clear()

    def apply(self, offset: int, data: bytes | None) -> None:
        """One thing that was done is certain."""
        certain = self.certain
        if len(certain) < offset:
            certain.extend(bytes(offset - len(certain)))
        if data is None:
            del certain[offset:]
        else:
            certain[offset : offset + len(data)] = data


class SimulatedDisk:
    """A disk as a world sees it: what may go wrong with it, and what its end leaves.

    latency: (least, most) seconds that each operation takes, drawn by the seed. It holds up everybody, as a write does that
    is made in the hub's thread. room: how many bytes more it takes before it is full, None for any number. faults: the
    chance that a write, sync or change of names fails (EIO), a write with a part of it done.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.latency = (0.0, 0.0)
        self.room: int | None = None
        self.faults = 0.0
        self._loop = loop
        self.chance = loop.chance()
        """What its faults are drawn from."""
        self._names: dict[Path, Content] = {}
        self._certain: dict[Path, Content] = {}
        self._renamed: list[tuple[Path, dict[Path, Content | None]]] = []  # by folder, since its last sync

    def crash(self) -> None:
        """Power is lost: of what was not synced, the seed draws what is there afterwards. Names survive in the order of their
        changes, up to a point; of contents each write may be there, not there, or torn."""
        chance = self.chance
        for content in {id(one): one for one in (*self._certain.values(), *self._names.values())}.values():
            self.lose(content)
        for _, change in self._renamed[: chance.randint(0, len(self._renamed))]:
            self._make_certain(change)
        self._renamed.clear()
        for path in {**self._names, **self._certain}:
            left = self._certain.get(path)
            if left is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(left.certain)
        self._names = dict(self._certain)

    # ---- for the disks of nodes --------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """The time that an operation takes."""
        least, most = self.latency
        if most:
            self._loop.pass_time(self.chance.uniform(least, most))

    def fault(self) -> bool:
        """Whether the seed has something fail now."""
        return self.faults > 0.0 and self.chance.random() < self.faults

    def may_fail(self, path: Path) -> None:
        """Raises OSError (EIO) if the seed says so."""
        if self.fault():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def lose(self, content: Content) -> None:
        """Of what was written since the last sync, the seed draws what reaches the disk after all."""
        chance = self.chance
        for offset, data in content.since:
            fate = chance.random()
            if fate < 0.5:
                continue
            torn = fate < 0.75 and data
            content.apply(offset, data[: chance.randrange(len(data))] if torn and data else data)
        content.since.clear()

    def part_of(self, data: bytes) -> bytes:
        """How much of a write that fails is done."""
        return data[: self.chance.randrange(len(data) + 1)]

    def content(self, path: Path, existed: bool) -> Content:
        """What is known of a file. existed: before it was opened; what nobody has written here is there for certain."""
        found = self._names.get(path)
        if found is None:
            found = Content(path.read_bytes())
            if existed:
                self._names[path] = self._certain[path] = found
            else:
                self.rename(path.parent, {path: found})
        return found

    def known(self, path: Path) -> Content | None:
        """What is known of a file, None if there is none."""
        return self.content(path, True) if path.exists() else None

    def take(self, growth: int) -> int:
        """Room for so many bytes, or less: how many there are. Negative: so many are free again."""
        if self.room is None:
            return growth
        taken = min(growth, self.room)
        self.room -= taken
        return taken

    def rename(self, folder: Path, change: dict[Path, Content | None]) -> None:
        """Names in a folder change together; not for certain yet."""
        for path, content in change.items():
            if content is None:
                self._names.pop(path, None)
            else:
                self._names[path] = content
        self._renamed.append((folder, change))

    def settle_names(self, folder: Path) -> None:
        """They are certain now."""
        for where, change in self._renamed:
            if where == folder:
                self._make_certain(change)
        self._renamed = [(where, change) for where, change in self._renamed if where != folder]

    def _make_certain(self, change: dict[Path, Content | None]) -> None:
        for path, content in change.items():
            if content is None:
                self._certain.pop(path, None)
            else:
                self._certain[path] = content


class NodeDisk(Disk):
    """A simulated disk in the hands of one node, until that node crashes: then nothing it does reaches the disk any more."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._files: list[NodeFile] = []
        self._databases: SimulatedDatabaseDisk | None = None
        self._dead = False

    def crash(self) -> None:
        """The end of the node: its files are closed, unsynced writes are lost."""
        self._dead = True
        for file in self._files:
            file.close()
        self._files.clear()
        self._disk.crash()
        if self._databases is not None:
            self._databases.cut_power(chance=self._disk.chance)

    @property
    def vfs(self) -> str:
        """What the node's database uses: the same faults, crash and room. Made, and its driver loaded, when it is asked for."""
        if self._databases is None:
            from packetflow.testing.simulated_database_disk import SimulatedDatabaseDisk

            self._databases = SimulatedDatabaseDisk(self._disk)
        return self._databases.name

    def begin(self, path: Path) -> None:
        """An operation begins. Raises OSError if the node is dead."""
        if self._dead:
            raise OSError(errno.EIO, "the node has crashed", str(path))
        self._disk.wait()

    def make_folder(self, path: Path) -> None:
        """For certain at once, unlike files."""
        self.begin(path)
        self._disk.may_fail(path)
        super().make_folder(path)

    def open(self, path: Path, *, new: bool = False) -> DiskFile:
        """See Disk."""
        self.begin(path)
        self._disk.may_fail(path)
        existed = path.exists()
        descriptor = self._descriptor(path, new)
        file = NodeFile(descriptor, path, self._disk.content(path, existed), self, self._disk)
        self._files = [*(one for one in self._files if not one.closed), file]
        return file

    def rename(self, source: Path, target: Path) -> None:
        """See Disk."""
        self.begin(target)
        self._disk.may_fail(target)
        content, replaced = self._disk.known(source), self._disk.known(target)
        size = target.stat().st_size if replaced is not None else 0
        super().rename(source, target)
        self._disk.take(-size)
        self._disk.rename(target.parent, {source: None, target: content})

    def remove(self, path: Path) -> None:
        """See Disk."""
        self.begin(path)
        self._disk.may_fail(path)
        if self._disk.known(path) is not None:
            size = path.stat().st_size
            super().remove(path)
            self._disk.take(-size)
            self._disk.rename(path.parent, {path: None})

    def sync_folder(self, path: Path) -> None:
        """See Disk."""
        self.begin(path)
        self._disk.may_fail(path)
        self._disk.settle_names(path)


class NodeFile(DiskFile):
    """A file of a simulated disk."""

    __slots__ = ("_content", "_disk", "_node", "_path")

    def __init__(
        self, descriptor: int, path: Path, content: Content, node: NodeDisk, disk: SimulatedDisk
    ) -> None:
        super().__init__(descriptor)
        self._path = path
        self._content = content
        self._node = node
        self._disk = disk

    def read(self, size: int, offset: int = 0) -> bytes:
        """See DiskFile."""
        self._node.begin(self._path)
        return super().read(size, offset)

    def write(self, data: bytes, offset: int = 0) -> None:
        """See DiskFile."""
        self._node.begin(self._path)
        disk = self._disk
        try:
            disk.may_fail(self._path)
        except OSError:
            self._write(disk.part_of(data), offset)
            raise
        growth = max(0, offset + len(data) - self.size())
        lacking = growth - disk.take(growth)
        self._write(data[: len(data) - lacking], offset)
        if lacking:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _write(self, data: bytes, offset: int) -> None:
        if data:
            super().write(data, offset)
            self._content.since.append((offset, bytes(data)))

    def truncate(self, size: int = 0) -> None:
        """See DiskFile."""
        self._node.begin(self._path)
        self._disk.may_fail(self._path)
        self._disk.take(min(0, size - self.size()))
        super().truncate(size)
        self._content.since.append((size, None))

    def sync(self) -> None:
        """See DiskFile. After one that failed nobody knows what is there, and the next one does not tell: so it is on Linux."""
        self._node.begin(self._path)
        try:
            self._disk.may_fail(self._path)
        except OSError:
            self._disk.lose(self._content)
            raise
        self._content.settle()
