"""The processes of a node that are not in a layer of their own: what holds the data folder, and what holds the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packetflow.otp import GenServer, at_death
from packetflow.otp.clock import Clock
from packetflow.storage.data_folder import DataFolder
from packetflow.storage.disk import Disk
from packetflow.telemetry.logs import StandardHandler

LIBRARY_LOG = "packetflow"  # the standard library's logger that the runtime writes to


class Storage(GenServer):
    """Holds the data folder for as long as the node lives."""

    def init(
        self, path: Path, node: str, clock: Clock, disk: Disk, pid: int, opened: Callable[[DataFolder], None]
    ) -> None:
        """Take the folder. Raises DataFolderError if it can't be had."""
        self._folder = DataFolder(path, node, clock, disk, pid)
        at_death(self._folder.release)  # killed and started again, it must not find itself in its way
        opened(self._folder)

    def terminate(self, reason: object) -> None:
        """Give the folder back."""
        self._folder.close()


class Telemetry(GenServer):
    """Passes the runtime's own log records to the node's log. Its loss costs those lines, nothing else."""

    def init(self, log: Any) -> None:
        """Listen to the runtime's logger."""
        self._handler = StandardHandler(log)
        logger = logging.getLogger(LIBRARY_LOG)
        logger.addHandler(self._handler)
        at_death(lambda: logger.removeHandler(self._handler))
