"""Deadlines, cancels and other ends that come to a request from outside: one sweeper a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from gevent import Greenlet, sleep, spawn
from gevent.hub import get_hub
from greenlet import greenlet

from packetflow.capabilities.context import Context, set_field
from packetflow.intelligence.gate import Gate
from packetflow.node.interrupts import Interrupt
from packetflow.otp.clock import Clock
from packetflow.wire.errors import RequestError, Timeout

if TYPE_CHECKING:
    from packetflow.node.open_stream import OpenStream

TICK = 0.02  # seconds between two looks at the requests that blocked
IDLE_TICKS = 50  # looks without anything in flight, after which the sweeper ends until it is needed
AGAIN = 1.0  # seconds after which an interrupt that was swallowed is raised again


class Deadlines:
    """Which requests are under way, and how they are ended from outside.

    in_flight: by the greenlet that works for them. streams: those that are open, by their request. unsettled: requests with
    something to see to at their end; empty as a rule, which is all that the others pay.
    """

    def __init__(self, clock: Clock) -> None:
        self.in_flight: dict[greenlet, Context] = {}
        self.streams: dict[Context, OpenStream] = {}
        self.unsettled: set[Context] = set()
        self.sweeping = False
        self._sweeper: Greenlet[..., None] | None = None
        self.log = structlog.get_logger("packetflow")
        self._clock = clock
        self._interrupted: dict[Context, float] = {}

    def sweep(self) -> None:
        """Start the sweeper, which ends what overruns."""
        self.sweeping = True
        self._sweeper = spawn(self._sweep)

    def end_sweeping(self) -> None:
        """Nothing is under way any more: the sweeper must not outlive its thread, which would keep all that it knows."""
        if self._sweeper is not None:
            self._sweeper.kill()
            self._sweeper = None
            self.sweeping = False

    def _sweep(self) -> None:
        idle = 0
        while idle < IDLE_TICKS:
            sleep(TICK)
            idle = 0 if self.in_flight or self.streams else idle + 1
            now = self._clock.monotonic()
            for stream in list(self.streams.values()):
                stream.look(now)
            for call in list(self.in_flight.values()):
                self._look(call, now)
        self.sweeping = False

    def _look(self, call: Context, now: float) -> None:
        up: Context | None = call
        while (
            up is not None
        ):  # an inner request's deadline is never later than an outer one's, but a hook's limit may be earlier
            if up.interrupt is not None:
                if now - self._interrupted.get(up, now) > AGAIN:
                    self.interrupt(up, up.interrupt)  # swallowed: once more
                return
            stages, position = up.stages, len(up.stamps) - 1
            stage = stages[position] if position < len(stages) else None
            gate = stage.gate if stage is not None else None
            if gate is not None and now > up.stamps[-1] + gate.timeout and not gate.is_waiting(up):
                self.interrupt(up, Timeout(f"module {gate.name} took too long"), gate)
                return
            in_response = stage is not None and stage.kind == "response"
            if now > up.deadline and not in_response:
                if up in self.streams and self.streams[up].open:
                    self.interrupt(up, self.streams[up].overdue(now))
                    return
                limit = up.deadline - up.stamps[0]
                where = stage.name if stage is not None else up.capability
                self.interrupt(
                    up, Timeout(f"{up.capability}: no answer within {limit:.3g} s; it was at {where}")
                )
                return
            up = up.parent if up.parent is not None and up.parent.greenlet is up.greenlet else None

    def interrupt(self, call: Context, error: RequestError, gate: Gate | None = None) -> None:
        """End a request from outside: thrown by the hub, when everybody is switched out."""
        set_field(call, "interrupt", error)
        self._interrupted[call] = self._clock.monotonic()
        self.unsettled.add(call)
        get_hub().loop.run_callback(self._throw, call, error, gate)

    def forget_interrupt(self, call: Context) -> None:
        """What was thrown has done its work."""
        set_field(call, "interrupt", None)
        self._interrupted.pop(call, None)

    def _throw(self, call: Context, error: RequestError, gate: Gate | None) -> None:
        waiting = call.greenlet
        current = self.in_flight.get(waiting) if waiting is not None else None
        inside = current
        while inside is not None and inside is not call:
            inside = inside.parent
        if inside is None or waiting is None:
            self._interrupted.pop(call, None)  # it ended meanwhile
            return
        if gate is not None and call.stage.gate is not gate:
            # The hook that overran ended meanwhile, and what comes after it is not at fault.
            self.forget_interrupt(call)
            return
        waiting.throw(Interrupt(call, error, gate))
