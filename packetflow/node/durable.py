"""The durable runs in a node: the process that takes them up and wakes them, and how their steps ask at the door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from greenlet import getcurrent, greenlet

from packetflow.capabilities.context import Call, Context, set_field
from packetflow.node.routes import Stage
from packetflow.otp import GenServer, at_death, send
from packetflow.security.access import Session
from packetflow.wire.errors import Forbidden, RequestError
from packetflow.wire.values import NO_METADATA, Metadata

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking
    from packetflow.node.door import Door
    from packetflow.storage.outbox import Event
    from packetflow.storage.runs.records import RunRow

NEVER = float("inf")


class DurableRuns(GenServer):
    """Takes up what is unfinished when it starts, and wakes runs when it is time. If it is lost, the next one does.

    It does nothing on a node that has no durable run, until the first begins: "begin".
    """

    def init(self, runs: Callable[[], Waking | None]) -> None:
        """Begin, if there may be runs. One that is under way has its place in the store, whatever becomes of this process."""
        self._begun = False
        self._begin(runs())

    def handle_call(self, request: Any, caller: Any) -> bool:
        """("begin", waking): the first durable run is about to begin."""
        self._begin(request[1])
        return True

    def _begin(self, waking: Waking | None) -> None:
        if waking is None or self._begun:
            return
        self._begun = True
        runs = waking.runs
        at_death(runs.halt)
        serving = gevent.spawn(waking.serve)
        at_death(lambda: serving.kill(block=False))
        for part in (runs.begin(), serving):
            part.link_exception(lambda dead: send(self.ref, ("lost", dead.exception)))

    def handle_info(self, message: Any) -> None:
        """One of its greenlets has failed: so does it, and is started again."""
        match message:
            case ("lost", error) if isinstance(error, Exception):
                raise error


class Unserved:
    """Stands for what is served, where that is no capability but a run: it is in no catalogue, so that no change waits for it."""

    __slots__ = ("last_error",)

    def __init__(self) -> None:
        self.last_error: str | None = None


class RunRoute:
    """Stands for the route in the trace of a run."""

    __slots__ = ("id", "outgoing", "registered", "version")

    def __init__(self, row: RunRow) -> None:
        self.id, self.version = row.composition, row.version
        self.registered = Unserved()
        # What the effects of steps give to the outbox, by the number of the step's request.
        self.outgoing: dict[int, list[Event]] = {}


class StepRequests:
    """What a run's steps ask, as whoever began it, under a context of the run's own. Made in the run's greenlet."""

    def __init__(self, door: Door, row: RunRow, monotonic: Callable[[], float]) -> None:
        self._door = door
        self._monotonic = monotonic
        session = Session(row.principal, door.routes.grants(row.rights), tenant=row.tenant, door="run")
        call: Context = Call()  # type: ignore[assignment]  # it becomes one below
        self._route = RunRoute(row)
        self._outgoing: dict[str, list[Event]] = {}
        call.door, call.number, call.route = door, int(row.id, 16), self._route
        call.stages = (Stage(f"{row.composition}@{row.version}", "run"),)
        call.stamps = [monotonic()]
        call.session, call.metadata, call.parent = session, NO_METADATA, None
        call.deadline, call.greenlet = NEVER, getcurrent()
        call.bare = call.error = call.interrupt = call.notes = call.seen = None
        call.__class__ = Context
        self._context = call

    def parameters(self, capability: str) -> tuple[tuple[str, ...], frozenset[str]]:
        """See Requests."""
        from packetflow.composition.engine import parameters_of

        found = self._door.routes.catalogue.find(capability)
        return ((), frozenset()) if found is None else parameters_of(found.definition.contract.requires)

    def ask(
        self, capability: str, payload: dict[str, Any], timeout: float | None, key: str, said: str | None
    ) -> Any:
        """See Requests. A refusal by rights is not the step's failure: rights may come back (design ruling 33)."""
        from packetflow.composition.durable.outcomes import Stuck

        context = self._context
        metadata = Metadata(timeout, said, step_key=key)
        response = self._door.request(capability, payload, context.session, metadata, None, context)
        if self._route.outgoing and response.trace is not None:
            self._outgoing[key] = self._route.outgoing.pop(getattr(response.trace, "number", -1), [])
        error = response.error
        if error is None:
            return response.value
        if (
            isinstance(error, Forbidden)
            and response.trace is not None
            and not getattr(response.trace, "began", True)
        ):
            raise Stuck("forbidden", error)
        raise error

    def outgoing(self, key: str) -> Sequence[Event]:
        """See Requests."""
        return self._outgoing.pop(key, ()) if self._outgoing else ()

    def cancel(self, running: greenlet, error: RequestError) -> None:
        """See Requests."""
        call = self._door.in_flight.get(running)
        if call is None or call is self._context:
            return
        while (
            call.parent is not None and call.parent is not self._context and call.parent.greenlet is running
        ):
            call = call.parent
        self._door.interrupt(call, error)

    def close(self, error: RequestError | None) -> None:
        """See Requests."""
        context = self._context
        context.stamps.append(self._monotonic())
        set_field(context, "greenlet", None)
        set_field(context, "error", error)
        self._door.traces.add(context)


def contract_of(door: Door) -> Callable[[str], tuple[str, Any, Any] | None]:
    """What tells a capability's version and contract."""

    def contract(capability: str) -> tuple[str, Any, Any] | None:
        found = door.routes.catalogue.find(capability)
        if found is None:
            return None
        definition = found.definition
        return definition.version, definition.contract.requires, definition.contract.provides

    return contract
