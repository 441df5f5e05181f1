"""The engine: compiles a plan into functions once, and runs them in the greenlet of the request that asks for it.

Each step is a request with that request as its parent: it passes the chain, has its rights, and never more time. The nodes that
run several things at once are in together.py, those that try again in trying.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Any, TypeVar

import gevent
from gevent.hub import get_hub
from pydantic import BaseModel

from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.capabilities.context import Context
from packetflow.composition.flow import Flow, Run, Scope, Undo, undo
from packetflow.composition.nodes import (
    Branch,
    Cel,
    CircuitBreaker,
    Condition,
    Hedge,
    Loop,
    MapReduce,
    Node,
    Parallel,
    Pipeline,
    PlanError,
    Race,
    Retry,
    Saga,
    Sleep,
    Step,
    Value,
    below,
)
from packetflow.otp.clock import Clock
from packetflow.wire.errors import ExecutionFailed, RequestError, TooLarge

LONGEST_KEY = 256  # characters of an idempotency key

T = TypeVar("T")
_ABSENT: Any = object()
KEPT = 256  # plans of modules that stay compiled


class Engine:
    """Runs plans on one node. breakers: by key, shared by all plans. undoing: the greenlets that undo."""

    def __init__(self, clock: Clock, log: Any) -> None:
        from packetflow.composition.trying import Breaker

        self.clock = clock
        self.log = log
        self.breakers: dict[str, Breaker] = {}
        self.chance: Random = getattr(get_hub().loop, "chance", Random)()
        self.undoing: set[gevent.Greenlet[..., Any]] = set()
        self._kept: dict[int, tuple[Node, Run]] = {}

    def run(self, plan: Node, scope: Scope, context: Context) -> Any:
        """Runs a plan over a scope, which it fills. Returns the plan's value. Raises the RequestError that ended it, which names
        step and place."""
        run = self.compiled(plan)
        flow = Flow(self, context)
        try:
            return run(scope, flow)
        except BaseException as error:
            undo(flow, 0, error)
            raise

    def compiled(self, plan: Node) -> Run:
        """The functions of a plan, made when it is first run."""
        kept = self._kept.get(id(plan))
        if kept is None:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[id(plan)] = (plan, compile_node(plan, ""))
        return kept[1]


def compile_node(node: Node, place: str) -> Run:
    """What runs a node and those below it."""
    for kind, make in _compilers().items():
        if isinstance(node, kind):
            return make(node, place)
    raise PlanError(f"{place or 'the plan'}: the engine can't run a {node.kind}")


# ---- steps --------------------------------------------------------------------------------------------------------------


def _step(step: Step, place: str) -> Run:
    capability, timeout, label = step.capability, step.timeout, step.label
    given = {name: input_of(value, place) for name, value in step.inputs.items()}
    outputs = dict(step.outputs)
    key_of = None if step.key is None else key_reader(step.key, label, place)
    undo_run = None if step.compensate is None else compile_node(step.compensate, below(place, "compensate"))
    known: Any = None
    names: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def run(scope: Scope, flow: Flow) -> Any:
        nonlocal known, names, left_out
        found = flow.context.door.routes.catalogue.find(capability)
        if found is not known:
            names, left_out = (
                ((), frozenset()) if found is None else parameters_of(found.definition.contract.requires)
            )
            known = found
        payload = {name: scope[name] for name in names if name in scope}
        for name in left_out:
            if name in payload and payload[name] is None:
                del payload[name]
        for name, read in given.items():
            try:
                payload[name] = read(scope)
            except KeyError:
                payload.pop(name, None)  # what it is to be made of is not there: as if it were not given
        try:
            value = flow.ask(capability, payload, timeout, None if key_of is None else key_of(scope))
        except RequestError as error:
            raise located(error, f"step {label}", place) from None
        put(scope, value, outputs)
        if undo_run is not None:
            flow.done.append(Undo(label, undo_run, dict(scope), flow.attempts))
        return value

    return run


def parameters_of(requires: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    """A contract's parameters, and those of them that may be left out but not be null: null in the scope is as if not there."""
    fields = requires.get("properties", {})
    needed = requires.get("required", ())
    nullable = {
        name
        for name, schema in fields.items()
        if '"null"' in json.dumps(schema) or not schema.keys() & _TYPED
    }
    return tuple(fields), frozenset(name for name in fields if name not in needed and name not in nullable)


_TYPED = {"type", "anyOf", "$ref", "enum", "const", "allOf", "oneOf"}


def located(error: RequestError, what: str, place: str) -> RequestError:
    """The same error, saying where in the plan it came from. The innermost place counts."""
    if "place" in error.details:
        return error
    details = {**error.details, "step": what.removeprefix("step "), "place": place}
    return type(error)(f"{what}: {error.message}", details, error.retry_after)


def put(scope: Scope, value: Any, outputs: Mapping[str, str]) -> None:
    """Puts what a step gave into the scope: the fields of a model or a mapping, anything else as `result`."""
    if value is None:
        return
    if isinstance(value, BaseModel):
        fields: Mapping[str, Any] = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, Mapping):
        fields = value
    else:
        fields = {"result": value}
    if outputs:
        for name, field in fields.items():
            scope[outputs.get(name, name)] = field
    else:
        scope.update(fields)


def input_of(given: Any, place: str) -> Callable[[Scope], Any]:
    """What reads an input of a step from the scope. It raises KeyError where the name that is meant is not there."""
    if isinstance(given, Value):
        constant = given.value
        return lambda scope: constant
    if isinstance(given, Cel):
        expression = Expression(given.text)
        return lambda scope: evaluated(expression, scope, place)
    name: str = given
    return lambda scope: scope[name]


def key_reader(text: str, label: str, place: str) -> Callable[[Scope], str]:
    """What reads a step's idempotency key from the scope. It raises ExecutionFailed where the text gives no key."""
    expression = Expression(text)

    def read(scope: Scope) -> str:
        found = evaluated(expression, scope, place)
        if (
            isinstance(found, bool)
            or not isinstance(found, str | int)
            or not 0 < len(str(found)) <= LONGEST_KEY
        ):
            raise ExecutionFailed(
                f"step {label}: its key {text!r} gave {found!r:.100}; "
                f"expected a text of 1 to {LONGEST_KEY} characters, or a number"
            )
        return str(found)

    return read


def evaluated(expression: Expression, scope: Scope, place: str) -> Any:
    """What a CEL text gives over a scope. Raises ExecutionFailed, which names the place."""
    return _placed(expression.evaluate, scope, place)


def condition(given: Condition, place: str) -> Callable[[Scope], bool]:
    """What decides whether a condition holds. It raises ExecutionFailed, which names the place."""
    if not isinstance(given, str):
        function = given
        return lambda scope: bool(function(MappingProxyType(scope)))
    expression = Expression(given)
    return lambda scope: _placed(expression.holds, scope, place)


def _placed(ask: Callable[[Scope], T], scope: Scope, place: str) -> T:
    try:
        return ask(scope)
    except ConditionError as error:
        raise ExecutionFailed(str(error), {"place": place}) from error


# ---- in order -----------------------------------------------------------------------------------------------------------


def _pipeline(node: Pipeline | Saga, place: str) -> Run:
    steps = [compile_node(step, below(place, number)) for number, step in enumerate(node.steps)]
    patience = node.attempts if isinstance(node, Saga) else None

    def run(scope: Scope, flow: Flow) -> Any:
        mark = len(flow.done)
        attempts = flow.attempts
        if patience is not None:
            flow.attempts = patience
        value = None
        try:
            for step in steps:
                value = step(scope, flow)
        except BaseException as error:
            if len(flow.done) > mark:
                undo(flow, mark, error)
            raise
        finally:
            flow.attempts = attempts
        return value

    return run


def _branch(node: Branch, place: str) -> Run:
    cases = [
        (condition(test, place), compile_node(then, below(place, number)))
        for number, (test, then) in enumerate(node.cases)
    ]
    otherwise = None if node.otherwise is None else compile_node(node.otherwise, below(place, "otherwise"))

    def run(scope: Scope, flow: Flow) -> Any:
        for holds, then in cases:
            if holds(scope):
                return then(scope, flow)
        return None if otherwise is None else otherwise(scope, flow)

    return run


def collection(text: str, place: str) -> Callable[[Scope], list[Any]]:
    """What gives the items of a collection: a name of the scope, or a CEL text. It raises ExecutionFailed for what is none."""
    expression = None if text.isidentifier() else Expression(text)

    def items(scope: Scope) -> list[Any]:
        found = scope.get(text) if expression is None else evaluated(expression, scope, place)
        if found is None or isinstance(found, str | bytes | Mapping) or not hasattr(found, "__iter__"):
            raise ExecutionFailed(
                f"{text!r} is {type(found).__name__}; expected a list to go through", {"place": place}
            )
        return list(found)

    return items


def _loop(node: Loop, place: str) -> Run:
    body = compile_node(node.body, below(place, "body"))
    goes_on = None if node.while_ is None else condition(node.while_, place)
    items_of = None if node.over is None else collection(node.over, place)
    breaks = None if node.break_when is None else condition(node.break_when, place)

    def too_many(what: str) -> TooLarge:
        return TooLarge(
            f"loop {node.label}: {what}; max_iterations is {node.max_iterations:,}", {"place": place}
        )

    def once(scope: Scope, flow: Flow, values: list[Any]) -> bool:
        values.append(body(scope, flow))
        return breaks is not None and breaks(scope)

    def run_over(scope: Scope, flow: Flow) -> list[Any]:
        assert items_of is not None
        items = items_of(scope)
        if len(items) > node.max_iterations:
            raise too_many(f"{len(items):,} items")
        values: list[Any] = []
        before = scope.get(node.item, _ABSENT)
        for number, item in enumerate(items):
            if number and node.delay:
                gevent.sleep(node.delay)
            scope[node.item] = item
            if once(scope, flow, values):
                break
        if before is _ABSENT:
            scope.pop(node.item, None)
        else:
            scope[node.item] = before  # the name was somebody else's, and is again
        return values

    def run_while(scope: Scope, flow: Flow) -> list[Any]:
        assert goes_on is not None
        values: list[Any] = []
        while goes_on(scope):
            if len(values) >= node.max_iterations:
                raise too_many("its condition still holds")
            if values and node.delay:
                gevent.sleep(node.delay)
            if once(scope, flow, values):
                break
        return values

    return run_over if items_of is not None else run_while


def _sleep(node: Sleep, place: str) -> Run:
    def run(scope: Scope, flow: Flow) -> None:
        gevent.sleep(node.seconds)

    return run


@cache
def _compilers() -> Mapping[type[Node], Callable[[Any, str], Run]]:
    from packetflow.composition import together, trying  # which import this file

    return {
        Step: _step,
        Pipeline: _pipeline,
        Saga: _pipeline,
        Branch: _branch,
        Loop: _loop,
        Sleep: _sleep,
        Parallel: together.parallel,
        Race: together.race,
        Hedge: together.hedge,
        MapReduce: together.map_reduce,
        Retry: trying.retry,
        CircuitBreaker: trying.circuit_breaker,
    }
