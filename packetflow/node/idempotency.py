"""Idempotency keys: two requests of one caller with one key are one, and the second gets the first one's answer.

The answers are kept by `packetflow.storage.idempotency`, on disk where the node has a folder; what is under way, here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from gevent.event import Event
from pydantic_core import to_json

from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.storage.encoding import own_codec
from packetflow.storage.idempotency import IdempotencyKeys, Kept, MemoryKeys, Place
from packetflow.wire.codec import Unencodable
from packetflow.wire.errors import Conflict, RequestError, Timeout, error_from_dict
from packetflow.wire.values import Elsewhere, Response

LONGEST_KEY = 256
KEPT_HERE = 20_000  # answers that can't be kept elsewhere; the oldest go first


class _First:
    """The first request of a key. response: there is one when it has ended, and stays here if it can't be kept elsewhere."""

    __slots__ = ("digest", "ended", "response")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.response: Response | None = None
        self.ended: Event | None = None

    def answer(self) -> Response | None:
        """The response, as it is by now."""
        return self.response


class Idempotency:
    """The keys that a node remembers, each within the scope of authority that used it. keys: where answers are kept."""

    def __init__(self, clock: Clock, keys: Callable[[], IdempotencyKeys] | None = None) -> None:
        self._clock = clock
        memory = MemoryKeys(clock)
        self._keys = keys or (lambda: memory)
        self._codec = own_codec()
        self._first: dict[Place, _First] = {}
        self._kept_here: OrderedDict[Place, None] = OrderedDict()
        self.log = structlog.get_logger("packetflow")

    def once(
        self,
        key: str,
        capability: str,
        payload: Mapping[str, Any] | None,
        session: Session,
        timeout: float,
        run: Callable[[], Response],
        revive: Callable[[Any], Any] = lambda value: value,
    ) -> Response:
        """The answer of the first request with this key, or of `run()` if this is the first.

        Another payload under the same key is a `conflict`. One that is still under way is waited for, `timeout` seconds
        at most. An answer that never began (refused, rejected, invalid) is not kept. Where answers can't be kept now, nothing
        is run: `unavailable`. revive: makes of a value that was kept as plain data what the capability gives.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            return Response(
                None,
                Conflict(f"an idempotency key has 1 to {LONGEST_KEY} characters, given {len(key)}"),
                None,
            )
        digest = hashlib.sha256(to_json(payload or {}, fallback=repr)).digest()
        place = Place(session.scope_id, capability, key)
        deadline = self._clock.monotonic() + timeout
        while (first := self._first.get(place)) is not None:
            if first.digest != digest:
                return _another_payload(key)
            if (answer := first.answer()) is not None:
                return answer
            if first.ended is None:
                first.ended = Event()
            if not first.ended.wait(max(0.0, deadline - self._clock.monotonic())):
                return Response(
                    None, Timeout(f"the first request with the key {key!r} is still under way"), None
                )
            if (answer := first.answer()) is not None:
                return answer  # else it never began, or was never run: this one may be the first now
        return self._begin(place, digest, run, revive)

    def _begin(
        self, place: Place, digest: bytes, run: Callable[[], Response], revive: Callable[[Any], Any]
    ) -> Response:
        first = self._first[place] = _First(digest)
        stays = False
        try:
            keys = self._keys()
            kept = keys.find(place)
            if kept is not None:
                if kept.digest != digest:
                    return _another_payload(place.key)
                first.response = self._revived(kept, revive)
                return first.response
            keys.check()
            response = run()
            if response.ok or (response.trace is not None and response.trace.began):
                first.response = response
                stays = (
                    True  # until it is kept elsewhere: whoever is ended meanwhile must not have it run again
                )
                stays = not self._keep(keys, place, digest, response)
            return response
        except RequestError as error:  # of the place where answers are kept; `run` raises none
            return Response(None, error, None)
        finally:
            if stays:
                self._stay(place)
            else:
                del self._first[place]
            if first.ended is not None:
                first.ended.set()

    def _keep(self, keys: IdempotencyKeys, place: Place, digest: bytes, response: Response) -> bool:
        """Whether an answer could be kept where it belongs."""
        trace = response.trace
        outcome: dict[str, Any] = {
            "trace": None if trace is None else trace.id,
            "duration": 0.0 if trace is None else trace.duration,
        }
        if response.error is None:
            outcome["value"] = response.value
        else:
            outcome["error"] = response.error.as_dict()
        try:
            keys.keep(place, Kept(digest, self._codec.encode(outcome)))
        except (Unencodable, RequestError) as error:
            self.log.warning(
                "an answer with an idempotency key is kept in memory only",
                capability=place.capability,
                why=str(error),
            )
            return False
        return True

    def _revived(self, kept: Kept, revive: Callable[[Any], Any]) -> Response:
        outcome = self._codec.decode(kept.answer)
        trace = None if outcome["trace"] is None else Elsewhere(outcome["trace"], outcome["duration"])
        if "error" in outcome:
            return Response(None, error_from_dict(outcome["error"]), trace)
        return Response(revive(outcome["value"]), None, trace)

    def _stay(self, place: Place) -> None:
        self._kept_here[place] = None
        while len(self._kept_here) > KEPT_HERE:
            oldest, _ = self._kept_here.popitem(last=False)
            del self._first[oldest]


def _another_payload(key: str) -> Response:
    error = Conflict(f"the idempotency key {key!r} was used with another payload", {"idempotency_key": key})
    return Response(None, error, None)
