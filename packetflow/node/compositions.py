"""The compositions of a node: its engine, made when the first plan is run, and what is wrong with a plan on this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from packetflow.capabilities.catalogue import Catalogue
from packetflow.capabilities.context import Context
from packetflow.node.routes import Routes
from packetflow.node.system import shapes
from packetflow.node.view import nearest
from packetflow.otp.clock import Clock
from packetflow.wire.errors import NotFound, ValidationFailed

if TYPE_CHECKING:
    from packetflow.composition.engine import Engine
    from packetflow.composition.nodes import Node as PlanNode
    from packetflow.composition.plan import Composition


class Compositions:
    """Runs and checks plans. What it needs is loaded when there is a plan: a node without one pays nothing."""

    def __init__(self, routes: Routes, clock: Clock, log: Any) -> None:
        self._routes = routes
        self._clock = clock
        self._log = log
        self._engine: Engine | None = None
        self._checked: dict[int, tuple[Any, list[str]]] = {}
        self._catalogue: Catalogue | None = None

    def run(self, plan: Any, scope: dict[str, Any], context: Context) -> Any:
        """Runs a plan over a scope, which it fills. Raises the RequestError that ended it."""
        engine = self._engine
        if engine is None:
            from packetflow.composition.engine import Engine

            engine = self._engine = Engine(self._clock, self._log)
        return engine.run(_body(plan), scope, context)

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


def _body(plan: Any) -> PlanNode:
    body: PlanNode = getattr(plan, "body", plan) if hasattr(plan, "requires") else plan
    return body
