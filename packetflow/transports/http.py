"""The HTTP/1.1 door: `POST /capabilities/{id}` with JSON or msgpack, the catalogue, and the health of the node.

Requests of one connection are answered in order, one at a time. Parsing is `http_parsing.py`'s, the looks of answers
`http_answers.py`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from email.utils import format_datetime
from math import inf
from typing import Any, TypeAlias

from greenlet import getcurrent, greenlet

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.transports import http_answers as answers
from packetflow.transports.connection import Connection
from packetflow.transports.http_answers import Refusal, deprecation
from packetflow.transports.http_headers import REMEMBERED, HeaderRules
from packetflow.transports.http_parsing import (
    ACCEPT,
    CONTENT_TYPE,
    IDEMPOTENCY_KEY,
    ORIGIN,
    PREFIX,
    TIMEOUT,
    TRACEPARENT,
    Incoming,
    Reader,
    capability_in,
    metadata_of,
)
from packetflow.transports.http_streams import LINES, Flow
from packetflow.transports.listener import Door, Listener, listen_tcp, shown_address
from packetflow.transports.tcp import keep_alive
from packetflow.wire.codec import Codec, Unencodable, unsendable
from packetflow.wire.errors import (
    STATUS,
    Internal,
    Overloaded,
    RequestError,
    TooLarge,
    ValidationFailed,
)
from packetflow.wire.limits import Limits
from packetflow.wire.stream import Stream
from packetflow.wire.values import Metadata, Response

Health: TypeAlias = Callable[[], tuple[bool, Mapping[str, Any]]]
Catalogue: TypeAlias = Callable[[Session], Mapping[str, Any]]
Describe: TypeAlias = Callable[[Session, str], Mapping[str, Any] | None]

TAKES_STREAMS = Metadata(credit=0)  # how many items come at once is the connection's business here
TRACE_LINES = b"x-packetflow-trace: %b\r\nx-packetflow-execution-time: %.3f\r\n"
IDLE, HEAD, BODY, RUN = range(4)


class HttpConnection(Connection):
    """A caller by HTTP."""

    __slots__ = ("full", "phase", "reader", "ready", "task")

    listener: HttpListener

    def __init__(self, listener: HttpListener, sock: socket.socket, peer: str, session: Session) -> None:
        super().__init__(listener, sock, peer, session)
        self.reader = Reader(listener)
        self.ready = self.reader.ready
        self.task: greenlet | None = None
        self.full = False
        self.phase = HEAD
        self.set_deadline(listener.head_within)

    # ---- in -----------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Parse."""
        reader = self.reader
        reader.feed(data)
        if not self.ready:
            self._in_phase(BODY if reader.in_body else HEAD if reader.begun else self.phase)
            if reader.continues and self.task is None:
                self._go_on()
        elif reader.queued > self.listener.limits.payload:
            self.full = True  # it sends more than it lets us answer
            self.pause()

    def _go_on(self) -> None:
        self.reader.continues = False
        self.answer(answers.CONTINUE)

    def _in_phase(self, phase: int) -> None:
        if phase != self.phase and self.task is None:
            listener = self.listener
            self.phase = phase
            self.set_deadline((listener.idle_within, listener.head_within, listener.body_within, inf)[phase])

    def more(self) -> bool:
        """Whether a request waits that may be run: the one before it is answered."""
        return bool(self.ready) and self.task is None and not self._rest and not self.closed

    def running(self) -> Iterable[greenlet]:
        """The greenlet of the request under way."""
        return () if self.task is None else (self.task,)

    def forget(self) -> None:
        """Drop the requests that were not run."""
        self.ready.clear()
        self.reader.ended = True

    # ---- in a worker --------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run requests in order until the batch is over."""
        ready, reader = self.ready, self.reader
        while ready and self.inside and self.budget > 0 and not self._rest:
            self.budget -= 1
            incoming = ready.popleft()
            reader.queued -= len(incoming.body) + len(incoming.target) + 500
            self._run(incoming)
        if ready or self.closed or self.lingering:
            return
        if reader.begun:
            self.phase = RUN
            self._in_phase(BODY if reader.in_body else HEAD)
        else:
            self.phase = IDLE
            self.deadline = self.listener.now + self.listener.idle_within
            self._spared = False
        if reader.continues:
            self._go_on()
        if self.full:
            self.full = False
            self.resume()

    def _run(self, incoming: Incoming) -> None:
        if incoming.refusal is not None:
            self._refuse(incoming, incoming.refusal)
        elif incoming.method == b"POST" and incoming.target.startswith(PREFIX):
            self._call(incoming)
        else:
            self._look(incoming)

    def _call(self, incoming: Incoming) -> None:
        listener = self.listener
        fields = incoming.fields
        codec = listener.codec_of(fields.get(CONTENT_TYPE)) or listener.json
        target = incoming.target
        name = listener.names.get(target) or capability_in(target)
        if name is None:
            self._refuse(incoming, answers.no_such_path(incoming.target.decode("latin-1")))
            return
        try:
            payload = codec.decode(incoming.body) if incoming.body else None
            if payload is not None and payload.__class__ is not dict:
                fault = {"path": "", "message": "expected fields by name"}
                raise ValidationFailed("a payload is a map of fields", {"faults": [fault]})
            metadata = TAKES_STREAMS
            if TIMEOUT in fields or IDEMPOTENCY_KEY in fields or TRACEPARENT in fields:
                metadata = metadata_of(fields)
        except RequestError as error:
            self._refuse(incoming, Refusal(error.status, error))
            return
        flow: Flow | None = None
        accept = fields.get(ACCEPT)
        if accept is not None:
            form, streams = listener.takes(accept)
            if form is not None or not streams:
                flow = None if form is None else Flow(self, incoming, form)
                metadata = metadata.over_http(streams, None if flow is None else flow.telling)
        self.task = getcurrent()
        try:
            response = listener.door.request(name, payload, self.session, metadata)
            if response.value.__class__ is Stream:
                flow = flow or Flow(self, incoming, LINES)
            if flow is not None and (flow.begun or response.error is None):
                flow.send(name, response)
                return
        except Exception:
            # The door answers every request; if it raises, the fault is the node's own, and the caller still gets one answer.
            listener.log.exception("the door failed", capability=name)
            own = Internal("a fault of the node; its log says more")
            if flow is not None and flow.begun:
                flow.finish(0, own)
            else:
                self._refuse(incoming, Refusal(500, own))
            return
        finally:
            self.task = None
            if flow is not None:
                flow.telling.end()
        if self.closed or self.lingering:
            return
        if len(listener.names) < REMEMBERED and response.error is None:
            listener.names[target] = name
        self._respond(incoming, name, response, codec if accept is None else listener.accepted(accept, codec))

    def _respond(self, incoming: Incoming, name: str, response: Response, codec: Codec) -> None:
        trace, error = response.trace, response.error
        lines = b"" if trace is None else TRACE_LINES % (response.trace_id.encode(), trace.duration * 1000.0)
        if trace is not None and trace.deprecated is not None:
            lines += deprecation(trace.deprecated)
        status = 200
        body = b""
        if error is None:
            try:
                body = codec.encode(response.value)
                if len(body) > self.listener.limits.frame:
                    error = TooLarge(f"the answer of {name} is too large: {len(body)} bytes")
            except Unencodable as fault:
                error = unsendable(f"the answer of {name}", fault)
        if error is not None:
            status = STATUS.get(error.code, 500)
            lines += answers.retry_after(error)
            body = answers.encoded_error(codec, error)
        self._send(incoming, status, codec, body, lines)

    def _look(self, incoming: Incoming) -> None:
        """Everything that is not a call."""
        listener = self.listener
        method = incoming.method
        path = incoming.target.split(b"?", 1)[0].decode("latin-1")
        name = capability_in(incoming.target)
        if path in ("/health/live", "/health/ready", "/capabilities"):
            allowed = "GET, HEAD"
        elif name is not None:
            allowed = "GET, HEAD, POST"
        else:
            self._refuse(incoming, answers.no_such_path(path))
            return
        if method == b"OPTIONS":
            self._options(incoming, allowed + ", OPTIONS")
            return
        if method not in (b"GET", b"HEAD"):
            self._refuse(incoming, answers.wrong_method(method, path, allowed))
            return
        status = 200
        self.task = getcurrent()
        try:
            found: Mapping[str, Any] | None
            if path.startswith("/health/"):
                good, found = (listener.live if path == "/health/live" else listener.ready)()
                status = 200 if good else 503
            elif name is None:
                found = listener.catalogue(self.session)
            else:
                found = listener.describe(self.session, name)
        except Exception:
            listener.log.exception("a look at the node failed", path=path)
            self._refuse(incoming, Refusal(500, Internal("a fault of the node; its log says more")))
            return
        finally:
            self.task = None
        if self.closed or self.lingering:
            return
        if found is None:
            self._refuse(incoming, answers.no_capability(name or ""))
            return
        codec = listener.accepted(incoming.fields.get(ACCEPT, b""), listener.json)
        self._send(incoming, status, codec, codec.encode(found), b"cache-control: no-store\r\n")

    def _options(self, incoming: Incoming, allowed: str) -> None:
        lines = b"allow: %b\r\n" % allowed.encode()
        if ORIGIN in incoming.fields:  # a listed one, or it would not have come this far
            lines += (
                b"access-control-allow-methods: %b\r\n"
                b"access-control-allow-headers: content-type, idempotency-key, traceparent, x-packetflow-timeout\r\n"
                b"access-control-max-age: 600\r\n" % allowed.encode()
            )
        self._send(incoming, 204, self.listener.json, b"", lines)

    def _refuse(self, incoming: Incoming, refusal: Refusal) -> None:
        error = refusal.error
        if refusal.ends:
            incoming.keep_alive = False
        codec = self.listener.accepted(incoming.fields.get(ACCEPT, b""), self.listener.json)
        body = answers.encoded_error(codec, error)
        self._send(incoming, refusal.status, codec, body, refusal.headers + answers.retry_after(error))

    def _send(self, incoming: Incoming, status: int, codec: Codec, body: bytes, lines: bytes) -> None:
        goes_on = incoming.keep_alive and not self.leaving
        if not goes_on:
            lines += b"connection: close\r\n"
        elif incoming.old:
            lines += b"connection: keep-alive\r\n"
        if ORIGIN in incoming.fields:
            lines += self.listener.cross_origin(incoming)
        opening = (
            self.listener.openings[codec.name]
            if status == 200
            else answers.opening(status, codec.content_type)
        )
        data = b"%bcontent-length: %d\r\n%b%b\r\n" % (opening, len(body), self.listener.date, lines)
        if incoming.method != b"HEAD":
            data += body
        if goes_on:
            self.answer(data)
        else:
            self.finish(data)

    # ---- the end ------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Finish the request under way; idle connections end now."""
        self.leaving = True
        self._later()

    def expired(self) -> None:
        """Headers, body or the next request did not come in time."""
        listener = self.listener
        if self.task is not None or self.ready:
            self.phase = RUN
            self.deadline = inf
        elif self.phase == BODY:
            self._give_up(answers.too_slow("the body", listener.body_within))
        elif self.phase == HEAD and self.reader.begun:
            self._give_up(answers.too_slow("the headers", listener.head_within))
        else:
            self.finish()

    def _give_up(self, refusal: Refusal) -> None:
        self._refuse(Incoming(refusal), refusal)


class HttpListener(Listener, HeaderRules):
    """Listens for HTTP/1.1.

    host, port: where; port 0 takes a free one, `address` tells which. allowed_hosts: names besides loopback's that Host may
    say. allowed_origins: whose pages may call ("https://desk.example.org"). live, ready: (good or not, what to tell).
    catalogue, describe: what a session may see of the capabilities. head_within, body_within, idle_within: seconds for the
    headers from their first byte, for the body from there, and between two requests.
    """

    kind = "http"

    def __init__(
        self,
        door: Door,
        clock: Clock,
        limits: Limits,
        *,
        live: Health,
        ready: Health,
        catalogue: Catalogue,
        describe: Describe,
        host: str = "127.0.0.1",
        port: int = 7421,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        connections: int = 1000,
        head_within: float = 10.0,
        body_within: float = 30.0,
        idle_within: float = 60.0,
        sweep: float = 0.25,
        software: str = "packetflow",
    ) -> None:
        Listener.__init__(self, door, clock, limits, connections=connections, sweep=sweep, software=software)
        HeaderRules.__init__(self, limits, (*allowed_hosts, host), allowed_origins)
        self.live = live
        self.ready = ready
        self.catalogue = catalogue
        self.describe = describe
        self.host = host
        self.port = port
        self.head_within = head_within
        self.body_within = body_within
        self.idle_within = idle_within
        self.date = b""
        self._second = -1
        self._address = ""
        self.names: dict[bytes, str] = {}  # the capabilities of targets that were answered
        self.openings = {
            codec.name: answers.opening(200, codec.content_type) for codec in (self.json, self.msgpack)
        }
        self._set_date()

    @property
    def address(self) -> str:
        """host:port as bound; empty before `start`."""
        return self._address

    def listen(self) -> socket.socket:
        """Listen on host and port."""
        sock = listen_tcp(self.kind, self.host, self.port, self.shared)
        self._address = shown_address(sock)
        return sock

    def connect(self, sock: socket.socket, peer: Any) -> HttpConnection:
        """A caller."""
        keep_alive(sock)
        shown = f"{peer[0]}:{peer[1]}"
        return HttpConnection(self, sock, shown, self.door.open_session(self.kind, shown))

    def refuse(self, sock: socket.socket) -> None:
        """One connection too many."""
        error = Overloaded(f"{self.most_connections} connections are open, the limit", retry_after=1.0)
        body = answers.encoded_error(self.json, error)
        lines = b"retry-after: 1\r\nconnection: close\r\n"
        sock.send(
            b"%bcontent-length: %d\r\n%b%b\r\n%b"
            % (answers.opening(503, self.json.content_type), len(body), self.date, lines, body)
        )

    def _sweep(self) -> None:
        super()._sweep()
        self._set_date()

    def _set_date(self) -> None:
        now = self.clock.utc()
        if now.second != self._second:
            self._second = now.second
            self.date = b"date: %b\r\n" % format_datetime(now, usegmt=True).encode()
