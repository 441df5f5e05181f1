"""Answers over HTTP that are sent bit by bit: streams, and progress before an answer; as server-sent events or as JSON Lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from packetflow.transports import http_answers as answers
from packetflow.transports.http_parsing import ORIGIN, Incoming
from packetflow.transports.streaming import Outlet, Telling
from packetflow.wire.codec import Unencodable, unsendable
from packetflow.wire.errors import RequestError, TooLarge
from packetflow.wire.stream import Progress, Stream
from packetflow.wire.values import Response

if TYPE_CHECKING:
    from packetflow.transports.http import HttpConnection


class Form(NamedTuple):
    """A way to write what comes bit by bit. item, other: patterns of an item, and of anything else by its name."""

    content_type: str
    item: bytes
    other: bytes


# Bytes that the kernel keeps for a peer that takes nothing; what the peer's own kernel keeps is its own business.
AHEAD = 64 * 1024
EVENTS = Form("text/event-stream", b"data: %b\n\n", b"event: %b\ndata: %b\n\n")
LINES = Form("application/x-ndjson", b'{"item":%b}\n', b'{"%b":%b}\n')


class Accepted(NamedTuple):
    """What a caller takes. form: what it asks for by name; None: a plain answer. streams: whether it takes a stream at all."""

    form: Form | None
    streams: bool


ANYTHING = Accepted(None, True)


def accepted_of(accept: bytes) -> Accepted:
    """What an `Accept` header asks for."""
    said = accept.lower()
    events = said.find(b"text/event-stream")
    lines = max(said.find(word) for word in (b"ndjson", b"jsonl", b"json-lines"))
    if events >= 0 and (lines < 0 or events < lines):
        return Accepted(EVENTS, True)
    if lines >= 0:
        return Accepted(LINES, True)
    return ANYTHING if b"*" in said or not said else Accepted(None, False)


class Flow:
    """One such answer. Nothing is sent before there is something to say, so that an error before that has its own status."""

    __slots__ = ("_chunked", "_connection", "_form", "_incoming", "begun", "telling")

    def __init__(self, connection: HttpConnection, incoming: Incoming, form: Form) -> None:
        self._connection = connection
        self._incoming = incoming
        self._form = form
        self._chunked = not incoming.old  # HTTP/1.0 has no chunks: there the end of the connection is the end
        self.begun = False
        self.telling = Telling(connection, self._tell)

    def send(self, name: str, response: Response) -> None:
        """The answer, all of it: the items as the connection takes them, or the one value; then the end."""
        value, error, count = response.value, response.error, 0
        if not self.begun:
            self._begin(response.trace_id)
        if value.__class__ is Stream:
            self._connection.send_late(AHEAD)
            outlet = Outlet(self._connection, None)
            error = outlet.send(value.making, name, self._item)
            count = outlet.sent
        elif error is None:
            try:
                self._item(value)
                count = 1
            except (Unencodable, TooLarge) as fault:
                error = unsendable(f"the answer of {name}", fault)
        self.telling.end()
        duration = None if response.trace is None else response.trace.duration
        self.finish(count, error, response.trace_id, duration)

    def finish(
        self, count: int, error: RequestError | None, trace: str = "", duration: float | None = None
    ) -> None:
        """The end, once."""
        told: dict[str, Any] = {"items": count}
        if error is not None:
            told["error"] = error.as_dict()
        if trace:
            told["trace"] = trace
        if duration is not None:
            told["execution_time"] = duration * 1000.0
        connection = self._connection
        if connection.closed or connection.lingering:
            return
        encode = connection.listener.json.encode
        try:
            data = encode(told)
        except Unencodable:  # the error's details are not for a wire
            assert error is not None
            text = error.message.encode(errors="replace").decode()
            data = encode({**told, "error": type(error)(text, None, error.retry_after).as_dict()})
        last = self._framed(self._form.other % (b"end", data)) + (b"0\r\n\r\n" if self._chunked else b"")
        connection.task = None
        if self._incoming.keep_alive and self._chunked and not connection.leaving:
            connection.answer(last)
        else:
            connection.finish(last)

    def _tell(self, progress: Progress) -> None:
        data = self._connection.listener.json.encode(progress.as_dict())
        if not self.begun:
            self._begin("")
        self._connection.answer(self._framed(self._form.other % (b"progress", data)))

    def _item(self, item: Any) -> None:
        listener = self._connection.listener
        data = listener.json.encode(item)
        if len(data) > listener.limits.frame:
            raise TooLarge(f"{len(data)} bytes", {"limit": "frame", "allowed": listener.limits.frame})
        self._connection.answer(self._framed(self._form.item % data))

    def _begin(self, trace: str) -> None:
        self.begun = True
        connection, incoming = self._connection, self._incoming
        lines = b"cache-control: no-store\r\n"
        if self._chunked:
            lines += b"transfer-encoding: chunked\r\n"
        if trace:
            lines += b"x-packetflow-trace: %b\r\n" % trace.encode()
        if not (incoming.keep_alive and self._chunked and not connection.leaving):
            lines += b"connection: close\r\n"
        if ORIGIN in incoming.fields:
            lines += connection.listener.cross_origin(incoming)
        opening = answers.opening(200, self._form.content_type)
        connection.answer(b"%b%b%b\r\n" % (opening, connection.listener.date, lines))

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
