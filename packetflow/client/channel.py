"""One connection to a node, shared by every caller of a client.

Nobody reads in the background: of those who wait, one (the leader) reads the socket for all; when it has its own answer it
hands the reading to the next.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from packetflow.client.concurrency import READABLE, WRITABLE, Address, Gate, Side, tune
from packetflow.client.replies import Pending, Reply, Watched, end_of, reply_of
from packetflow.otp.errors import PacketFlowError
from packetflow.wire import envelope as messages
from packetflow.wire.envelope import (
    ERROR,
    GOODBYE,
    HEARTBEAT,
    PROGRESS,
    RESPONSE,
    STREAM_END,
    STREAM_ITEM,
    WELCOME,
    MsgpackEnvelope,
)
from packetflow.wire.errors import (
    Cancelled,
    ProtocolError,
    RequestError,
    Timeout,
    TooLarge,
    Unavailable,
    error_from_dict,
)
from packetflow.wire.frames import FrameCutter
from packetflow.wire.limits import Limits

RECEIVE = 256 * 1024
LOOK_AGAIN = 0.1  # seconds after which a sender looks whether it has to read, so that the node can go on
FEATURES = ("cancel", "heartbeat", "idempotency", "stream", "progress")
DEEPEST = 200  # an answer's nesting, where the decoder itself gives up


class NotSent(PacketFlowError):
    """The request did not leave this machine as a whole, so that nobody can have executed it."""

    code = "not_sent"


class Room(Watched):
    """Place for one more request on a channel."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def ready(self) -> bool:
        """Whether the node takes one more."""
        channel = self._channel
        return len(channel.pendings) < channel.most or channel.broken is not None


class Channel:
    """A connection after its handshake.

    broken: why it can't be used any more. leaving: the node has said goodbye; what is under way is still answered.
    """

    def __init__(
        self,
        side: Side,
        url: str,
        address: Address,
        monotonic: Callable[[], float],
        *,
        timeout: float,
        heartbeat: float,
        software: str,
    ) -> None:
        self.side = side
        self.url = url
        self.monotonic = monotonic
        self.heartbeat_every = heartbeat
        self.broken: RequestError | None = None
        self.leaving = False
        self.pendings: dict[int, Pending] = {}
        self.ids = count(1)
        self.most = 1
        self.features: frozenset[str] = frozenset()
        self.limits = Limits()
        self.forsaken: deque[Pending] = deque()  # streams that nobody can read any more
        self._room = Room(self)
        self._lock = side.brief_lock()
        self._sending = side.lock()
        self._reading = False
        self._writing = False
        self._followers: deque[Gate] = deque()
        self._frames: deque[bytes] = deque()
        self._envelope = _envelope(self.limits.frame)
        self._cutter = FrameCutter(self.limits.frame)
        self.sock = self._connect(address, timeout)
        try:
            self._greet(software, monotonic() + timeout)
        except BaseException:
            self.sock.close()
            raise

    # ---- the handshake ------------------------------------------------------------------------------------------------

    def _connect(self, address: Address, timeout: float) -> socket.socket:
        try:
            sock = self.side.connect(address, timeout)
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise self._unavailable(f"no node answers at {self.url}: {why.lower()}") from error
        tune(sock)
        return sock

    def _greet(self, software: str, deadline: float) -> None:
        self.send(self._envelope.encode(messages.hello(FEATURES, software)), deadline)
        while not self._frames:
            if not self.side.wait(self.sock, READABLE, deadline - self.monotonic()):
                raise self._unavailable(f"{self.url} took the connection and did not answer")
            if not self._take():
                raise self._unavailable(f"{self.url} closed the connection before it answered")
        welcome = self._decoded(self._frames.popleft())
        payload = welcome.get("payload")
        kind = welcome.get("type")
        if not isinstance(payload, dict) or kind not in (WELCOME, GOODBYE):
            raise ProtocolError(f"{self.url} answered {kind!r} instead of {WELCOME!r}")
        if kind == GOODBYE:
            raise error_from_dict(payload)
        features, limits = payload.get("features"), payload.get("limits")
        if isinstance(features, list):
            self.features = frozenset(one for one in features if isinstance(one, str))
        if isinstance(limits, dict):
            known = {name: limits.get(name, value) for name, value in self.limits.as_dict().items()}
            if all(value.__class__ is int and value > 0 for value in known.values()):
                self.limits = Limits(**known)
            most = limits.get("in_flight")
            self.most = most if most.__class__ is int and most > 0 else self.most
        self._envelope = _envelope(self.limits.frame)
        self._cutter.limit = self.limits.frame

    def _unavailable(self, message: str, *, sent: bool = False) -> Unavailable:
        return lost(self.url, message, sent)

    # ---- out ----------------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether a new request may be sent here. Looks whether the node has closed an idle connection meanwhile."""
        if not self.pendings and self.broken is None:
            self.look()
        return self.broken is None and not self.leaving

    def encode(self, id: int, capability: str, payload: Any, metadata: dict[str, Any]) -> bytes:
        """The frame of a request. Raises Unencodable or TooLarge."""
        message: dict[str, Any] = {
            "type": messages.REQUEST,
            "id": id,
            "capability_id": capability,
            "payload": payload,
        }
        if metadata:
            message["metadata"] = metadata
        return self._envelope.encode(message)

    def claim(self, pending: Pending) -> int:
        """An id for a request that is about to be sent. Waits while the node takes no more. Raises Timeout."""
        while self.forsaken:
            self.abandon(self.forsaken.popleft(), Reply())
        while True:
            with self._lock:
                if self.broken is None and len(self.pendings) < self.most:
                    id = pending.id = next(self.ids)
                    pending.channel = self
                    self.pendings[id] = pending
                    return id
            if self.broken is not None:
                raise NotSent("the connection broke")
            if not self.wait(self._room, pending.deadline):
                raise Timeout(
                    f"{self.most} requests are under way, as many as {self.url} takes, and none ended in time"
                )

    def drop(self, pending: Pending) -> None:
        """Forget a request that was claimed and not sent."""
        with self._lock:
            self.pendings.pop(pending.id, None)
            self._open(self._room)

    def send(self, data: bytes, deadline: float | None) -> None:
        """Send whole frames. Raises NotSent if not all of it left, Timeout if none of it could leave in time."""
        with self._sending:
            with self._lock:
                if self.broken is not None:
                    raise NotSent("the connection broke")
                self._writing = True
            try:
                self._send(data, deadline)
            finally:
                with self._lock:
                    self._writing = False
                    self._dispose()

    def _send(self, data: bytes, deadline: float | None) -> None:
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._break()
            raise NotSent(str(error)) from error
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], deadline, sent > 0)

    def _send_rest(self, rest: memoryview, deadline: float | None, begun: bool) -> None:
        while rest:
            left = LOOK_AGAIN if deadline is None else min(LOOK_AGAIN, deadline - self.monotonic())
            if left <= 0:
                if begun:
                    self._break()  # half a frame can't be taken back
                    raise NotSent("the node did not take the request in time")
                raise Timeout(f"{self.url} takes nothing: it is busy with what it was sent before")
            # If the node waits for its answers to be taken, and nobody reads them, nothing would ever move.
            reads = self._lead()
            try:
                self.side.wait(self.sock, WRITABLE | (READABLE if reads else 0), left)
                if reads:
                    self._receive()
            finally:
                if reads:
                    self._step_down()
            if self.broken is not None:
                raise NotSent("the connection broke")
            try:
                sent = self.sock.send(rest)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                self._break()
                raise NotSent(str(error)) from error
            begun = begun or sent > 0
            rest = rest[sent:]

    def _say(self, message: dict[str, Any]) -> None:
        """Send something that nobody waits for, if that is possible."""
        try:
            self.send(self._envelope.encode(message), self.monotonic() + LOOK_AGAIN)
        except (NotSent, Timeout):
            return  # then it was not said; whoever waits sees the state of the connection itself

    def grant(self, pending: Pending, items: int) -> None:
        """Let so many items more of a stream come."""
        self._say(messages.credit(pending.id, items))

    def cancel(self, pending: Pending) -> None:
        """Ask the node to end a request."""
        if pending.id in self.pendings and "cancel" in self.features:
            self._say({"type": messages.CANCEL, "id": pending.id})

    def abandon(self, pending: Pending, reply: Reply) -> None:
        """Stop waiting for a request: it gets this reply, and the node is asked to end it."""
        self.cancel(pending)
        with self._lock:
            if self.pendings.pop(pending.id, None) is not None:
                self._complete(pending, reply)

    # ---- waiting ------------------------------------------------------------------------------------------------------

    def await_reply(self, pending: Pending, timeout: float | None) -> Reply:
        """The reply to a request. Raises Timeout if `timeout` seconds passed before the request's own deadline."""
        own = pending.deadline
        deadline = own if timeout is None else self.monotonic() + timeout
        if own is not None and deadline is not None and own < deadline:
            deadline = own
        if not self.wait(pending, deadline):
            if deadline != own:
                raise Timeout(f"no answer within {timeout:g} s; the request goes on")
            self.give_up(pending)
        assert pending.reply_ is not None
        return pending.reply_

    def give_up(self, pending: Pending) -> None:
        """A request's deadline has passed without an answer."""
        text = f"no answer from {self.url} in time; the request may have been executed"
        self.abandon(pending, Reply(error=Timeout(text, {"address": self.url, "sent": True})))

    def wait(self, watched: Watched, deadline: float | None) -> bool:
        """Until it is ready: by reading the socket, or while another caller reads. False if the deadline passed."""
        ready = watched.ready
        while not ready():
            left = None if deadline is None else deadline - self.monotonic()
            if left is not None and left <= 0:
                return False
            if self._lead():
                try:
                    self._read_until(ready, deadline)
                finally:
                    self._step_down()
            else:
                self._follow(watched, left)
        return True

    def look(self) -> None:
        """Read what is there, without waiting."""
        if self._lead():
            try:
                self._receive()
            finally:
                self._step_down()

    def _lead(self) -> bool:
        with self._lock:
            if self._reading:
                return False
            self._reading = True
            return True

    def _step_down(self) -> None:
        with self._lock:
            self._reading = False
            self._hand_over()
            self._dispose()

    def _hand_over(self) -> None:
        if self._followers and not self._reading:
            self._followers.popleft().open()

    def _follow(self, watched: Watched, timeout: float | None) -> None:
        with self._lock:
            if watched.ready() or not self._reading:
                return
            gate = self.side.gate()
            if watched.gates is None:
                watched.gates = []
            watched.gates.append(gate)
            self._followers.append(gate)
        try:
            gate.wait(timeout)
        finally:
            with self._lock:
                if gate in self._followers:
                    self._followers.remove(gate)
                if watched.gates is not None and gate in watched.gates:
                    watched.gates.remove(gate)
                self._hand_over()  # it may have been chosen to read, and not want to any more

    def _open(self, watched: Watched) -> None:
        if watched.gates:
            for gate in watched.gates:
                gate.open()

    def _read_until(self, ready: Callable[[], bool], deadline: float | None) -> None:
        wait, sock, monotonic = self.side.wait, self.sock, self.monotonic
        every = self.heartbeat_every
        while not ready():
            left = every if deadline is None else min(every, deadline - monotonic())
            if left <= 0:
                return
            if wait(sock, READABLE, left):
                self._receive()
            elif left == every and "heartbeat" in self.features:
                # Not to judge the node, which may be busy: a word now and then makes the kernels notice a lost peer.
                self._say({"type": HEARTBEAT})

    # ---- in, for the leader -------------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Read once into frames. False if the connection has ended."""
        try:
            data = self.sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        self._cutter.feed(data, self._frames)
        return True

    def _receive(self) -> None:
        """Read once, and give every answer to whom it belongs."""
        if self.broken is not None:
            return
        try:
            alive = self._take()
            frames = self._frames
            while frames:
                frame = frames.popleft()
                self._dispatch(self._decoded(frame), len(frame))
        except (ProtocolError, TooLarge) as error:
            self._break(ProtocolError(f"{self.url} sent what is not a message: {error}"))
            return
        if not alive:
            self._break()

    def _decoded(self, frame: bytes) -> dict[str, Any]:
        return self._envelope.decode(frame)

    def _dispatch(self, message: dict[str, Any], size: int) -> None:
        kind = message.get("type")
        if kind in (RESPONSE, ERROR, HEARTBEAT):
            id = message.get("id")
            if id is None:
                if kind == ERROR:
                    raise ProtocolError(str(reply_of(message, True).error))
                return
            with self._lock:
                pending = self.pendings.pop(id, None)
                if pending is not None:  # else it was given up
                    self._complete(pending, reply_of(message, kind == ERROR))
        elif kind in (STREAM_ITEM, STREAM_END, PROGRESS):
            self._dispatch_part(kind, message, size)
        elif kind == GOODBYE:
            self.leaving = True

    def _dispatch_part(self, kind: object, message: dict[str, Any], size: int) -> None:
        """What comes before an answer, and the end of a stream. Raises ProtocolError for items that nobody let come."""
        id = message.get("id")
        with self._lock:
            pending = self.pendings.get(id) if id.__class__ is int else None
            if pending is None:  # it was given up
                return
            if kind == STREAM_END:
                del self.pendings[pending.id]
                self._complete(pending, end_of(message))
                return
            if kind == STREAM_ITEM:
                pending.take_item(message.get("payload"), size)
            else:
                pending.take_progress(message.get("payload"))
            self._open(pending)

    def _complete(self, pending: Pending, reply: Reply) -> None:
        """With the lock held."""
        pending.reply_ = reply
        self._open(pending)
        window = pending.window
        if window is not None:
            window.open.pop(pending.index, None)
            window.finished.append(pending)
            self._open(window)
        self._open(self._room)

    def _break(self, why: RequestError | None = None) -> None:
        """The connection is lost, and with it the answers to everything under way."""
        with self._lock:
            if self.broken is not None:
                return
            text = f"the connection to {self.url} was lost"
            self.broken = why or self._unavailable(text)
            pendings = list(self.pendings.values())
            self.pendings.clear()
            for pending in pendings:
                error = why or self._unavailable(
                    f"{text} before the answer came; the request may have been executed",
                    sent=True,
                )
                self._complete(pending, Reply(error=error))
            self._open(self._room)
            while self._followers:
                self._followers.popleft().open()
        # Not closed yet: another caller may wait at it. It wakes by this, and the last one closes.
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def _dispose(self) -> None:
        """With the lock held: close the socket of a broken connection when nobody uses it any more."""
        if self.broken is not None and not self._reading and not self._writing:
            self.sock.close()

    def close(self) -> None:
        """End it. What is under way is answered `cancelled` here; the node cancels it there."""
        if self.broken is None:
            self._say(messages.goodbye())
        self._break(Cancelled("the client was closed"))
        with self._lock:
            self._dispose()


def lost(url: str, message: str, sent: bool) -> Unavailable:
    """The error for a node that can't be reached. sent: whether the request may have reached it before."""
    return Unavailable(message, {"address": url, "connected": False, "sent": sent})


def _envelope(frame: int) -> MsgpackEnvelope:
    """For a node's messages: it may say more than it accepts, as long as the frame holds it."""
    limits = Limits(frame=frame, payload=frame, depth=DEEPEST, string=frame, collection=frame)
    return MsgpackEnvelope(limits, keys=None)
