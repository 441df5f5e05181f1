"""The nodes of plans: immutable trees that say which capabilities run, in which order, on which conditions. Nothing runs here.

    Node
    ├─ Step                  one request to a capability      Subflow: to another composition
    ├─ Pipeline, Saga        in order                         Parallel, Race: at once
    ├─ Branch                the first condition that holds   Loop: again and again
    ├─ MapReduce             each of many, then together
    ├─ Retry, Hedge, CircuitBreaker, Sleep
    └─ WaitFor, Approval     only in durable runs: for an event, for a decision

A condition is a CEL text, or (in process only) a Python function of the scope. Data flows by name in a scope: a step takes what
its contract requires from it by name, and puts what it provides into it; `inputs` and `outputs` rename.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar, Literal, TypeAlias

from packetflow.capabilities.checks import ID
from packetflow.capabilities.conditions import Expression
from packetflow.documents.faults import Fault as DataFault
from packetflow.otp.errors import PacketFlowError

MOST_HEDGED = 100  # attempts of a hedge: all of them may run at once
Condition: TypeAlias = str | Callable[[Mapping[str, Any]], Any]


class PlanError(PacketFlowError):
    """A plan that can't be one. field: of the node that was refused, if it is one field's fault. faults: of data that was read,
    all of them, each with its key, and where it stands if it came from a file."""

    code = "validation_failed"

    def __init__(self, message: str, faults: tuple[DataFault, ...] = (), field: str = "") -> None:
        super().__init__(message)
        self.faults = faults
        self.field = field


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a plan. place: of the node, as `walk` names it."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place or 'plan'}: {self.message}"


@dataclass(frozen=True, slots=True)
class Value:
    """An input that is the same in every run."""

    value: Any


@dataclass(frozen=True, slots=True)
class Cel:
    """An input that is computed from the scope."""

    text: str

    def __post_init__(self) -> None:
        Expression(self.text)


Input: TypeAlias = str | Value | Cel


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a plan. name: what people call it; unique among its siblings, by default made of what it does."""

    name: str | None = field(default=None, kw_only=True)
    kind: ClassVar[str] = "node"

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.kind

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The nodes right below, each with its place in this one."""
        return ()

    def __rshift__(self, other: Any) -> Pipeline:
        return Pipeline((*_parts(self, Pipeline), *_parts(_node(other), Pipeline)))

    def __rrshift__(self, other: Any) -> Pipeline:
        return Pipeline((*_parts(_node(other), Pipeline), *_parts(self, Pipeline)))

    def __and__(self, other: Any) -> Parallel:
        return Parallel((*_parts(self, Parallel), *_parts(_node(other), Parallel)))

    def __rand__(self, other: Any) -> Parallel:
        return Parallel((*_parts(_node(other), Parallel), *_parts(self, Parallel)))


@dataclass(frozen=True, slots=True)
class Step(Node):
    """One request to a capability. compensate: the step that undoes it, where a later one fails. timeout: seconds.

    key: a CEL text over the scope that gives the request's idempotency key: two steps of one key, whoever runs them for the same
    caller, are one, a failure that began included.
    """

    capability: str
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    compensate: Step | None = None
    key: str | None = None
    kind: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        if not isinstance(self.capability, str) or not ID.fullmatch(self.capability.partition("@")[0]):
            raise PlanError(
                f"step {self.capability!r}: expected a capability's id, such as ticket.open or ticket.open@2",
                field="capability",
            )
        for name, given in self.inputs.items():
            if not isinstance(name, str):
                raise PlanError(
                    f"step {self.capability}: input {name!r}; expected a parameter's name", field="inputs"
                )
            if not isinstance(given, str | Value | Cel):
                raise PlanError(
                    f"step {self.capability}: input {name!r} is {given!r}; expected the name of something in the scope, "
                    "Value(...) or Cel(...)"
                )
        for name, to in self.outputs.items():
            if not isinstance(to, str) or not to.isidentifier():
                raise PlanError(
                    f"step {self.capability}: output {name!r} goes to {to!r}; expected a name for the scope",
                    field="outputs",
                )
        if self.key is not None:
            if not isinstance(self.key, str):
                raise PlanError(
                    f"step {self.capability}: key is {self.key!r}; expected a CEL text, such as order.id",
                    field="key",
                )
            Expression(self.key)
        positive("step " + self.capability, "timeout", self.timeout, optional=True)

    @property
    def label(self) -> str:
        """Its name, or the capability's id."""
        return self.name or self.capability

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The step that undoes it, if there is one."""
        return () if self.compensate is None else (("compensate", self.compensate),)


@dataclass(frozen=True, slots=True)
class Subflow(Step):
    """A request to another composition."""

    kind: ClassVar[str] = "subflow"


@dataclass(frozen=True, slots=True)
class Several(Node):
    """Nodes in a row, one after the other or at once."""

    steps: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise PlanError(f"a {self.kind} needs at least one step")
        _unique(self.kind, self.steps)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The steps, by number."""
        return tuple((str(number), step) for number, step in enumerate(self.steps))


@dataclass(frozen=True, slots=True)
class Pipeline(Several):
    """One after the other; the first error ends it, and what has been done is undone in reverse, where a step says how."""

    kind: ClassVar[str] = "pipeline"


@dataclass(frozen=True, slots=True)
class Saga(Several):
    """A pipeline whose compensations are tried again until they are done, at most `attempts` times each."""

    attempts: int = 10
    kind: ClassVar[str] = "saga"

    def __post_init__(self) -> None:
        Several.__post_init__(self)
        _count("saga", "attempts", self.attempts)


@dataclass(frozen=True, slots=True)
class Parallel(Several):
    """All at once. limit: how many at most. timeout: seconds for all. combine: "list" gives their values in order, "merge" one
    mapping of all their fields; else each puts its names into the scope, and the value is a mapping by their labels.

    partial_failure: "fail" ends the others when one fails; "continue" lets them go on, and puts what failed into the scope as
    `failed`, by label.
    """

    partial_failure: Literal["fail", "continue"] = "fail"
    limit: int | None = None
    timeout: float | None = None
    combine: Literal["list", "merge"] | None = None
    kind: ClassVar[str] = "parallel"

    def __post_init__(self) -> None:
        Several.__post_init__(self)
        one_of("parallel", "partial_failure", self.partial_failure, ("fail", "continue"))
        one_of("parallel", "combine", self.combine, ("list", "merge", None))
        _count("parallel", "limit", self.limit, optional=True)
        positive("parallel", "timeout", self.timeout, optional=True)


@dataclass(frozen=True, slots=True)
class Race(Several):
    """All at once; the first that ends well gives the value, and the others are cancelled."""

    kind: ClassVar[str] = "race"


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """The first case whose condition holds is run; else `otherwise`, else nothing."""

    cases: tuple[tuple[Condition, Node], ...]
    otherwise: Node | None = None
    kind: ClassVar[str] = "branch"

    def __post_init__(self) -> None:
        if not self.cases:
            raise PlanError("a branch needs at least one case: branch('total > 100', then=...)")
        for condition, _ in self.cases:
            _condition("branch", condition)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The cases by number, then `otherwise`."""
        found = [(str(number), node) for number, (_, node) in enumerate(self.cases)]
        return (*found, *((("otherwise", self.otherwise),) if self.otherwise is not None else ()))


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """Runs `body` for each item of `over` (a name in the scope, or a CEL text), or while a condition holds.

    max_iterations: more of them fail the loop. item: under which name the body finds the item. break_when: ends it after an
    iteration. delay: seconds between two. Its value is the list of the body's values.
    """

    body: Node
    max_iterations: int
    over: str | None = None
    while_: Condition | None = None
    item: str = "item"
    break_when: Condition | None = None
    delay: float = 0.0
    kind: ClassVar[str] = "loop"

    def __post_init__(self) -> None:
        if (self.over is None) == (self.while_ is None):
            raise PlanError(
                "a loop runs over a collection or while a condition holds: give one of over and while_"
            )
        _count("loop", "max_iterations", self.max_iterations)
        if self.over is not None:
            _condition("loop", self.over)
        for condition in (self.while_, self.break_when):
            if condition is not None:
                _condition("loop", condition)
        _number("loop", "delay", self.delay, 0.0)
        identifier("loop", "item", self.item)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The body."""
        return (("body", self.body),)


@dataclass(frozen=True, slots=True)
class MapReduce(Node):
    """Runs `map` for each item of `over`, `concurrency` chunks of `chunk` items at once, then puts the values together.

    reduce: "list", "sum", "count", "min", "max", "merge", or a step that finds them as `items`. attempts: a chunk that fails is
    tried so often, alone. partition: a CEL text over the item; the value is then a mapping of its values to what each part
    was reduced to. most: more items fail it.
    """

    over: str
    map: Node
    reduce: str | Node = "list"
    item: str = "item"
    concurrency: int = 8
    chunk: int = 1
    attempts: int = 1
    partition: str | None = None
    most: int = 100_000
    kind: ClassVar[str] = "map_reduce"
    REDUCERS: ClassVar[tuple[str, ...]] = ("list", "sum", "count", "min", "max", "merge")

    def __post_init__(self) -> None:
        _condition("map_reduce", self.over)
        if not isinstance(self.reduce, Node):
            one_of("map_reduce", "reduce", self.reduce, self.REDUCERS)
        for name in ("concurrency", "chunk", "attempts", "most"):
            _count("map_reduce", name, getattr(self, name))
        if self.partition is not None:
            _condition("map_reduce", self.partition)
        identifier("map_reduce", "item", self.item)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The map, and the reducing step if it is one."""
        return (("map", self.map), *((("reduce", self.reduce),) if isinstance(self.reduce, Node) else ()))


@dataclass(frozen=True, slots=True)
class Retry(Node):
    """Tries again what failed, `attempts` times in all, after `delay` seconds, and `factor` times more after each further one.

    retry_when: a condition over `error` (code, message, details) and `attempt`; by default the codes that may pass by themselves.
    jitter: the part (0 to 1) of a delay that is drawn. fallback: run instead when the last attempt failed.
    """

    body: Node
    attempts: int = 3
    delay: float = 0.1
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.1
    retry_when: Condition | None = None
    fallback: Node | None = None
    kind: ClassVar[str] = "retry"
    CODES: ClassVar[frozenset[str]] = frozenset(
        {"unavailable", "overloaded", "rate_limited", "timeout", "execution_failed", "internal"}
    )

    def __post_init__(self) -> None:
        _count("retry", "attempts", self.attempts)
        for name, least in (("delay", 0.0), ("factor", 1.0), ("maximum", 0.0)):
            _number("retry", name, getattr(self, name), least)
        _number("retry", "jitter", self.jitter, 0.0, 1.0)
        if self.retry_when is not None:
            _condition("retry", self.retry_when)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The body, and the fallback if there is one."""
        return (("body", self.body), *((("fallback", self.fallback),) if self.fallback is not None else ()))


@dataclass(frozen=True, slots=True)
class CircuitBreaker(Node):
    """After `threshold` failures in a row nothing is tried for `recovery` seconds (it fails with `unavailable`).

    Then `trials` at a time may try, and the first that ends well closes it again. key: which breaker it is; all of one key on a
    node share it."""

    body: Node
    key: str
    threshold: int = 5
    recovery: float = 30.0
    trials: int = 1
    kind: ClassVar[str] = "circuit_breaker"

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise PlanError(f"circuit_breaker: key is {self.key!r}; expected a text", field="key")
        _count("circuit_breaker", "threshold", self.threshold)
        _count("circuit_breaker", "trials", self.trials)
        positive("circuit_breaker", "recovery", self.recovery)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The body."""
        return (("body", self.body),)


@dataclass(frozen=True, slots=True)
class Hedge(Node):
    """Runs the body once more when it has not ended after `after` seconds, or has failed; the first good end gives the value.

    Without `after`: after the time in which 95 of 100 of the latest runs of this hedge on this node had ended. Until it has
    seen 20 of them, nothing is run once more but what failed.
    """

    body: Node
    after: float | None = None
    attempts: int = 2
    kind: ClassVar[str] = "hedge"

    def __post_init__(self) -> None:
        positive("hedge", "after", self.after, optional=True)
        _count("hedge", "attempts", self.attempts, most=MOST_HEDGED)

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """The body."""
        return (("body", self.body),)


@dataclass(frozen=True, slots=True)
class Sleep(Node):
    """Waits, at most as long as the request has time."""

    seconds: float
    kind: ClassVar[str] = "sleep"

    def __post_init__(self) -> None:
        positive("sleep", "seconds", self.seconds)


def below(place: str, part: str | int) -> str:
    """The place of a node below another."""
    return f"{place}/{part}" if place else str(part)


def _node(given: Any) -> Node:
    from packetflow.composition.building import node_of

    return node_of(given)


def _parts(node: Node, kind: type[Several]) -> tuple[Node, ...]:
    """What an operator joins: `a >> b >> c` is one pipeline of three. One that was given a name stays whole."""
    if isinstance(node, kind) and node == kind(node.steps):
        return node.steps
    return (node,)


def _unique(kind: str, steps: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for step in steps:
        if not isinstance(step, Node):
            raise PlanError(f"a {kind} holds {step!r}; expected nodes, such as step('ticket.open')")
        if step.name is not None and step.name in seen:
            raise PlanError(
                f"two steps of a {kind} are called {step.name!r}; expected a name of its own for each"
            )
        seen.add(step.name or "")


def _condition(kind: str, given: object) -> None:
    if isinstance(given, str):
        Expression(given)
    elif not callable(given):
        raise PlanError(f"{kind}: {given!r} is no condition; expected a CEL text or a function of the scope")


def _count(kind: str, name: str, given: object, optional: bool = False, most: float = inf) -> None:
    if given is None and optional:
        return
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        to = "" if most == inf else f" to {most:g}"
        raise PlanError(f"{kind}: {name} is {given!r}; expected a whole number from 1{to}", field=name)


def _number(kind: str, name: str, given: object, least: float, most: float = inf) -> None:
    good = isinstance(given, int | float) and not isinstance(given, bool) and least <= given <= most
    if not good or given == inf:
        to = "" if most == inf else f" to {most:g}"
        raise PlanError(f"{kind}: {name} is {given!r}; expected a number from {least:g}{to}", field=name)


def positive(kind: str, name: str, given: object, optional: bool = False) -> None:
    """Raises PlanError for what is no number of seconds above 0."""
    if given is None and optional:
        return
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise PlanError(f"{kind}: {name} is {given!r}; expected seconds above 0", field=name)


def one_of(kind: str, name: str, given: object, words: tuple[object, ...]) -> None:
    """Raises PlanError for what is none of the words."""
    if given not in words:
        raise PlanError(
            f"{kind}: {name} is {given!r}; expected one of {', '.join(map(repr, words))}", field=name
        )


def identifier(kind: str, name: str, given: object) -> None:
    """Raises PlanError for what can't be a name in the scope."""
    if not isinstance(given, str) or not given.isidentifier():
        raise PlanError(f"{kind}: {name} is {given!r}; expected a name", field=name)
