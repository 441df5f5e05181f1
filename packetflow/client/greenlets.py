"""The greenlet way to wait. Loaded only by programs that run greenlets."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import gevent.socket
from gevent import monkey
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from packetflow.client.concurrency import Address, Gate, Mode

Plain: type[socket.socket] = monkey.get_original("socket", "socket")


class NoLock:
    """Greenlets take turns only where they wait: what never waits needs no lock."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class GreenletGate:
    """A gate for a greenlet."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = Event()

    def open(self) -> None:
        """Let the waiter through."""
        self._event.set()

    def wait(self, timeout: float | None) -> None:
        """Until it is open, or for so many seconds."""
        self._event.wait(timeout)


class Greenlets:
    """Waits by giving other greenlets the turn."""

    mode: Mode = "gevent"

    def lock(self) -> Any:
        """A mutex that may be held while waiting."""
        return BoundedSemaphore(1)

    def brief_lock(self) -> NoLock:
        """Nothing at all."""
        return NoLock()

    def gate(self) -> Gate:
        """A new gate."""
        return GreenletGate()

    def connect(self, address: Address, timeout: float) -> socket.socket:
        """A connected socket. Raises OSError."""
        if isinstance(address, str):
            made = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(timeout)
                made.connect(address)
            except OSError:
                made.close()
                raise
        else:
            made = gevent.socket.create_connection(address, timeout)
        sock = Plain(fileno=made.detach())
        sock.setblocking(False)
        return sock

    def wait(self, sock: socket.socket, events: int, timeout: float | None) -> bool:
        """Until the socket is ready."""
        watcher = gevent.get_hub().loop.io(sock.fileno(), events)
        try:
            gevent.socket.wait(watcher, timeout, TimeoutError())
        except TimeoutError:
            return False
        finally:
            watcher.close()
        return True
