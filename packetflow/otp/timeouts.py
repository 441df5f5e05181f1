"""The timeouts of calls: one queue for each class of timeout, so that a call costs no timer of its own.

A timeout is rounded up to 1, 2, 5, 10, 20, 50 ... milliseconds. All calls of a class are due in the order they were
made; one timer looks at the first. What was answered out of order is dropped once it is the larger part.

Most calls are answered before the hub has a turn, and only in the hub can one expire. So a call is just chained to the
one made before it, and the clock is read for those that are still open when the hub has its turn: a timeout may end
late by the time for which the hub had none, and never early.
"""

from __future__ import annotations

from collections import deque
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from packetflow.otp.answers import _Mark
from packetflow.otp.errors import CallTimeout, SpecError
from packetflow.otp.process import PENDING, Call, Failed

if TYPE_CHECKING:
    from packetflow.otp.clock import Seconds
    from packetflow.otp.scheduler import Scheduler

DATED: Final[Any] = _Mark("DATED")  # stands before a call that the clock was read for
_STEPS = (1, 2, 5)
_KNOWN = 1024


class TimeoutClass:
    """The calls that wait at most `seconds`, in the order in which they were made."""

    __slots__ = ("_scheduler", "armed", "dead", "pending", "seconds")

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self.seconds = seconds
        self.pending: deque[Call] = deque()
        self.armed = False
        self.dead = 0

    def enter(self, call: Call, now: float) -> None:
        """Puts in a call that began to wait `now`."""
        call.deadline = now + self.seconds
        if not self.armed:
            self.arm(self.pending[0] if self.pending else call)
        self.pending.append(call)

    def arm(self, first: Call) -> None:
        """Has the first looked at when it is due."""
        self._scheduler.timers.at(first.deadline, self._look)
        self.armed = True

    def leave(self, call: Call) -> None:
        """Takes out a call that is over."""
        pending = self.pending
        if pending and pending[-1] is call:
            pending.pop()
        elif pending and pending[0] is call:
            pending.popleft()
        else:
            self.dead += 1
            if self.dead > 64 and self.dead * 2 > len(pending):
                alive = [one for one in pending if one.value is PENDING]
                pending.clear()
                pending.extend(alive)
                self.dead = 0

    def _look(self, _: object) -> None:
        self.armed = False
        pending = self.pending
        now = self._scheduler.monotonic()
        while pending:
            first = pending[0]
            if first.value is PENDING:
                if first.deadline > now:
                    self.arm(first)
                    return
                expire(first)
            pending.popleft()
        self.dead = 0


def expire(call: Call) -> None:
    """Ends a wait because its time is over. The target does not learn of it."""
    if call.value is PENDING:
        ref = call.target.ref
        call.target.scheduler.enqueue(call)
        call.value = Failed(lambda timeout: CallTimeout(ref, timeout if timeout is not None else 0.0))


class Timeouts:
    """The calls of one scheduler that may expire: those the clock was not read for yet, and the classes of the others."""

    __slots__ = ("_classes", "_exact", "_scheduler", "by_asked", "dating", "last")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._classes: dict[float, TimeoutClass] = {}
        self._exact: dict[float, TimeoutClass] = {}
        self.by_asked: dict[float, TimeoutClass] = {}
        self.last: Call | None = None  # the call that was opened last
        self.dating = False

    def find(self, asked: Seconds) -> TimeoutClass:
        """The class for a timeout in seconds. Raises SpecError for what is none."""
        known = self.by_asked.get(asked)
        if known is not None:
            return known
        _check(asked)
        seconds = round_up(asked)
        found = self._classes.get(seconds)
        if found is None:
            found = self._classes[seconds] = TimeoutClass(self._scheduler, seconds)
        if len(self.by_asked) >= _KNOWN:
            self.by_asked.clear()
        self.by_asked[asked] = found
        return found

    def exact(self, asked: Seconds) -> TimeoutClass:
        """A class of just this timeout, for those that are few and fixed, such as the start timeouts of children."""
        found = self._exact.get(asked)
        if found is None:
            _check(asked)
            if len(self._exact) >= _KNOWN:
                self._exact.clear()
            found = self._exact[asked] = TimeoutClass(self._scheduler, asked)
        return found

    def enter(self, call: Call, timeout: Seconds) -> None:
        """Opens a call that begins to wait. Raises SpecError for a timeout that is none."""
        self.find(timeout)
        if not self.dating:
            self.date_soon()
        call.timeout = timeout
        call.before = self.last
        self.last = call

    def date_soon(self) -> None:
        """Has the clock read, in the hub's next turn, for the calls that are open then."""
        self._scheduler.hub.loop.run_callback(self._date)
        self.dating = True

    def leave(self, call: Call) -> None:
        """Takes out a call that is over, whether or not the clock was read for it."""
        if self.last is call:
            self.last = call.before
        elif call.before is DATED:
            self.find(call.timeout).leave(call)
        # Else it is among the open ones, and passed over when they are dated.

    def _date(self) -> None:
        self.dating = False
        now = self._scheduler.monotonic()
        opened = []
        call: Any = self.last
        self.last = None
        while call is not None:
            if call.value is PENDING:
                opened.append(call)
            earlier = call.before
            call.before = DATED
            call = earlier
        for call in reversed(opened):
            self.find(call.timeout).enter(call, now)

    def waiting(self) -> list[Call]:
        """The calls that may still expire."""
        found: list[Call] = []
        call: Any = self.last
        while call is not None:
            found.append(call)
            call = call.before
        for waits in (*self._classes.values(), *self._exact.values()):
            found.extend(waits.pending)
        return [call for call in found if call.value is PENDING]

    def close(self) -> None:
        """Forgets everything; nobody waits any more."""
        self._classes.clear()
        self._exact.clear()
        self.by_asked.clear()
        self.last = None


def _check(asked: object) -> None:
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not isfinite(asked) or asked < 0:
        raise SpecError("timeout", asked, "a number of seconds from 0, or None for no limit")


def round_up(seconds: float) -> float:
    """The class of a timeout: the next of 1, 2, 5, 10, 20, 50 ... milliseconds, in seconds."""
    scale = 1
    while True:
        for step in _STEPS:
            if step * scale >= seconds * 1000:
                return step * scale / 1000
        scale *= 10
