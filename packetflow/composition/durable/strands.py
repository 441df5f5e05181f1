"""Strands: what of a run goes on by itself. The caller's greenlet is the first; parallel, map and race begin others.

A strand waits only by what is here, so that it can be stopped wherever it is: in a request the door ends it, in a wait its
bell is rung, and between two steps it looks.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import gevent
from gevent.event import Event
from greenlet import GreenletExit, getcurrent, greenlet

from packetflow.composition.durable.outcomes import Parked
from packetflow.composition.durable.scopes import Scope
from packetflow.otp.clock import Clock
from packetflow.wire.errors import Cancelled, RequestError, Timeout

if TYPE_CHECKING:
    from packetflow.composition.durable.journal import Journal
    from packetflow.composition.engine import Engine
    from packetflow.storage.outbox import Event as Outgoing

Operation = Callable[["Strand", Scope, str], Any]

OCCURRENCE = re.compile(r"\[\d+\]|\(\d+\)")  # in a place: what the plan itself does not say
ATTEMPT = re.compile(r"\(\d+\)")  # in a place: which try it is
SHUTDOWN = 5.0  # seconds that what was stopped has for its own end, before it is killed (design ruling 20)


class Requests(Protocol):
    """How a run asks for capabilities: as whom, and on whose behalf."""

    def parameters(self, capability: str) -> tuple[tuple[str, ...], frozenset[str]]:
        """A capability's parameters, and those of them that null leaves out."""

    def ask(
        self, capability: str, payload: dict[str, Any], timeout: float | None, key: str, said: str | None
    ) -> Any:
        """The value of one request. Raises RequestError, and Stuck where the run is not allowed it (any more).

        timeout: seconds at most. key: what the other side can tell a repetition by. said: the idempotency key that the plan asks
        for.
        """

    def outgoing(self, key: str) -> Sequence[Outgoing]:
        """What the effects of the request with this key give to the outbox, to be stored with its outcome; once."""

    def cancel(self, running: greenlet, error: RequestError) -> None:
        """End the request that this greenlet is in; nothing if it is in none."""

    def close(self, error: RequestError | None) -> None:
        """The run has ended or parked: keep its trace."""


class Run:
    """One run while it is interpreted. engine: for what all runs of a node share."""

    __slots__ = (
        "_keyed",
        "draining",
        "engine",
        "gatherings",
        "id",
        "journal",
        "lingering",
        "requests",
        "retries",
        "steps",
        "undone",
    )

    def __init__(
        self, id: str, requests: Requests, engine: Engine, journal: Journal, generation: int = 0
    ) -> None:
        """generation: how often it was begun again after it had been undone; its keys are others then."""
        self.id = id
        self._keyed = f"{id}~{generation}" if generation else id
        self.requests = requests
        self.engine = engine
        self.journal = journal
        self.lingering: list[Child] = []
        self.undone: dict[
            str, set[str]
        ] = {}  # by what its key is made of: the places of a step that was undone
        self.gatherings: list[Gathering] = []
        self.steps = self.retries = 0
        self.draining = False  # the run is to park wherever it can

    @property
    def clock(self) -> Clock:
        """The node's."""
        return self.engine.clock

    def key(self, place: str) -> str:
        """The idempotency key of a step: the same whenever it is run again, by a retry too.

        Another one after it was undone: then it is to happen once more. And each undoing has its own.
        """
        if "(" not in place:
            return f"{self._keyed}/{place}"
        undone, undoes, attempt = place.partition("/compensate(")
        if undoes:
            return f"{self._keyed}/{undone}/compensate{ATTEMPT.sub('', '(' + attempt)}"
        base = ATTEMPT.sub("", place)
        again = len(self.undone.get(base, ()))
        return f"{self._keyed}/{base}~{again}" if again else f"{self._keyed}/{base}"

    def was_undone(self, place: str) -> None:
        """A step was undone, or that was tried."""
        self.undone.setdefault(ATTEMPT.sub("", place), set()).add(place)

    def fold(self, place: str, label: str, body: dict[str, Any]) -> None:
        """As `Journal.fold`; what was undone below the place is not forgotten with the rest."""
        undone = [one for places in self.undone.values() for one in places if within(one, place)]
        self.journal.fold(place, label, {**body, "undone": undone} if undone else body)

    def recall(self, body: Mapping[str, Any]) -> None:
        """What `fold` did not forget."""
        for place in body.get("undone", ()):
            self.was_undone(place)

    def wake(self, place: str) -> None:
        """What `place` waited for has come: its strand goes on, if one of the living ones had it."""
        for gathering in list(self.gatherings):
            gathering.wake(place)

    def end(self) -> None:
        """Wait for what was stopped and has not ended yet; what does not end is killed."""
        lingering, self.lingering = self.lingering, []
        if lingering:
            reap(lingering)


def reap(children: list[Child]) -> None:
    """Wait for strands that were told to stop, SHUTDOWN seconds at most, then kill them; for those that go back, to their end."""
    running = [(child.strand, child.greenlet) for child in children if child.greenlet is not None]
    try:
        gevent.joinall([greenlet for _, greenlet in running], timeout=SHUTDOWN)
    finally:
        left = [greenlet for strand, greenlet in running if not greenlet.dead and not strand.goes_back]
        if left:
            gevent.killall(left, block=False)
    gevent.joinall([greenlet for strand, greenlet in running if strand.goes_back])


class Undo(NamedTuple):
    """A finished step that says how it is undone.

    place: the step's. scope: as it was when the step had ended. attempts: how often that is tried.
    """

    place: str
    scope: dict[str, Any]
    attempts: int = 1


class Strand:
    """What runs steps one after the other. deadline: monotonic seconds, None for the run's own alone.

    attempts: how often the undoing of what is done now is tried. goes_back: it undoes, and nothing stops that.
    """

    __slots__ = ("_bell", "attempts", "deadline", "goes_back", "greenlet", "run", "stopped", "undos")

    def __init__(self, run: Run, deadline: float | None = None, attempts: int = 1) -> None:
        self.run = run
        self.attempts = attempts
        self.goes_back = False
        self.deadline = deadline
        self.stopped: BaseException | None = None
        self.greenlet: greenlet | None = None
        self.undos: list[Undo] = []
        self._bell: Event | None = None

    def mark(self) -> int:
        """How many finished steps can be compensated up to here."""
        return len(self.undos)

    def stop(self, error: BaseException) -> None:
        """Have it end with this error at the next place where it can. Parked lets the request that it is in end first."""
        if self.stopped is not None:
            return
        self.stopped = error
        if self._bell is not None:
            self._bell.set()
        elif self.greenlet is not None and not self.goes_back and not isinstance(error, Parked):
            given = error if isinstance(error, RequestError) else Cancelled("the run stops here")
            self.run.requests.cancel(self.greenlet, given)

    def check(self, draining: bool = True) -> None:
        """Raises what the strand was stopped by. draining: also that it is to park."""
        if self.stopped is not None and (draining or not isinstance(self.stopped, Parked)):
            raise self.stopped

    def limit(self, seconds: float | None) -> float | None:
        """These seconds, or those to the deadline if they are fewer."""
        left = self.left()
        return left if seconds is None or (left is not None and left < seconds) else seconds

    def left(self) -> float | None:
        """Seconds to the strand's own deadline, 0 if it is past; None if it has none."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - self.run.clock.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait. Raises what the strand was stopped by, Timeout past its deadline."""
        clock = self.run.clock.monotonic
        end = clock() + seconds
        bell = Event()
        while (left := end - clock()) > 0:
            self.wait(bell, left)

    def wait(self, bell: Event, seconds: float | None = None) -> bool:
        """Wait for the bell, or for these seconds; whether it rang. Raises as `pause`."""
        if self.stopped is not None:
            raise self.stopped
        left = self.left()
        if left is not None:
            if left <= 0:
                raise Timeout("no time is left for this step")
            seconds = left if seconds is None or left < seconds else seconds
        self._bell = bell
        try:
            rang = bell.wait(seconds)
        finally:
            self._bell = None
        if self.stopped is not None:
            raise self.stopped
        return bool(rang)


class Child:
    """One strand of a gathering. error: what it ended with, None for well."""

    __slots__ = (
        "error",
        "given",
        "greenlet",
        "index",
        "operation",
        "parked",
        "prefix",
        "root",
        "scope",
        "strand",
        "value",
        "woken",
    )

    def __init__(
        self, index: int, operation: Operation, strand: Strand, scope: Scope, prefix: str, root: str
    ) -> None:
        self.index = index
        self.root = root
        self.operation = operation
        self.strand = strand
        self.given = scope
        self.scope = scope
        self.prefix = prefix
        self.error: BaseException | None = None
        self.value: Any = None
        self.greenlet: gevent.Greenlet[..., None] | None = None
        self.parked = False
        self.woken = False

    def has(self, place: str) -> bool:
        """Whether a place lies in what this strand runs."""
        return within(place, self.root)


def within(place: str, root: str) -> bool:
    """Whether a place is this one or lies in it."""
    return place.startswith(root) and (len(place) == len(root) or not root or place[len(root)] in "/[(!")


class Gathering:
    """The strands of one node, gathered by the strand that began them. Use it in a `with`: what is left is stopped then."""

    __slots__ = ("_bell", "_deadline", "_ended", "_living", "_parked", "_strand")

    def __init__(self, strand: Strand, seconds: float | None = None) -> None:
        """seconds: how long they may take, beside the deadline of the strand."""
        self._strand = strand
        deadline = strand.deadline
        if seconds is not None:
            own = strand.run.clock.monotonic() + seconds
            deadline = own if deadline is None or own < deadline else deadline
        self._deadline = deadline
        self._bell = Event()
        self._ended: deque[Child] = deque()
        self._living: dict[int, Child] = {}
        self._parked: list[Child] = []

    def __enter__(self) -> Gathering:
        self._strand.run.gatherings.append(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._strand.run.gatherings.remove(self)
        if not self._living:
            return
        if isinstance(error, Parked):  # of a run that drains: its steps end first
            self.stop(error)
            gevent.joinall([child.greenlet for child in self._living.values() if child.greenlet is not None])
        else:
            self.stop(
                error if isinstance(error, RequestError) else Cancelled("another step made it needless")
            )

    def begin(self, index: int, operation: Operation, scope: Scope, prefix: str, root: str = "") -> None:
        """Begin a strand. root: the place of what it runs, where the run is durable."""
        strand = Strand(self._strand.run, self._deadline, self._strand.attempts)
        self._go(Child(index, operation, strand, scope, prefix, root))

    def _go(self, child: Child) -> None:
        child.parked = child.woken = False
        child.strand.undos = []  # it goes its way from the journal, with the scope that it began with
        child.scope = Scope(child.given)
        self._living[child.index] = child
        child.greenlet = gevent.spawn(self._run, child)

    def _run(self, child: Child) -> None:
        strand = child.strand
        strand.greenlet = getcurrent()
        try:
            if strand.stopped is not None:
                raise strand.stopped
            child.value = child.operation(strand, child.scope, child.prefix)
        except Parked:
            child.parked = True
        except GreenletExit:
            child.error = Cancelled("the step was killed")
        except BaseException as error:  # noqa: BLE001 - the gathering strand raises it
            child.error = error
        finally:
            strand.greenlet = child.greenlet = None
            self._living.pop(child.index, None)
            if child.parked and child.woken:
                self._go(child)  # what it waits for came while it was on its way to wait
            elif child.parked:
                self._parked.append(child)
                self._bell.set()
            else:
                self._ended.append(child)
                self._bell.set()

    def wake(self, place: str) -> None:
        """The strand that waits at this place goes on."""
        for child in self._parked:
            if child.has(place):
                self._parked.remove(child)
                self._go(child)
                return
        for child in self._living.values():
            if child.has(place):
                child.woken = True
                return

    @property
    def pending(self) -> bool:
        """Whether one is still to end."""
        return bool(self._living or self._ended or self._parked)

    @property
    def overdue(self) -> bool:
        """Whether the time for them is over."""
        return self._deadline is not None and self._strand.run.clock.monotonic() >= self._deadline

    def next(self, seconds: float | None = None) -> Child | None:
        """The next that has ended; None if none did within `seconds`.

        Raises Parked if all that are left are parked, Timeout past the deadline, and what stopped the strand.
        """
        clock = self._strand.run.clock.monotonic
        until = None if seconds is None else clock() + seconds
        while not self._ended:
            if self._parked and not self._living:
                raise Parked
            self._bell.clear()
            left = None if until is None else until - clock()
            if self._deadline is not None:
                rest = self._deadline - clock()
                if rest <= 0:
                    raise Timeout("not done in time")
                left = rest if left is None or rest < left else left
            if left is not None and left <= 0:
                return None
            self._strand.wait(self._bell, left)
        child = self._ended.popleft()
        self._take_undos(child)
        if child.error is not None and not isinstance(child.error, Exception):
            raise child.error
        return child

    def _take_undos(self, child: Child) -> None:
        self._strand.undos.extend(child.strand.undos)

    @property
    def living(self) -> int:
        """How many are under way; one that is parked is."""
        return len(self._living) + len(self._parked)

    def stop(self, error: BaseException, wait: bool = False) -> None:
        """Stop those that still run. wait: until they have ended; else the run's end waits for them."""
        left = list(self._living.values())
        for child in left:
            child.strand.stop(error)
        if wait:
            reap(left)
            while self._ended:
                self._take_undos(self._ended.popleft())
        else:
            self._strand.run.lingering.extend(left)
