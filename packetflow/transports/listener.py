"""What all listening doors share: accepting, the bound on connections, one sweep for all deadlines, drain and close."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gevent.socket
import structlog
from gevent import monkey
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import greenlet

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.transports.workers import Workers
from packetflow.wire.errors import Cancelled, RequestError
from packetflow.wire.limits import Limits
from packetflow.wire.values import NO_METADATA, Metadata, Response

# The io watchers need sockets that never wait; gevent's own, which a patched program gets from `socket`, cost more for that.
PlainSocket: type[socket.socket] = monkey.get_original("socket", "socket")

READ = 1
WRITE = 2
BACKLOG = 1024
ACCEPTS = 64  # connections taken in one turn of the hub
SWEEP = 0.25  # seconds between two looks at the deadlines
LAST_WORDS = 0.5  # seconds in which cancelled requests may still be answered at the end of a drain
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door(Protocol):
    """The node, as a transport sees it."""

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata = NO_METADATA,
        intent: str | None = None,
    ) -> Response:
        """Runs a request in the calling greenlet, which it may block. Always one Response, never an exception."""
        ...

    def cancel(self, waiting: greenlet, reason: RequestError) -> bool:
        """Ends the request that this greenlet is running, if it still is: its `request()` then returns with that error."""
        ...

    def open_session(self, door: str, peer: str, operator: bool = False) -> Session:
        """The session of a new connection."""
        ...


class Held(Protocol):
    """A connection, as its listener sees it."""

    deadline: float
    stalled: float

    def begin(self) -> None:
        """Start to read."""
        ...

    def announce(self) -> None:
        """The node will drain soon: tell who reads a stream."""
        ...

    def leave(self) -> None:
        """The node drains: finish what is in flight, then end."""
        ...

    def cancel(self, reason: RequestError) -> None:
        """End what is in flight with that error."""
        ...

    def close(self) -> None:
        """End at once."""
        ...

    def overdue(self, now: float) -> None:
        """A deadline has passed."""
        ...


class Listener:
    """A door that listens. `start()` opens it; `drain()` and `close()` end it.

    door: where requests go. connections: how many may be open; more are refused with a word and closed. sweep: seconds
    between two looks at deadlines, all of which are that much longer at most. software: what peers are told.
    """

    kind = "door"
    shared = False  # whether other processes listen on the same port, by SO_REUSEPORT

    def __init__(
        self,
        door: Door,
        clock: Clock,
        limits: Limits,
        *,
        connections: int = 1000,
        sweep: float = SWEEP,
        software: str = "packetflow",
    ) -> None:
        self.door = door
        self.clock = clock
        self.limits = limits
        self.most_connections = connections
        self.software = software
        self.connections: set[Held] = set()
        self.active = 0  # connections that have not said their last word
        self.draining = False
        self.workers = Workers()
        self.now = clock.monotonic()  # as of the last sweep: near enough for deadlines, and free
        self.log = structlog.get_logger("packetflow").bind(door=self.kind)
        self._sweep_every = sweep
        self.loop: Any = None  # the hub's, from `start` on
        self.run_callback: Callable[..., Any] = get_hub().loop.run_callback
        self._socket: socket.socket | None = None
        self._accepting: Any = None
        self._sweeper: Any = None
        self._paused = False
        self._settled = Event()

    # ---- what a kind of door says -------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it listens, as bound."""
        raise NotImplementedError

    def listen(self) -> socket.socket:
        """The bound and listening socket. Raises ListenFailed."""
        raise NotImplementedError

    def connect(self, sock: socket.socket, peer: Any) -> Held | None:
        """The connection for an accepted socket; None if it was refused (and closed)."""
        raise NotImplementedError

    def refuse(self, sock: socket.socket) -> None:
        """Tell an accepted socket that there are too many, as far as it takes that at once."""
        raise NotImplementedError

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen. Raises AddressInUse or ListenFailed."""
        self._socket = self.listen()
        self._socket.setblocking(False)
        self.now = self.clock.monotonic()
        loop = self.loop = get_hub().loop
        self.run_callback = loop.run_callback
        self._accepting = loop.io(self._socket.fileno(), READ)
        self._accepting.start(self._accept)
        self._sweeper = loop.timer(self._sweep_every, self._sweep_every, ref=False)
        self._sweeper.start(self._sweep)

    def stop_accepting(self) -> None:
        """No new connections; the address is free at once. Twice is as good as once."""
        if self._accepting is not None:
            if self.shared:
                self._accept()  # who stands in this process's queue would be reset, where another could have had it
            self._accepting.stop()
            self._accepting.close()
            self._accepting = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def announce(self) -> None:
        """Say goodbye to those who read streams, so that they know before the drain's time is over."""
        for connection in list(self.connections):
            connection.announce()

    def drain(self, seconds: float) -> bool:
        """Say goodbye, and wait for what is in flight; what is not done in `seconds` is cancelled, and answered so.

        Returns whether everything ended by itself. Blocks the calling greenlet.
        """
        self.stop_accepting()
        self.draining = True
        for connection in list(self.connections):
            connection.leave()
        if self._wait_settled(seconds):
            return True
        for connection in list(self.connections):
            connection.cancel(Cancelled("the node is stopping"))
        self._wait_settled(LAST_WORDS)
        return False

    def close(self) -> None:
        """End everything at once: what is in flight is cancelled, connections are closed."""
        self.stop_accepting()
        for connection in list(self.connections):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.stop()
            self._sweeper.close()
            self._sweeper = None
        self.workers.close()

    def _wait_settled(self, seconds: float) -> bool:
        self._settled.clear()
        return self.active == 0 or bool(self._settled.wait(seconds))

    def settled(self) -> None:
        """A connection has said its last word."""
        self.active -= 1
        if self.active == 0:
            self._settled.set()

    # ---- in the hub ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        self.now = self.clock.monotonic()
        for _ in range(ACCEPTS):
            if self._socket is None:
                return
            try:
                descriptor, peer = self._socket._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in OUT_OF_FILES:
                    self._pause(error)
                else:
                    self.log.warning("a connection was lost before it was taken", error=str(error))
                return
            sock = PlainSocket(fileno=descriptor)
            try:
                sock.setblocking(False)
                if len(self.connections) >= self.most_connections:
                    self.refuse(sock)
                    sock.close()
                    continue
                connection = self.connect(sock, peer)
            except OSError:  # it left again already
                sock.close()
                continue
            except Exception:
                self.log.exception("a connection could not be taken")
                sock.close()
                continue
            if connection is not None:
                self.connections.add(connection)
                self.active += 1
                connection.begin()

    def _pause(self, error: OSError) -> None:
        """Out of file descriptors: the backlog waits in the kernel until the next sweep tries again."""
        self._paused = True
        self._accepting.stop()
        self.log.warning("no connection can be taken for now", error=error.strerror)

    def _sweep(self) -> None:
        now = self.now = self.clock.monotonic()
        if self._paused and self._accepting is not None:
            self._paused = False
            self._accepting.start(self._accept)
        for connection in list(self.connections):
            if now >= connection.deadline or now >= connection.stalled:
                connection.overdue(now)


def listen_tcp(door: str, host: str, port: int, shared: bool = False) -> socket.socket:
    """A socket that listens on host and port; shared: beside other processes that do the same.

    Raises AddressInUse or ListenFailed, naming the address and what to do.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    simulated = getattr(get_hub().loop, "network", None)
    if simulated is not None:
        try:
            return simulated.listen(host, port, BACKLOG)  # type: ignore[no-any-return]
        except OSError as error:
            raise refused(door, shown, error) from error
    try:
        family, kind, protocol, _, address = gevent.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ListenFailed(
            door, shown, "no such address", f'set [{door}] host, for example to "127.0.0.1"'
        ) from error
    sock = PlainSocket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise refused(door, shown, error) from error
    return sock


def refused(door: str, address: str, error: OSError) -> ListenFailed:
    """The error for an address that the system does not give."""
    another = f"set another port ([{door}] port = 0 takes any free one)"
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(door, address, "another program listens there", f"stop it, or {another}")
    if error.errno == errno.EACCES:
        return ListenFailed(door, address, "ports below 1024 need a privilege", another)
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenFailed(
            door, address, "this machine has no such address", f"set [{door}] host to one that it has"
        )
    return ListenFailed(door, address, os.strerror(error.errno or 0), "set another address")


def shown_address(sock: socket.socket) -> str:
    """host:port of a socket, as bound."""
    name = sock.getsockname()
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
