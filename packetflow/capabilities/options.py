"""What may be said of how a capability runs: `cache=ttl(...)` and `pool=Pool(...)`. Data only; a node makes the live things."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from packetflow.capabilities.contract import DefinitionError

LONGEST = 1e9  # seconds that an answer can be kept: some thirty years
Key = Callable[[Mapping[str, Any]], Any]


class Cache:
    """How the good answers of a capability are kept; made by `ttl`. names: the fields that make the key, if not all do."""

    __slots__ = ("key", "max_entries", "names", "seconds", "shared")

    def __init__(
        self, seconds: float, key: Key | Iterable[str] | None, max_entries: int | None, shared: bool
    ) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
            raise _wrong(f"ttl {reprlib.repr(seconds)}; expected seconds above 0")
        if max_entries is not None and (
            isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1
        ):
            raise _wrong(f"max_entries {max_entries!r} of ttl; expected a whole number from 1, or None")
        if isinstance(key, str):
            raise _wrong(
                f'key {key!r} of ttl; expected a list of field names, such as ["{key}"], or a function'
            )
        self.seconds = float(seconds)
        self.names: tuple[str, ...] | None = None
        self.key: Key | None = None
        if callable(key):
            self.key = key
        elif key is not None:
            self.names = tuple(key) if isinstance(key, Iterable) else ()
            if not self.names or not all(isinstance(name, str) for name in self.names):
                raise _wrong(
                    f"key {key!r} of ttl; expected a list of field names, or a function of the fields"
                )
        self.max_entries = max_entries
        if not isinstance(shared, bool):
            raise _wrong(f"shared {shared!r} of ttl; expected True or False")
        self.shared = shared

    def __repr__(self) -> str:
        return f"ttl({self.seconds:g})"


def ttl(
    seconds: float,
    *,
    key: Key | Iterable[str] | None = None,
    max_entries: int | None = None,
    shared: bool = False,
) -> Cache:
    """Good answers are kept for so many seconds and given again to an equal request: `@capability(..., cache=ttl(300))`.

    Requests are equal if their payloads are, and if they come from one scope of authority (tenant, principal, rights):
    nobody gets an answer that was made for somebody else. shared: the answer is public, so that all scopes have it in common.
    key: the names of the fields that the answer depends on, or a function of the fields (a mapping) that gives them or
    something made of them. max_entries: how many are kept, the least recently used go first (`limits.cache` of the node if None).
    Raises DefinitionError, with file and line, for what can't be.
    """
    return Cache(seconds, key, max_entries, shared)


class Pool:
    """How many requests of a capability run at once: `@capability(..., pool=Pool(4, queue=100))`.

    size: how many run at once. queue: how many more may wait for their turn, in order and at most until their own deadline; one
    more is `overloaded`. Capabilities that name the same object, or pools of one `name`, share it. Raises
    DefinitionError, with file and line, for what can't be.
    """

    __slots__ = ("name", "queue", "size")

    def __init__(self, size: int, queue: int = 256, *, name: str | None = None) -> None:
        for field, given, least in (("size", size, 1), ("queue", queue, 0)):
            if isinstance(given, bool) or not isinstance(given, int) or given < least:
                raise _wrong(f"{field} {given!r} of Pool; expected a whole number from {least}")
        if name is not None and (not isinstance(name, str) or not name):
            raise _wrong(f"name {name!r} of Pool; expected a word")
        self.size = size
        self.queue = queue
        self.name = name

    def __repr__(self) -> str:
        shown = f", name={self.name!r}" if self.name else ""
        return f"Pool({self.size}, queue={self.queue}{shown})"


def _wrong(text: str) -> DefinitionError:
    """The error for a wrong option, with the place where it stands: the first frame outside of this file."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return DefinitionError(f"{frame.f_code.co_filename}:{frame.f_lineno}: {text}")
