"""Plans: a tree of nodes with an id, what it requires and provides; and how a tree is walked, rewritten and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from packetflow.capabilities.checks import ID, VERSION
from packetflow.capabilities.definition import Capability
from packetflow.composition.nodes import Branch, Node, PlanError, Several, below, positive
from packetflow.composition.serving import capability_of
from packetflow.composition.waiting import Approval, StateMachine, WaitFor

MOST_NODES = 1_000
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Composition:
    """A plan that is served under an id. requires: a type for each name that it is given. provides: a type for each name of the
    scope that it answers with; None: it answers what its body gives. durable: each step's result is stored before the next
    begins, so that a run survives the node's crash; a plan that waits for events or decisions is durable anyway. run_ttl:
    seconds after which a durable run is ended. Other options as of `@capability`."""

    id: str
    intent: str
    body: Node
    requires: Mapping[str, Any] = field(default_factory=dict)
    provides: Mapping[str, Any] | None = None
    version: str = "1.0.0"
    timeout: float | None = None
    tags: tuple[str, ...] = ()
    durable: bool = False
    run_ttl: float | None = None
    _made: list[Capability] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not ID.fullmatch(self.id):
            raise PlanError(
                f"composition {self.id!r}: expected a dotted lower-case name, such as user.onboarding"
            )
        if not isinstance(self.version, str) or not VERSION.fullmatch(self.version):
            raise PlanError(
                f"composition {self.id}: version {self.version!r}; expected major.minor.patch, such as 1.0.0"
            )
        if not isinstance(self.intent, str) or not self.intent:
            raise PlanError(
                f"composition {self.id} says nothing of itself; expected a line that says what it is for"
            )
        if not isinstance(self.body, Node):
            raise PlanError(
                f"composition {self.id}: its plan is {self.body!r}; expected a node, such as pipeline(...)"
            )
        check_bounds(self.body, f"composition {self.id}")
        for name in ("timeout", "run_ttl"):
            positive(f"composition {self.id}", name, getattr(self, name), optional=True)
        if self.needs_store:
            check_can_be_stored(self)

    @property
    def needs_store(self) -> bool:
        """Whether its runs are durable."""
        return self.durable or waits(self.body)

    @property
    def definition(self) -> Capability:
        """The capability as which it is served, made when it is first asked for. Raises PlanError, DefinitionError."""
        if not self._made:
            self._made.append(capability_of(self))
        return self._made[0]

    __packetflow_capability__ = (
        definition  # how a capability file's loader knows it (capabilities/definition.py)
    )


def waits(plan: Node) -> bool:
    """Whether a node of it waits outside of memory."""
    return any(isinstance(node, WaitFor | Approval | StateMachine) for _, node in walk(plan))


def check_can_be_stored(plan: Composition) -> None:
    """Raises PlanError if a durable plan holds Python functions, which a crash would lose."""
    from packetflow.composition.writing import node_to_data

    try:
        node_to_data(plan.body)
    except PlanError as error:
        raise PlanError(f"composition {plan.id} is durable, so its plan is stored: {error}") from None


def check_bounds(plan: Node, what: str) -> None:
    """Raises PlanError if a plan has more nodes, or is deeper, than plans may be. Whatever recurs into a plan asks this first."""
    for number, (place, node) in enumerate(walk(plan)):
        if number >= MOST_NODES:
            raise PlanError(f"{what} has more than {MOST_NODES:,} nodes")
        if place.count("/") >= DEEPEST:
            raise PlanError(f"{what} is more than {DEEPEST} nodes deep, at {place[:80]}...")
        if node.name is not None and (not isinstance(node.name, str) or not node.name):
            raise PlanError(f"{what}: the name of {place or 'the plan'} is {node.name!r}; expected a text")


def walk(plan: Node, place: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with its place, such as `1/otherwise/0`, the outer ones first. No recursion: a plan may be deep."""
    ahead = [(place, plan)]
    while ahead:
        here, node = ahead.pop()
        yield here, node
        for part, child in reversed(node.children):
            ahead.append((below(here, part), child))


def node_at(plan: Node, place: str) -> Node:
    """The node at a place. Raises PlanError if there is none."""
    found = plan
    for part in place.split("/") if place else ():
        children = dict(found.children)
        if part not in children:
            raise PlanError(
                f"there is no node at {place!r}; below {found.label} there is {', '.join(children) or 'nothing'}"
            )
        found = children[part]
    return found


def replaced(plan: Node, place: str, node: Node) -> Node:
    """The plan with another node at a place; the old one stays as it is. Raises PlanError."""
    node_at(plan, place)
    if not place:
        return node
    part, _, rest = place.partition("/")
    child = replaced(dict(plan.children)[part], rest, node)
    if isinstance(plan, Several):
        steps = tuple(child if str(number) == part else step for number, step in enumerate(plan.steps))
        return replace(plan, steps=steps)
    if isinstance(plan, Branch) and part != "otherwise":
        cases = tuple((c, child if str(number) == part else n) for number, (c, n) in enumerate(plan.cases))
        return replace(plan, cases=cases)
    if isinstance(plan, StateMachine):
        states = {
            name: tuple(
                replace(way, do=child) if f"{name}.{number}" == part else way
                for number, way in enumerate(ways)
            )
            for name, ways in plan.states.items()
        }
        return replace(plan, states=states)
    changed: dict[str, Any] = {part: child}
    return replace(plan, **changed)


def difference(old: Node, new: Node) -> list[str]:
    """What a rewrite changed, as lines for people: `1: step a.b -> step a.c`."""
    before, after = dict(walk(old)), dict(walk(new))
    lines = []
    for place in [*before, *(place for place in after if place not in before)]:
        was, now = before.get(place), after.get(place)
        if was is None or now is None or _own(was) != _own(now):
            lines.append(f"{place or 'plan'}: {shown(was)} -> {shown(now)}")
    return lines


def shown(node: Node | None) -> str:
    """A node in a few words, without those below it."""
    if node is None:
        return "nothing"
    told = [
        f"{name}={value!r}"
        for name, value in _own(node).items()
        if name not in ("kind", "capability", "name")
    ]
    label = f" {node.label}" if node.label != node.kind else ""
    return f"{node.kind}{label}" + (f" ({', '.join(told)})" if told else "")


def _own(node: Node) -> dict[str, Any]:
    """What a node says itself: its fields that are not nodes and not what they are by default."""
    own: dict[str, Any] = {"kind": node.kind}
    for each in fields(node):
        value = getattr(node, each.name)
        if each.name in ("steps", "body", "map", "otherwise", "fallback", "compensate") or isinstance(
            value, Node
        ):
            continue
        if each.name == "states":
            value = {
                name: [f"{way.event} -> {way.to}" + (f" if {way.when}" if way.when else "") for way in ways]
                for name, ways in value.items()
            }
        if each.name == "cases":
            value = tuple(condition for condition, _ in value)
        if value == each.default or (isinstance(value, dict) and not value):
            continue
        own[each.name] = value
    return own
