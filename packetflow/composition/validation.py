"""What is wrong with a plan, all of it, before it runs: held against the catalogue of what there is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.composition.nodes import (
    Branch,
    Cel,
    CircuitBreaker,
    Condition,
    Fault,
    Hedge,
    Loop,
    MapReduce,
    Node,
    Parallel,
    Race,
    Retry,
    Several,
    Sleep,
    Step,
    Value,
    below,
)
from packetflow.composition.plan import Composition
from packetflow.composition.waiting import Approval, StateMachine, WaitFor

JSON_TYPES: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object",
}  # fmt: skip


class Contracts(Protocol):
    """What is known of capabilities."""

    def schemas(self, capability: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """The JSON Schemas of what one requires and provides; None if there is none of that name."""

    def ids(self) -> Iterable[str]:
        """The ids of all, for the nearest one to a misspelling."""

    def plan(self, capability: str) -> Composition | None:
        """The plan behind it, if it is a composition."""


Names = dict[
    str, Mapping[str, Any]
]  # what is known of the value of each name: its JSON Schema, {} for anything


class Validation:
    """One look through a plan. sure: names that are there whichever way was taken; maybe: those that some way sets."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self.faults: list[Fault] = []

    def fault(self, place: str, message: str) -> None:
        """One thing that is wrong."""
        self.faults.append(Fault(place, message))

    # ---- nodes --------------------------------------------------------------------------------------------------------

    def look(self, node: Node, place: str, names: Names) -> None:
        """A node, over what is known before it; adds to that what it gives."""
        match node:
            case Step():
                self._step(node, place, names)
            case Parallel() | Race():
                self._at_once(node, place, names)
            case Several():
                for number, step in enumerate(node.steps):
                    self.look(step, below(place, number), names)
            case Branch():
                self._branch(node, place, names)
            case Loop():
                self._loop(node, place, names)
            case MapReduce():
                self._map_reduce(node, place, names)
            case Retry():
                self._retry(node, place, names)
            case CircuitBreaker() | Hedge():
                self.look(node.body, below(place, "body"), names)
            case WaitFor():
                if node.match is not None:
                    self._expression(node.match, place, {**names, "event": {}})
                names.setdefault(_ANY, {})  # an event's fields show only when it comes
                names.update({to: {} for to in node.outputs.values()})
            case StateMachine():
                names.setdefault(_ANY, {})  # an event's fields show only when it comes
                for state, ways in node.states.items():
                    for number, way in enumerate(ways):
                        if way.when is not None:
                            self._expression(way.when, place, {**names, "event": {}})
                        if way.do is not None:
                            self.look(way.do, below(place, f"{state}.{number}"), dict(names))
                names["state"] = {"type": "string"}
            case Approval():
                names.update({to: {} for to in node.outputs.values()})
            case Sleep():
                pass

    def _step(self, step: Step, place: str, names: Names) -> None:
        schemas = self._contracts.schemas(step.capability)
        if schemas is None:
            nearest = difflib.get_close_matches(step.capability, list(self._contracts.ids()), n=1)
            self.fault(
                place, f"no capability {step.capability!r}" + (f"; nearest {nearest[0]}" if nearest else "")
            )
            self._give(step, {}, names)
            return
        requires, provides = schemas
        fields: Mapping[str, Any] = requires.get("properties", {})
        for name, given in step.inputs.items():
            if name not in fields:
                self.fault(place, f"{step.capability} has no parameter {name!r}; it has {_listed(fields)}")
            elif isinstance(given, Cel):
                self._expression(given.text, place, names)
            elif isinstance(given, Value):
                self._fits(
                    _schema_of(given.value), fields[name], requires, place, f"{name} = {given.value!r}"
                )
            elif given not in names:
                if _ANY not in names:
                    self.fault(
                        place, f"{name} is to be {given!r}, which nothing gives" + _nearest(given, names)
                    )
            else:
                self._fits(names[given], fields[name], requires, place, given)
        for name in fields:
            if name in step.inputs:
                continue
            if name in names:
                self._fits(names[name], fields[name], requires, place, name)
            elif name in requires.get("required", ()):
                self.fault(
                    place,
                    f"{step.capability} requires {name!r}, which nothing gives; there is {_listed(names)}; inputs renames one",
                )
        if step.key is not None:
            self._expression(step.key, place, names)
        for name in step.outputs:
            known = provides.get("properties")
            if known is not None and name not in known:
                self.fault(place, f"{step.capability} gives no {name!r}; it gives {_listed(known)}")
        if step.compensate is not None:
            inner = dict(names)
            self._give(step, provides, inner)
            self.look(step.compensate, below(place, "compensate"), inner)
        self._give(step, provides, names)

    def _give(self, step: Step, provides: Mapping[str, Any], names: Names) -> None:
        provides = _resolved(provides, provides)
        if provides.get("type") == "null":
            return
        if "properties" in provides:
            given: Mapping[str, Any] = {n: _resolved(s, provides) for n, s in provides["properties"].items()}
        elif provides.get("type", "object") == "object":
            given = {}  # a mapping of any fields: what they are called shows only when it runs
            names.setdefault(_ANY, {})
        else:
            given = {"result": provides}
        for name, schema in given.items():
            names[step.outputs.get(name, name)] = schema
        for name, to in step.outputs.items():
            if name not in given:
                names[to] = {}

    def _at_once(self, node: Parallel | Race, place: str, names: Names) -> None:
        givers: dict[str, str] = {}
        after: Names = {}
        for number, step in enumerate(node.steps):
            own = dict(names)
            self.look(step, below(place, number), own)
            for name, schema in own.items():
                if names.get(name) is schema:
                    continue
                if isinstance(node, Parallel) and node.combine is None and name in givers and name != _ANY:
                    self.fault(
                        place,
                        f"both {givers[name]} and {step.label} put {name!r}; rename one with outputs, or give combine",
                    )
                givers[name] = step.label
                after[name] = schema
        if isinstance(node, Parallel) and node.combine == "list":
            after = {"result": {"type": "array"}}
        if isinstance(node, Parallel) and node.partial_failure == "continue":
            after["failed"] = {"type": "object"}
        names.update(after)

    def _branch(self, node: Branch, place: str, names: Names) -> None:
        ways: list[Names] = []
        decided = False
        for number, (test, then) in enumerate(node.cases):
            self._condition(test, place, names)
            constant = Expression(test).constant if isinstance(test, str) and not decided else None
            if decided:
                self.fault(below(place, number), "it is never reached: a case before it always holds")
            elif constant is False:
                self.fault(below(place, number), f"it is never reached: {test!r} never holds")
            decided = decided or constant is True
            own = dict(names)
            self.look(then, below(place, number), own)
            ways.append(own)
        if node.otherwise is not None:
            if decided:
                self.fault(below(place, "otherwise"), "it is never reached: a case before it always holds")
            own = dict(names)
            self.look(node.otherwise, below(place, "otherwise"), own)
            ways.append(own)
        # What some way sets is null on the others.
        for own in ways:
            for name, schema in own.items():
                if names.get(name) is not schema:
                    names[name] = {} if name in names or len(ways) > 1 or node.otherwise is None else schema

    def _loop(self, node: Loop, place: str, names: Names) -> None:
        if node.over is not None:
            self._collection(node.over, place, names)
        own = {**names, node.item: {}} if node.over is not None else names
        if node.while_ is not None:
            # What the body sets, the condition finds from the second time on, and as null before.
            inner = dict(names)
            quiet = Validation(self._contracts)
            quiet.look(node.body, "", inner)
            self._condition(node.while_, place, inner)
        self.look(node.body, below(place, "body"), own)
        if node.break_when is not None:
            self._condition(node.break_when, place, own)
        names.update({name: {} for name in own if name not in names and name != node.item})

    def _map_reduce(self, node: MapReduce, place: str, names: Names) -> None:
        self._collection(node.over, place, names)
        if node.partition is not None:
            self._expression(node.partition, place, {node.item: {}})
        self.look(node.map, below(place, "map"), {**names, node.item: {}})
        if isinstance(node.reduce, Node):
            self.look(node.reduce, below(place, "reduce"), {**names, "items": {"type": "array"}})
        names["result"] = {}

    def _retry(self, node: Retry, place: str, names: Names) -> None:
        if node.retry_when is not None:
            self._condition(node.retry_when, place, {"error": {}, "attempt": {}})
        own = dict(names)
        self.look(node.body, below(place, "body"), own)
        if node.fallback is not None:
            other = dict(names)
            self.look(node.fallback, below(place, "fallback"), other)
            own.update({name: {} for name in other if name not in own})
        names.update(own)

    # ---- conditions and types -------------------------------------------------------------------------------------------

    def _collection(self, text: str, place: str, names: Names) -> None:
        if not text.isidentifier():
            self._expression(text, place, names)
        elif text not in names and _ANY not in names:
            self.fault(place, f"it goes over {text!r}, which nothing gives{_nearest(text, names)}")
        else:
            known = names.get(text, {}).get("type")
            if known not in (None, "array"):
                self.fault(place, f"it goes over {text!r}, which is of type {known}; expected an array")

    def _condition(self, test: Condition, place: str, names: Names) -> None:
        if isinstance(test, str):
            self._expression(test, place, names)

    def _expression(self, text: str, place: str, names: Names) -> None:
        if _ANY in names:
            return
        try:
            Expression(text).check_names(names)
        except ConditionError as error:
            self.fault(place, str(error))

    def _fits(
        self,
        given: Mapping[str, Any],
        wanted: Mapping[str, Any],
        root: Mapping[str, Any],
        place: str,
        what: str,
    ) -> None:
        have, want = _types(given, given), _types(wanted, root)
        if have is None or want is None or have & want:
            return
        if "integer" in have and "number" in want:
            return
        # Payloads are parsed leniently: a text may be a number (`"5"`), a number a text is not.
        if "string" in have and want & {"integer", "number", "boolean"}:
            return
        self.fault(place, f"{what} is {_or(have)}; expected {_or(want)}")


_ANY = "*"  # stands for names that only a run shows


def validate(
    plan: Composition | Node, contracts: Contracts, given: Mapping[str, Any] | None = None
) -> list[Fault]:
    """All faults of a plan, each with its node's place; none if it can be run.

    given: what it starts with, a JSON Schema for each name; by default what a composition requires.
    """
    found = Validation(contracts)
    names: Names = {}
    body = plan.body if isinstance(plan, Composition) else plan
    if given is not None:
        names.update(given)
    elif isinstance(plan, Composition):
        names.update(plan.definition.contract.requires.get("properties", {}))
    found.look(body, "", names)
    if isinstance(plan, Composition):
        if plan.provides is not None and _ANY not in names:
            for name in plan.provides:
                if name not in names:
                    found.fault("", f"it provides {name!r}, which nothing gives{_nearest(name, names)}")
        _cycles(plan, contracts, found.fault)
    return found.faults


def _cycles(plan: Composition, contracts: Contracts, fault: Callable[[str, str], None]) -> None:
    from packetflow.composition.plan import walk

    def called(one: Composition) -> list[tuple[str, str]]:
        return [
            (place, node.capability.partition("@")[0])
            for place, node in walk(one.body)
            if isinstance(node, Step)
        ]

    for place, id in called(plan):
        chain: dict[str, tuple[str, ...]] = {id: (plan.id,)}
        ahead, seen = [id], set[str]()
        while ahead:
            here = ahead.pop()
            if here == plan.id:
                fault(place, f"it calls itself: {' -> '.join((*chain[here], here))}")
                break
            inner = contracts.plan(here)
            if inner is None or here in seen:
                continue
            seen.add(here)
            for _, further in called(inner):
                chain.setdefault(further, (*chain[here], here))
                ahead.append(further)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without a reference at its top."""
    seen = 0
    while "$ref" in schema and seen < 10:
        name = str(schema["$ref"]).rpartition("/")[2]
        definitions = root.get("$defs", {})
        schema = {**definitions.get(name, {}), "$defs": definitions}
        seen += 1
    return schema


def _types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str] | None:
    """The JSON types that a schema allows; None if it may be anything, or nobody knows."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        found: set[str] = set()
        for each in schema["anyOf"]:
            types = _types(each, {**root, "$defs": schema.get("$defs", root.get("$defs", {}))})
            if types is None:
                return None
            found |= types
        return found
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return set(kind)
    if "const" in schema:
        return _types(_schema_of(schema["const"]), {})
    return None


def _schema_of(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {"type": "null"}
    return {"type": JSON_TYPES[type(value)]} if type(value) in JSON_TYPES else {}


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; nearest {found[0]}" if found else f"; there is {_listed(names)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name for name in names if name != _ANY)) or "nothing"


def _or(types: set[str]) -> str:
    return " or ".join(sorted(types))
