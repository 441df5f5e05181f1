"""What HTTP answers look like: status lines, headers, error bodies. No connection and no parsing here."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, NamedTuple

from packetflow.wire.codec import Codec, Unencodable
from packetflow.wire.errors import Forbidden, NotFound, ProtocolError, RequestError, Timeout, TooLarge

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ROUTES = "POST and GET /capabilities/{id}, GET /capabilities, GET /health/live, GET /health/ready"

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_REASONS[499] = b"Client Closed Request"
STATUS_LINES: Mapping[int, bytes] = {
    number: b"HTTP/1.1 %d %b\r\n" % (number, reason) for number, reason in _REASONS.items()
}


class Refusal(NamedTuple):
    """An answer that needs no door. headers: whole lines. ends: the connection can't go on after it."""

    status: int
    error: RequestError
    headers: bytes = b""
    ends: bool = False


def opening(status: int, content_type: str) -> bytes:
    """The status line and the first header."""
    line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%bcontent-type: %b\r\n" % (line, content_type.encode())


def deprecation(words: str) -> bytes:
    """The `x-packetflow-deprecated` line: what to use instead, as far as a header can say it."""
    shown = " ".join(words.split()).encode("ascii", "replace")
    return b"x-packetflow-deprecated: %b\r\n" % shown


def retry_after(error: RequestError) -> bytes:
    """The `retry-after` line: whole seconds, rounded up; the body has the exact figure."""
    seconds = error.retry_after
    return b"" if seconds is None else b"retry-after: %d\r\n" % max(1, ceil(seconds))


def not_http(reason: object) -> Refusal:
    """What came is not a request."""
    return Refusal(400, ProtocolError(f"it is not an HTTP/1.1 request: {reason}"), ends=True)


def malformed(what: str, ends: bool = False) -> Refusal:
    """A header says something that it may not."""
    return Refusal(400, ProtocolError(what), ends=ends)


def no_host() -> Refusal:
    """HTTP/1.1 without Host."""
    return malformed("a request has one Host header")


def foreign_host(host: bytes) -> Refusal:
    """A name under which this node is not meant to be reached: a page of somebody else's may have been made to point here."""
    shown = host.decode("latin-1")[:100]
    return Refusal(421, Forbidden(f"this node does not answer to the name {shown!r}", {"host": shown}))


def foreign_origin(origin: bytes) -> Refusal:
    """A page of an origin that is not listed."""
    shown = origin.decode("latin-1")[:100]
    return Refusal(403, Forbidden(f"pages of {shown!r} may not call this node", {"origin": shown}))


def wrong_type(given: bytes | None) -> Refusal:
    """A body of a kind that is not spoken."""
    shown = "nothing" if given is None else repr(given.decode("latin-1")[:100])
    known = "application/json or application/msgpack"
    return Refusal(415, ProtocolError(f"a body is {known}, in UTF-8; its content-type says {shown}"))


def encoded(given: bytes) -> Refusal:
    """A compressed body: its size could not be known before it is too late."""
    shown = given.decode("latin-1")[:40]
    return Refusal(415, ProtocolError(f"a body is sent as it is, without content-encoding {shown!r}"))


def no_length() -> Refusal:
    """A body is announced, and nothing says where it ends."""
    return Refusal(411, ProtocolError("a body needs content-length, or transfer-encoding: chunked"))


def body_too_large(limit: int, announced: int | None) -> Refusal:
    """More than the limit; nothing of the rest is kept."""
    what = "the body is too large" if announced is None else f"a body of {announced} bytes"
    error = TooLarge(f"{what}: the limit is {limit}", {"limit": "payload", "allowed": limit})
    return Refusal(413, error, ends=True)


def head_too_large(limit: int) -> Refusal:
    """Headers without end."""
    error = TooLarge(
        f"the headers are too large: the limit is {limit} bytes", {"limit": "headers", "allowed": limit}
    )
    return Refusal(431, error, ends=True)


def target_too_long(limit: int) -> Refusal:
    """A path without end."""
    error = TooLarge(f"the path is too long: the limit is {limit} bytes", {"limit": "path", "allowed": limit})
    return Refusal(414, error, ends=True)


def expectation(given: bytes) -> Refusal:
    """An Expect that nobody can meet."""
    shown = given.decode("latin-1")[:40]
    return Refusal(417, ProtocolError(f"only 100-continue can be expected, not {shown!r}"), ends=True)


def upgrade() -> Refusal:
    """Another protocol is asked for."""
    error = ProtocolError("only HTTP/1.1 is spoken here; leave the Upgrade header out")
    return Refusal(400, error, ends=True)


def too_slow(what: str, within: float) -> Refusal:
    """Slower than is allowed."""
    return Refusal(408, Timeout(f"{what} did not come within {within:g} s"), ends=True)


def no_such_path(path: str) -> Refusal:
    """An unknown path."""
    return Refusal(404, NotFound(f"no path {path[:100]!r} here; there are {ROUTES}"))


def wrong_method(method: bytes, path: str, allowed: str) -> Refusal:
    """A known path, another method."""
    error = ProtocolError(f"{method.decode('latin-1')} is nothing for {path[:100]!r}; allowed: {allowed}")
    return Refusal(405, error, b"allow: %b\r\n" % allowed.encode())


def no_capability(name: str) -> Refusal:
    """A capability that does not exist for this caller."""
    return Refusal(404, NotFound(f"no capability {name[:100]!r}", {"capability": name[:100]}))


def error_body(error: RequestError) -> dict[str, Any]:
    """The body of every answer that is not a success."""
    return {"error": error.as_dict()}


def encoded_error(codec: Codec, error: RequestError) -> bytes:
    """The body that tells an error."""
    try:
        return codec.encode(error_body(error))
    except Unencodable:  # its details are not for a wire
        text = error.message.encode(errors="replace").decode()
        return codec.encode(error_body(type(error)(text, None, error.retry_after)))
