"""How much a message may hold. What can be told from the bytes is refused before objects are built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from packetflow.wire.errors import ProtocolError, TooLarge

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one message, in both directions.

    frame: bytes of a whole message. payload: bytes of its payload, and of an HTTP body. depth: how deep lists and maps
    may lie in each other (a flat map is 1). string: bytes of the longest text or binary. collection: items of one list
    or map.
    """

    frame: int = MIB
    payload: int = MIB
    depth: int = 32
    string: int = 256 * 1024
    collection: int = 10_000

    def enveloped(self) -> Limits:
        """The same for a whole message, whose payload lies one level down."""
        return replace(self, depth=self.depth + 1)

    def as_dict(self) -> dict[str, int]:
        """The bounds by name, as `welcome` tells them."""
        return {
            "frame": self.frame,
            "payload": self.payload,
            "depth": self.depth,
            "string": self.string,
            "collection": self.collection,
        }


def too_large(limit: str, allowed: int, what: str) -> TooLarge:
    """The error for a passed bound: `details` has the limit's name and value."""
    return TooLarge(f"{what}: the limit is {allowed}", {"limit": limit, "allowed": allowed})


def too_deep(limits: Limits) -> TooLarge:
    """The error for lists and maps that lie too deep in each other."""
    return too_large("depth", limits.depth, "lists and maps lie too deep in each other")


def inspect(value: Any, limits: Limits) -> None:
    """Look through decoded data level by level. Raises TooLarge, or ProtocolError for a number that is not finite.

    The slow way: codecs call it only if the bytes don't already show that every bound is kept.
    """
    level: list[Any] = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for one in level:
            kind = one.__class__
            if kind is dict or kind is list:
                if depth >= limits.depth:
                    raise too_deep(limits)
                if len(one) > limits.collection:
                    raise too_large("collection", limits.collection, f"{len(one)} items in one list or map")
                if kind is dict:
                    below.extend(one)
                    below.extend(one.values())
                else:
                    below.extend(one)
            elif kind is str:
                # Characters are at least a byte and at most four: only what lies between has to be encoded.
                if len(one) * 4 > limits.string and len(one.encode()) > limits.string:
                    raise too_large("string", limits.string, "a text is too long")
            elif kind is bytes:
                if len(one) > limits.string:
                    raise too_large("string", limits.string, "a binary is too long")
            elif kind is float and not isfinite(one):
                raise ProtocolError(f"{one} is not a number that a message may hold")
        level = below
        depth += 1
