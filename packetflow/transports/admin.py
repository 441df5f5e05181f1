"""The operator's door: the protocol of `tcp.py` over a Unix socket that only the node's own user can open."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from typing import Any

from packetflow.otp.clock import Clock
from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.transports.listener import BACKLOG, Door, PlainSocket, refused
from packetflow.transports.tcp import TcpConnection, TcpListener
from packetflow.wire.errors import Forbidden
from packetflow.wire.limits import Limits


class AdminListener(TcpListener):
    """The operator's door: the tcp protocol on a Unix socket of mode 0600, for the node's own user (and root) only."""

    kind = "admin"

    def __init__(self, door: Door, clock: Clock, limits: Limits, *, path: str, **options: Any) -> None:
        """path: the socket's file. options: as of TcpListener, without host and port."""
        super().__init__(door, clock, limits, **options)
        self.path = os.fspath(path)
        self._inode: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """The socket's file."""
        return self.path

    def listen(self) -> socket.socket:
        """Listen at the path; a socket that nobody serves any more is replaced."""
        if not hasattr(socket, "SO_PEERCRED"):
            raise ListenFailed(
                self.kind, self.path, "this system does not tell who connects", "run the node on Linux"
            )
        sock = PlainSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear_way()
        except (OSError, ListenFailed):
            sock.close()
            raise
        try:
            sock.bind(self.path)
            # Nobody can connect before listen(), so there is no moment at which others could.
            os.chmod(self.path, 0o600)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    self.kind, self.path, "another node serves it", "stop it, or use another data_folder"
                ) from error
            if "too long" in str(error):
                raise ListenFailed(
                    self.kind, self.path, "the path is too long for a socket", "use a shorter data_folder"
                ) from error
            raise refused(self.kind, self.path, error) from error
        found = os.stat(self.path)
        self._inode = (found.st_dev, found.st_ino)
        return sock

    def _clear_way(self) -> None:
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ListenFailed(self.kind, self.path, "a file is there that is no socket", "move it away")
        with PlainSocket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                os.unlink(self.path)

    def stop_accepting(self) -> None:
        """No new connections; the socket's file goes, unless another node has put its own there."""
        super().stop_accepting()
        if self._inode is not None:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) == self._inode:
                    os.unlink(self.path)
            self._inode = None

    def connect(self, sock: socket.socket, peer: Any) -> TcpConnection | None:
        """The operator, if the kernel says that it is the node's own user."""
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in operators():
            self.log.warning("a connection of another user was refused", uid=uid, pid=pid)
            self._say(sock, Forbidden("only the node's own user may use this socket"))
            sock.close()
            return None
        shown = f"uid {uid} pid {pid}"
        return TcpConnection(self, sock, shown, self.door.open_session(self.kind, shown, operator=True))


def operators() -> tuple[int, ...]:
    """The users that may operate the node: its own, and root, whom nothing could keep out."""
    return os.geteuid(), 0
