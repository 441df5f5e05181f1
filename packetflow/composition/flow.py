"""One strand of a run, what it has done that can be undone, and how that is undone.

What is undone runs in a greenlet of its own with time of its own: neither the deadline of the request nor its cancellation cuts
a compensation short. Who waits for it may be ended meanwhile; what is undone after that waits for it in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

import gevent

from packetflow.capabilities.context import Context, set_field
from packetflow.wire.errors import RequestError
from packetflow.wire.values import Metadata

if TYPE_CHECKING:
    from packetflow.composition.engine import Engine

Scope: TypeAlias = dict[str, Any]
UNDO_PAUSE = 0.1  # seconds before a compensation is tried again; twice as long each time, at most UNDO_MOST
UNDO_MOST = 30.0
NOT_UNDONE = "not_undone"  # in an error's details: the steps that were done and could not be undone


class Flow:
    """One strand of a run. context: of the request that it belongs to. done: what would have to be undone. attempts: how often a
    compensation of what is done now is tried. undoing: the greenlets that undo, of this strand and those that it gathered."""

    __slots__ = ("attempts", "context", "done", "engine", "undoing")

    def __init__(self, engine: Engine, context: Context, attempts: int = 1) -> None:
        self.engine = engine
        self.context = context
        self.attempts = attempts
        self.done: list[Undo] = []
        self.undoing: Sequence[gevent.Greenlet[..., Any]] = ()

    def fork(self) -> Flow:
        """A strand of its own, for what runs beside others."""
        return Flow(self.engine, self.context, self.attempts)

    def take(self, other: Flow) -> None:
        """What a strand has done is this one's from now on."""
        if other.done:
            self.done.extend(other.done)
            other.done = []
        if other.undoing:
            self.undoing = (*self.undoing, *other.undoing)
            other.undoing = ()

    def ask(
        self, capability: str, payload: Mapping[str, Any], timeout: float | None, key: str | None = None
    ) -> Any:
        """One request. key: its idempotency key. Raises its RequestError."""
        if key is not None:
            context = self.context
            metadata = Metadata(timeout, key)
            return context.door.request(
                capability, payload, context.session, metadata, parent=context
            ).unwrap()
        return self.context.request(capability, payload, timeout=timeout).unwrap()


Run: TypeAlias = Callable[[Scope, Flow], Any]


class Behind(Flow):
    """Asks as a part of the same request, and goes on when that has been ended."""

    __slots__ = ("_late",)

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.engine, flow.context)
        self._late = flow.context.behind()

    def ask(
        self, capability: str, payload: Mapping[str, Any], timeout: float | None, key: str | None = None
    ) -> Any:
        """One request. Raises its RequestError."""
        late = self._late
        metadata = Metadata(timeout, key)
        response = late.door.request(capability, payload, late.session, metadata, parent=late)
        if key is None:
            set_field(response.trace, "parent", self.context)  # whose trace shows it
        return response.unwrap()


class Undo:
    """A step that was done and says how it is undone. scope: as it was then. attempts: how often that is tried."""

    __slots__ = ("attempts", "label", "run", "scope")

    def __init__(self, label: str, run: Run, scope: Scope, attempts: int) -> None:
        self.label = label
        self.run = run
        self.scope = scope
        self.attempts = attempts


def undo(flow: Flow, mark: int, error: BaseException, wait: bool = True) -> None:
    """Undoes what was done since the mark, the last first. What can't be undone is told loudly: in the log, and in the error.

    wait: until it is over; not for an error that ends the request from outside, which has no time left.
    """
    done = flow.done[mark:]
    del flow.done[mark:]
    if not done:
        return
    before = [one for one in flow.undoing if not one.dead]
    worker = gevent.spawn(copy_context().run, _undo_all, Behind(flow), done, before)
    flow.undoing = (*before, worker)
    flow.engine.undoing.add(worker)
    worker.link(flow.engine.undoing.discard)
    if not wait or not isinstance(error, Exception):
        return
    failed = worker.get()
    if failed and isinstance(error, RequestError):
        error.details = {**error.details, NOT_UNDONE: [*error.details.get(NOT_UNDONE, ()), *failed]}


def may_go_on(flow: Flow, mark: int, error: RequestError) -> bool:
    """Undoes what an attempt that failed has done. False if something could not be: to do it once more would do it twice."""
    undo(flow, mark, error)
    return NOT_UNDONE not in error.details


def _undo_all(flow: Flow, done: list[Undo], before: list[gevent.Greenlet[..., Any]]) -> list[str]:
    gevent.joinall(before)
    return [one.label for one in reversed(done) if not _undone(flow, one)]


def _undone(flow: Flow, one: Undo) -> bool:
    pause = UNDO_PAUSE
    for attempt in range(1, one.attempts + 1):
        try:
            one.run(one.scope, flow)
        except RequestError as error:
            if attempt == one.attempts:
                flow.engine.log.error(
                    "compensation failed",
                    step=one.label,
                    attempts=attempt,
                    error=str(error),
                    trace=flow.context.id[:8],
                )
                return False
        else:
            return True
        gevent.sleep(pause)
        pause = min(pause * 2, UNDO_MOST)
    raise AssertionError("a compensation has at least one attempt")
