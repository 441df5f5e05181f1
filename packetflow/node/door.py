"""The one door: every request, whichever way it came, passes here. One response each, always: a value or a typed error.

The usual way is written out in `Door.request`: resolve, authorise, contract in, request hooks, run, contract out,
effects, response hooks. Everything seldom (a module answered, crashed, is awaited) goes to `detours.py`. Nothing is armed
until something blocks: the sweeper only meets requests that gave the hub a turn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet
from pydantic import ValidationError

from packetflow.capabilities.context import Call, Context, set_field
from packetflow.capabilities.contract import faults_of
from packetflow.capabilities.elsewhere import type_name_of
from packetflow.node.admission import Admission
from packetflow.node.effects import Effects
from packetflow.node.idempotency import Idempotency
from packetflow.node.interrupts import Interrupt, described
from packetflow.node.open_stream import FOREIGN
from packetflow.node.outside_requests import OutsideRequests
from packetflow.node.plans import Plans
from packetflow.node.routes import RESOLVE, InJob, Nowhere, Refused, Route, Routes
from packetflow.node.rules import authorise
from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.telemetry.logs import CURRENT
from packetflow.telemetry.traces import Traces
from packetflow.wire.errors import (
    Cancelled,
    ContractViolated,
    ExecutionFailed,
    RequestError,
    Unavailable,
    ValidationFailed,
)
from packetflow.wire.values import NO_METADATA, Metadata, Response, make_request

JOB = "job"  # the door of a request that a job makes; jobs have a limit of their own


class Door(Plans):
    """Passes requests. limit: how many may be in flight at once on the node; queue: how many more may wait for room."""

    def __init__(
        self,
        routes: Routes,
        clock: Clock,
        traces: Traces,
        *,
        limit: int = 1024,
        queue: int = 256,
        effects: Effects | None = None,
    ) -> None:
        super().__init__(routes, clock)
        self.routes = routes
        self.traces = traces
        self.admission = Admission(limit, queue, self.in_flight)
        self.counters: dict[str, int] = {}
        self.idempotency = Idempotency(clock)
        self.effects = effects if effects is not None else Effects(clock, self.log)
        routes.compile_effects, routes.mask = self.effects.compile, self.effects.mask
        # Capability patterns and roles of who comes by a door, and of the operator.
        self.local: tuple[str, ...] = ("*",)
        self.operators: tuple[str, ...] = ("*", "system.*")
        self.local_roles: tuple[str, ...] = ()
        self.operator_roles: tuple[str, ...] = ()
        self.refused = 0
        self.open = True
        self.outside = OutsideRequests(self)
        self._monotonic = clock.monotonic
        chance = getattr(get_hub().loop, "chance", random.Random)  # a simulated loop has its own, by the seed
        self._number = chance().getrandbits
        self._keep = traces.add

    def request(
        self,
        capability: str | InJob,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata = NO_METADATA,
        intent: str | None = None,
        parent: Context | None = None,
    ) -> Response:
        """Pass one request, in the calling greenlet. Never raises for the request's own failure: see `Response.error`."""
        if metadata.idempotency_key is not None:
            return self._once(capability, payload, session, metadata, intent, parent)
        clock = self._monotonic
        start = clock()
        bare = None
        grants = session.grants
        if parent is None:
            found: Any = grants.routes.get(capability)
            if found is None or not self.open:
                found = self._first(capability, session)
        else:
            found = grants.nested.get(capability)
            if found is None or parent.bare is not None or parent.stage.gate is not None:
                bare = self._hook_stack(parent)
                found = self.routes.find(grants, capability, True, bare)
        if found.__class__ is Refused:
            return self._refuse(found, capability, session, metadata, start, parent)
        route: Route = found
        stamps = [start, clock()]
        stamp = stamps.append
        me = getcurrent()
        call: Context = Call()  # type: ignore[assignment]  # it becomes one below
        call.door = self
        call.number = self._number(128)
        call.route = route
        call.stages = route.stages
        call.session = session
        call.metadata = metadata
        call.stamps = stamps
        timeout = metadata.timeout
        limit = start + (route.timeout if timeout is None or timeout > route.timeout else timeout)
        call.deadline = limit if parent is None or limit < parent.deadline else parent.deadline
        call.parent = parent
        call.bare = None if parent is None else bare
        call.greenlet = me
        call.error = call.interrupt = call.notes = call.seen = None
        call.__class__ = Context
        in_flight = self.in_flight
        outer = in_flight.get(me)
        admission = self.admission
        if (
            outer is None
            and parent is None
            and admission.full()
            and not (session.operator or session.door == JOB)
        ):
            no_room = admission.wait(call.deadline - clock())
            if no_room is not None:
                return self._not_admitted(call, no_room)
        in_flight[me] = call
        if not self.sweeping:
            self.sweep()
        token = CURRENT.set(call)
        error: RequestError | None = route.refusal
        value: Any = None
        fields: Any = None
        settled = False  # whether the effects have been done
        foreign: BaseException | None = None
        responses = route.responses
        try:
            try:
                if error is not None:
                    raise error
                if payload.__class__ is not dict:
                    payload = self._mapping(route, payload)
                fields = route.validate_input(payload)[1]
                if route.rule is not None:
                    authorise(self.log, call, route, fields)
                stamp(clock())
                answered = False
                plan: object | None = None
                if route.requests:
                    request = make_request(route.id, fields, intent, metadata=metadata)
                    hooks = route.requests
                    while True:  # passes once; again only after a module crashed or answered something
                        try:
                            for gate, hook in hooks:
                                if gate.busy is None:
                                    gate.busy = call
                                else:
                                    gate.enter(call)
                                answer = hook(request, call)
                                if gate.busy is call and gate.queue is None:
                                    gate.busy = None
                                else:
                                    gate.leave(call)
                                stamp(clock())
                                if answer is not None:
                                    break
                            else:
                                break
                        except BaseException as crash:
                            hooks = self.request_hook_crashed(call, gate, crash)
                        else:
                            request, fields, hooks, answered, value = self.request_hook_answered(
                                call, gate, answer, request, fields
                            )
                            plan = request.plan
                            if answered:
                                break
                    if call.route is not route:
                        route = call.route
                if not answered:
                    value = route.invoke(fields, call) if plan is None else self.run_plan(call, request)
                    stamp(clock())
                if value.__class__ is not route.returns:
                    value = route.validate_output(value)
                stamp(clock())
                effects = route.effects
                if effects is not None:
                    # What a module or a cache answered is for the effects that are for every answer.
                    answered = answered or (call.stages is not route.stages and not call.began)
                    if effects.every or not answered:
                        settled = True
                        effects.succeeded(call, fields, value, answered)
                        stamp(clock())
                if call.stages is not route.stages:
                    responses = self.responses_entered(call)
            except Exception as failure:
                error = self._failed(call, route, failure)
            except Interrupt as interrupt:
                error = interrupt.error
                if interrupt.call is not call:
                    foreign = interrupt  # an outer request of this greenlet is meant: end this one on the way
            except BaseException as failure:
                error = self.crashed(call, failure)
                if session.door == "local" and parent is None and isinstance(failure, FOREIGN):
                    foreign = failure
            if error is not None:
                value = None
                set_field(call, "error", error)
                if not settled:
                    self.settle_failure(call, fields, error)
                responses = self.responses_entered(call)
            response = Response(value, error, call)
            if responses:
                hooks = responses
                while True:
                    try:
                        for gate, hook in hooks:
                            if gate.busy is None:
                                gate.busy = call
                            else:
                                gate.enter(call)
                            answer = hook(response, call)
                            if gate.busy is call and gate.queue is None:
                                gate.busy = None
                            else:
                                gate.leave(call)
                            stamp(clock())
                            if answer is not None:
                                break
                        else:
                            break
                    except BaseException as crash:
                        response, hooks = self.response_hook_crashed(call, gate, crash, response, responses)
                    else:
                        response, hooks = self.response_hook_answered(call, gate, answer, response, responses)
        finally:
            CURRENT.reset(token)
            if outer is None:
                del in_flight[me]
                if admission.waiting:
                    admission.leave()
            else:
                in_flight[me] = outer
        # A greenlet keeps its outcome, and the trace would keep the greenlet.
        set_field(call, "greenlet", None)
        if self.unsettled:
            self.settle(call, response)
        error = response.error
        if error is not None:
            # It is kept with its trace, and a refusal even with its route: the frames that it passed, payload and all, are not.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            set_field(call, "error", error)
            call.route.registered.errors += 1
        self._keep(call)
        if call.stages is route.stages and error is None and call.notes is None:
            route.count += 1
            if route.retired:
                self.routes.fold(route)
        elif call.stages is route.hit_stages and error is None and call.notes is None:
            self.count_entered(call)
        else:
            self.traces.add_notable(call)
            self.count_entered(call)
        if foreign is not None:
            raise foreign
        return response

    def new_id(self) -> str:
        """128 random bits in lower hex; in a simulation the seed's."""
        return f"{self._number(128):032x}"

    # ---- what does not go the usual way -------------------------------------------------------------------------------

    def _once(
        self,
        capability: str | InJob,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata,
        intent: str | None,
        parent: Context | None,
    ) -> Response:
        """A request with an idempotency key: run if it is the first with it."""
        assert isinstance(capability, str), "a job's own request has no key"
        key = metadata.idempotency_key or ""
        timeout = self.routes.timeout if metadata.timeout is None else metadata.timeout
        found = self.routes.catalogue.find(capability)
        if found is not None and found.definition.streams:
            fault = {"path": "", "message": "a stream can't be kept, so it takes no idempotency key"}
            return Response(
                None, ValidationFailed(f"{capability} answers a stream", {"faults": [fault]}), None
            )
        if parent is not None:
            timeout = max(0.0, min(timeout, parent.deadline - self._monotonic()))
        bare = Metadata(metadata.timeout, None, metadata.traceparent, None, metadata.progress, key)

        def revive(value: Any) -> Any:
            route = self.routes.find(session.grants, capability, parent is not None)
            if isinstance(route, Route):
                try:
                    return route.validate_output(value)
                except ValidationError:  # a module had made something else of it
                    pass
            return value

        return self.idempotency.once(
            key,
            capability,
            payload,
            session,
            timeout,
            lambda: self.request(capability, payload, session, bare, intent, parent),
            revive,
        )

    def _first(self, capability: str | InJob, session: Session) -> Route | Refused:
        """The route of an outermost request that has none yet, or while the node drains."""
        if not self.open and not session.operator:
            return Refused(Unavailable("the node is stopping", retry_after=1.0))
        return self.routes.find(session.grants, capability, False)

    @staticmethod
    def _hook_stack(parent: Context) -> frozenset[str] | None:
        """The modules whose hooks made this request, which it skips."""
        gate = parent.stage.gate
        if gate is None or parent.greenlet is None:  # it has ended, so none of its hooks is running
            return parent.bare
        return (parent.bare or frozenset()) | {gate.name}

    @staticmethod
    def _mapping(route: Route, payload: Any) -> dict[str, Any]:
        if payload is None:
            return {}
        if isinstance(payload, Mapping):
            return dict(payload)
        fault = {
            "path": "",
            "message": "expected fields by name",
            "given": type(payload).__name__,
            "kind": "dict_type",
        }
        raise ValidationFailed(
            f"{route.id}: expected fields by name, got {type(payload).__name__}", {"faults": [fault]}
        )

    def _refuse(
        self,
        refused: Refused,
        capability: str | InJob,
        session: Session,
        metadata: Metadata,
        start: float,
        parent: Context | None,
    ) -> Response:
        self.refused += 1
        call: Context = Call()  # type: ignore[assignment]
        call.door, call.number, call.route = (
            self,
            self._number(128),
            Nowhere(capability if isinstance(capability, str) else capability.name),
        )
        call.stages, call.stamps = (RESOLVE,), [start, self._monotonic()]
        call.session, call.metadata, call.parent = session, metadata, parent
        call.deadline, call.greenlet, call.error = start, None, refused.error
        call.bare = call.interrupt = call.notes = call.seen = None
        call.__class__ = Context
        self._keep(call)
        self.traces.add_notable(call)
        return Response(None, refused.error, call)

    def _not_admitted(self, call: Context, error: RequestError) -> Response:
        set_field(call, "error", error)
        set_field(call, "greenlet", None)
        self.refused += 1
        self._keep(call)
        self.traces.add_notable(call)
        return Response(None, error, call)

    def _failed(self, call: Context, route: Route, failure: Exception) -> RequestError:
        """The typed error for what a request ended with."""
        if isinstance(failure, RequestError):
            if call.stage.kind == "run":
                route = call.route
                route.registered.last_error = f"{failure.code}: {failure}"
            return failure
        if isinstance(failure, ValidationError):
            kind = call.stage
            if kind.name == "contract in":
                return self.invalid_input(call.route, failure)
            if kind.name == "contract out":
                return self.contract_violated(call, failure)
        return self.crashed(call, failure)

    @staticmethod
    def invalid_input(route: Route, failure: ValidationError) -> ValidationFailed:
        """`validation_failed`, with a path and the reason of each fault."""
        faults = faults_of(failure, route.mask)
        first = f"{faults[0]['path']} {faults[0]['message']}" if faults[0]["path"] else faults[0]["message"]
        count = failure.error_count()
        more = f" (and {count - 1} more)" if count > 1 else ""
        return ValidationFailed(f"{route.id}: {first}{more}", {"faults": faults})

    def contract_violated(self, call: Context, failure: ValidationError) -> ContractViolated:
        """The error for what a capability answered and had not promised; its log has the places."""
        route: Route = call.route
        # The paths go to the log, where the capability's author looks; nothing of the value goes to the caller.
        places = [f"{fault['path'] or 'result'} {fault['message']}" for fault in faults_of(failure)]
        route.registered.last_error = f"contract_violated: {places[0]}"
        self.log.error(
            "contract violated", trace=call.id[:8], capability=route.id, version=route.version, faults=places
        )
        return ContractViolated(
            f"{route.id} answered what its contract does not allow", {"capability": route.id}
        )

    def crashed(self, call: Context, failure: BaseException) -> ExecutionFailed:
        """The typed error for what an author's code raised; its log has the rest."""
        route: Route = call.route
        name = type_name_of(failure)
        route.registered.last_error = described(failure)
        self.log.error(
            "capability failed",
            trace=call.id[:8],
            capability=route.id,
            version=route.version,
            exc_info=failure,
        )
        return ExecutionFailed(f"{route.id} failed: {name}", {"capability": route.id, "type": name})

    def admit(self, access: Any) -> None:
        """Take on the `[access]` section of a configuration, for sessions that are opened from now on."""
        self.local, self.local_roles = access.local, access.local_roles
        self.operators, self.operator_roles = access.operator, access.operator_roles

    def open_session(self, door: str, peer: str, operator: bool = False) -> Session:
        """A session for a connection. There is no authentication yet: a door that is open lets everybody in."""
        if operator:
            grants = self.routes.grants(self.operators, True, self.operator_roles)
            return Session("operator", grants, door=door, peer=peer)
        return Session(
            "anonymous", self.routes.grants(self.local, False, self.local_roles), door=door, peer=peer
        )

    def active(self) -> Iterator[Context]:
        """Every request under way, the outer ones of nested ones too, and the streams that nobody reads at this moment."""
        for stream in list(self.streams.values()):
            if stream.is_idle:
                yield stream.call
        for call in list(self.in_flight.values()):
            yield call
            while call.parent is not None and call.parent.greenlet is call.greenlet:
                call = call.parent
                yield call

    # ---- ending requests ----------------------------------------------------------------------------------------------

    def cancel(self, waiting: greenlet, reason: RequestError | None = None) -> bool:
        """End the requests that this greenlet is running, from the outermost on. False if there is none."""
        error = reason or Cancelled("cancelled by the caller")
        call = self.in_flight.get(waiting)
        if call is None:
            return self.admission.cancel(waiting, error)
        while call.parent is not None and call.parent.greenlet is waiting:
            call = call.parent
        stream = self.streams.get(call)
        if isinstance(call.interrupt, Cancelled) or (stream is not None and stream.ended):
            return True  # it is being ended, and a second blow would strike its cleanup
        self.interrupt(call, error)
        return True
