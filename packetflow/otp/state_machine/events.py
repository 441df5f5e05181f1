"""What waits for a state machine: within one message the events that follow from it, between two of them the timeouts
that run and the events that were put off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from greenlet import getcurrent

from packetflow.otp import turn
from packetflow.otp.answers import UNSET
from packetflow.otp.process import DEAD, GONE, PENDING, Call, Failed, Job, Process
from packetflow.otp.state_machine.actions import CANCEL, UPDATE, Timeout

if TYPE_CHECKING:
    from packetflow.otp.state_machine.machine import StateMachine
    from packetflow.otp.timers import Timer

Event: TypeAlias = tuple[Any, Any, Any]  # kind, content, and the context variables it comes with

_FAIR = 64  # events between two looks whether the hub is due


class Expiry(Job):
    """A timeout that runs, and then its event in the mailbox. message is the content."""

    __slots__ = ("kind", "timer")

    def __init__(self, process: Process, kind: Any, content: Any) -> None:
        super().__init__(None, process, content, None, None)
        self.kind = kind
        self.timer: Timer | None = None

    def start(self, due: float) -> None:
        """Has the event come at `due` (monotonic seconds). It dies with the process."""
        self.timer = self.target.scheduler.timers.at(due, deliver, self)

    def cancel(self) -> None:
        """Stops it; an event that is in the mailbox already is passed over."""
        self.value = GONE
        if self.timer is not None:
            self.timer.cancel()

    def perform(self, process: Process) -> Any:
        """The event, unless it was cancelled after it had been taken from the mailbox."""
        if self.value is PENDING:
            return process.server.expired(self)  # type: ignore[attr-defined]
        return None

    def failed(self, process: Process, error: BaseException) -> bool:
        """What a state's callback raises is a crash."""
        return False


def deliver(expiry: Expiry) -> None:
    """The time is over: the event goes to the end of the mailbox, as any other."""
    expiry.target.scheduler.deliver(expiry.target, expiry)


class Postponed(list[Event]):
    """The events that were put off, in the order in which they came.

    Those of callers that are gone would stay for ever in a state that does not change: they are sorted out whenever the
    list has doubled.
    """

    __slots__ = ("limit",)

    def __init__(self) -> None:
        super().__init__()
        self.limit = 32

    def put(self, process: Process, event: Event) -> None:
        """Puts one off."""
        self.append(event)
        if len(self) >= self.limit:
            self[:] = [event for event in self if not is_gone(process, event[0])]
            self.limit = max(32, 2 * len(self))


def is_gone(process: Process, kind: Any) -> bool:
    """Whether the event is a call whose caller has given up. One that got its answer already is none."""
    if kind.__class__ is not Call or kind.value is PENDING:
        return False
    if kind.value is not GONE and kind.value.__class__ is not Failed:
        return False
    if process.bonds is not None:
        process.bonds.owed.discard(kind)
    return True


class EventQueue:
    """One message and all the events that follow from it; no other message comes before it is over."""

    __slots__ = ("_count", "_held", "_item", "_worker", "_zeros", "process", "queue")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.queue: list[Event] = []  # the last is the next
        self._worker = getcurrent()
        self._item = process.current
        self._held = UNSET
        # Timeouts of 0 seconds, with content and context: they come when the queue is empty.
        self._zeros: dict[Any, tuple[Any, Any]] | None = None
        self._count = 0

    def is_over(self) -> bool:
        """Whether the process died meanwhile."""
        return self.process.current is DEAD

    # ---- the answer to the call that came --------------------------------------------------------------------------------

    def hold(self, caller: Call, value: Any) -> bool:
        """Keeps an answer back that can go straight to the caller at the end. Returns False for another call's."""
        if caller is not self._item:
            return False
        if self._held is UNSET:
            self._held = value
        return True

    def release(self) -> None:
        """Sends the answer that is held now: what comes next may take its time."""
        if self._held is not UNSET:
            turn.answer(self._item, self._held)
            self._held = UNSET

    def answer(self) -> Any:
        """What is held to the end; UNSET if nothing is."""
        return self._held

    # ---- the next event --------------------------------------------------------------------------------------------------

    @property
    def context(self) -> Any:
        """The context variables of the event at hand, with which go those that follow from it."""
        return self._worker.gr_context

    def next(self) -> tuple[Any, Any] | None:
        """The next event that comes before any message, in its context; None if there is none. A caller that is gone
        has none."""
        queue = self.queue
        while queue:
            kind, content, context = queue.pop()
            if not is_gone(self.process, kind):
                break
        else:
            if not self._zeros:
                return None
            kind = next(iter(self._zeros))
            content, context = self._zeros.pop(kind)
        self.release()
        self._worker.gr_context = context
        self._count += 1
        if self._count % _FAIR == 0:
            scheduler = self.process.scheduler
            scheduler.budget -= _FAIR
            scheduler.mind_the_hub()
        return kind, content

    # ---- timeouts --------------------------------------------------------------------------------------------------------

    def start(self, machine: StateMachine, timeout: Timeout) -> None:
        """Begins, cancels or updates a timeout."""
        kind, seconds = timeout.kind, timeout.seconds
        timers = machine._timers
        if seconds is UPDATE:
            running = None if timers is None else timers.get(kind)
            if running is not None:
                running.message = timeout.content
            else:
                self._at_once(kind, timeout.content)
            return
        self.cancel(machine, kind)
        if seconds is CANCEL:
            return
        if seconds == 0 and not timeout.absolute:
            self._at_once(kind, timeout.content)
            return
        if timers is None:
            timers = machine._timers = self.process.bond().timeouts = {}
        expiry = timers[kind] = Expiry(self.process, kind, timeout.content)
        expiry.start(seconds if timeout.absolute else self.process.scheduler.monotonic() + seconds)

    def cancel(self, machine: StateMachine, kind: Any) -> None:
        """Stops a timeout, if it runs or is about to come."""
        if self._zeros:
            self._zeros.pop(kind, None)
        if machine._timers is not None:
            running = machine._timers.pop(kind, None)
            if running is not None:
                running.cancel()

    def _at_once(self, kind: Any, content: Any) -> None:
        if self._zeros is None:
            self._zeros = {}
        self._zeros[kind] = (content, self.context)
