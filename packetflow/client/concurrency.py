"""How a client waits: as a thread of the system, or as a greenlet. Everything else is the same for both.

In threads mode nothing here loads gevent; in a patched program it takes the unpatched functions, so that it blocks its own
thread and no hub.
"""

from __future__ import annotations

import socket
import sys
from importlib import import_module
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

Mode: TypeAlias = Literal["threads", "gevent"]
Address: TypeAlias = tuple[str, int] | str

READABLE = 1
WRITABLE = 2
SILENT_PEER = 30  # seconds without a word of the peer's kernel, after which the connection counts as lost


class Lock(Protocol):
    """A mutex."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Any: ...


class Gate(Protocol):
    """Closed when it is made; `open` lets its one waiter through."""

    def open(self) -> None:
        """Let the waiter through; twice is as good as once."""
        ...

    def wait(self, timeout: float | None) -> None:
        """Until it is open, or for so many seconds."""
        ...


class Side(Protocol):
    """One way to wait."""

    mode: Mode

    def lock(self) -> Lock:
        """A mutex that may be held while waiting."""
        ...

    def brief_lock(self) -> Lock:
        """A mutex that is never held while waiting."""
        ...

    def gate(self) -> Gate:
        """A new gate."""
        ...

    def connect(self, address: Address, timeout: float) -> socket.socket:
        """A connected socket that never blocks. Raises OSError."""
        ...

    def wait(self, sock: socket.socket, events: int, timeout: float | None) -> bool:
        """Until the socket is readable or writable. False if `timeout` seconds passed."""
        ...


def side_of(mode: Mode | Side | None) -> Side:
    """The way to wait: the one that is asked for; else greenlets if the program's sockets are patched by gevent."""
    if mode is not None and not isinstance(mode, str):
        return mode
    if mode is None:
        patched = sys.modules.get("gevent.monkey")
        mode = "gevent" if patched is not None and patched.is_module_patched("socket") else "threads"
    if mode == "threads":
        return Threads()
    if mode == "gevent":
        from packetflow.client.greenlets import Greenlets

        return Greenlets()
    raise ValueError(f'concurrency is "threads" or "gevent", not {mode!r}')


def original(module: str, name: str) -> Any:
    """A function of the standard library as it was before gevent patched it, if it did."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(import_module(module), name)


class ThreadGate:
    """A gate for a thread."""

    __slots__ = ("_lock", "_open")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._lock.acquire()
        self._open = False

    def open(self) -> None:
        """Let the waiter through. Callers hold the channel's lock."""
        if not self._open:
            self._open = True
            self._lock.release()

    def wait(self, timeout: float | None) -> None:
        """Until it is open, or for so many seconds."""
        self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0))


class Threads:
    """Waits by blocking the thread."""

    mode: Mode = "threads"

    def __init__(self) -> None:
        self._allocate = original("_thread", "allocate_lock")
        self._socket = original("socket", "socket")
        self._poll = original("select", "poll")
        self.brief_lock = self.lock = self._allocate

    def gate(self) -> Gate:
        """A new gate."""
        return ThreadGate(self._allocate())

    def connect(self, address: Address, timeout: float) -> socket.socket:
        """A connected socket. Raises OSError."""
        if isinstance(address, str):
            return self._connected(socket.AF_UNIX, address, timeout)
        host, port = address
        failure: OSError | None = None
        for family, _, _, _, found in original("socket", "getaddrinfo")(host, port, 0, socket.SOCK_STREAM):
            try:
                return self._connected(family, found, timeout)
            except OSError as error:
                failure = failure or error
        raise failure or OSError(f"{host} has no address")

    def _connected(self, family: int, address: Any, timeout: float) -> socket.socket:
        sock: socket.socket = self._socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(address)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock

    def wait(self, sock: socket.socket, events: int, timeout: float | None) -> bool:
        """Until the socket is ready."""
        poll = self._poll()
        poll.register(sock.fileno(), (1 if events & READABLE else 0) | (4 if events & WRITABLE else 0))
        return bool(poll.poll(None if timeout is None else max(0, timeout * 1000)))


def tune(sock: socket.socket) -> None:
    """No delay for small messages, and a peer whose machine is gone is noticed; a busy one is not mistaken for it."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENT_PEER * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
