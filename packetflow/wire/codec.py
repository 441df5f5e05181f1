"""The two encodings, msgpack and JSON: bytes to plain data within limits, and any value of a capability to bytes.

What can't be carried by both is refused by both: numbers that are not finite, text that is not UTF-8.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Protocol

import msgpack

from packetflow.otp.errors import PacketFlowError
from packetflow.wire.errors import ExecutionFailed, ProtocolError, RequestError, TooLarge
from packetflow.wire.limits import Limits, inspect, too_deep, too_large

# The bytes that open a list or map in msgpack. A frame with fewer of them than the depth allows can't be too deep.
_OPENING = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in _OPENING)
# How doubles and floats that are not finite look. Text may look so too: a hit is only a reason to look closely.
_ODD_DOUBLE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]", re.DOTALL).search
_ODD_FLOAT = re.compile(rb"\xca[\x7f\xff][\x80-\xff]", re.DOTALL).search
_ODD_NUMBER = re.compile(rb"NaN|Infinity").search
_DEEPEST = 200  # where the JSON parser stops by itself


class Unencodable(PacketFlowError):
    """A value that no message can hold."""

    code = "unencodable"


def unsendable(what: str, fault: Unencodable | TooLarge) -> RequestError:
    """The error that a caller gets instead of something that no message can hold, such as `the answer of ticket.open`."""
    if isinstance(fault, TooLarge):
        return TooLarge(f"{what} is too large: {fault}", fault.details)
    return ExecutionFailed(f"{what} can't be sent: {fault}")


class Codec(Protocol):
    """An encoding. `name` is what `hello` calls it, `content_type` what HTTP calls it."""

    name: str
    content_type: str

    def encode(self, value: Any) -> bytes:
        """The bytes of a value: plain data, and whatever pydantic can serialise. Raises Unencodable."""
        ...

    def decode(self, data: bytes) -> Any:
        """Plain data. Raises ProtocolError for what is not of this encoding, TooLarge for what passes a limit."""
        ...


class Msgpack:
    """MessagePack. Of its extensions only timestamps are understood."""

    name = "msgpack"
    content_type = "application/msgpack"

    def __init__(self, limits: Limits, keys: type | None = str) -> None:
        """keys: None also takes map keys that are not text, as a trusted peer may send them."""
        self.limits = limits
        self._strict = keys is str
        # Packers that nobody uses now. One is taken for the time of an encoding: the user's own serializers may give others
        # the turn in its midst, and a packer holds the bytes of one value.
        self._packs = [msgpack.Packer(default=plain).pack]
        self._reset()

    def _reset(self) -> None:
        limits = self.limits
        self._unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=self._strict,
            timestamp=3,
            ext_hook=_no_extension,
            max_buffer_size=max(limits.frame, limits.payload) + 16,
            max_str_len=limits.string,
            max_bin_len=limits.string,
            max_array_len=limits.collection,
            max_map_len=limits.collection,
            max_ext_len=16,
        )
        self._feed, self._unpack, self._tell = self._unpacker.feed, self._unpacker.unpack, self._unpacker.tell
        self._fed = 0

    def encode(self, value: Any) -> bytes:
        """The bytes of a value. Raises Unencodable."""
        packs = self._packs
        try:
            pack = packs.pop()
        except IndexError:
            pack = msgpack.Packer(default=plain).pack
        try:
            data: bytes = pack(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unencodable(f"no message can hold it: {error}") from error
        finally:
            packs.append(pack)
        if b"\xcb" in data and _ODD_DOUBLE(data) is not None:
            _refuse_odd_numbers(msgpack.unpackb(data, strict_map_key=False))
        return data

    def decode(self, data: bytes) -> Any:
        """Plain data. Raises ProtocolError or TooLarge."""
        depth = self.limits.depth
        deep = len(data) > depth and len(data.translate(None, _NOT_OPENING)) > depth
        try:
            self._feed(data)
            value = self._unpack()
            self._fed += len(data)
            whole = self._tell() == self._fed
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            self._reset()
            raise self._refused(error) from error
        if not whole:
            self._reset()
            raise ProtocolError("there are bytes after the end of the message")
        if deep or (b"\xcb" in data and _ODD_DOUBLE(data)) or (b"\xca" in data and _ODD_FLOAT(data)):
            inspect(value, self.limits)
        return value

    def _refused(self, error: Exception) -> PacketFlowError:
        text = str(error)
        limits = self.limits
        for word, limit, allowed in (
            ("max_str_len", "string", limits.string),
            ("max_bin_len", "string", limits.string),
            ("max_array_len", "collection", limits.collection),
            ("max_map_len", "collection", limits.collection),
        ):
            if word in text:
                return too_large(limit, allowed, text.split(" exceeds")[0] + f" in a {limit}")
        if isinstance(error, msgpack.StackError):
            return too_deep(limits)
        if isinstance(error, msgpack.BufferFull):
            return too_large("frame", limits.frame, "the message is too long")
        if isinstance(error, msgpack.OutOfData):
            return ProtocolError("the message ends too early")
        if isinstance(error, UnicodeDecodeError):
            return ProtocolError("a text is not UTF-8")
        return ProtocolError(f"it is not msgpack: {text or type(error).__name__}")


class Json:
    """JSON (RFC 8259). Binary is base64 text; a map's keys are text."""

    name = "json"
    content_type = "application/json"

    def __init__(self, limits: Limits) -> None:
        # Here and not above: a client that only speaks msgpack must not pay for pydantic's import.
        from pydantic_core import PydanticSerializationError, from_json, to_json

        self.limits = limits
        self._from_json, self._to_json = from_json, to_json
        self._unserialisable = PydanticSerializationError

    def encode(self, value: Any) -> bytes:
        """The bytes of a value. Raises Unencodable."""
        try:
            data: bytes = self._to_json(value, inf_nan_mode="constants", bytes_mode="base64")
        except (self._unserialisable, ValueError, TypeError, RecursionError) as error:
            raise Unencodable(f"no message can hold it: {error}") from error
        if _ODD_NUMBER(data) is not None:
            try:
                self.parse(data)
            except ValueError as error:
                raise Unencodable("no message can hold it: a number in it is not finite") from error
        return data

    def parse(self, data: bytes) -> Any:
        """Plain data, whatever its size. Raises ValueError."""
        return self._from_json(data, allow_inf_nan=False)

    def decode(self, data: bytes) -> Any:
        """Plain data. Raises ProtocolError or TooLarge."""
        limits = self.limits
        brackets = data.count(b"[") + data.count(b"{")
        try:
            value = self.parse(data)
        except ValueError as error:
            if brackets >= _DEEPEST and "recursion" in str(error):
                raise too_deep(limits) from error
            raise ProtocolError(f"it is not JSON: {error}") from error
        size = len(data)
        many = size > limits.collection and data.count(b",") >= limits.collection
        if many or brackets > limits.depth or size > limits.string:
            inspect(value, limits)
        return value


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} has no meaning here")


def _refuse_odd_numbers(value: Any) -> None:
    """Raises Unencodable if there is a number in plain data that is not finite."""
    try:
        inspect(value, Limits(depth=1 << 30, string=1 << 40, collection=1 << 40))
    except ProtocolError as error:
        raise Unencodable(f"no message can hold it: {error}") from error


@cache
def _to_plain() -> Any:
    # Loaded when the first value needs it: a client that sends plain data starts without pydantic.
    from pydantic_core import to_jsonable_python

    return to_jsonable_python


def plain(value: Any) -> Any:
    """The plain form of a value: what pydantic makes of it for JSON. Raises TypeError if it makes nothing of it."""
    if value.__class__ is int:
        raise TypeError("an integer of more than 64 bits")
    return _to_plain()(value, inf_nan_mode="constants", bytes_mode="base64")
