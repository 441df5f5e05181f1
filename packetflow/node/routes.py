"""Routes: everything about a capability that can be known before the payload, compiled once per set of rights at a swap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from packetflow.capabilities.authorisation import Allowed, Denied, Rule
from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.context import Call, set_field
from packetflow.intelligence.chain import Hooks, ModuleChain
from packetflow.intelligence.gate import Gate
from packetflow.node.system.job_shapes import JobStarted
from packetflow.security.access import Grants
from packetflow.telemetry.masking import NOTHING, Mask
from packetflow.wire.errors import Forbidden, NotFound, Rejected, RequestError, Unavailable, ValidationFailed
from packetflow.wire.stream import Stream

NO_MODULES = ModuleChain()
SHOWN = 200  # characters that are kept of a name that nobody has
WITHOUT_END = 10 * 365 * 86_400.0  # seconds for a background capability that declares no timeout


class Stage:
    """One stage of a request's way: its name and kind in a trace, and the gate whose timeout rules there."""

    __slots__ = ("gate", "kind", "name")

    def __init__(self, name: str, kind: str, gate: Gate | None = None) -> None:
        self.name = name
        self.kind = kind
        self.gate = gate


RESOLVE = Stage("resolve", "session")
CONTRACT_IN = Stage("contract in", "contract")
CONTRACT_OUT = Stage("contract out", "contract")
EFFECTS = Stage("effects", "effects")
STREAM = Stage("stream", "stream")
# What is required before a capability runs could not be written down, so it did not run.
INTENT = Stage("intent", "intent")
CACHE = Stage("cache", "cache")
START_JOB = Stage("start job", "job")


class InJob(NamedTuple):
    """The name of a capability as its own job asks for it: no caller can write such a name."""

    name: str


STARTED: TypeAdapter[JobStarted] = TypeAdapter(JobStarted)


def nobody_keeps_jobs(registered: Registered, payload: Any, context: Any) -> JobStarted:
    """Stands where there is no node."""
    raise Unavailable("nobody keeps jobs here")


class Route:
    """What one capability is to one set of rights under one chain. A request keeps the route it began with.

    count: the requests that went the usual way; the others are counted where they leave it.
    """

    __slots__ = (
        "count",
        "deprecated",
        "effects",
        "hit_stages",
        "id",
        "invoke",
        "mask",
        "plans",
        "refusal",
        "registered",
        "requests",
        "responses",
        "retired",
        "returns",
        "rule",
        "stages",
        "timeout",
        "validate_input",
        "validate_output",
        "version",
    )

    def __init__(
        self,
        registered: Registered,
        hooks: tuple[Hooks, Hooks, Hooks],
        timeout: float,
        refusal: RequestError | None,
        rule: Rule | None = None,
        effects: Any = None,
        mask: Mask = NOTHING,
    ) -> None:
        definition = registered.definition
        contract = definition.contract
        self.registered = registered
        self.id = definition.id
        self.version = definition.version
        self.deprecated = definition.deprecated
        self.refusal = refusal
        # What must be asked of each request; None where the caller's rights and roles settle it.
        self.rule = rule
        # What nobody may read in traces.
        self.mask = mask | contract.mask
        # A RouteEffects, or None.
        self.effects = effects
        self.invoke: Callable[..., Any] = (
            registered.invoke if effects is None else effects.guarding(registered.invoke)
        )
        self.validate_input = contract.validate_input
        self.validate_output = contract.validate_output
        self.returns = contract.returns
        self.requests, self.plans, self.responses = hooks
        self.timeout = definition.timeout or timeout
        run = Stage(f"{definition.id}@{definition.version}", "run")
        self.stages = (
            RESOLVE,
            CONTRACT_IN,
            *(Stage(gate.name, "request", gate) for gate, _ in self.requests),
            run,
            CONTRACT_OUT,
            *((EFFECTS,) if effects is not None else ()),
            *(Stage(gate.name, "response", gate) for gate, _ in self.responses),
        )
        # The same where the answer comes from the capability's cache.
        self.hit_stages = None if registered.cache is None else self._hit(self.stages)
        self.count = 0
        self.retired = False

    @staticmethod
    def _hit(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(CACHE if stage.kind == "run" else stage for stage in stages)

    def served_from_cache(self, call: Call) -> None:
        """The capability need not run for this call: it stands at its cache instead."""
        usual = call.stages is self.stages
        stages = self.hit_stages if usual and self.hit_stages is not None else self._hit(call.stages)
        set_field(call, "stages", stages)


class StartRoute(Route):
    """A background capability as its callers meet it: the payload is checked and a job is started, which passes the chain.

    start: (registered, payload, context) -> what is answered.
    """

    __slots__ = ()

    def __init__(
        self,
        registered: Registered,
        start: Callable[[Registered, Any, Any], JobStarted],
        timeout: float,
        refusal: RequestError | None,
    ) -> None:
        super().__init__(registered, ((), (), ()), timeout, refusal)
        check = registered.definition.contract.validate_input

        def checked(payload: Any) -> tuple[tuple[()], Any]:
            check(payload)
            return (
                (),
                payload,
            )  # as it came: the job checks it again, and a validator that changes it must not do so twice

        self.validate_input = checked
        self.validate_output = STARTED.validator.validate_python
        self.returns = None
        self.timeout = timeout
        self.invoke = lambda payload, context: start(registered, payload, context)
        self.stages = (RESOLVE, CONTRACT_IN, START_JOB, CONTRACT_OUT)


class StreamRoute(Route):
    """What a capability is that answers a stream.

    items: the hooks that each item passes. blind: the gates of modules that would have to see the items and can't.
    """

    __slots__ = ("blind", "items")

    def __init__(
        self,
        registered: Registered,
        hooks: tuple[Hooks, Hooks, Hooks],
        timeout: float,
        refusal: RequestError | None,
        items: Hooks,
        blind: tuple[Gate, ...],
        rule: Rule | None = None,
        effects: Any = None,
        mask: Mask = NOTHING,
    ) -> None:
        super().__init__(registered, hooks, timeout, refusal, rule, effects, mask)
        if effects is not None:
            self.effects = effects.at_the_end()
        self.items = items
        self.blind = blind
        self.stages = (*self.stages, STREAM)
        self.invoke = self._open
        self.validate_output = checked_head
        self.returns = None

    def _open(self, fields: dict[str, Any], call: Any) -> Stream:
        self._refuse(call)
        if self.effects is not None:
            self.effects.begin(call, fields)
        stream: Stream = call.door.open_stream(call, self.registered.invoke(fields, call))
        return stream

    def _refuse(self, call: Any) -> None:
        """Before anything of it runs: its caller has to take a stream, and no module may be passed that has to see the items."""
        if call.parent is None and call.session.door != "local" and call.metadata.credit is None:
            fault = {"path": "", "message": "it answers a stream, and the request takes none"}
            raise ValidationFailed(
                f"{self.id} answers a stream: ask for one (packetflow stream, Client.stream)",
                {"faults": [fault], "capability": self.id, "streams": True},
            )
        for gate in self.blind:
            match = gate.match
            if match.depends_on_session and not match.session(
                call.session, self.id, self.registered.definition.tags
            ):
                continue
            raise Rejected(
                f"module {gate.name} hides parts of answers and has no handle_item to see the items of {self.id}",
                {"module": gate.name, "reason": "stream_not_seen"},
            )


def checked_head(value: Any) -> Any:
    """Contract out of a stream: its first item is checked. Raises pydantic's ValidationError."""
    if value.__class__ is not Stream:
        raise TypeError(f"expected the items of a stream, got {type(value).__name__}")
    value.making.check_head()
    return value


class Refused:
    """Stands for a route where there is none: nobody has this capability. Not remembered, so that misspellings fill no memory."""

    __slots__ = ("error",)

    def __init__(self, error: RequestError) -> None:
        self.error = error


class Nowhere:
    """Stands in a refused request's trace for the route that it did not find."""

    __slots__ = ("id", "version")

    def __init__(self, capability: str) -> None:
        self.id, _, self.version = capability[:SHOWN].partition("@")


def forbidden(capability: str, words: str, **details: str) -> Forbidden:
    """The refusal by a capability's rule: which one, and nothing of the payload."""
    return Forbidden(f"{capability} needs {words}", {"capability": capability, "rule": words, **details})


class Routes:
    """Compiles routes from the catalogue and the chain, both swapped in one assignment, and keeps the counts of retired ones."""

    def __init__(self, timeout: float, escapes: frozenset[str] = frozenset()) -> None:
        self.timeout = timeout
        # Capabilities that no module stands before when the operator asks (design ruling 7).
        self.escapes = escapes
        self.catalogue = Catalogue()
        self.chain = ModuleChain()
        # Makes what runs the effects of a capability that has some.
        self.compile_effects: Callable[[Registered], Any] | None = None
        self.mask: Mask = NOTHING
        # What a background capability answers, and who is told when a job's capability is entered.
        self.start_job: Callable[[Registered, Any, Any], JobStarted] = nobody_keeps_jobs
        self.job_entered: Callable[[Any], None] = lambda context: None
        self._grants: dict[tuple[frozenset[str], bool, frozenset[str]], Grants] = {}
        self._live: list[Route] = []

    def grants(self, patterns: Iterable[str], operator: bool = False, roles: Iterable[str] = ()) -> Grants:
        """The grants of these patterns and roles: one object for all sessions of the same rights."""
        key = (frozenset(patterns), operator, frozenset(roles))
        found = self._grants.get(key)
        if found is None:
            found = self._grants[key] = Grants(*key)
        return found

    def swap(self, *, catalogue: Catalogue | None = None, chain: ModuleChain | None = None) -> None:
        """Put a new catalogue or chain in place. Requests under way keep the routes that they began with."""
        if catalogue is not None:
            self.catalogue = catalogue
        if chain is not None:
            self.chain = chain
        for grants in self._grants.values():
            grants.routes, grants.nested = {}, {}  # new dicts, so that no request sees half
        retired, self._live = self._live, []
        for route in retired:
            route.retired = True
            self.fold(route)

    def find(
        self, grants: Grants, name: str | InJob, nested: bool, bare: frozenset[str] | None = None
    ) -> Route | Refused:
        """The route of a capability (`id`, or `id@version`) for these rights, compiled if it is asked for the first time.

        nested: for a request that another one makes. bare: the modules that it skips.
        """
        table = grants.nested if nested else grants.routes
        key = (name, bare) if bare else name
        return table.get(key) or self._compile(grants, name, nested, bare, table, key)

    def _compile(
        self,
        grants: Grants,
        given: str | InJob,
        nested: bool,
        bare: frozenset[str] | None,
        table: dict[Any, Any],
        key: object,
    ) -> Route | Refused:
        name = given.name if isinstance(given, InJob) else given
        registered = self.catalogue.find(name)
        if registered is None:
            return Refused(self.unknown(grants, name))
        definition = registered.definition
        refusal: RequestError | None = None
        if not grants.allow(definition.id):
            refusal = Forbidden(f"{definition.id} is not granted to you", {"capability": definition.id})
        rule = None if definition.authorize is None else definition.authorize.for_roles(grants.roles)
        if isinstance(rule, Denied) and refusal is None:
            refusal = forbidden(definition.id, rule.words)
        if definition.streams and isinstance(given, InJob):
            fault = {
                "path": "capability",
                "message": "it answers a stream, which needs somebody who reads it",
            }
            return Refused(ValidationFailed(f"{definition.id} can't be a job", {"faults": [fault]}))
        if definition.background and not isinstance(given, InJob):
            return self._add(StartRoute(registered, self._start_job, self.timeout, refusal), table, key)
        escapes = grants.operator and definition.id in self.escapes
        chain = NO_MODULES if escapes else self.chain
        hooks = chain.hooks(definition.id, definition.tags, nested=nested, bare=bare or ())
        effects = None
        if definition.effects and self.compile_effects is not None:
            effects = self.compile_effects(registered)
        asked = None if rule is None or isinstance(rule, Allowed | Denied) else rule
        if definition.streams:
            items, blind = chain.item_hooks(definition.id, definition.tags, nested=nested, bare=bare or ())
            route: Route = StreamRoute(
                registered, hooks, self.timeout, refusal, items, blind, asked, effects, self.mask
            )
        else:
            route = Route(registered, hooks, self.timeout, refusal, asked, effects, self.mask)
        if isinstance(given, InJob):
            self._make_job(route)
        return self._add(route, table, key)

    def _add(self, route: Route, table: dict[Any, Any], key: object) -> Route:
        table[key] = route
        self._live.append(route)
        return route

    def _start_job(self, registered: Registered, payload: Any, context: Any) -> JobStarted:
        return self.start_job(registered, payload, context)

    def _make_job(self, route: Route) -> None:
        """The route of a request that a job makes: it says when the capability is entered."""
        invoke, entered = route.invoke, self.job_entered

        def enter(fields: Any, context: Any) -> Any:
            entered(context)
            return invoke(fields, context)

        route.invoke = enter
        definition = route.registered.definition
        if definition.background and definition.timeout is None:
            route.timeout = WITHOUT_END

    def unknown(self, grants: Grants, name: str) -> NotFound:
        """The error for a capability (`id`, or `id@version`) that is not there for these rights, with what is nearest to it."""
        id, _, version = name.partition("@")
        there = [one for one in self.catalogue.versions(id) if self._may_know(grants, one)]
        versions = [registered.definition.version for registered in there]
        if versions:
            missed = (
                f"{id} has no version {version!r}" if version else f"the highest {id} is not there for you"
            )
            return NotFound(
                f"{missed}; there is {', '.join(versions)}",
                {"capability": id, "versions": versions},
            )
        nearest = self.catalogue.nearest(
            id, lambda known: any(self._may_know(grants, one) for one in self.catalogue.versions(known))
        )
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        return NotFound(f"no capability {id!r}{hint}", {"capability": id, "nearest": nearest})

    @staticmethod
    def _may_know(grants: Grants, registered: Registered) -> bool:
        definition = registered.definition
        if not grants.allow(definition.id):
            return False
        return definition.authorize is None or not isinstance(
            definition.authorize.for_roles(grants.roles), Denied
        )

    def fold(self, route: Route) -> None:
        """Move a retired route's counts to where they are kept."""
        route.registered.calls += route.count
        for gate in self._gates(route):
            gate.handled += route.count
        route.count = 0

    def totals(self) -> None:
        """Bring every count up to date, for who wants to read them."""
        for route in self._live:
            self.fold(route)

    @staticmethod
    def _gates(route: Route) -> set[Gate]:
        items = route.items if isinstance(route, StreamRoute) else ()
        return {gate for gate, _ in (*route.requests, *route.responses, *items)}
