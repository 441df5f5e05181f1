"""The effects of a node: its backends by kind, and what the effects of a capability are compiled to for its routes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packetflow.capabilities.backends.audit import AuditBackend, Trail, refusal_of
from packetflow.capabilities.backends.backend import EffectBackend, Execution, RequiredBackend, Run, wrong
from packetflow.capabilities.backends.metrics import MetricBackend
from packetflow.capabilities.backends.notices import NotifyBackend
from packetflow.capabilities.backends.topics import EmitBackend
from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.context import Context, set_field
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import WHENS, Effect
from packetflow.node.interrupts import Interrupt
from packetflow.node.outgoing import event_of
from packetflow.node.routes import INTENT
from packetflow.notices.channel import Channel
from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.storage.encoding import own_codec
from packetflow.storage.outbox import Event
from packetflow.telemetry.masking import NOTHING, Mask
from packetflow.telemetry.metrics import Metrics, check_metric
from packetflow.wire.codec import Unencodable
from packetflow.wire.errors import RequestError, Unavailable

MORE_TIME = 1.0  # seconds that effects have behind one that overran the request
TO_STORE = (
    5.0  # seconds that events and notices have to be stored, where the request's own time was not enough
)
METRICS = ("counter", "gauge", "histogram")
Invoke = Callable[[dict[str, Any], Context], Any]


class NoTrail:
    """Stands for the audit trail where there is no node around the door."""

    def offer(self, record: Mapping[str, Any]) -> None:
        """Nobody keeps it."""

    def write(self, record: Mapping[str, Any], timeout: float) -> None:
        """Raises Unavailable: what is required can't be done without."""
        raise Unavailable("there is no audit trail here")


def no_outbox(events: Sequence[Event]) -> None:
    """Stands where there is no node around the door. Raises Unavailable."""
    raise Unavailable("there is no outbox here")


@dataclass(frozen=True, slots=True)
class Deferred:
    """An effect that is done after the answer, apart from the request."""

    id: str
    name: str
    run: Run
    execution: Execution


class DeferredDelivery:
    """Does deferred effects, for a channel."""

    def deliver(self, item: Deferred) -> None:
        """Raises what the backend raises."""
        item.run(item.execution)

    def where(self) -> str:
        """Not to anywhere else."""
        return "this node"


class Effects:
    """The effects of one node.

    trail: where audit records go. mask: fields that are hidden beside those that contracts mark. refusals: whether refusals
    by rights, rules and modules are recorded where the capability itself declares no audit.
    """

    def __init__(
        self,
        clock: Clock,
        log: Any,
        *,
        trail: Trail | None = None,
        mask: Mask = NOTHING,
        refusals: bool = False,
        channels: Iterable[Channel] = (),
        backends: Mapping[str, EffectBackend] | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.mask = mask
        self.channels = {channel.name: channel for channel in channels}
        self.deferred = Channel("effects", DeferredDelivery(), clock, log, attempts=1, timeout=30.0)
        # Puts events and notices into the outbox, all or none.
        self.publish: Callable[[Sequence[Event]], object] = no_outbox
        self.unfinished = 0  # outcomes of required effects that were not written
        self.log = log
        self._clock = clock
        self._trail: Trail = trail if trail is not None else NoTrail()
        self._refusals = refusals
        self._backends: dict[str, EffectBackend] = {
            "audit": AuditBackend(self._trail, clock, mask),
            "notify": NotifyBackend(event_of, lambda: self.channels.keys(), clock),
            "emit": EmitBackend(),
        }
        for kind in METRICS:
            self._backends[kind] = MetricBackend(self.metrics, kind)  # type: ignore[arg-type]  # one of the three
        for kind, backend in (backends or {}).items():
            self.register(kind, backend)

    def register(self, kind: str, backend: EffectBackend) -> None:
        """Have effects of a kind done by a backend. Raises DefinitionError for what is none, or a kind that is taken."""
        if not isinstance(backend, EffectBackend):
            raise DefinitionError(f"effects {kind!r}: {backend!r} is no backend; expected an EffectBackend")
        if kind in self._backends:
            raise DefinitionError(
                f"effects {kind!r} have a backend already; choose another word for the kind"
            )
        if backend.blocking and isinstance(backend, RequiredBackend):
            raise DefinitionError(f"effects {kind!r}: a backend can't be blocking and have required effects")
        self._backends[kind] = backend

    # ---- when capabilities are registered -----------------------------------------------------------------------------

    def check(self, definitions: Iterable[Capability]) -> None:
        """Look at the effects of all that will be served. Raises DefinitionError."""
        metrics: dict[str, tuple[object, str]] = {}
        for capability in definitions:
            for effect in capability.effects:
                self._check_effect(effect, capability)
                if effect.kind in METRICS:
                    self._check_metric(effect, capability, metrics)

    @staticmethod
    def _check_metric(effect: Effect, capability: Capability, seen: dict[str, tuple[object, str]]) -> None:
        """A name stands for one metric, whoever counts in it."""
        options, kind = effect.options, effect.kind
        shape = (kind, *check_metric(options["name"], kind, options["labels"], options.get("buckets")))  # type: ignore[arg-type]
        before, where = seen.setdefault(options["name"], (shape, capability.id))
        if before != shape:
            raise wrong(
                effect, capability, f"{where} declares this metric with another kind, labels or buckets"
            )

    def _check_effect(self, effect: Effect, capability: Capability) -> None:
        backend = self._backends.get(effect.kind)
        if backend is None:
            near = difflib.get_close_matches(effect.kind, self._backends, n=1)
            hint = f"; nearest: {near[0]}" if near else f"; there is {', '.join(sorted(self._backends))}"
            raise wrong(effect, capability, f"nothing does effects of the kind {effect.kind!r}{hint}")
        if effect.when not in WHENS:
            raise wrong(effect, capability, f"when {effect.when!r}; expected {', '.join(WHENS)}")
        if effect.required and not isinstance(backend, RequiredBackend):
            raise wrong(
                effect,
                capability,
                "it can't be required: its backend writes no intent before the capability runs",
            )
        backend.check(effect, capability)

    # ---- when a route is compiled ---------------------------------------------------------------------------------------

    def compile(self, registered: Registered) -> RouteEffects:
        """The effects of a capability, ready to be done."""
        capability = registered.definition
        mask = self.mask | capability.contract.mask
        steps = [self._step(effect, capability, mask) for effect in capability.effects]
        series = [getattr(step.run, "series", None) for step in steps]
        if all(one is not None for one in series) and all(step.plain for step in steps):
            return CountingEffects(self, steps, series)
        return RouteEffects(self, steps)

    def _step(self, effect: Effect, capability: Capability, mask: Mask) -> Step:
        backend = self._backends[effect.kind]
        run = backend.compile(effect, capability, mask)
        if backend.blocking:
            return Step(effect, self._later(effect, run))
        if effect.required and isinstance(backend, RequiredBackend):
            return RequiredStep(self, effect, backend, run)
        return Step(effect, run)

    def _later(self, effect: Effect, run: Run) -> Run:
        put = self.deferred.put
        return lambda execution: put(Deferred(execution.context.id, effect.name, run, execution))

    # ---- on a request's way -----------------------------------------------------------------------------------------------

    def refused(self, call: Context, error: RequestError) -> None:
        """Record that rights, a rule or a module refused a request of a capability that declares no audit."""
        if self._refusals:
            self._trail.offer(refusal_of(call, error, self._clock))

    def failed(self, call: Context, effect: str, failure: Exception) -> None:
        """An effect failed: noted and logged, and the answer stands."""
        place = len(call.stamps) - 1
        name = type(failure).__name__
        set_field(call, "notes", [*(call.notes or ()), (place, "crashed", f"effect {effect}: {name}")])
        self.log.error("effect failed", trace=call.id[:8], effect=effect, exc_info=failure)

    def overran(self, call: Context, effect: str, late: Interrupt) -> None:
        """A request's time was over while an effect was done: that changes no answer, and those behind it are done, in time of
        their own. Raises the interrupt of an outer request."""
        self.more_time(call, late, MORE_TIME)
        self.failed(call, effect, late.error)

    def more_time(self, call: Context, late: Interrupt, seconds: float) -> None:
        """Let effects go on for so long, though the request's time is over. Raises the interrupt of an outer request."""
        if late.call is not call:
            raise late
        call.door.forget_interrupt(call)
        set_field(call, "deadline", self._clock.monotonic() + seconds)

    def send(self, execution: Execution) -> None:
        """Put away what effects give to the outbox: with the result of a run's step, if this is (part of) one; else now."""
        call, outgoing = execution.context, execution.outgoing
        top = call
        while top.parent is not None:
            gathered = getattr(top.parent.route, "outgoing", None)
            if gathered is not None:
                storable = [event for event in outgoing if self._is_storable(call, event)]
                gathered.setdefault(top.number, []).extend(storable)
                return
            top = top.parent
        try:
            self.publish(outgoing)
        except Unencodable:
            for event in outgoing:  # the others are worth sending
                self._send_alone(call, event)
        except Exception as failure:  # noqa: BLE001 - the store's trouble changes no answer
            self.failed(call, "outbox", failure)

    def _is_storable(self, call: Context, event: Event) -> bool:
        try:
            own_codec().encode(event.payload)
        except Unencodable as failure:  # it would keep the step's result from being stored
            self.failed(call, f"of {event.topic}", failure)
            return False
        return True

    def _send_alone(self, call: Context, event: Event) -> None:
        try:
            self.publish([event])
        except Exception as failure:  # noqa: BLE001
            self.failed(call, f"of {event.topic}", failure)


class Step:
    """One effect of a route."""

    __slots__ = ("effect", "run")

    def __init__(self, effect: Effect, run: Run) -> None:
        self.effect = effect
        self.run = run

    @property
    def plain(self) -> bool:
        """Whether it is for good answers of the capability alone."""
        return self.effect.when == "success" and not self.effect.on_every_answer and not self.effect.required


class RequiredStep(Step):
    """One that writes an intent before the capability runs."""

    __slots__ = ("_backend", "_effects", "_open", "_plain_run")

    def __init__(self, effects: Effects, effect: Effect, backend: RequiredBackend, run: Run) -> None:
        super().__init__(effect, self._finish)
        self._effects = effects
        self._backend = backend
        self._plain_run = run
        self._open: dict[Context, Any] = {}

    def begin(self, execution: Execution) -> None:
        """Raises what the backend raises: then there is nothing to finish."""
        self._open[execution.context] = self._backend.begin(self.effect, execution)

    def _is_for(self, execution: Execution) -> bool:
        """Whether the declaration asks for it after this outcome, where no intent stands open."""
        effect = self.effect
        if execution.error is not None:
            return effect.when != "success"
        return effect.when != "failure" and (effect.on_every_answer or not execution.answered)

    def _finish(self, execution: Execution) -> None:
        if execution.context not in self._open:  # the capability was not reached
            if self._is_for(execution):
                self._plain_run(execution)
            return
        intent = self._open.pop(execution.context)
        try:
            self._backend.finish(self.effect, execution, intent)
        except Exception:
            self._effects.unfinished += 1
            raise


class RouteEffects:
    """The effects of a route, in the order of their declaration.

    every: whether some are also for answers that the capability did not give. failing: whether some are for errors.
    """

    __slots__ = ("_effects", "_every", "_failure", "_required", "_success", "every", "failing")

    def __init__(self, effects: Effects, steps: list[Step]) -> None:
        self._effects = effects
        # An intent has to be settled whatever comes of it, so required effects stand in all of them.
        self._success = tuple(step for step in steps if step.effect.required or step.effect.when != "failure")
        self._failure = tuple(step for step in steps if step.effect.required or step.effect.when != "success")
        self._every = tuple(
            step for step in self._success if step.effect.required or step.effect.on_every_answer
        )
        self._required = tuple(step for step in steps if isinstance(step, RequiredStep))
        self.every = bool(self._every)
        self.failing = bool(self._failure)

    def guarding(self, invoke: Invoke) -> Invoke:
        """The same with the intents before it, if there are some."""
        if not self._required:
            return invoke

        def guarded(payload: dict[str, Any], call: Context) -> Any:
            self.begin(call, payload)
            return invoke(payload, call)

        return guarded

    def begin(self, call: Context, payload: Mapping[str, Any]) -> None:
        """Write the intents. Raises Unavailable if one can't be written; then the capability counts as not begun."""
        execution = Execution(call, payload)
        for step in self._required:
            try:
                step.begin(execution)
            except BaseException as failure:
                set_field(call, "stages", (*call.stages[: len(call.stamps) - 1], INTENT))
                if not isinstance(failure, Exception):
                    raise
                self._effects.failed(call, step.effect.name, failure)
                why = str(failure) if isinstance(failure, PacketFlowError) else type(failure).__name__
                message = f"{call.capability} was not run: its {step.effect.name} is required and can't be written ({why})"
                raise Unavailable(message, {"effect": step.effect.name}, retry_after=1.0) from failure

    def succeeded(self, call: Context, payload: Mapping[str, Any], value: Any, answered: bool) -> None:
        """There is a good answer. answered: a module or a cache gave it."""
        self._run(self._every if answered else self._success, Execution(call, payload, value, None, answered))

    def failed(self, call: Context, payload: Mapping[str, Any] | None, error: RequestError) -> None:
        """There is an error."""
        self._run(self._failure, Execution(call, payload, None, error))

    def at_the_end(self) -> StreamEffects:
        """The same of a capability that answers a stream: done when the stream is over."""
        return StreamEffects(self)

    def _run(self, steps: tuple[Step, ...], execution: Execution) -> None:
        for step in steps:
            try:
                step.run(execution)
            except Exception as failure:  # noqa: BLE001 - a backend's own fault changes no answer
                self._effects.failed(execution.context, step.effect.name, failure)
            except Interrupt as late:
                if step.effect.required:
                    self._effects.unfinished += 1
                self._effects.overran(execution.context, step.effect.name, late)
        if execution.outgoing:
            try:
                self._effects.send(execution)
            except Interrupt as late:
                self._effects.more_time(execution.context, late, TO_STORE)
                try:
                    self._effects.send(
                        execution
                    )  # events keep their ids, so what was stored already is stored once
                except Interrupt as again:
                    self._effects.overran(execution.context, "outbox", again)


class CountingEffects(RouteEffects):
    """Nothing but counts of good answers."""

    __slots__ = ("_series",)

    def __init__(self, effects: Effects, steps: list[Step], series: list[Any]) -> None:
        super().__init__(effects, steps)
        self._series = series

    def succeeded(self, call: Context, payload: Mapping[str, Any], value: Any, answered: bool) -> None:
        """Count."""
        for series in self._series:
            series.value += 1


class StreamEffects:
    """The effects of a route that answers a stream: how it went is known at its end, so they are done then.

    every, failing: as of RouteEffects; a request that fails before its first item is an ordinary one.
    """

    __slots__ = ("_effects", "_open", "every", "failing")

    def __init__(self, effects: RouteEffects) -> None:
        self._effects = effects
        self._open: dict[Context, Mapping[str, Any]] = {}
        self.every, self.failing = effects.every, effects.failing

    def begin(self, call: Context, payload: Mapping[str, Any]) -> None:
        """Write the intents. Raises Unavailable."""
        self._effects.begin(call, payload)

    def succeeded(self, call: Context, payload: Mapping[str, Any], value: Any, answered: bool) -> None:
        """There is a good answer: the head of a stream, or what a module gave instead of one."""
        if answered:
            self._effects.succeeded(call, payload, value, answered)
        else:
            self._open[call] = payload

    def failed(self, call: Context, payload: Mapping[str, Any] | None, error: RequestError) -> None:
        """It failed before its first item."""
        self._effects.failed(call, payload, error)

    def ended(self, call: Context, facts: Mapping[str, Any], error: RequestError | None) -> None:
        """The stream is over. facts stand for its value: items, seconds to the first one, why it ended."""
        payload = self._open.pop(call, None)
        if error is None:
            self._effects.succeeded(call, payload or {}, dict(facts), False)
        else:
            self._effects.failed(call, payload, error)
