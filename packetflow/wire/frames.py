"""Frames: four bytes of length (big-endian, unsigned), then that many bytes of message."""

from __future__ import annotations

import struct
from collections import deque

from packetflow.wire.errors import TooLarge
from packetflow.wire.limits import too_large

HEAD = struct.Struct(">I")
HEAD_SIZE = 4


def framed(body: bytes) -> bytes:
    """One frame around `body`."""
    return HEAD.pack(len(body)) + body


class FrameCutter:
    """Cuts a stream of bytes into frames, in pieces of any size.

    limit: bytes of the largest frame. A frame that announces more is refused at its head: nothing of it is kept.
    """

    __slots__ = ("_head", "_kept", "_missing", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._head = b""  # 0 to 3 bytes of a length
        self._kept = bytearray()  # the beginning of a frame
        self._missing = 0  # bytes until `_kept` is a whole frame

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and its end has not come."""
        return self._missing > 0 or bool(self._head)

    def feed(self, data: bytes, into: deque[bytes]) -> None:
        """Append every frame that `data` completes. Raises TooLarge at a frame above the limit; those before it are in `into`.

        After TooLarge the stream can't be cut any further.
        """
        at, end = 0, len(data)
        if self._missing:
            if end < self._missing:
                self._kept += data
                self._missing -= end
                return
            at = self._missing
            self._kept += data[:at]
            into.append(bytes(self._kept))
            self._kept = bytearray()
            self._missing = 0
        elif self._head:
            data = self._head + data
            end = len(data)
            self._head = b""
        unpack, limit, append = HEAD.unpack_from, self.limit, into.append
        while end - at >= HEAD_SIZE:
            size: int = unpack(data, at)[0]
            at += HEAD_SIZE
            if size > limit:
                raise self._refused(size)
            stop = at + size
            if stop > end:
                self._kept = bytearray(data[at:])
                self._missing = stop - end
                return
            append(data[at:stop])
            at = stop
        self._head = data[at:]

    def _refused(self, size: int) -> TooLarge:
        return too_large("frame", self.limit, f"a frame of {size} bytes was announced")
