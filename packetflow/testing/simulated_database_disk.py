"""The file system of a simulated node's database: `database_disk.Disk` with the time, chance and room of its simulated disk."""

from __future__ import annotations

from typing import Any

import apsw

from packetflow.testing.database_disk import Disk
from packetflow.testing.disk import SimulatedDisk


class SimulatedDatabaseDisk(Disk):
    """disk: what the node's other files lie on, too."""

    syncs = False

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        super().__init__()

    @property
    def room(self) -> int | None:
        """How many bytes more the disk takes."""
        return self._disk.room

    @room.setter
    def room(self, room: int | None) -> None:
        if room is not None:
            self._disk.room = room

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """Open a file."""
        self._disk.wait()
        return super().xOpen(name, flags)

    def operate(self) -> None:
        """One more write, cut or sync: it takes its time, and may fail."""
        self._disk.wait()
        super().operate()
        if self._disk.fault():
            raise apsw.IOError("the disk fails (simulated)")
