"""How plans are written in Python: a function for each kind of node. What is given as a step may be a node, a capability's id, or
the function that `@capability` made known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from packetflow.capabilities.definition import Capability, definition_of
from packetflow.composition.nodes import (
    Branch,
    CircuitBreaker,
    Condition,
    Hedge,
    Input,
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
    Subflow,
)
from packetflow.composition.plan import Composition
from packetflow.composition.waiting import Approval, StateMachine, Transition, WaitFor

Given: TypeAlias = Node | str | Capability | Callable[..., Any]


def node_of(given: Given) -> Node:
    """The node that is meant. Raises PlanError for what is none."""
    if isinstance(given, Node):
        return given
    if isinstance(given, str):
        return Step(given)
    definition = given if isinstance(given, Capability) else definition_of(given) if callable(given) else None
    if definition is None:
        raise PlanError(
            f"{given!r} is no step; expected a node, a capability's id, or a function with @capability(...)"
        )
    return Step(definition.id)


def step(
    capability: str | Capability | Callable[..., Any],
    *,
    inputs: Mapping[str, Input] | None = None,
    outputs: Mapping[str, str] | None = None,
    timeout: float | None = None,
    compensate: Given | None = None,
    key: str | None = None,
    name: str | None = None,
) -> Step:
    """One request to a capability.

    inputs: parameter -> name in the scope, Value(...) or Cel(...). outputs: field -> name in the scope. compensate: undoes
    it if a later step of its pipeline fails. key: a CEL text that gives the request's idempotency key.
    """
    return _step(Step, capability, inputs, outputs, timeout, compensate, key, name)


def subflow(
    composition: str | Composition,
    *,
    inputs: Mapping[str, Input] | None = None,
    outputs: Mapping[str, str] | None = None,
    timeout: float | None = None,
    compensate: Given | None = None,
    key: str | None = None,
    name: str | None = None,
) -> Step:
    """A request to another composition."""
    id = composition.id if isinstance(composition, Composition) else composition
    return _step(Subflow, id, inputs, outputs, timeout, compensate, key, name)


def _step(
    kind: type[Step],
    given: Any,
    inputs: Any,
    outputs: Any,
    timeout: Any,
    compensate: Any,
    key: str | None,
    name: str | None,
) -> Step:
    target = node_of(given)
    if not isinstance(target, Step):
        raise PlanError(f"a step asks one capability, not a {target.kind}; expected its id")
    undo = None if compensate is None else node_of(compensate)
    if undo is not None and not isinstance(undo, Step):
        raise PlanError(f"what undoes {target.capability} is a {undo.kind}; expected one step")
    return kind(target.capability, dict(inputs or {}), dict(outputs or {}), timeout, undo, key, name=name)


def pipeline(*steps: Given, name: str | None = None) -> Pipeline:
    """One after the other; the first error ends it."""
    return Pipeline(tuple(map(node_of, steps)), name=name)


def saga(*steps: Given, attempts: int = 10, name: str | None = None) -> Saga:
    """A pipeline whose compensations are tried again until they are done."""
    return Saga(tuple(map(node_of, steps)), attempts, name=name)


def parallel(
    *steps: Given,
    partial_failure: Literal["fail", "continue"] = "fail",
    limit: int | None = None,
    timeout: float | None = None,
    combine: Literal["list", "merge"] | None = None,
    name: str | None = None,
) -> Parallel:
    """All at once."""
    return Parallel(tuple(map(node_of, steps)), partial_failure, limit, timeout, combine, name=name)


def race(*steps: Given, name: str | None = None) -> Race:
    """All at once; the first that ends well counts."""
    return Race(tuple(map(node_of, steps)), name=name)


def branch(
    condition: Condition,
    *more: tuple[Condition, Given],
    then: Given,
    otherwise: Given | None = None,
    name: str | None = None,
) -> Branch:
    """`then` if the condition holds; else the first of `more` whose condition does; else `otherwise`."""
    cases = ((condition, node_of(then)), *((each, node_of(node)) for each, node in more))
    return Branch(cases, None if otherwise is None else node_of(otherwise), name=name)


def loop(
    body: Given,
    *,
    max_iterations: int,
    over: str | None = None,
    while_: Condition | None = None,
    item: str = "item",
    break_when: Condition | None = None,
    delay: float = 0.0,
    name: str | None = None,
) -> Loop:
    """The body for each item of a collection, or while a condition holds."""
    return Loop(node_of(body), max_iterations, over, while_, item, break_when, delay, name=name)


def map_reduce(over: str, map: Given, reduce: str | Given = "list", **options: Any) -> MapReduce:
    """`map` for each item, then put together. options: as of MapReduce."""
    reducer = reduce if isinstance(reduce, str) and reduce in MapReduce.REDUCERS else node_of(reduce)
    return MapReduce(over, node_of(map), reducer, **options)


def retry(body: Given, *, fallback: Given | None = None, **options: Any) -> Retry:
    """The body again if it fails. options: as of Retry."""
    return Retry(node_of(body), fallback=None if fallback is None else node_of(fallback), **options)


def circuit_breaker(body: Given, *, key: str, **options: Any) -> CircuitBreaker:
    """The body, unless it has failed too often of late. options: as of CircuitBreaker."""
    return CircuitBreaker(node_of(body), key, **options)


def hedge(body: Given, *, after: float | None = None, attempts: int = 2, name: str | None = None) -> Hedge:
    """The body once more if it takes too long; the first counts."""
    return Hedge(node_of(body), after, attempts, name=name)


def sleep(seconds: float, *, name: str | None = None) -> Sleep:
    """Wait."""
    return Sleep(seconds, name=name)


def wait_for(event: str, **options: Any) -> WaitFor:
    """Wait for an event by name. options: as of WaitFor."""
    return WaitFor(event, **options)


def transition(event: str, to: str, *, when: str | None = None, do: Given | None = None) -> Transition:
    """A way out of a state of a state_machine: on an event, if `when` holds."""
    return Transition(event, to, when, None if do is None else node_of(do))


def state_machine(initial: str, states: Mapping[str, Iterable[Transition]], **options: Any) -> StateMachine:
    """Go from state to state by events. options: as of StateMachine."""
    return StateMachine(initial, {name: tuple(ways) for name, ways in states.items()}, **options)


def approval(who: Iterable[str], **options: Any) -> Approval:
    """Ask these principals, and wait for one decision. options: as of Approval."""
    return Approval(tuple(who), **options)


def composition(
    id: str,
    intent: str,
    body: Given,
    *,
    requires: Mapping[str, Any] | None = None,
    provides: Mapping[str, Any] | None = None,
    version: str = "1.0.0",
    timeout: float | None = None,
    tags: tuple[str, ...] | list[str] = (),
    durable: bool = False,
    run_ttl: float | None = None,
) -> Composition:
    """A plan that is served under an id. Raises PlanError."""
    given = None if provides is None else dict(provides)
    return Composition(
        id,
        intent,
        node_of(body),
        dict(requires or {}),
        given,
        version,
        timeout,
        tuple(tags),
        durable,
        run_ttl,
    )
