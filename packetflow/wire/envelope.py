"""The messages and their one envelope, in both encodings: a map with named fields, so that any language can write it.

`docs/protocol.md` is the specification; its vectors are this file's tests. Unknown fields are ignored, unknown types
refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import msgpack

from packetflow.wire.codec import Json, Msgpack
from packetflow.wire.errors import ProtocolError, RequestError, ValidationFailed
from packetflow.wire.frames import HEAD, framed
from packetflow.wire.limits import Limits, too_large
from packetflow.wire.stream import Progress
from packetflow.wire.values import NO_METADATA, Metadata

VERSION = 1
VERSIONS = (1,)

HELLO = "hello"
WELCOME = "welcome"
REQUEST = "capability_request"
RESPONSE = "capability_response"
ERROR = "capability_error"
STREAM_ITEM = "stream_item"
STREAM_END = "stream_end"
CREDIT = "credit"
PROGRESS = "progress"
CANCEL = "cancel"
HEARTBEAT = "heartbeat"
GOODBYE = "goodbye"
TYPES = (
    HELLO,
    WELCOME,
    REQUEST,
    RESPONSE,
    ERROR,
    STREAM_ITEM,
    STREAM_END,
    CREDIT,
    PROGRESS,
    CANCEL,
    HEARTBEAT,
    GOODBYE,
)

RequestId: TypeAlias = int | str
LONGEST_ID = 128  # bytes of a request id that is a text
LONGEST_NAME = 256  # bytes of a capability id or an idempotency key
LARGEST_ID = (1 << 63) - 1
MOST_CREDIT = 1_000_000  # items that a caller may let come at once
MILLISECONDS = 1000.0

_ITEM_HEAD = b"\x83\xa4type\xabstream_item\xa2id"
_RESPONSE_HEAD = b"\x85\xa4type\xb3capability_response\xa2id"
_PAYLOAD = b"\xa7payload"
_CONTEXT = b"\xa7context\x81\xa8trace_id\xd9\x20"
_METADATA = b"\xa8metadata\x81\xaeexecution_time\xcb"
_double = struct.Struct(">d").pack
# How msgpack writes the integers that ids mostly are.
_tiny = [bytes([number]) for number in range(128)]
_byte = struct.Struct(">BB").pack
_short = struct.Struct(">BH").pack


class Envelope:
    """One encoding of the messages, as a connection speaks it."""

    codec: Msgpack | Json

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def decode(self, frame: bytes) -> dict[str, Any]:
        """The message of a frame. Raises ProtocolError or TooLarge."""
        message = self.codec.decode(frame)
        if message.__class__ is not dict:
            raise ProtocolError(f"a message is a map of fields, not {_kind(message)}")
        found: dict[str, Any] = message
        if len(frame) > self.limits.payload and "payload" in found:
            size = len(self.codec.encode(found["payload"]))
            if size > self.limits.payload:
                raise too_large("payload", self.limits.payload, f"a payload of {size} bytes")
        return found

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """The frame of a message. Raises Unencodable, or TooLarge if it passes the frame limit."""
        return self._framed(self.codec.encode(message))

    def response(
        self, id: RequestId, value: Any, trace_id: str, duration: float, deprecated: str | None = None
    ) -> bytes:
        """The frame of a `capability_response`. duration: seconds that the request took. deprecated: what to use instead.

        Raises Unencodable or TooLarge.
        """
        metadata: dict[str, Any] = {"execution_time": duration * MILLISECONDS}
        if deprecated is not None:
            metadata["deprecated"] = deprecated
        return self.encode(
            {
                "type": RESPONSE,
                "id": id,
                "payload": value,
                "context": {"trace_id": trace_id},
                "metadata": metadata,
            }
        )

    def error(
        self, id: RequestId | None, error: RequestError, trace_id: str = "", duration: float = 0.0
    ) -> bytes:
        """The frame of a `capability_error`. duration: seconds that the request took. Raises Unencodable or TooLarge."""
        return self.encode(
            {
                "type": ERROR,
                "id": id,
                "payload": error.as_dict(),
                "context": {"trace_id": trace_id},
                "metadata": {"execution_time": duration * MILLISECONDS},
            }
        )

    def item(self, id: RequestId, item: Any) -> bytes:
        """The frame of a `stream_item`. Raises Unencodable or TooLarge."""
        return self.encode({"type": STREAM_ITEM, "id": id, "payload": item})

    def end(
        self, id: RequestId, items: int, error: RequestError | None, trace_id: str, duration: float
    ) -> bytes:
        """The frame of a `stream_end`. items: that were sent. duration: seconds of the whole. Raises Unencodable or TooLarge."""
        payload: dict[str, Any] = {"items": items}
        if error is not None:
            payload["error"] = error.as_dict()
        return self.encode(
            {
                "type": STREAM_END,
                "id": id,
                "payload": payload,
                "context": {"trace_id": trace_id},
                "metadata": {"execution_time": duration * MILLISECONDS},
            }
        )

    def id_in(self, frame: bytes) -> RequestId | None:
        """The id in a frame that could not be decoded, so that its error can be told apart; None if it can't be found."""
        raise NotImplementedError

    def _framed(self, body: bytes) -> bytes:
        if len(body) > self.limits.frame:
            raise too_large("frame", self.limits.frame, f"a message of {len(body)} bytes")
        return framed(body)


class MsgpackEnvelope(Envelope):
    """Messages in MessagePack."""

    def __init__(self, limits: Limits, keys: type | None = str) -> None:
        super().__init__(limits)
        self.codec: Msgpack = Msgpack(limits.enveloped(), keys)

    def response(
        self, id: RequestId, value: Any, trace_id: str, duration: float, deprecated: str | None = None
    ) -> bytes:
        """The frame of a `capability_response`; put together by hand, because every request has one."""
        if len(trace_id) != 32 or deprecated is not None:
            return super().response(id, value, trace_id, duration, deprecated)
        encode = self.codec.encode
        if isinstance(id, int) and id < 65536:
            number = _tiny[id] if id < 128 else _byte(0xCC, id) if id < 256 else _short(0xCD, id)
        else:
            number = encode(id)
        body = b"".join(
            (
                _RESPONSE_HEAD,
                number,
                _PAYLOAD,
                encode(value),
                _CONTEXT,
                trace_id.encode(),
                _METADATA,
                _double(duration * MILLISECONDS),
            )
        )
        size = len(body)
        if size > self.limits.frame:
            return self._framed(body)
        return HEAD.pack(size) + body

    def item(self, id: RequestId, item: Any) -> bytes:
        """The frame of a `stream_item`; put together by hand, because there are many."""
        encode = self.codec.encode
        return self._framed(b"".join((_ITEM_HEAD, encode(id), _PAYLOAD, encode(item))))

    def id_in(self, frame: bytes) -> RequestId | None:
        """Looks at the outer map only, and builds nothing of its other fields."""
        limit = LONGEST_NAME
        unpacker = msgpack.Unpacker(max_buffer_size=len(frame) + 16, max_str_len=limit, max_bin_len=limit)
        try:
            unpacker.feed(frame)
            for _ in range(min(unpacker.read_map_header(), 64)):
                if unpacker.unpack() == "id":
                    found = unpacker.unpack()
                    return found if is_id(found) else None
                unpacker.skip()
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        return None


class JsonEnvelope(Envelope):
    """Messages in JSON."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.codec: Json = Json(limits.enveloped())

    def id_in(self, frame: bytes) -> RequestId | None:
        """Parses again without limits: the parser has its own, and the frame's size bounds the rest."""
        try:
            found = self.codec.parse(frame)
        except ValueError:
            return None
        id = found.get("id") if found.__class__ is dict else None
        return id if is_id(id) else None


def is_id(value: object) -> TypeGuard[RequestId]:
    """Whether a value may be the id of a request: an integer from 0, or a text of 1 to 128 bytes."""
    if isinstance(value, int):
        return 0 <= value <= LARGEST_ID and value.__class__ is int
    return isinstance(value, str) and value != "" and len(value.encode(errors="replace")) <= LONGEST_ID


def hello(features: Iterable[str], software: str) -> dict[str, Any]:
    """What a client says first."""
    return {
        "version": VERSION,
        "type": HELLO,
        "payload": {"versions": list(VERSIONS), "features": list(features), "software": software},
    }


def welcome(
    version: int, features: Iterable[str], software: str, limits: Mapping[str, int]
) -> dict[str, Any]:
    """What a node answers to `hello`."""
    return {
        "version": version,
        "type": WELCOME,
        "payload": {"features": list(features), "software": software, "limits": dict(limits)},
    }


def goodbye(error: RequestError | None = None) -> dict[str, Any]:
    """The last message of a side: it sends no requests, or takes none, any more. error: why, if it is not a plain end."""
    message: dict[str, Any] = {"type": GOODBYE}
    if error is not None:
        message["payload"] = error.as_dict()
    return message


class Greeting(NamedTuple):
    """What `hello` asks for: the version that both speak, and the features that the client knows."""

    version: int
    features: frozenset[str]
    software: str


def read_hello(message: Mapping[str, Any]) -> Greeting:
    """The greeting of a `hello`. Raises ProtocolError if it is something else or offers no version of ours."""
    kind = message.get("type")
    if kind != HELLO:
        raise ProtocolError(f"the first message has to be {HELLO}, not {_shown(kind)}", {"expected": HELLO})
    payload = message.get("payload")
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise ProtocolError(f"the payload of {HELLO} is a map, not {_kind(payload)}")
    offered = payload.get("versions")
    if offered is None:
        offered = [message.get("version")]
    if not isinstance(offered, list) or not all(one.__class__ is int for one in offered):
        raise ProtocolError(
            f"{HELLO} names the versions that it speaks as integers: versions = {list(VERSIONS)}"
        )
    shared = [one for one in offered if one in VERSIONS]
    if not shared:
        spoken = ", ".join(str(one) for one in VERSIONS)
        raise ProtocolError(
            f"this node speaks version {spoken} of the protocol, and {HELLO} offers {_list(offered)}",
            {"versions": list(VERSIONS)},
        )
    features = payload.get("features") or []
    if not isinstance(features, list) or not all(isinstance(one, str) for one in features):
        raise ProtocolError(f"{HELLO} names features as a list of texts")
    return Greeting(max(shared), frozenset(features), str(payload.get("software", ""))[:LONGEST_NAME])


def read_request(message: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None, Metadata, str | None]:
    """(capability, payload, metadata, intent) of a `capability_request`. Raises ProtocolError or ValidationFailed."""
    get = message.get
    capability = get("capability_id")
    if capability.__class__ is not str or not 0 < len(capability) <= LONGEST_NAME:
        raise ProtocolError(
            f"capability_id is a text of 1 to {LONGEST_NAME} characters, not {_shown(capability)}"
        )
    payload = get("payload")
    if payload is not None and payload.__class__ is not dict:
        fault = {"path": "", "message": "expected fields by name", "given": _kind(payload)}
        raise ValidationFailed(f"a payload is a map of fields, not {_kind(payload)}", {"faults": [fault]})
    intent = get("intent")
    if intent is not None and intent.__class__ is not str:
        raise ProtocolError(f"intent is a text, not {_kind(intent)}")
    said, context = get("metadata"), get("context")
    metadata = NO_METADATA if said is None and context is None else _metadata(said, context)
    return capability, payload, metadata, intent


def _metadata(said: Any, context: Any) -> Metadata:
    timeout = key = traceparent = credit = None
    if said is not None:
        if said.__class__ is not dict:
            raise ProtocolError(f"metadata is a map, not {_kind(said)}")
        timeout = said.get("timeout")
        if timeout is not None:
            if timeout.__class__ not in (int, float) or not 0 < timeout < 1e12:
                raise ProtocolError(
                    f"metadata.timeout is a number of milliseconds above 0, not {_shown(timeout)}"
                )
            timeout = timeout / MILLISECONDS
        key = said.get("idempotency_key")
        if key is not None and (key.__class__ is not str or not 0 < len(key) <= LONGEST_NAME):
            raise ProtocolError(f"metadata.idempotency_key is a text of 1 to {LONGEST_NAME} characters")
        credit = said.get("credit")
        if credit is not None:
            credit = _credit(credit, "metadata.credit")
    if context is not None:
        if context.__class__ is not dict:
            raise ProtocolError(f"context is a map, not {_kind(context)}")
        traceparent = context.get("traceparent")
        if traceparent.__class__ is not str or not is_traceparent(traceparent):
            traceparent = None  # W3C: what can't be read is as if it were not there
    return Metadata(timeout, key, traceparent, credit)


def wants_progress(message: Mapping[str, Any]) -> bool:
    """Whether the caller of a `capability_request` listens to its progress. Raises ProtocolError."""
    said = message.get("metadata")
    wanted = None if said is None else said.get("progress")
    if wanted is not None and wanted.__class__ is not bool:
        raise ProtocolError(f"metadata.progress is true or false, not {_shown(wanted)}")
    return wanted is True


def read_credit(message: Mapping[str, Any]) -> int:
    """How many items more a `credit` lets come. Raises ProtocolError."""
    payload = message.get("payload")
    if payload.__class__ is not dict:
        raise ProtocolError(f"the payload of {CREDIT} is a map, not {_kind(payload)}")
    return _credit(payload.get("items"), f"items of {CREDIT}")


def credit(id: RequestId, items: int) -> dict[str, Any]:
    """A caller lets so many items more come."""
    return {"type": CREDIT, "id": id, "payload": {"items": items}}


def progress(id: RequestId, told: Progress) -> dict[str, Any]:
    """How far a request is."""
    return {"type": PROGRESS, "id": id, "payload": told.as_dict()}


def _credit(given: Any, what: str) -> int:
    if given.__class__ is not int or not 0 <= given <= MOST_CREDIT:
        raise ProtocolError(f"{what} is a number of items from 0 to {MOST_CREDIT}, not {_shown(given)}")
    found: int = given
    return found


_HEX = frozenset("0123456789abcdef")


def is_traceparent(text: str) -> bool:
    """Whether a text has the form of W3C Trace Context's `traceparent`."""
    parts = text.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return False
    version, trace, span, flags = parts[:4]
    if (
        not _HEX.issuperset(version + trace + span + flags)
        or version == "ff"
        or (version == "00" and len(parts) > 4)
    ):
        return False
    return trace.strip("0") != "" and span.strip("0") != ""


def unknown_type(kind: object) -> ProtocolError:
    """The error for a message whose type has no meaning here."""
    return ProtocolError(
        f"unknown message type {_shown(kind)}; known: {', '.join(TYPES)}", {"type": _shown(kind)}
    )


def _kind(value: object) -> str:
    names = {
        dict: "a map",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    return repr(value[:60]) if isinstance(value, str) else _kind(value)


def _list(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)[:100] or "none"
