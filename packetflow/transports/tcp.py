"""The fast door: length-prefixed messages, many requests at once on a connection, answered as they finish."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Any

from greenlet import getcurrent, greenlet

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.transports.connection import Connection
from packetflow.transports.listener import (
    Door,
    Listener,
    listen_tcp,
    shown_address,
)
from packetflow.transports.streaming import Outlet, Telling
from packetflow.wire import envelope as messages
from packetflow.wire.codec import Unencodable, unsendable
from packetflow.wire.envelope import (
    CANCEL,
    CREDIT,
    GOODBYE,
    HEARTBEAT,
    MOST_CREDIT,
    REQUEST,
    TYPES,
    Envelope,
    JsonEnvelope,
    MsgpackEnvelope,
    RequestId,
    is_id,
    read_credit,
    read_hello,
    read_request,
    wants_progress,
)
from packetflow.wire.errors import (
    Cancelled,
    Conflict,
    Internal,
    Overloaded,
    ProtocolError,
    RequestError,
    Timeout,
    TooLarge,
    Unavailable,
)
from packetflow.wire.frames import FrameCutter
from packetflow.wire.limits import Limits
from packetflow.wire.stream import Progress, Stream
from packetflow.wire.values import NO_METADATA, Metadata, Response

HELLO_LIMIT = 16 * 1024  # bytes of a frame while the peer has not said hello
AGAIN = 0.1  # seconds after which a session that has too much in flight may try again
RETURN = 1.0  # seconds after which another node may have taken this one's place
# Not `idempotency`, although keys outlive a node: what was under way at its end is run again, and `packetflow call --from`
# promises that an open line is not.
FEATURES = ("cancel", "heartbeat", "stream", "progress")


class TcpConnection(Connection):
    """A caller by tcp. By a request's id: `in_flight` holds the greenlet of each under way, `outlets` the streams among them."""

    __slots__ = ("cutter", "envelope", "frames", "greeted", "in_flight", "outlets")

    listener: TcpListener

    def __init__(self, listener: TcpListener, sock: socket.socket, peer: str, session: Session) -> None:
        super().__init__(listener, sock, peer, session)
        self.cutter = FrameCutter(HELLO_LIMIT)
        # What was cut and not run yet; an error stands where the stream could not be cut any more.
        self.frames: deque[Any] = deque()
        self.in_flight: dict[RequestId, greenlet] = {}
        self.outlets: dict[RequestId, Outlet] = {}
        self.envelope: Envelope = listener.envelope
        self.greeted = False
        self.set_deadline(listener.hello_within)

    # ---- in -----------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Cut frames."""
        cutter = self.cutter
        try:
            cutter.feed(data, self.frames)
        except TooLarge as error:
            # Nothing after this can be told apart any more.
            self.frames.append(error if self.greeted else self._not_ours(data, error))
            self.pause()
            return
        if self.greeted:
            if not cutter.partial:
                self.deadline = inf
            elif self.deadline == inf:
                self.set_deadline(self.listener.frame_within)

    @staticmethod
    def _not_ours(data: bytes, error: TooLarge) -> RequestError:
        if data[:4].isalpha() or b"HTTP/" in data:
            return ProtocolError("this is the door for message frames; HTTP has a port of its own")
        return ProtocolError(f"that is no {messages.HELLO}: {error}", dict(error.details))

    def more(self) -> bool:
        """Whether frames wait that may be run."""
        return bool(self.frames) and not self._rest and not self.closed

    def running(self) -> Iterable[greenlet]:
        """The greenlets of the requests under way."""
        return self.in_flight.values()

    def forget(self) -> None:
        """Drop the frames that were not run."""
        self.frames.clear()

    # ---- in a worker --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run frames until the batch is over; one that blocked ends with its own request, the rest go to other workers."""
        frames = self.frames
        while frames and self.inside and self.budget > 0 and not self._rest:
            self.budget -= 1
            frame = frames.popleft()
            if frame.__class__ is not bytes:
                self._end(frame)
                return
            if not self.greeted:
                self._greet(frame)
                continue
            try:
                message = self.envelope.decode(frame)
            except RequestError as error:
                id = self.envelope.id_in(frame)
                if id is None:
                    self._end(error)
                    return
                self._fail(id, error)
                continue
            if message.get("type") == REQUEST:
                self._request(message)
            else:
                self._control(message)

    def _request(self, message: dict[str, Any]) -> None:
        id = message.get("id")
        in_flight = self.in_flight
        listener = self.listener
        envelope = self.envelope
        if not is_id(id):
            self._fail(
                None, ProtocolError("a request has an id: an integer from 0, or a text of 1 to 128 bytes")
            )
            return
        if id in in_flight:
            self._fail(
                id, Conflict(f"a request with the id {id!r} is under way on this connection", {"id": id})
            )
            return
        if self.leaving:
            self._fail(id, Unavailable("the node is stopping", retry_after=RETURN))
            return
        if len(in_flight) >= listener.in_flight:
            bound = listener.in_flight
            text = f"{bound} requests of this connection are under way, its limit"
            self._fail(id, Overloaded(text, {"limit": "in_flight", "allowed": bound}, AGAIN))
            return
        try:
            capability, payload, metadata, intent = read_request(message)
            told = None
            if metadata is not NO_METADATA and "progress" in (message.get("metadata") or ()):
                told = self._telling(id, message, metadata)
        except RequestError as refusal:
            self._fail(id, refusal)
            return
        in_flight[id] = getcurrent()
        try:
            response = listener.door.request(capability, payload, self.session, metadata, intent)
            if response.value.__class__ is Stream:
                self._stream(id, capability, response, metadata.credit or 0)
                return
        except Exception:
            # The door answers every request; if it raises, the fault is the node's own, and the caller still gets one answer.
            listener.log.exception("the door failed", capability=capability)
            self._fail(id, Internal("a fault of the node; its log says more"))
            return
        finally:
            del in_flight[id]
            if told is not None:
                told.end()
        if self.closed:
            return
        trace = response.trace
        error = response.error
        if trace is None:
            trace_id, duration, deprecated = "", 0.0, None
        else:
            trace_id, duration, deprecated = response.trace_id, trace.duration, trace.deprecated
        if error is None:
            try:
                self.answer(envelope.response(id, response.value, trace_id, duration, deprecated))
            except (Unencodable, TooLarge) as fault:
                error = unsendable(f"the answer of {capability}", fault)
        if error is not None:
            self._fail(id, error, trace_id, duration)

    def _telling(self, id: RequestId, message: dict[str, Any], metadata: Metadata) -> Telling | None:
        """Who tells the peer how far its request is, if it wants to know."""
        if not wants_progress(message):
            return None
        envelope = self.envelope

        def say(progress: Progress) -> None:
            self.answer(envelope.encode(messages.progress(id, progress)))

        told = metadata.progress = Telling(self, say)
        return told

    def _stream(self, id: RequestId, capability: str, response: Response, credit: int) -> None:
        """Send a stream's items as the peer lets them come, and its one end."""
        envelope, answer = self.envelope, self.answer
        making = response.value.making
        outlet = self.outlets[id] = Outlet(self, credit)
        try:
            error = outlet.send(making, capability, lambda item: answer(envelope.item(id, item)))
        finally:
            del self.outlets[id]
        if self.closed:
            return
        told = (outlet.sent, error, response.trace_id, response.trace.duration)
        try:
            answer(envelope.end(id, *told))
        except (Unencodable, TooLarge):
            assert error is not None  # the rest can always be told
            answer(envelope.end(id, told[0], _bare(error), *told[2:]))

    def _fail(
        self, id: RequestId | None, error: RequestError, trace_id: str = "", duration: float = 0.0
    ) -> None:
        try:
            data = self.envelope.error(id, error, trace_id, duration)
        except (Unencodable, TooLarge):  # its details are not for a wire
            data = self.envelope.error(id, _bare(error), trace_id, duration)
        self.answer(data)

    # ---- everything but requests --------------------------------------------------------------------------------------

    def _greet(self, frame: bytes) -> None:
        listener = self.listener
        if frame[:1] == b"{":  # in msgpack that byte would be a number
            self.envelope = listener.json_envelope()
        try:
            greeting = read_hello(self.envelope.decode(frame))
        except RequestError as error:
            self._end(error)
            return
        self.greeted = True
        self.deadline = inf
        self.cutter.limit = listener.limits.frame
        features = [one for one in listener.features if one in greeting.features]
        limits = {**listener.limits.as_dict(), "in_flight": listener.in_flight}
        self.answer(
            self.envelope.encode(messages.welcome(greeting.version, features, listener.software, limits))
        )
        if listener.draining:
            self.leave()

    def _control(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        id = message.get("id")
        if kind == CANCEL:
            waiting = self.in_flight.get(id) if is_id(id) else None
            if waiting is not None:  # else it is answered already, and the answer is on its way
                self.listener.door.cancel(waiting, Cancelled("cancelled by the caller"))
        elif kind == HEARTBEAT:
            echo = {"type": HEARTBEAT, "id": id} if is_id(id) else {"type": HEARTBEAT}
            self.answer(self.envelope.encode(echo))
        elif kind == CREDIT:
            self._credit(id, message)
        elif kind == GOODBYE:
            self.leaving = True
        else:
            error = messages.unknown_type(kind)
            if kind in TYPES:
                error = ProtocolError(f"{kind} has no place here", {"type": kind})
            self._fail(id if is_id(id) else None, error)

    def _credit(self, id: Any, message: dict[str, Any]) -> None:
        try:
            items = read_credit(message)
        except RequestError as error:
            self._fail(None, error)
            return
        outlet = self.outlets.get(id) if is_id(id) else None
        if outlet is not None:  # else it has ended, and its end is on the way
            outlet.grant(items, MOST_CREDIT)

    # ---- the end ------------------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Say goodbye now if it reads streams: they may last longer than the node."""
        if self.outlets:
            self.leave()

    def leave(self) -> None:
        """Say goodbye and finish what is in flight."""
        if self.leaving or self.lingering:
            return
        self.leaving = True
        if self.greeted:
            self.answer(self._goodbye(Unavailable("the node is stopping", retry_after=RETURN)))
        else:
            self._later()

    def expired(self) -> None:
        """No hello, or no end of a frame, in time."""
        if self.greeted:
            within = self.listener.frame_within
            self._end(Timeout(f"a frame was begun and did not end within {within:g} s"))
        else:
            self._end(Timeout(f"no {messages.HELLO} within {self.listener.hello_within:g} s"))

    def _end(self, error: RequestError) -> None:
        self.finish(self._goodbye(error))

    def _goodbye(self, error: RequestError) -> bytes:
        return self.envelope.encode(messages.goodbye(error))


def _bare(error: RequestError) -> RequestError:
    """The error without what is not for a wire."""
    return type(error)(error.message[:1000].encode(errors="replace").decode(), None, error.retry_after)


class TcpListener(Listener):
    """Listens for `packetflow.client` and whoever else speaks `docs/protocol.md`.

    host, port: where; port 0 takes a free one, `address` tells which. in_flight: how many requests of one connection may
    be under way; more are answered `overloaded` with retry_after, so that cancel and heartbeat still get through.
    features: what is offered in `welcome`. hello_within, frame_within: seconds in which a hello has to come, and in
    which a frame that has begun has to end.
    """

    kind = "tcp"

    def __init__(
        self,
        door: Door,
        clock: Clock,
        limits: Limits,
        *,
        host: str = "127.0.0.1",
        port: int = 7420,
        in_flight: int = 64,
        connections: int = 1000,
        features: Iterable[str] = FEATURES,
        hello_within: float = 5.0,
        frame_within: float = 30.0,
        sweep: float = 0.25,
        software: str = "packetflow",
    ) -> None:
        super().__init__(door, clock, limits, connections=connections, sweep=sweep, software=software)
        self.host = host
        self.port = port
        self.in_flight = in_flight
        self.features = tuple(features)
        self.hello_within = hello_within
        self.frame_within = frame_within
        self.envelope = MsgpackEnvelope(limits)
        self._json: JsonEnvelope | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """host:port as bound; empty before `start`."""
        return self._address

    def json_envelope(self) -> JsonEnvelope:
        """The envelope for peers that said hello in JSON."""
        if self._json is None:
            self._json = JsonEnvelope(self.limits)
        return self._json

    def listen(self) -> socket.socket:
        """Listen on host and port."""
        sock = listen_tcp(self.kind, self.host, self.port, self.shared)
        self._address = shown_address(sock)
        return sock

    def connect(self, sock: socket.socket, peer: Any) -> TcpConnection | None:
        """A caller."""
        keep_alive(sock)
        shown = f"{peer[0]}:{peer[1]}"
        return TcpConnection(self, sock, shown, self.door.open_session(self.kind, shown))

    def refuse(self, sock: socket.socket) -> None:
        """One connection too many."""
        error = Overloaded(f"{self.most_connections} connections are open, the limit", retry_after=RETURN)
        self._say(sock, error)

    def _say(self, sock: socket.socket, error: RequestError) -> None:
        # A new socket takes a few hundred bytes at once; if not, the peer sees the connection end without a word.
        with contextlib.suppress(OSError):
            sock.send(self.envelope.encode(messages.goodbye(error)))


def keep_alive(sock: socket.socket) -> None:
    """No delay for small answers; the kernel finds out about peers that are gone without a word, in about two minutes."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
