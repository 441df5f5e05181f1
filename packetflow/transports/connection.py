"""A connection without a greenlet: a watcher calls back in the hub, a parked worker runs the batch, one write answers it.

What protocol it speaks is its subclass's: `feed` takes bytes, `more` says whether something can be run, `serve` runs it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

from greenlet import greenlet

from packetflow.security.access import Session
from packetflow.transports.listener import READ, WRITE
from packetflow.wire.errors import Cancelled, RequestError

if TYPE_CHECKING:
    from packetflow.transports.listener import Listener
    from packetflow.transports.streaming import Outlet

RECEIVE = 64 * 1024  # bytes taken in one turn
BATCH = 64  # requests run before the hub sees to the others
HIGH_WATER = 256 * 1024  # bytes of answers after which they are sent in the midst of a batch
STALL = 30.0  # seconds in which a peer has to take something of its answers
LINGER = 2.0  # seconds in which the last words may be read while the peer still sends
SPARE = 1.0  # seconds that an overdue peer gets once if its bytes lay there unread


class Connection:
    """One peer. All of it runs in the hub but `serve`, which a worker runs."""

    __slots__ = (
        "_finishing",
        "_flushing",
        "_reader",
        "_reading",
        "_rest",
        "_spared",
        "_writer",
        "budget",
        "closed",
        "deadline",
        "inside",
        "leaving",
        "lingering",
        "listener",
        "out",
        "peer",
        "session",
        "size",
        "sock",
        "stalled",
        "waiting",
    )

    def __init__(self, listener: Listener, sock: socket.socket, peer: str, session: Session) -> None:
        self.listener = listener
        self.sock = sock
        self.peer = peer
        self.session = session
        self.out: list[bytes] = []  # answers of this batch
        self.size = 0  # bytes in `out`
        self.inside = False  # a batch is being run: what is answered now leaves at its end
        self.budget = 0  # requests that the batch may still run
        self.leaving = False  # takes no more requests, and ends when nothing is in flight
        self.lingering = False  # has said its last word
        self.closed = False
        self.deadline = inf  # of the protocol; what it is for, `expired` knows
        self.waiting: list[Outlet] = []  # streams that wait for room or for the peer's word
        self.stalled = inf  # until when the peer has to take something
        self._rest = memoryview(b"")  # what the peer has not taken yet
        self._flushing = False
        self._finishing = False
        self._spared = False
        self._reader = listener.loop.io(sock.fileno(), READ)
        self._writer = listener.loop.io(sock.fileno(), WRITE)
        self._reading = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peer}>"

    # ---- a protocol's part --------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes, in the hub. Never raises for what they are."""
        raise NotImplementedError

    def more(self) -> bool:
        """Whether a worker would find something to run."""
        raise NotImplementedError

    def serve(self) -> None:
        """Run what is ready while `inside` and `budget` allow it, in a worker."""
        raise NotImplementedError

    def running(self) -> Iterable[greenlet]:
        """The greenlets that run this connection's requests."""
        raise NotImplementedError

    def leave(self) -> None:
        """The node drains: say so, finish what is in flight, then end."""
        raise NotImplementedError

    def expired(self) -> None:
        """The deadline has passed: say so and end."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what was received and not yet run."""
        raise NotImplementedError

    def announce(self) -> None:
        """The node will drain soon: who reads a stream is told where the protocol has a word for it."""

    # ---- in --------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start to read."""
        self._reading = True
        self._reader.start(self._readable)

    def set_deadline(self, seconds: float) -> None:
        """Something has to happen within so many seconds; inf: nothing has to."""
        self.deadline = self.listener.now + seconds
        self._spared = False

    def _readable(self) -> None:
        if self.more():  # the rest of a batch that was too long for one turn goes first
            self._turn()
            return
        try:
            data = self.sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self.lingering:
            self.feed(data)
            self._turn()

    def _turn(self) -> None:
        """Run a batch, then send what it answered."""
        self.inside = True
        self.budget = BATCH
        serve = self.listener.workers.serve
        while self.budget > 0 and self.more():
            serve(self)
        self.inside = False
        if self.out:
            self._flush()
        if self.waiting and not self._rest:
            for outlet in self.waiting:
                outlet.wake()
        if self.budget <= 0 and self.more():
            self._later()
        elif self.leaving:
            self._end_if_idle()

    def _later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.listener.run_callback(self._late)

    def _late(self) -> None:
        """In the hub, after something was answered outside a batch, or a batch was left unfinished."""
        self._flushing = False
        if not self.closed:
            self._turn()

    # ---- out -------------------------------------------------------------------------------------------------------------

    def answer(self, data: bytes) -> None:
        """Send this, with whatever else the batch answers."""
        if self.lingering or self.closed:
            return
        self.out.append(data)
        self.size += len(data)
        if not self.inside:
            self._later()
        elif self.size > HIGH_WATER:
            self._flush()

    def has_room(self) -> bool:
        """Whether the peer has taken so much of what it was sent that more may be made for it."""
        return not self._rest and self.size < HIGH_WATER

    def send_late(self, most: int) -> None:
        """Let no more than so many bytes wait in the kernel, so that whoever makes them is not far ahead of the peer."""
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)

    @property
    def stuck(self) -> bool:
        """Whether the peer has not taken what it was sent: then nothing more is read or run for it."""
        return bool(self._rest)

    def _flush(self) -> bool:
        """Send what is answered. Returns False if the peer is gone."""
        if self._rest or self.closed:
            return not self.closed  # the writer takes these too
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.size = 0
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return False
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
            self.stalled = self.listener.now + STALL
            self.pause()
            self._writer.start(self._writable)
        return True

    def _writable(self) -> None:
        try:
            sent = self.sock.send(self._rest)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._rest = self._rest[sent:]
        self.stalled = self.listener.now + STALL
        if self._rest:
            return
        self.stalled = inf
        self._writer.stop()
        if self.out and (not self._flush() or self.stuck):
            return
        if self._finishing:
            self._shut()
            return
        self.resume()
        self._turn()

    def pause(self) -> None:
        """Stop reading: whoever sends more than it lets us answer has to wait."""
        if self._reading and not self.lingering:
            self._reading = False
            self._reader.stop()

    def resume(self) -> None:
        """Read again."""
        if not self._reading and not self.closed and not self.stuck:
            self._reading = True
            self._reader.start(self._readable)

    # ---- the end -----------------------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Whether nothing is in flight, nothing waits to be run, and nothing to be sent."""
        return not self.out and not self._rest and not self.more() and not any(True for _ in self.running())

    def _end_if_idle(self) -> None:
        if not self.lingering and not self.closed and self.idle():
            self.finish()

    def finish(self, data: bytes = b"") -> None:
        """Say the last word and end: what was answered is still sent, what comes is read away so that it can arrive."""
        if self.lingering or self.closed:
            return
        if data:
            self.out.append(data)
        self.forget()
        self.cancel(Cancelled("the connection ended"))
        if self.out and not self._flush():
            return
        self.lingering = True
        self.listener.settled()
        if self._rest:
            self._finishing = True
            self.deadline = inf  # as long as it takes something of what it asked for
        else:
            self._shut()

    def _shut(self) -> None:
        self._finishing = False
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.set_deadline(LINGER)
        self.resume()

    def cancel(self, reason: RequestError) -> None:
        """End what is in flight for this peer; it is answered with that error if the peer is still there."""
        for one in list(self.running()):
            self.listener.door.cancel(one, reason)

    def close(self) -> None:
        """End at once. What is in flight is cancelled; its answers go nowhere."""
        if self.closed:
            return
        self.closed = True
        self._reading = False
        self._reader.stop()
        self._reader.close()
        self._writer.stop()
        self._writer.close()
        self.sock.close()
        self.out.clear()
        self._rest = memoryview(b"")
        self.forget()
        self.listener.connections.discard(self)
        if not self.lingering:
            self.listener.settled()
        self.cancel(Cancelled("the caller disconnected"))

    def overdue(self, now: float) -> None:
        """A deadline has passed, says the sweep."""
        if self.lingering or now >= self.stalled:
            self.close()
        elif self._spared or not self._reading:
            self.expired()
        else:
            # If this process was busy and not the peer slow, its bytes lie there: look before it is blamed, once.
            before = self.deadline
            self._readable()
            if self.deadline == before:
                self.deadline = now + SPARE
                self._spared = True
