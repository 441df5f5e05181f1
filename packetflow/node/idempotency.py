"""Idempotency keys: two requests of one caller with one key are one, and the second gets the first one's answer.

Kept in memory: a restart of the node forgets them (`system.status` tells the boot by `started`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from gevent.event import Event
from pydantic_core import to_json

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.wire.errors import Conflict, Timeout
from packetflow.wire.values import Response

KEPT_SECONDS = 24 * 3600.0
KEPT = 20_000  # answers; the oldest go first
LONGEST_KEY = 256


class _First:
    """The first request of a key: under way until `response` is there."""

    __slots__ = ("digest", "ended", "response", "since")

    def __init__(self, digest: bytes, since: float) -> None:
        self.digest = digest
        self.since = since
        self.response: Response | None = None
        self.ended: Event | None = None


class Idempotency:
    """The keys that a node remembers, each within the scope of authority that used it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: OrderedDict[tuple[str, str, str], _First] = OrderedDict()

    def once(
        self,
        key: str,
        capability: str,
        payload: Mapping[str, Any] | None,
        session: Session,
        timeout: float,
        run: Callable[[], Response],
    ) -> Response:
        """The answer of the first request with this key, or of `run()` if this is the first.

        Another payload under the same key is a `conflict`. One that is still under way is waited for, `timeout` seconds
        at most. An answer that never began (refused, rejected, invalid) is not kept.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            return Response(
                None,
                Conflict(f"an idempotency key has 1 to {LONGEST_KEY} characters, given {len(key)}"),
                None,
            )
        digest = hashlib.sha256(to_json(payload or {}, fallback=repr)).digest()
        place = (session.scope_id, capability, key)
        first = self._known(place)
        if first is None:
            return self._run(place, digest, run)
        if first.digest != digest:
            error = Conflict(
                f"the idempotency key {key!r} was used with another payload", {"idempotency_key": key}
            )
            return Response(None, error, None)
        if first.response is None:
            if first.ended is None:
                first.ended = Event()
            if not first.ended.wait(timeout):
                return Response(
                    None, Timeout(f"the first request with the key {key!r} is still under way"), None
                )
            if first.response is None:  # it never began, so this one is the first now
                return self.once(key, capability, payload, session, timeout, run)
        return first.response

    def _known(self, place: tuple[str, str, str]) -> _First | None:
        oldest = self._clock.monotonic() - KEPT_SECONDS
        while self._first:
            first = next(iter(self._first.values()))
            if first.response is None or (first.since >= oldest and len(self._first) <= KEPT):
                break
            self._first.popitem(last=False)
        return self._first.get(place)

    def _run(self, place: tuple[str, str, str], digest: bytes, run: Callable[[], Response]) -> Response:
        first = self._first[place] = _First(digest, self._clock.monotonic())
        try:
            response = run()
            if response.ok or (response.trace is not None and response.trace.began):
                first.response = response
            return response
        finally:
            if first.response is None:
                self._first.pop(place, None)
            if first.ended is not None:
                first.ended.set()
