"""From bytes to requests: what the parser calls, and the checks that need no body. One `Incoming` for each message."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import httptools

from packetflow.transports import http_answers as answers
from packetflow.transports.http_answers import Refusal
from packetflow.wire.envelope import LONGEST_NAME, is_traceparent
from packetflow.wire.errors import ProtocolError
from packetflow.wire.values import Metadata

if TYPE_CHECKING:
    from packetflow.transports.http import HttpListener

PREFIX = b"/capabilities/"
LONGEST_TARGET = 8 * 1024
LARGEST_HEAD = 32 * 1024
MOST_HEADERS = 100
# The bytes on the wire of a body of many small chunks, as a multiple of what it holds: past it the framing is an attack.
CHUNKING = 8

HOST = b"host"
ORIGIN = b"origin"
CONTENT_TYPE = b"content-type"
CONTENT_LENGTH = b"content-length"
CONTENT_ENCODING = b"content-encoding"
TRANSFER_ENCODING = b"transfer-encoding"
ACCEPT = b"accept"
CONNECTION = b"connection"
EXPECT = b"expect"
IDEMPOTENCY_KEY = b"idempotency-key"
TIMEOUT = b"x-packetflow-timeout"
TRACEPARENT = b"traceparent"
ONCE = frozenset(
    (
        HOST,
        ORIGIN,
        CONTENT_TYPE,
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        EXPECT,
        IDEMPOTENCY_KEY,
        TIMEOUT,
        TRACEPARENT,
    )
)
WANTED = ONCE | {TRANSFER_ENCODING, ACCEPT, CONNECTION}


class Incoming:
    """One request as it came. refusal: why it goes no further. keep_alive: whether the connection goes on after it."""

    __slots__ = ("body", "fields", "keep_alive", "method", "old", "refusal", "target")

    def __init__(self, refusal: Refusal | None = None) -> None:
        self.method = b""
        self.target = b""
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = refusal is None
        self.old = False  # HTTP/1.0
        self.refusal = refusal


class Reader:
    """Parses one connection's bytes. Whole requests, and refusals in their place, are appended to `ready`."""

    __slots__ = (
        "_count",
        "_current",
        "_feed",
        "_head_size",
        "_listener",
        "_parser",
        "_parts",
        "_raw",
        "_size",
        "begun",
        "continues",
        "ended",
        "in_body",
        "queued",
        "ready",
    )

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self.ready: deque[Incoming] = deque()
        self.queued = 0  # bytes in `ready`, about
        self.begun = False  # a message has begun
        self.in_body = False  # its headers are complete
        self.ended = False  # nothing more can be read from this connection
        self.continues = False  # the peer waits for 100-continue before it sends its body
        self._current = Incoming()
        self._head_size = self._raw = self._size = self._count = 0
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        if self.ended:
            return
        if self.in_body:
            self._raw += len(data)
        else:
            self._head_size += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self.refuse(answers.upgrade())  # also CONNECT, which the parser takes for one
        except httptools.HttpParserError as error:
            self.refuse(answers.not_http(error))
        if self.begun and not self.ended:
            listener = self._listener
            if not self.in_body:
                if self._head_size > LARGEST_HEAD:
                    self.refuse(answers.head_too_large(LARGEST_HEAD))
            elif self._raw > listener.limits.payload * CHUNKING + LARGEST_HEAD:
                self.refuse(answers.body_too_large(listener.limits.payload, None))

    def refuse(self, refusal: Refusal) -> None:
        """Queue a refusal after which the connection ends."""
        if not self.ended:
            self.ended = True
            self.begun = self.in_body = False
            last = Incoming(refusal)
            last.method = self._current.method
            self.ready.append(last)

    # ---- called by the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._current = Incoming()
        self.begun = True
        self._count = 0

    def on_url(self, part: bytes) -> None:
        """The request target, or a part of it."""
        current = self._current
        current.target += part
        if len(current.target) > LONGEST_TARGET:
            current.target = current.target[:100]
            self.refuse(answers.target_too_long(LONGEST_TARGET))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after the body, one trailer, which has no meaning here."""
        if self.in_body:
            return
        self._count += 1
        name = name.lower()
        if name in WANTED:
            current = self._current
            fields = current.fields
            if name in fields:
                if name in ONCE:
                    current.refusal = answers.malformed(
                        f"the header {name.decode()} is there twice", ends=True
                    )
                fields[name] = fields[name] + b", " + value
            else:
                fields[name] = value
        elif self._count > MOST_HEADERS:
            self.refuse(answers.head_too_large(LARGEST_HEAD))

    def on_headers_complete(self) -> None:
        """Everything but the body."""
        parser, current = self._parser, self._current
        self.in_body = True
        self._head_size = self._raw = self._size = 0
        current.method = parser.get_method()
        current.keep_alive = parser.should_keep_alive()
        fields = current.fields
        # Else it is 1.1, or it makes no difference.
        if not current.keep_alive or CONNECTION in fields or EXPECT in fields or HOST not in fields:
            current.old = parser.get_http_version() == "1.0"
        if parser.should_upgrade():
            self.refuse(answers.upgrade())
            return
        refusal = current.refusal or self._listener.check(current)
        current.refusal = refusal
        expect = fields.get(EXPECT)
        if expect is not None and not current.old:
            if expect.lower() != b"100-continue":
                refusal = refusal or answers.expectation(expect)
            if refusal is not None:
                refusal = refusal._replace(ends=True)  # its body may come or not: nobody could tell
            else:
                self.continues = True
        if refusal is not None and refusal.ends:
            self.refuse(refusal)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        if self.ended:
            return
        self._size += len(part)
        limit = self._listener.limits.payload
        if self._size > limit:
            self.refuse(answers.body_too_large(limit, None))
        elif self._current.refusal is None:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self.ended:
            return
        current, parts = self._current, self._parts
        if parts:
            current.body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        self.begun = self.in_body = self.continues = False
        self.queued += len(current.body) + len(current.target) + 500
        self.ready.append(current)


def capability_in(target: bytes) -> str | None:
    """The capability that a request target names; None if it names none."""
    if not target.startswith(PREFIX):
        return None
    name = target[len(PREFIX) :].partition(b"?")[0]
    if b"%" in name:
        name = unquote_to_bytes(name)
    if not 0 < len(name) <= LONGEST_NAME or b"/" in name:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def metadata_of(fields: Mapping[bytes, bytes]) -> Metadata:
    """What the headers say about a request. Raises ProtocolError."""
    timeout: float | None = None
    if TIMEOUT in fields:
        try:
            timeout = float(fields[TIMEOUT])
        except ValueError:
            timeout = 0.0
        if not 0 < timeout < 1e12:
            raise ProtocolError("x-packetflow-timeout is a number of milliseconds above 0")
        timeout /= 1000.0
    key = fields.get(IDEMPOTENCY_KEY)
    if key is not None and not 0 < len(key) <= LONGEST_NAME:
        raise ProtocolError(f"idempotency-key is a text of 1 to {LONGEST_NAME} characters")
    trace = fields.get(TRACEPARENT, b"").decode("latin-1")
    return Metadata(
        timeout,
        None if key is None else key.decode("latin-1"),
        trace if is_traceparent(trace) else None,
        0,  # the connection itself says when it takes no more
    )
