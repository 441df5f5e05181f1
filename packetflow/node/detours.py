"""What a request meets seldom: a module answered, crashed or overran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from packetflow.capabilities.context import Context, set_field
from packetflow.capabilities.contract import faults_of
from packetflow.intelligence.answers import Continue, Intercept, Reject, Respond, Transform
from packetflow.intelligence.chain import Hooks
from packetflow.intelligence.gate import RESPONSE, Gate
from packetflow.node.deadlines import Deadlines
from packetflow.node.effects import Effects
from packetflow.node.interrupts import Interrupt, described
from packetflow.node.routes import CONTRACT_OUT, EFFECTS, Refused, Route, Routes, Stage, StreamRoute
from packetflow.node.rules import authorise
from packetflow.otp.clock import Clock
from packetflow.telemetry.changes import difference
from packetflow.wire.errors import (
    BY_CODE,
    Internal,
    Rejected,
    RequestError,
    Unavailable,
    ValidationFailed,
)
from packetflow.wire.stream import Stream
from packetflow.wire.values import Request, Response

REWRITES = 3  # how often modules may change a request's capability


class Detours(Deadlines):
    """The seldom ways of the door: answers and faults of modules, effects of what failed."""

    routes: Routes
    effects: Effects

    def __init__(self, routes: Routes, clock: Clock) -> None:
        super().__init__(clock)
        # Hints that modules may set on a request, each with who checks its value. Who registers a name here reads it.
        self.hints: dict[str, Callable[[Any], Any]] = {}
        self._interrupted: dict[Context, float] = {}

    # ---- a request hook answered --------------------------------------------------------------------------------------

    def request_hook_answered(
        self, call: Context, gate: Gate, answer: Any, request: Request, fields: dict[str, Any]
    ) -> tuple[Request, dict[str, Any], Hooks, bool, Any]:
        """What becomes of the request: (request, its fields, the hooks still to pass, whether it is answered, the value).

        Raises the RequestError that ends it.
        """
        try:
            return self._answered(call, gate, answer, request, fields)
        except BaseException:
            self.ends_here(call)
            raise

    @staticmethod
    def ends_here(call: Context) -> None:
        """Of the stages ahead none is begun any more."""
        set_field(call, "stages", call.stages[: len(call.stamps) - 1])

    def _answered(
        self, call: Context, gate: Gate, answer: Any, request: Request, fields: dict[str, Any]
    ) -> tuple[Request, dict[str, Any], Hooks, bool, Any]:
        kind = answer.__class__
        route: Route = call.route
        if kind is Continue:
            return request, fields, self._rest(call, gate), False, None
        if kind is Reject:
            gate.rejected += 1
            self.note(call, "rejected", f"{answer.reason}: {answer.message}", back=1)
            raise self.rejection(gate, answer)
        if kind is Respond:
            gate.changed += 1
            self.note(call, "responded", None, back=1)
            try:
                value = self._responded(call, route, answer.value)
            except ValidationError as failure:
                self.fault(call, gate, self.misfit(gate, failure))
                return request, fields, self._rest(call, gate), False, None
            tail = self._stages_of(self._entered(call, before=gate))
            effects = (EFFECTS,) if route.effects is not None and route.effects.every else ()
            ahead = (CONTRACT_OUT, *effects, *tail)
            set_field(call, "stages", (*call.stages[: len(call.stamps) - 1], *ahead))
            return request, fields, (), True, value
        if kind is not Intercept or not isinstance(answer.request, Request):
            self.fault(
                call, gate, TypeError(f"handle_request answered {answer!r}; expected one of its answers")
            )
            return request, fields, self._rest(call, gate), False, None
        return self._intercepted(call, gate, request, answer.request)

    def _responded(self, call: Context, route: Route, value: Any) -> Any:
        """What a module answered instead of the capability, checked; for a stream, a list of its items is expected."""
        if not isinstance(route, StreamRoute):
            return route.validate_output(value)
        check = route.registered.definition.contract.validate_output
        return self.open_stream(call, iter([check(item) for item in value]))

    def open_stream(self, call: Context, items: Iterator[Any]) -> Stream:
        """The stream of a request."""
        raise NotImplementedError

    def _intercepted(
        self, call: Context, gate: Gate, old: Request, new: Request
    ) -> tuple[Request, dict[str, Any], Hooks, bool, Any]:
        route: Route = call.route
        gate.changed += 1
        self.note(call, "changed", difference(old, new, hide=gate.redacts, mask=route.mask), back=1)
        if new.capability == route.id or new.capability == old.capability:
            hooks = self._rest(call, gate)
        else:
            route, hooks = self._rewritten(call, gate, new)
        try:
            fields = route.validate_input(dict(new.payload))[1]
        except ValidationError as failure:
            faults = faults_of(failure, route.mask)
            first = f"{faults[0]['path']} {faults[0]['message']}"
            message = f"module {gate.name} made a request that {route.id} does not take: {first}"
            raise ValidationFailed(message, {"faults": faults, "module": gate.name}) from failure
        if route.rule is not None:
            authorise(self.log, call, route, fields)
        for name in new.hints:
            if name not in self.hints:
                known = ", ".join(sorted(self.hints)) or "none on this node"
                message = f"module {gate.name} set the unknown hint {name!r}; known: {known}"
                raise ValidationFailed(message, {"hint": name, "module": gate.name})
        return new.with_capability(route.id, fields), fields, hooks, False, None

    def _rewritten(self, call: Context, gate: Gate, new: Request) -> tuple[Route, Hooks]:
        """The request became another capability: resolved and authorised anew, and shown to the modules that match it now.

        A module sees a request once per capability id (design ruling 2).
        """
        seen = call.seen
        if seen is None:
            seen = {}
            set_field(call, "seen", seen)
        here: Route = call.route
        entered = [stage.gate for stage in call.stages[: len(call.stamps) - 1] if stage.kind == "request"]
        told = sum(map(len, seen.values()))  # those entered as what the request was before
        seen.setdefault(here.id, []).extend(entered[told:])
        if len(seen) > REWRITES:
            raise Rejected(
                f"modules changed this request's capability {len(seen)} times; the last was {gate.name}",
                {"reason": "rewrite_loop", "module": gate.name, "capabilities": list(seen)},
            )
        found = self.routes.find(call.session.grants, new.capability, call.parent is not None, call.bare)
        if isinstance(found, Refused):
            error: RequestError | None = found.error
        else:
            route, error = found, found.refusal
        if error is not None:
            raise type(error)(f"module {gate.name}: {error}", {**error.details, "module": gate.name})
        had = seen.setdefault(route.id, [])
        hooks = tuple(pair for pair in route.requests if pair[0] not in had)
        passed = call.stages[: len(call.stamps) - 1]
        ahead = [stage for stage in route.stages[2:] if stage.kind in ("run", "contract", "effects")]
        before = [Stage(hooked.name, "request", hooked) for hooked, _ in hooks]
        set_field(call, "route", route)
        set_field(call, "stages", (*passed, *before, *ahead))
        back = self._entered(call, ahead=frozenset(hooked for hooked, _ in hooks))
        set_field(call, "stages", (*call.stages, *self._stages_of(back)))
        return route, hooks

    def _rest(self, call: Context, gate: Gate) -> Hooks:
        """The request hooks behind this gate's, as the stages ahead have them."""
        ahead = {stage.gate for stage in call.stages[len(call.stamps) - 1 :] if stage.kind == "request"}
        route: Route = call.route
        return tuple(pair for pair in route.requests if pair[0] in ahead)

    # ---- effects of what failed ------------------------------------------------------------------------------------------------

    def settle_failure(self, call: Context, fields: Mapping[str, Any] | None, error: RequestError) -> None:
        """Do the effects of a request that ended with an error; refusals are recorded also where none is declared."""
        effects = call.route.effects
        if effects is None or not effects.failing:
            if error.code == "forbidden" or (error.code == "rejected" and "module" in error.details):
                self.effects.refused(call, error)
            return
        ended = call.stages[: len(call.stamps)]
        if len(call.stamps) == len(ended):
            call.stamps.append(self._clock.monotonic())
        set_field(call, "stages", (*ended, EFFECTS))
        try:
            effects.failed(call, fields, error)
        except Interrupt as again:
            if again.call is not call:
                raise  # an outer request is ended too, and this one has its answer
        call.stamps.append(self._clock.monotonic())

    # ---- a hook crashed -----------------------------------------------------------------------------------------------

    def request_hook_crashed(self, call: Context, gate: Gate, crash: BaseException) -> Hooks:
        """The request hooks still to pass if the request goes on without this one. Raises what ends it."""
        gate.leave(call)
        call.stamps.append(self._clock.monotonic())
        try:
            if isinstance(crash, Interrupt) and crash.gate is not gate:
                raise crash  # a deadline or a cancel that strikes inside a hook is not the module's fault
            self.fault(call, gate, crash)
        except BaseException:
            self.ends_here(call)
            raise
        return self._rest(call, gate)

    def fault(self, call: Context, gate: Gate, crash: BaseException, back: int | None = 1) -> None:
        """Note a module's fault and tell its host. Raises the error that ends the request if `on_error` says so.

        back: where to note it, as `note` takes it; None: nowhere, nor in the log, which have had enough of it.
        """
        overran = isinstance(crash, Interrupt)
        what = crash.what if isinstance(crash, Interrupt) else described(crash)
        what = what or f"overran its {gate.timeout:g} s"
        gate.errors += 1
        gate.last_error = what
        if back is not None:
            self.note(call, "crashed", what, back=back)
        if overran:
            self.forget_interrupt(call)
        if back is not None:
            self.log.error(
                "module failed",
                module=gate.name,
                trace=call.id[:8],
                capability=call.capability,
                on_error=gate.on_error,
                error=what,
                exc_info=None if overran else crash,
            )
        if gate.on_fault is not None:
            gate.on_fault(gate, call.principal, overran)
        if gate.on_error == "fail":
            if overran:
                raise Unavailable(f"module {gate.name} {what}", {"module": gate.name})
            raise Internal(f"module {gate.name} failed", {"module": gate.name})
        if gate.on_error == "reject":
            raise Rejected(f"module {gate.name} failed", {"module": gate.name, "reason": "module_failed"})

    # ---- responses ----------------------------------------------------------------------------------------------------

    def responses_entered(self, call: Context) -> Hooks:
        """The response hooks of a request that did not go the usual way; its stages ahead are made to fit them."""
        if call.error is None:
            return self._response_hooks(
                call, [stage.gate for stage in call.stages if stage.kind == "response"]
            )
        hooks = self._entered(call)
        ended = call.stages[: len(call.stamps)]  # the stage that failed, if one was under way, ends here
        if len(call.stamps) == len(ended):
            call.stamps.append(self._clock.monotonic())
        set_field(call, "stages", (*ended, *self._stages_of(hooks)))
        return hooks

    def _entered(
        self, call: Context, before: Gate | None = None, ahead: frozenset[Gate] = frozenset()
    ) -> Hooks:
        """The response hooks of the modules that the request entered, or that have no request hook and match (design ruling 3).

        before: the module that answered for the rest; it and those behind it see no response. So does a module that ended
        the request by an error. ahead: modules that it is about to enter.
        """
        route: Route = call.route
        passed = [stage.gate for stage in call.stages[: len(call.stamps) - 1] if stage.kind == "request"]
        reached = any(stage.kind in ("run", "intent") for stage in call.stages[: len(call.stamps)])
        if before is None and call.error is not None and passed and not reached:
            before = passed[-1]
        asking = {gate for gate, _ in route.requests}
        watching = {gate for gate, _ in route.responses} - asking
        if before is not None:
            watching = {gate for gate in watching if gate.order < before.order}
        gates = (set(passed) | watching | ahead) - {before}
        order = sorted(gates, key=lambda gate: (gate.response_priority, gate.order), reverse=True)
        return self._response_hooks(call, order)

    @staticmethod
    def _response_hooks(call: Context, gates: Iterable[Gate]) -> Hooks:
        known = dict(call.route.responses)
        found = ((gate, known.get(gate) or gate.hook(RESPONSE)) for gate in gates)
        return tuple((gate, hook) for gate, hook in found if hook is not None)

    @staticmethod
    def _stages_of(hooks: Hooks) -> list[Stage]:
        return [Stage(gate.name, "response", gate) for gate, _ in hooks]

    def count_entered(self, call: Context) -> None:
        """Count a request that did not go the usual way, for each module that it really entered."""
        call.route.registered.calls += 1
        for gate in {stage.gate for stage in call.stages[: len(call.stamps) - 1] if stage.gate is not None}:
            gate.handled += 1

    def response_hook_answered(
        self, call: Context, gate: Gate, answer: Any, response: Response, hooks: Hooks
    ) -> tuple[Response, Hooks]:
        """The response after a module's answer, and the hooks still to pass."""
        rest = self._behind(gate, hooks)
        kind = answer.__class__
        if kind is Continue:
            return response, rest
        if kind is Reject:
            gate.rejected += 1
            self.note(call, "rejected", f"{answer.reason}: {answer.message}", back=1)
            return Response(None, self.rejection(gate, answer), call), rest
        changed = answer.response if kind is Transform else None
        fault: BaseException | None = None
        if not isinstance(changed, Response):
            fault = TypeError(f"handle_response answered {answer!r}; expected one of its answers")
        elif (
            changed.error is None
            and changed.value is not response.value
            and response.value.__class__ is Stream
        ):
            fault = TypeError("handle_response can't replace a stream; handle_item may change its items")
        elif response.error is not None and changed.error is None:
            fault = TypeError("handle_response made a value of an error; an error stays one")
        elif changed.error is None:
            try:
                value = call.route.validate_output(changed.value)
            except ValidationError as failure:
                fault = self.misfit(gate, failure)
            else:
                gate.changed += 1
                self.note(call, "transformed", difference(response, changed, hide=gate.redacts), back=1)
                return Response(value, None, call), rest
        else:
            gate.changed += 1
            self.note(call, "transformed", difference(response, changed, hide=gate.redacts), back=1)
            return Response(None, changed.error, call), rest
        return self._response_fault(call, gate, fault, response), rest

    def response_hook_crashed(
        self, call: Context, gate: Gate, crash: BaseException, response: Response, hooks: Hooks
    ) -> tuple[Response, Hooks]:
        """The response after a module's crash, and the hooks still to pass."""
        gate.leave(call)
        call.stamps.append(self._clock.monotonic())
        if isinstance(crash, Interrupt) and crash.gate is not gate:
            # The request is cancelled, or an outer one is: it has its answer, only nobody waits for the rest.
            if crash.call is not call:
                raise crash
            return Response(None, response.error or crash.error, call), ()
        return self._response_fault(call, gate, crash, response), self._behind(gate, hooks)

    def _response_fault(
        self, call: Context, gate: Gate, crash: BaseException, response: Response
    ) -> Response:
        try:
            self.fault(call, gate, crash)
        except RequestError as error:
            return Response(None, response.error or error, call)
        return response

    @staticmethod
    def _behind(gate: Gate, hooks: Hooks) -> Hooks:
        position = next(index for index, (passed, _) in enumerate(hooks) if passed is gate)
        return hooks[position + 1 :]

    # ---- words ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def misfit(gate: Gate, failure: ValidationError) -> TypeError:
        """A module's fault: it put something where it does not fit."""
        fault = faults_of(failure)[0]
        return TypeError(
            f"its value does not fit the contract: {fault['path'] or 'result'} {fault['message']}"
        )

    @staticmethod
    def rejection(gate: Gate, answer: Reject) -> RequestError:
        """The error that a module's refusal is to the caller."""
        details = {**answer.details, "reason": answer.reason, "module": gate.name}
        return BY_CODE[answer.code](answer.message, details, answer.retry_after)

    @staticmethod
    def note(call: Context, what: str, detail: Any, back: int = 0) -> None:
        """Write down what happened at the stage under way, or at the one that just ended (back=1)."""
        place = len(call.stamps) - 1 - back
        set_field(call, "notes", [*(call.notes or ()), (place, what, detail)])
