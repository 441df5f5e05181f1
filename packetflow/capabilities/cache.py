"""The answers that a cached capability has given on this node: bounded, per scope of authority, one run for equal requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from gevent.event import Event

from packetflow.capabilities.equality import NotComparable, identity_of
from packetflow.capabilities.options import Cache
from packetflow.capabilities.waiting import Waits
from packetflow.otp.clock import Clock

ENTRIES = 1_000  # answers that are kept where nobody says how many
ATOMS = frozenset({str, int, float, bool, bytes, type(None)})


class Flight:
    """A run under way that others wait for. by: the context of the request that makes it."""

    __slots__ = ("by", "ended", "good", "value")

    def __init__(self, by: Any) -> None:
        self.by = by
        self.ended: Event | None = None  # made by the first who waits
        self.good = False
        self.value: Any = None

    def holders(self) -> list[Any]:
        """Who has to end so that those who wait go on."""
        return [self.by]


class AnswerCache:
    """Good answers by key, each for `ttl` seconds; the least recently used goes first when there are too many.

    check: the capability's contract, so that nothing is kept that it would not let out.
    """

    def __init__(
        self,
        settings: Cache,
        check: Callable[[Any], Any],
        clock: Clock,
        waits: Waits,
        entries: int | None = None,
    ) -> None:
        self._settings = settings
        self._check = check
        self._monotonic = clock.monotonic
        self._waits = waits
        self.max_entries = settings.max_entries or entries or ENTRIES
        self._kept: OrderedDict[Any, tuple[float, Any]] = OrderedDict()
        self._flights: dict[Any, Flight] = {}
        self.hits = self.misses = self.joined = self.skipped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def wrap(
        self, run: Callable[[dict[str, Any], Any], Any], hit: Callable[[Any], None]
    ) -> Callable[..., Any]:
        """`run(fields, context)` with this cache before it. hit(context) is told where it was not run."""

        def invoke(fields: dict[str, Any], context: Any) -> Any:
            try:
                key = self._key(fields, context.session.scope_id)
            except (NotComparable, RecursionError):
                self.skipped += 1
                return run(fields, context)
            while True:
                kept = self._kept.get(key)
                if kept is not None:
                    if kept[0] > self._monotonic():
                        self.hits += 1
                        self._kept.move_to_end(key)
                        hit(context)
                        return copied(kept[1])
                    del self._kept[key]
                flight = self._flights.get(key)
                if flight is None:
                    return self._fly(key, run, fields, context)
                if not self._join(flight, context):
                    continue  # it came to nothing: this one runs now, unless another was quicker
                self.joined += 1
                hit(context)
                return copied(flight.value)

        return invoke

    def clear(self) -> None:
        """Forget all answers. What is under way is kept when it ends."""
        self._kept.clear()

    def _key(self, fields: Mapping[str, Any], scope: str) -> Any:
        settings = self._settings
        if settings.key is not None:
            told = identity_of(settings.key(MappingProxyType(fields)))
        elif settings.names is not None:
            told = tuple(identity_of(fields.get(name)) for name in settings.names)
        else:
            told = tuple((name, identity_of(value)) for name, value in fields.items())
        return ("" if settings.shared else scope), told

    def _fly(self, key: Any, run: Callable[..., Any], fields: dict[str, Any], context: Any) -> Any:
        self.misses += 1
        flight = self._flights[key] = Flight(context)
        try:
            value = self._check(run(fields, context))
            try:
                flight.value = copied(value)
            except Exception:  # noqa: BLE001  # of whatever class it is; it is a good answer all the same
                self.skipped += 1
                return value
            flight.good = True
            self._keep(key, flight.value)
            return value
        finally:
            del self._flights[key]
            if flight.ended is not None:
                flight.ended.set()

    def _join(self, flight: Flight, context: Any) -> bool:
        """Wait for another's run, at most until this request's own deadline. Whether it gave an answer."""
        if flight.ended is None:
            flight.ended = Event()
        self._waits.begin(context, flight.holders, f"the answer of {flight.by.capability} that is under way")
        try:
            flight.ended.wait()
        finally:
            self._waits.end(context)
        return flight.good

    def _keep(self, key: Any, value: Any) -> None:
        self._kept[key] = (self._monotonic() + self._settings.seconds, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self.max_entries:
            self._kept.popitem(last=False)


def copied(value: Any) -> Any:
    """A copy of an answer, so that whoever changes theirs changes nobody else's."""
    kind = type(value)
    if kind in ATOMS:
        return value
    # A flat answer is what most are, and a tenth of the cost.
    if kind is dict and ATOMS.issuperset(map(type, value.values())) and ATOMS.issuperset(map(type, value)):
        return value.copy()
    if kind is list and ATOMS.issuperset(map(type, value)):
        return value.copy()
    return deepcopy(value)
