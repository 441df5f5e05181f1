"""The compositions of a node: its engine, made when the first plan is run, and what is wrong with a plan on this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gevent

from packetflow.capabilities.catalogue import Catalogue
from packetflow.capabilities.context import Context
from packetflow.node.routes import Routes
from packetflow.node.system import shapes
from packetflow.node.view import nearest
from packetflow.otp.clock import Clock
from packetflow.wire.errors import NotFound, Unavailable, ValidationFailed
from packetflow.wire.values import Metadata

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking
    from packetflow.composition.engine import Engine
    from packetflow.composition.nodes import Node as PlanNode
    from packetflow.composition.plan import Composition
    from packetflow.node.door import Door
    from packetflow.storage.database import Database
    from packetflow.storage.outbox import Event

KEPT = 256  # plans of which is remembered whether they are durable


class BegunRun:
    """Told which durable run a request began, by the request's metadata. It does not wait for it."""

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id: str | None = None


class Compositions:
    """Runs and checks plans. What it needs is loaded when there is a plan: a node without one pays nothing."""

    def __init__(self, routes: Routes, clock: Clock, log: Any, door: Door) -> None:
        self.door = door
        self._routes = routes
        self._clock = clock
        self._log = log
        self._engine: Engine | None = None
        self._checked: dict[int, tuple[Any, list[str]]] = {}
        self._catalogue: Catalogue | None = None
        self._durable: dict[int, tuple[Any, bool]] = {}
        self._waking: Waking | None = None
        # The database of runs, and what has the process of the runs begin with them. Set by the node.
        self.database: Callable[[], Database] | None = None
        self.begin_runs: Callable[[], object] = _nobody
        self.kept = 30 * 86_400.0  # seconds that a run is kept after its end
        # Told of events that were put into the outbox together with what a step came to.
        self.published: Callable[[Sequence[Event]], object] = lambda events: None

    @property
    def engine(self) -> Engine:
        """The engine, made when it is first needed."""
        if self._engine is None:
            from packetflow.composition.engine import Engine

            self._engine = Engine(self._clock, self._log)
        return self._engine

    def run(self, plan: Any, scope: dict[str, Any], context: Context) -> Any:
        """Runs a plan over a scope, which it fills. Raises the RequestError that ended it."""
        known = self._durable.get(id(plan))
        if known is None:
            known = (plan, _needs_store(plan))
            while len(self._durable) >= KEPT:
                del self._durable[next(iter(self._durable))]
            self._durable[id(plan)] = known
        if known[1] or context.metadata.run is not None:
            return self._run_durably(plan, scope, context)
        engine = self._engine
        if engine is None:
            engine = self.engine
        return engine.run(_body(plan), scope, context)

    def open_to(self, door: Door) -> None:
        """Be what this door runs plans by."""
        door.engine, door.faults_of_plan, door.difference_of_plans = self.run, self.faults, self.difference

    def _run_durably(self, plan: Any, scope: dict[str, Any], context: Context) -> Any:
        """Begin a run, or find the one that the same key began, and wait for it as long as the request has time."""
        if not hasattr(plan, "requires"):
            from packetflow.composition.plan import Composition

            plan = Composition(context.capability, "the plan of a module", plan, durable=True)
        runs = self.waking.runs
        said = context.metadata.step_key
        key = None if said is None else f"{context.session.scope_id}/{context.capability}/{said}"
        row = runs.start(plan, scope, context.session, key)
        begun = context.metadata.run
        if begun is not None:
            begun.id = row.id
        value = runs.wait(
            row, 0.0 if begun is not None else max(0.0, context.deadline - self._clock.monotonic())
        )
        if plan.provides is not None:
            scope.update(value)
        return value

    # ---- durable runs ---------------------------------------------------------------------------------------------------

    @property
    def waking(self) -> Waking:
        """The durable runs and what wakes them, begun when they are first needed. Raises Unavailable where there is no store."""
        if self._waking is None:
            self._make_runs()
            self.begin_runs()
        assert self._waking is not None, "it was just made"
        return self._waking

    def runs_at_start(self, stored: bool) -> Waking | None:
        """What the process of the runs begins with; None while nobody needs it. stored: whether there is a database already."""
        if self._waking is None and stored:
            self._make_runs()
        return self._waking

    def _make_runs(self) -> None:
        if self.database is None:
            raise Unavailable("this process of the node has no store, so it can't hold durable runs")
        from packetflow.composition.durable.mending import Mending
        from packetflow.composition.durable.runs import Runs
        from packetflow.composition.durable.waking import Waking
        from packetflow.node.durable import StepRequests, contract_of
        from packetflow.storage.runs.sqlite import SqliteRuns

        door, clock = self.door, self._clock.monotonic
        store = SqliteRuns(self.database, self.published)
        runs = Runs(store, self.engine, lambda row: StepRequests(door, row, clock), contract_of(door))
        mending = Mending(runs, lambda id: plan_of(self._routes.catalogue, id))
        self._waking = Waking(runs, mending, self.kept)

    def start_run(self, id: str, payload: Mapping[str, Any], key: str | None, context: Context) -> str:
        """Begin a durable run of a composition on behalf of a request, which does not wait for it; the run's id.

        The request passes the door and the modules. Raises NotFound where there is no such composition, and what refuses it.
        """
        self.one(id, context.session.grants.allow)
        begun = BegunRun()
        metadata = Metadata(step_key=key, run=begun)
        error = self.door.request(id, dict(payload), context.session, metadata, None, context).error
        if begun.id is None:
            raise error or Unavailable(f"{id} was answered without a run: a module stands in its place")
        return begun.id

    def drain(self) -> None:
        """Have the runs under way park after their step."""
        if self._waking is not None:
            self._waking.runs.drain()

    def settle(self, seconds: float) -> None:
        """Wait until they have, and what is being undone in memory is, so long at most."""
        until = self._clock.monotonic() + seconds
        if self._waking is not None:
            self._waking.runs.settle(seconds)
        undoing = set() if self._engine is None else self._engine.undoing
        while undoing and (left := until - self._clock.monotonic()) > 0:
            gevent.joinall(list(undoing), timeout=left)
        if undoing:
            self._log.error("the node stops before all was undone", compositions=len(undoing))

    def faults(self, plan: Any, names: Mapping[str, Any] | None = None) -> list[str]:
        """What is wrong with a plan on this node, each with its place. names: what it starts with, if it is no composition."""
        catalogue = self._routes.catalogue
        if catalogue is not self._catalogue:
            self._checked.clear()
            self._catalogue = catalogue
        known = self._checked.get(id(plan))
        if known is not None and names is None:
            return known[1]
        from packetflow.composition.nodes import Node, PlanError
        from packetflow.composition.plan import Composition, check_bounds
        from packetflow.composition.validation import validate

        if not isinstance(plan, Node | Composition):
            return [f"{plan!r} is no plan; expected a composition or a node of one"]
        try:
            check_bounds(_body(plan), "the plan")
        except PlanError as error:
            return [str(error)]
        faults = [str(fault) for fault in validate(plan, Known(catalogue), names)]
        if names is None:
            self._checked[id(plan)] = (plan, faults)
        return faults

    def difference(self, old: Any, new: Any) -> list[str]:
        """What a module changed in a plan."""
        from packetflow.composition.plan import difference

        return difference(_body(old), _body(new))

    def circuits(self) -> list[shapes.Circuit]:
        """The circuit breakers of this node."""
        breakers = {} if self._engine is None else self._engine.breakers
        return [
            {"key": one.key, "state": one.state, "failures": one.failures, "opened": one.opened}
            for one in breakers.values()
        ]

    # ---- how they are seen ----------------------------------------------------------------------------------------------

    def rows(self, allow: Callable[[str], bool]) -> list[shapes.FlowRow]:
        """Those that are served and may be called, the highest version of each."""
        from packetflow.composition.plan import walk

        found = (plan_of(self._routes.catalogue, id) for id in self._routes.catalogue.ids if allow(id))
        return [
            {
                "id": plan.id, "version": plan.version, "intent": plan.intent,
                "nodes": sum(1 for _ in walk(plan.body)), "faults": self.faults(plan),
            }
            for plan in found
            if plan is not None
        ]  # fmt: skip

    def one(self, id: str, allow: Callable[[str], bool], svg: bool = False) -> shapes.Flow:
        """One in full; with a picture of it if `svg`. Raises NotFound."""
        plan = plan_of(self._routes.catalogue, id) if allow(id.partition("@")[0]) else None
        if plan is None:
            names = [row["id"] for row in self.rows(allow)]
            raise NotFound(f"no composition {id!r}", {"flow": id, "nearest": nearest(id, names)})
        from packetflow.composition.drawing import as_mermaid, as_text
        from packetflow.composition.nodes import PlanError
        from packetflow.composition.writing import to_data

        try:
            data = to_data(plan)
        except PlanError:
            data = None
        contract = plan.definition.contract
        shown: shapes.Flow = {
            "id": plan.id, "version": plan.version, "intent": plan.intent, "requires": dict(contract.requires),
            "provides": dict(contract.provides), "plan": data, "text": as_text(plan), "mermaid": as_mermaid(plan),
            "faults": self.faults(plan),
        }  # fmt: skip
        if svg:
            from packetflow.composition.picture import as_svg

            shown["svg"] = as_svg(plan)
        return shown

    def check(self, data: Mapping[str, Any]) -> shapes.FlowFaults:
        """What would be wrong with a plan that is not served yet. Raises ValidationFailed if the data is no plan."""
        from packetflow.composition.data import from_data, told
        from packetflow.composition.nodes import PlanError
        from packetflow.composition.plan import walk

        try:
            plan = from_data(data)
        except PlanError as error:
            faults = [{"path": one.key, "message": told(one)} for one in error.faults]
            raise ValidationFailed(f"it is no composition: {error}", {"faults": faults}) from error
        return {"id": plan.id, "nodes": sum(1 for _ in walk(plan.body)), "faults": self._found(plan)}

    def _found(self, plan: Composition) -> list[shapes.PlanFault]:
        from packetflow.composition.validation import validate

        found = validate(plan, Known(self._routes.catalogue))
        return [{"place": fault.place, "message": fault.message} for fault in found]


class Known:
    """A catalogue as the validation of plans asks it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def schemas(self, capability: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """The JSON Schemas of what one requires and provides; None if there is none of that name."""
        found = self._catalogue.find(capability)
        if found is None:
            return None
        contract = found.definition.contract
        return contract.requires, contract.provides

    def ids(self) -> Iterable[str]:
        """The ids of all."""
        return self._catalogue.ids

    def plan(self, capability: str) -> Composition | None:
        """The plan behind it, if it is a composition."""
        return plan_of(self._catalogue, capability)


def plan_of(catalogue: Catalogue, id: str) -> Composition | None:
    """The plan that is served under an id, if that is a composition."""
    found = catalogue.find(id)
    plan: Composition | None = (
        None if found is None else getattr(found.definition.function, "composition", None)
    )
    return plan


def _needs_store(plan: Any) -> bool:
    from packetflow.composition.plan import waits

    needs = getattr(plan, "needs_store", None)
    return waits(plan) if needs is None else bool(needs)


def _nobody() -> None:
    raise Unavailable("the node has not been started, so it can't hold durable runs")


def _body(plan: Any) -> PlanNode:
    body: PlanNode = getattr(plan, "body", plan) if hasattr(plan, "requires") else plan
    return body
