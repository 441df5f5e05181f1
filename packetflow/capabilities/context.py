"""Context: what a hook or a capability is told about the request it serves; also its trace, and its entry in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from packetflow.otp.threads import get_ident
from packetflow.security.access import Session
from packetflow.wire.errors import RequestError
from packetflow.wire.stream import Progress
from packetflow.wire.values import Metadata, Response

if TYPE_CHECKING:
    from greenlet import greenlet


class Call:
    """The record behind a Context, filled and kept by the door. One object for three uses, because it is made for every request.

    stamps is a list of clock readings: stamps[0] is the start, and each of `stages` appends one when it ends, so the number of
    stamps says where the request is, and their differences are the spans. `stages` is the route's until something out of the
    ordinary happens. `notes` says what modules did, as (index of the stage, what, detail).
    """

    __slots__ = (
        "bare",
        "deadline",
        "door",
        "error",
        "greenlet",
        "interrupt",
        "metadata",
        "notes",
        "number",
        "parent",
        "route",
        "seen",
        "session",
        "stages",
        "stamps",
    )

    door: Any
    number: int
    route: Any
    session: Session
    metadata: Metadata
    stages: tuple[Any, ...]
    stamps: list[float]
    deadline: float
    parent: Context | None
    greenlet: greenlet | None
    error: RequestError | None
    # Names of the modules that this request's children skip: those whose hooks made it (design ruling 9).
    bare: frozenset[str] | None
    # Which gates saw the request as which capability, in order, once a module has changed it.
    seen: dict[str, list[Any]] | None
    interrupt: RequestError | None
    notes: list[tuple[int, str, Any]] | None


class Context(Call):
    """What a hook or a capability is told about the request it serves. Read it; it can't be changed.

    session: who asks. deadline: when the caller stops waiting, in the node's monotonic seconds. parent: the context of
    the request that made this one, or None. metadata: what the caller said beside the payload.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a context is read-only, so {name} can't be set")

    @property
    def id(self) -> str:
        """The trace's id, 32 lower hex digits (W3C trace context)."""
        return f"{self.number:032x}"

    trace_id = id

    @property
    def principal(self) -> str:
        """Who asks."""
        return self.session.principal

    @property
    def tenant(self) -> str:
        """For whom the principal asks; empty where there are no tenants."""
        return self.session.tenant

    @property
    def capability(self) -> str:
        """The id of the capability that the request asks for now."""
        found: str = self.route.id
        return found

    @property
    def version(self) -> str:
        """The version of that capability."""
        found: str = self.route.version
        return found

    @property
    def duration(self) -> float:
        """Seconds from the request's start to the last stage that ended."""
        return self.stamps[-1] - self.stamps[0]

    @property
    def stage(self) -> Any:
        """The stage under way; the last one if all have ended."""
        place = len(self.stamps) - 1
        return self.stages[place] if place < len(self.stages) else self.stages[-1]

    @property
    def idempotency_key(self) -> str | None:
        """What tells a repetition of this request: the caller's key, or that of a run's step, which a crash may repeat.

        Hand it to whatever honours such keys, and the effect happens once.
        """
        metadata = self.metadata
        return metadata.idempotency_key or metadata.step_key

    @property
    def began(self) -> bool:
        """Whether the capability itself was entered."""
        return any(stage.kind == "run" for stage in self.stages[: len(self.stamps)])

    @property
    def required_fields(self) -> frozenset[str]:
        """The fields that the answer must have by its contract."""
        return frozenset(self.route.registered.definition.contract.provides.get("required", ()))

    @property
    def deprecated(self) -> str | None:
        """What to use instead of the capability that was asked for; None if nothing speaks against it."""
        found: str | None = getattr(self.route, "deprecated", None)  # a request that was refused has no route
        return found

    @property
    def counters(self) -> dict[str, int]:
        """The node's counters, by name."""
        found: dict[str, int] = self.door.counters
        return found

    @property
    def log(self) -> Any:
        """A structlog logger bound to the trace and the capability."""
        return self.door.log.bind(trace=self.id[:8], capability=self.capability)

    @property
    def draining(self) -> bool:
        """Whether the node is stopping: a stream without an end should come to one now."""
        return not self.door.open

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tell the caller how far this request is, if it listens: `done` of `total`, and at what.

        Only the latest counts, so it may be said as often as you like. Any thread may say it.
        """
        told = self.metadata.progress
        if told is not None:
            self.door.tell(self, told, Progress(done, total, text))

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Response:
        """Make a request on behalf of this one: its principal, its deadline at the latest, traced as its child.

        The value of a streaming capability is a Stream, which ends with this request at the latest. progress: told how far
        the request is; it must not block. From any thread. Raises RuntimeError in a coroutine: see `request_async`.
        """
        door, metadata = self.door, asking(capability, timeout, progress)
        outside = door.outside
        response: Response
        if get_ident() != outside.thread:
            response = outside.request(self, capability, payload, metadata)
        else:
            if outside.loop is not None:
                outside.check_wait()
            response = door.request(capability, payload, self.session, metadata, parent=self)
        return response

    def call(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Any:
        """Like `request`, but gives the value, or raises the error."""
        return self.request(capability, payload, timeout=timeout, progress=progress).unwrap()

    async def request_async(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Response:
        """Like `request`, for a coroutine: the others go on meanwhile. If the coroutine is cancelled, so is the request.

        The items of a stream are taken by `async for`.
        """
        metadata = asking(capability, timeout, progress)
        response: Response = await self.door.outside.awaited(self, capability, payload, metadata)
        return response

    async def call_async(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Any:
        """Like `request_async`, but gives the value, or raises the error."""
        response = await self.request_async(capability, payload, timeout=timeout, progress=progress)
        return response.unwrap()

    def behind(self) -> Context:
        """The same, for requests that go on when this one has been ended: what undoes a part of it. It has no deadline."""
        late: Context = Call()  # type: ignore[assignment]  # it becomes one below
        for name in Call.__slots__:
            setattr(late, name, getattr(self, name))
        late.deadline, late.greenlet = float("inf"), None
        late.__class__ = Context
        return late

    def __repr__(self) -> str:
        return f"<Context {self.id[:8]} {self.route.id} for {self.session.principal}>"


def asking(capability: str, timeout: float | None, progress: Callable[[Progress], None] | None) -> Metadata:
    """What code says beside the payload of a request that it makes. Raises TypeError, ValueError for what can be none."""
    if not isinstance(capability, str):
        raise TypeError(f"capability {capability!r}; expected an id, such as 'ticket.open'")
    if timeout is not None:
        if not isinstance(timeout, int | float):
            raise TypeError(f"timeout {timeout!r}; expected seconds, or None")
        if timeout != timeout:
            raise ValueError("timeout nan; expected seconds, or None")
    return Metadata(timeout, None, None, None, progress)


set_field = object.__setattr__  # how the door writes to a Context, on the ways that are seldom taken
