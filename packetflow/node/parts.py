"""The processes of a node that are not in a layer of their own: what holds the data folder, and what holds the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packetflow.node.stores import Stores
from packetflow.otp import GenServer, at_death, send
from packetflow.otp.clock import Clock
from packetflow.storage.data_folder import DataFolder
from packetflow.storage.disk import Disk
from packetflow.telemetry.logs import StandardHandler
from packetflow.wire.errors import RequestError

LIBRARY_LOG = "packetflow"  # the standard library's logger that the runtime writes to


class Storage(GenServer):
    """Holds the data folder, and what is stored in it, for as long as the node lives."""

    def init(
        self,
        path: Path,
        node: str,
        clock: Clock,
        disk: Disk,
        pid: int,
        opened: Callable[[DataFolder], Stores],
        log: Any,
    ) -> None:
        """Take the folder. Raises DataFolderError if it can't be had."""
        self._log = log
        self._folder = DataFolder(path, node, clock, disk, pid)
        at_death(self._folder.release)  # killed and started again, it must not find itself in its way
        self._stores = opened(self._folder)
        at_death(self._stores.leave)
        self._stores.on_due = lambda: send(self.ref, "prune")

    def handle_info(self, message: object) -> None:
        """Something was used and it is time: forget what is too old."""
        try:
            self._stores.prune()
        except RequestError as error:  # the next time, then; the state of the database is told elsewhere
            self._log.warning("nothing was forgotten", why=str(error))

    def terminate(self, reason: object) -> None:
        """Close what is stored, and give the folder back."""
        self._stores.close()
        self._folder.close()


class Telemetry(GenServer):
    """Passes the runtime's own log records to the node's log. Its loss costs those lines, nothing else."""

    def init(self, log: Any) -> None:
        """Listen to the runtime's logger."""
        self._handler = StandardHandler(log)
        logger = logging.getLogger(LIBRARY_LOG)
        logger.addHandler(self._handler)
        at_death(lambda: logger.removeHandler(self._handler))
