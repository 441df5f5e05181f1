"""A node's watch over its hub: what keeps everybody waiting is named, and the request that does is ended."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

from gevent import Greenlet
from greenlet import getcurrent, greenlet

from packetflow.node.config.schema import TimeoutsSection
from packetflow.node.interrupts import Interrupt
from packetflow.node.system import shapes
from packetflow.otp import Blocked, Watchdog
from packetflow.otp.clock import Clock
from packetflow.telemetry.logs import CURRENT
from packetflow.wire.errors import ExecutionFailed, Timeout

if TYPE_CHECKING:
    from packetflow.capabilities.context import Context
    from packetflow.node.door import Door

SHOWN = 10  # the last times that are shown
DEPTH = 16  # how many greenlets that began one another are looked through


class Watch:
    """Looks after the hub of the thread that starts it, if it is asked to."""

    def __init__(self, door: Door, clock: Clock, timeouts: TimeoutsSection, wanted: bool | None) -> None:
        if wanted is None:
            wanted = "hub" in timeouts.model_fields_set
        self._door = door
        self._monotonic = clock.monotonic
        self._limit = timeouts.hub
        self._watchdog: Watchdog | None = None
        if wanted and timeouts.hub > 0:
            self._watchdog = Watchdog(timeouts.hub, overrun=self._end, who=self._who)

    def start(self) -> None:
        """Begins. Raises SpecError if another watchdog has this hub."""
        if self._watchdog is not None:
            self._watchdog.start()

    def stop(self) -> None:
        """Ends; a second time nothing happens."""
        if self._watchdog is not None:
            self._watchdog.stop()

    # ---- in the midst of anything, in the greenlet that holds the hub: quick, and nothing that waits -----------------------

    def _call(self) -> Context | None:
        """The request for which the running greenlet works: its own, one that runs on the loop of coroutines, or the one that
        began this greenlet."""
        in_flight = self._door.in_flight
        call: Context | None = CURRENT.get()
        if call is not None and call.door is self._door and call.greenlet in in_flight:
            return call
        holder: Any = getcurrent()
        for _ in range(DEPTH):
            holder = holder.spawning_greenlet() if isinstance(holder, Greenlet) else None
            if holder is None:
                return None
            if holder in in_flight:
                return in_flight[holder]
        return None

    def _guilty(self) -> Context | None:
        """The request whose stage at hand has taken that long itself: a greenlet may have done thousands of quick ones."""
        call = self._call()
        now = self._monotonic()
        while call is not None and now - self._since(call) < self._limit:
            outer = call.parent
            call = outer if outer is not None and outer.greenlet is call.greenlet else None
        return call

    def _since(self, call: Context) -> float:
        """When the stage at hand began; of a stream, when its item was asked for."""
        stream = self._door.streams.get(call)
        return stream.since if stream is not None and stream.open else call.stamps[-1]

    def _who(self) -> str | None:
        call = self._call()
        if call is None:
            return None
        gate = call.stage.gate
        inside = "" if gate is None else f"module {gate.name} in "
        return f"{inside}{call.capability} (trace {call.id[:8]})"

    def _end(self, holder: greenlet, frame: FrameType, seconds: float) -> BaseException | None:
        call = self._guilty()
        if call is None:
            return None
        what = f"held the hub for {seconds:.1f} s, and nobody else could go on"
        gate = call.stage.gate
        if gate is not None:
            return Interrupt(call, Timeout(f"module {gate.name} {what}"), gate, what)
        call.route.registered.last_error = what
        details = {"capability": call.capability, "type": "HandlerOverrun"}
        return Interrupt(call, ExecutionFailed(f"{call.capability} {what}", details))

    # ---- how it is seen ------------------------------------------------------------------------------------------------------

    def counts(self) -> shapes.Hub:
        """How often."""
        dog = self._watchdog
        if dog is None:
            return {"limit": None, "blocked": 0, "broken": 0}
        return {"limit": dog.limit, "blocked": dog.count, "broken": dog.broken}

    def seen(self) -> shapes.Hub:
        """How often, and the last times."""
        records = self._watchdog.blocked[-SHOWN:] if self._watchdog is not None else []
        return {**self.counts(), "last": [_shown(record) for record in records]}

    def findings(self) -> list[shapes.Finding]:
        """What to say of it where people ask whether all is well."""
        records = self._watchdog.blocked if self._watchdog is not None else []
        if not records:
            return []
        last = records[-1]
        ended = ", and was broken off" if last.broken else ""
        return [
            {
                "severity": "warning",
                "what": f"the hub was held for too long ({self.counts()['blocked']} in all), last by {last.who} "
                f"for {last.seconds:.1f} s at {last.line}{ended}",
                "next": "packetflow status",
            }
        ]


def _shown(record: Blocked) -> shapes.Held:
    found: dict[str, Any] = record.as_dict()
    return {
        "who": found["who"],
        "at": found["at"],
        "seconds": found["seconds"],
        "line": record.line,
        "stack": found["stack"],
        "over": found["over"],
        "broken": found["broken"],
    }
