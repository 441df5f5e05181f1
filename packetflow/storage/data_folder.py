"""A node's data folder: it belongs to one node at a time, and holds the admin socket."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.storage.disk import Disk

LOCK = "node.lock"
SOCKET = "admin.sock"
POINTER = "admin.sock.path"
LONGEST_SOCKET_PATH = (
    103  # sun_path of a Unix socket holds 108 bytes on Linux, 104 elsewhere, with its end mark
)


class DataFolderError(PacketFlowError):
    """The data folder can't be used; the message says why and what to do."""

    code = "unavailable"


class DataFolder:
    """A data folder that this process holds. `close()` gives it back; so does the end of the process, however it ends."""

    def __init__(self, path: Path, node: str, clock: Clock, disk: Disk | None = None, pid: int = 0) -> None:
        self.path = path
        disk = disk or Disk()
        try:
            disk.make_folder(path)
            self._lock = disk.open(path / LOCK)
        except OSError as error:
            raise DataFolderError(
                f"data folder {path}: {error.strerror or error}; choose another one by node.data_folder"
            ) from error
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = holder(path)
            self._lock.close()
            who = (
                f"node {held['node']} (pid {held['pid']}, since {held['started']})"
                if held
                else "another node"
            )
            raise DataFolderError(
                f"data folder {path} belongs to {who}; stop it, or choose another one by node.data_folder"
            ) from error
        try:
            self._write_holder({"pid": pid or os.getpid(), "node": node, "started": clock.utc().isoformat()})
        except OSError as error:
            self._lock.close()
            room = (
                "make room on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its disk"
            )
            raise DataFolderError(
                f"data folder {path}: can't write, {error.strerror or error}; {room}, or choose another one by node.data_folder"
            ) from error

    def _write_holder(self, text: dict[str, Any]) -> None:
        data = json.dumps(text).encode()
        self._lock.truncate()
        self._lock.write(data)
        self._lock.sync()

    def claim_admin_socket(self) -> Path:
        """The path to bind the admin socket to, free of a dead node's leavings; found by `find_admin_socket`."""
        socket = self.path / SOCKET
        pointer = self.path / POINTER
        pointer.unlink(missing_ok=True)
        if len(os.fsencode(socket.absolute())) > LONGEST_SOCKET_PATH:
            digest = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
            socket = (
                Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"packetflow-{digest}.sock"
            )
            pointer.write_text(str(socket))
        socket.unlink(missing_ok=True)
        return socket

    def close(self) -> None:
        """Give the folder back. Twice is once."""
        if not self._lock.closed:
            for name in (SOCKET, POINTER):
                (self.path / name).unlink(missing_ok=True)
            self.release()

    def release(self) -> None:
        """Let go of the lock alone, as the end of the process would. Twice is once."""
        self._lock.close()


def holder(path: Path) -> dict[str, Any] | None:
    """Who wrote the lock file of a data folder last: pid, node, started. None if nobody did or it can't be read."""
    try:
        data = json.loads((path / LOCK).read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and {"pid", "node", "started"} <= data.keys() else None


def find_admin_socket(path: Path) -> Path | None:
    """Where the node of this data folder listens for its operator, or None if there is no socket."""
    socket = path / SOCKET
    if socket.exists():
        return socket
    try:
        told = Path((path / POINTER).read_text())
    except OSError:
        return None
    return told if told.exists() else None
