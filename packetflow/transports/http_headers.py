"""What the headers of a request mean to the HTTP door: who may call, in which encodings, in which form the answer is wanted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from packetflow.transports import http_answers as answers
from packetflow.transports.http_answers import Refusal
from packetflow.transports.http_parsing import (
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    ORIGIN,
    TRANSFER_ENCODING,
    Incoming,
)
from packetflow.transports.http_streams import Accepted, accepted_of
from packetflow.wire.codec import Codec, Json, Msgpack
from packetflow.wire.limits import Limits

REMEMBERED = 256  # spellings of a header that are kept with their meaning


class HeaderRules:
    """hosts: names besides loopback's that Host may say. origins: whose pages may call."""

    limits: Limits

    def __init__(self, limits: Limits, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.json = Json(limits)
        self.msgpack = Msgpack(limits)
        self._hosts = {name.lower().encode() for name in hosts}
        self._origins = {origin.rstrip("/").encode() for origin in origins}
        self._good_hosts: set[bytes] = set()
        self._codecs: dict[bytes, Codec] = {}
        self._takes: dict[bytes, Accepted] = {}

    def check(self, incoming: Incoming) -> Refusal | None:
        """The refusal that the headers alone deserve."""
        fields = incoming.fields
        host = fields.get(HOST)
        if host not in self._good_hosts:
            if host is None:
                if not incoming.old:
                    return answers.no_host()
            elif self._host_allowed(host):
                if len(self._good_hosts) < REMEMBERED:
                    self._good_hosts.add(host)
            else:
                return answers.foreign_host(host)
        origin = fields.get(ORIGIN)
        if origin is not None and origin not in self._origins:
            return answers.foreign_origin(origin)
        return self._check_body(incoming) if incoming.method == b"POST" else None

    def _check_body(self, incoming: Incoming) -> Refusal | None:
        fields = incoming.fields
        kind, length = fields.get(CONTENT_TYPE), fields.get(CONTENT_LENGTH)
        if length is None and TRANSFER_ENCODING not in fields:
            return None if kind is None else answers.no_length()
        if CONTENT_ENCODING in fields and fields[CONTENT_ENCODING].lower() != b"identity":
            return answers.encoded(fields[CONTENT_ENCODING])
        if length is not None and len(length) > 5 and int(length) > self.limits.payload:
            return answers.body_too_large(self.limits.payload, int(length))
        if self.codec_of(kind) is None and (kind is not None or length != b"0"):
            return answers.wrong_type(kind)
        return None

    def _host_allowed(self, host: bytes) -> bool:
        name = host.strip().lower()
        if name in self._hosts:
            return True
        name = name[1:].partition(b"]")[0] if name.startswith(b"[") else name.partition(b":")[0]
        if name == b"localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name.decode("latin-1")).is_loopback
        except ValueError:
            return False

    def codec_of(self, content_type: bytes | None) -> Codec | None:
        """The encoding of a body; None if it is not spoken."""
        if content_type is None:
            return None
        found = self._codecs.get(content_type)
        if found is None:
            kind, _, parameters = content_type.lower().partition(b";")
            kind = kind.strip()
            charset = parameters.partition(b"charset=")[2].partition(b";")[0].strip(b' "\t')
            if charset not in (b"", b"utf-8", b"utf8", b"us-ascii"):
                return None
            if kind == b"application/json":
                found = self.json
            elif kind in (b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack"):
                found = self.msgpack
            else:
                return None
            if len(self._codecs) < REMEMBERED:
                self._codecs[content_type] = found
        return found

    def takes(self, accept: bytes) -> Accepted:
        """Whether the caller takes streams, and in which form it would like its answer bit by bit."""
        found = self._takes.get(accept)
        if found is None:
            found = accepted_of(accept)
            if len(self._takes) < REMEMBERED:
                self._takes[accept] = found
        return found

    def accepted(self, accept: bytes, otherwise: Codec) -> Codec:
        """The encoding that the caller would like: the first of ours that it names."""
        at, other = accept.find(b"json"), accept.find(b"msgpack")
        if at < 0 and other < 0:
            return otherwise
        return self.json if other < 0 or 0 <= at < other else self.msgpack

    def cross_origin(self, incoming: Incoming) -> bytes:
        """The header lines that let a listed origin's page read the answer."""
        origin = incoming.fields[ORIGIN]
        if origin not in self._origins:
            return b""
        shows = (
            b"access-control-expose-headers: x-packetflow-trace, x-packetflow-execution-time, x-packetflow-deprecated,"
            b" retry-after\r\n"
        )
        return b"access-control-allow-origin: %b\r\n%bvary: origin\r\n" % (origin, shows)
