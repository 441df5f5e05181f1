"""What the door does with plans: shows them to the plan hooks, and has the engine run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packetflow.capabilities.context import Context, set_field
from packetflow.intelligence.answers import Continue, Optimize, Reject
from packetflow.node.routes import Routes, Stage
from packetflow.node.streams import Streams
from packetflow.otp.clock import Clock
from packetflow.wire.errors import Unavailable, ValidationFailed
from packetflow.wire.values import Request

if TYPE_CHECKING:
    from packetflow.composition.plan import Composition

Scope = dict[str, Any]


class Plans(Streams):
    """Runs plans: a composition's own, and what a module set on a request instead of the capability alone."""

    def __init__(self, routes: Routes, clock: Clock) -> None:
        super().__init__(routes, clock)
        # Runs a plan over a scope: (plan, scope, context) -> value.
        self.engine: Callable[[Any, Scope, Context], Any] | None = None
        # What is wrong with a plan that starts with these names, in words: (plan, names) -> faults.
        self.faults_of_plan: Callable[[Any, Mapping[str, Any] | None], list[str]] = lambda plan, names: []
        # What a module changed in a plan, for the trace: (old, new) -> lines.
        self.difference_of_plans: Callable[[Any, Any], list[str] | None] = lambda old, new: None

    def run_plan(self, call: Context, request: Request) -> Any:
        """The plan that a module set on a request. Raises what ends the request."""
        faults = self.faults_of_plan(request.plan, {name: {} for name in request.payload})
        if faults:
            raise ValidationFailed(f"a module's plan can't be run: {faults[0]}", {"faults": faults})
        if call.route.effects is not None:
            call.route.effects.begin(call, request.payload)
        plan = self._shown(call, request.plan, {name: {} for name in request.payload})
        return self._engine()(plan, dict(request.payload), call)

    def run_composition(self, composition: Composition, scope: Scope, call: Context) -> Any:
        """A composition's plan, or what the plan hooks made of it. Raises what ends the request."""
        faults = self.faults_of_plan(composition, None)
        if faults:
            raise ValidationFailed(f"{composition.id} can't be run: {faults[0]}", {"faults": faults})
        plan = self._shown(call, composition, None)
        if plan is not composition and composition.needs_store:  # what a module made of it is stored as well
            plan = replace(composition, body=plan.body if hasattr(plan, "requires") else plan)
        value = self._engine()(plan, scope, call)
        if composition.provides is None:
            return value
        return {name: scope.get(name) for name in composition.provides}

    def _engine(self) -> Callable[[Any, Scope, Context], Any]:
        if self.engine is None:
            raise Unavailable("this node has no composition engine, so it can't run a plan")
        return self.engine

    def _shown(self, call: Context, plan: Any, names: Mapping[str, Any] | None) -> Any:
        """A plan, after the plan hooks have seen it. One that is made wrong by a hook is dropped, and told (design ruling 4)."""
        for gate, hook in call.route.plans:
            stages = call.stages
            place = len(call.stamps) - 1
            set_field(call, "stages", (*stages[:place], Stage(gate.name, "plan", gate), *stages[place:]))
            try:
                if gate.busy is None:
                    gate.busy = call
                else:
                    gate.enter(call)
                answer = hook(plan, call)
            except BaseException as crash:
                self.request_hook_crashed(call, gate, crash)
                continue
            gate.leave(call)
            call.stamps.append(self._clock.monotonic())
            if answer is None or answer.__class__ is Continue:
                continue
            if answer.__class__ is Reject:
                gate.rejected += 1
                self.note(call, "rejected", f"{answer.reason}: {answer.message}", back=1)
                self.ends_here(call)
                raise self.rejection(gate, answer)
            if answer.__class__ is not Optimize:
                self.fault(
                    call,
                    gate,
                    TypeError(f"handle_composition answered {answer!r}; expected one of its answers"),
                )
                continue
            faults = self.faults_of_plan(answer.plan, names)
            if faults:
                gate.errors += 1
                gate.last_error = f"its plan can't be run: {faults[0]}"
                self.note(call, "crashed", gate.last_error, back=1)
                self.log.warning(
                    "a module's plan was dropped", module=gate.name, faults=faults, trace=call.id[:8]
                )
                continue
            gate.changed += 1
            self.note(call, "optimized", self.difference_of_plans(plan, answer.plan), back=1)
            plan = answer.plan
        return plan
