"""The network of a simulation: doors and clients of one thread, joined by links that may be slow, cut or parted.

A listener is a real socket, and so are both ends of a connection: what passes between them does so by a link of ours, which
the simulation's turns carry on. So a slow reader, a full buffer and a reset look as they do anywhere.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import gevent
from gevent.event import Event
from gevent.monkey import get_original

from packetflow.otp.simulation.loop import READ, WRITE, SimulatedLoop

PlainSocket: type[socket.socket] = get_original("socket", "socket")
PIECE = 65536  # bytes that a link takes at once
FIRST_PORT = 49152

Address = tuple[str, int]


class ListeningSocket(PlainSocket):  # type: ignore[valid-type, misc]
    """A listener under a host and a port that are the simulation's own."""

    address: Address
    network: Network

    def getsockname(self) -> Address:
        """The host and port."""
        return self.address

    def _accept(self) -> tuple[int, Address]:
        descriptor, _ = super()._accept()
        return descriptor, self.network.peers.pop(0)

    def close(self) -> None:
        """Nobody listens there any more."""
        self.network.listeners.pop(self.address, None)
        super().close()


class Link:
    """One connection. caller, listener: the names of its two sides."""

    def __init__(self, network: Network, caller: str, listener: Address, near: Any, far: Any) -> None:
        self.caller = caller
        self.listener = listener
        self._network = network
        self._ends = (near, far)
        self._flows = [gevent.spawn(self._carry, near, far), gevent.spawn(self._carry, far, near)]
        for flow in self._flows:
            flow.link(self._ended)

    def cut(self) -> None:
        """Both sides see the connection end; what was on its way is lost."""
        for flow in self._flows:
            flow.kill(block=False)

    def close(self) -> None:
        """Closes its own two ends."""
        for end in self._ends:
            end.close()

    def _carry(self, source: Any, target: Any) -> None:
        network = self._network
        while True:
            try:
                data = source.recv(PIECE)
            except BlockingIOError:
                network.until_ready(source, READ)
                continue
            except OSError:
                data = b""
            if not data:
                break
            network.delay()
            while self in network.parted:
                network.healed.wait()
            network.moved += len(data)
            view = memoryview(data)
            while view:
                try:
                    view = view[target.send(view) :]
                except BlockingIOError:
                    network.until_ready(target, WRITE)
                except OSError:
                    return
        network.delay()
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # that side is gone already

    def _ended(self, flow: gevent.Greenlet[..., Any]) -> None:
        # One direction may end before the other; a flow that was cut off ends both.
        if isinstance(flow.value, gevent.GreenletExit) or all(one.dead for one in self._flows):
            for other in self._flows:
                other.kill(block=False)
            self.close()
            self._network.forget(self)


class Network:
    """Who listens where, and what becomes of what is sent.

    latency: (least, most) seconds for each piece that is sent, drawn by the seed. loss: the chance that a connection is cut
    when a piece is sent. moved: bytes that arrived.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self.latency = (0.0, 0.0)
        self.loss = 0.0
        self.moved = 0
        self.links: list[Link] = []
        self.listeners: dict[Address, ListeningSocket] = {}
        self.peers: list[Address] = []  # of connections that are not taken yet, in order
        self.parted: set[Link] = set()
        self.healed = Event()
        self._closed: set[tuple[str, Address]] = set()  # who can't reach whom
        self._loop = loop
        self._chance = loop.chance()
        self._port = FIRST_PORT
        self._callers = 0

    # ---- for the two sides -----------------------------------------------------------------------------------------------

    def listen(self, host: str, port: int, backlog: int) -> socket.socket:
        """A socket that listens there. Raises OSError (EADDRINUSE) if one does already."""
        if port == 0:
            port, self._port = self._port, self._port + 1
        address = (host, port)
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        made = ListeningSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind("")  # the system gives a name that nobody else has
        made.listen(backlog)
        made.address, made.network = address, self
        self.listeners[address] = made
        return made

    def connect(self, address: Address, caller: str = "client") -> socket.socket:
        """A connection to whoever listens there. Raises ConnectionRefusedError."""
        self.delay()
        listener = self.listeners.get(address)
        if listener is None or (caller, address) in self._closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        near, end = socket_pair()
        far = PlainSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        far.setblocking(False)
        try:
            far.connect(PlainSocket.getsockname(listener))
        except OSError:
            for one in (near, end, far):
                one.close()
            raise
        self._callers += 1
        self.peers.append((caller, self._callers))
        self.links.append(Link(self, caller, address, end, far))
        return near

    # ---- accidents -------------------------------------------------------------------------------------------------------

    def cut(self, listener: Address | None = None, caller: str | None = None) -> int:
        """Cuts the connections to a listener, of a caller, or all. Returns how many."""
        struck = [link for link in self.links if _meant(link, listener, caller)]
        for link in struck:
            link.cut()
        return len(struck)

    def part(self, caller: str, listener: Address) -> None:
        """From now on nothing passes between the two, and nobody is told: connections hang, new ones are refused."""
        self._closed.add((caller, listener))
        self.parted.update(link for link in self.links if _meant(link, listener, caller))
        self.healed.clear()

    def heal(self) -> None:
        """All parted sides reach each other again; what was held up arrives."""
        self._closed.clear()
        self.parted.clear()
        self.healed.set()

    def close(self) -> None:
        """The end of it: every connection is cut, nobody listens."""
        self.heal()
        self.cut()
        for listener in list(self.listeners.values()):
            listener.close()

    def discard(self) -> None:
        """Closes every socket, without a turn for anybody."""
        for link in self.links:
            link.close()
        for listener in list(self.listeners.values()):
            listener.close()
        self.links.clear()

    # ---- for the links ---------------------------------------------------------------------------------------------------

    def delay(self) -> None:
        """The time that one piece takes."""
        if self.loss and self._chance.random() < self.loss:
            raise gevent.GreenletExit
        least, most = self.latency
        gevent.sleep(self._chance.uniform(least, most) if most else 0)

    def until_ready(self, sock: socket.socket, events: int) -> None:
        """Until a socket can be read or written."""
        watcher = self._loop.io(sock.fileno(), events)
        try:
            gevent.get_hub().wait(watcher)
        finally:
            watcher.close()

    def forget(self, link: Link) -> None:
        """A connection has ended."""
        if link in self.links:
            self.links.remove(link)
        self.parted.discard(link)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that never block."""
    pair = get_original("socket", "socketpair")(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in pair:
        end.setblocking(False)
    return pair  # type: ignore[no-any-return]


def _meant(link: Link, listener: Address | None, caller: str | None) -> bool:
    return (listener is None or link.listener == listener) and (caller is None or link.caller == caller)
