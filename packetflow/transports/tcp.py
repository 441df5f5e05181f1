"""The fast door: length-prefixed messages, many requests at once on a connection, answered as they finish.

`TcpListener` for callers, `AdminListener` for the operator: the same protocol over a Unix socket that only the node's own
user can open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Any

from greenlet import getcurrent, greenlet

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.transports.connection import Connection
from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.transports.listener import (
    BACKLOG,
    Door,
    Listener,
    PlainSocket,
    listen_tcp,
    refused,
    shown_address,
)
from packetflow.wire import envelope as messages
from packetflow.wire.codec import Unencodable
from packetflow.wire.envelope import (
    CANCEL,
    GOODBYE,
    HEARTBEAT,
    REQUEST,
    TYPES,
    Envelope,
    JsonEnvelope,
    MsgpackEnvelope,
    RequestId,
    is_id,
    read_hello,
    read_request,
)
from packetflow.wire.errors import (
    Cancelled,
    Conflict,
    ExecutionFailed,
    Forbidden,
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

HELLO_LIMIT = 16 * 1024  # bytes of a frame while the peer has not said hello
AGAIN = 0.1  # seconds after which a session that has too much in flight may try again
RETURN = 1.0  # seconds after which another node may have taken this one's place
FEATURES = ("cancel", "heartbeat")


class TcpConnection(Connection):
    """A caller by tcp. `in_flight` holds the greenlet of each request under way, by the request's id."""

    __slots__ = ("cutter", "envelope", "frames", "greeted", "in_flight")

    listener: TcpListener

    def __init__(self, listener: TcpListener, sock: socket.socket, peer: str, session: Session) -> None:
        super().__init__(listener, sock, peer, session)
        self.cutter = FrameCutter(HELLO_LIMIT)
        # What was cut and not run yet; an error stands where the stream could not be cut any more.
        self.frames: deque[Any] = deque()
        self.in_flight: dict[RequestId, greenlet] = {}
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
        except RequestError as refusal:
            self._fail(id, refusal)
            return
        in_flight[id] = getcurrent()
        try:
            response = listener.door.request(capability, payload, self.session, metadata, intent)
        except Exception:
            # The door answers every request; if it raises, the fault is the node's own, and the caller still gets one answer.
            listener.log.exception("the door failed", capability=capability)
            self._fail(id, Internal("a fault of the node; its log says more"))
            return
        finally:
            del in_flight[id]
        if self.closed:
            return
        trace = response.trace
        error = response.error
        if trace is None:
            trace_id, duration = "", 0.0
        else:
            trace_id, duration = response.trace_id, trace.duration
        if error is None:
            try:
                self.answer(envelope.response(id, response.value, trace_id, duration))
            except Unencodable as fault:
                error = ExecutionFailed(f"the answer of {capability} can't be sent: {fault}")
            except TooLarge as large:
                error = TooLarge(f"the answer of {capability} is too large: {large}", large.details)
        if error is not None:
            self._fail(id, error, trace_id, duration)

    def _fail(
        self, id: RequestId | None, error: RequestError, trace_id: str = "", duration: float = 0.0
    ) -> None:
        try:
            data = self.envelope.error(id, error, trace_id, duration)
        except (Unencodable, TooLarge):  # its details are not for a wire
            bare = type(error)(
                error.message[:1000].encode(errors="replace").decode(), None, error.retry_after
            )
            data = self.envelope.error(id, bare, trace_id, duration)
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
        elif kind == GOODBYE:
            self.leaving = True
        else:
            error = messages.unknown_type(kind)
            if kind in TYPES:
                error = ProtocolError(f"{kind} has no place here", {"type": kind})
            self._fail(id if is_id(id) else None, error)

    # ---- the end ------------------------------------------------------------------------------------------------------

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


def keep_alive(sock: socket.socket) -> None:
    """No delay for small answers; the kernel finds out about peers that are gone without a word, in about two minutes."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
