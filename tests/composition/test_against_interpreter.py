"""Random plans with random failures: the engine does what a plain sequential interpreter does."""

from __future__ import annotations

import os
from typing import Any

import gevent
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow import capability
from packetflow.composition.building import branch, composition, loop, parallel, pipeline, retry, step
from packetflow.composition.nodes import Branch, Cel, Loop, Node, Parallel, Pipeline, Retry, Step, Value
from packetflow.testing import World, simulate
from packetflow.wire.errors import Unavailable

PLANS = int(os.environ.get("PACKETFLOW_PLANS", "200"))


class Failed(Exception):
    """What the interpreter's step fails with."""


class Interpreter:
    """Runs a plan in order, one thing at a time, in twenty lines that are obviously right."""

    def __init__(self, failing: dict[str, int]) -> None:
        self.failing = dict(failing)
        self.calls: list[str] = []

    def run(self, node: Node, scope: dict[str, Any]) -> Any:
        match node:
            case Step():
                return self.step(node, scope)
            case Pipeline():
                value = None
                for each in node.steps:
                    value = self.run(each, scope)
                return value
            case Parallel():
                parts, error = {}, None
                for each in node.steps:
                    own = dict(scope)
                    try:
                        parts[each.label] = (self.run(each, own), own)
                    except Failed as failed:
                        error = error or failed
                if error:
                    raise error
                for _, own in parts.values():
                    scope.update(
                        {
                            name: value
                            for name, value in own.items()
                            if name not in scope or scope[name] != value
                        }
                    )
                return {label: value for label, (value, _) in parts.items()}
            case Branch():
                for condition, then in node.cases:
                    name, _, bound = str(condition).partition(" > ")
                    if scope[name] > int(bound):
                        return self.run(then, scope)
                return None if node.otherwise is None else self.run(node.otherwise, scope)
            case Loop():
                values = []
                for item in scope[str(node.over)]:
                    scope[node.item] = item
                    values.append(self.run(node.body, scope))
                scope.pop(node.item, None)
                return values
            case Retry():
                for attempt in range(1, node.attempts + 1):
                    own = dict(scope)
                    try:
                        value = self.run(node.body, own)
                    except Failed:
                        if attempt == node.attempts:
                            if node.fallback is None:
                                raise
                            return self.run(node.fallback, scope)
                    else:
                        scope.update(own)
                        return value
        raise AssertionError(node)

    def step(self, node: Step, scope: dict[str, Any]) -> Any:
        word = node.inputs["word"].value  # type: ignore[union-attr]
        self.calls.append(word)
        if self.failing.get(word, 0) > 0:
            self.failing[word] -= 1
            raise Failed(word)
        value = scope["number"] + len(word)
        scope[node.outputs["result"]] = value
        return value


def steps(name: str) -> Any:
    """A step that reads `number`, and puts its result under a name of its own."""
    return st.just(
        step(
            "test.work",
            inputs={"word": Value(name), "number": Cel("number")},
            outputs={"result": f"r_{name}"},
            name=name,
        )
    )


@st.composite
def plans(draw: Any, depth: int = 3) -> Node:
    counter = draw(st.shared(st.builds(list), key="names"))

    def make(left: int) -> Node:
        kind = draw(
            st.sampled_from(
                ["step", "step", "pipeline", "parallel", "branch", "loop", "retry"] if left else ["step"]
            )
        )
        some = lambda: [make(left - 1) for _ in range(draw(st.integers(1, 3)))]  # noqa: E731
        match kind:
            case "step":
                counter.append(0)
                return draw(steps(f"w{len(counter)}"))
            case "pipeline":
                return pipeline(*some())
            case "parallel":
                made = [
                    make(left - 1) if False else pipeline(make(left - 1), name=f"p{n}")
                    for n in range(draw(st.integers(1, 3)))
                ]
                return parallel(*made)
            case "branch":
                limit = draw(st.integers(-5, 15))
                return branch(
                    f"number > {limit}",
                    then=make(left - 1),
                    otherwise=(draw(st.booleans()) and make(left - 1)) or None,
                )
            case "loop":
                return loop(make(left - 1), over="items", max_iterations=10)
            case _:
                fallback = make(left - 1) if draw(st.booleans()) else None
                return retry(
                    make(left - 1), attempts=draw(st.integers(1, 3)), delay=0.5, jitter=0.0, fallback=fallback
                )

    return make(depth)


def by_engine(plan: Node, failing: dict[str, int], order: int) -> tuple[Any, Any]:
    left = dict(failing)

    @capability("test.work")
    def work(word: str, number: int) -> int:
        """Add the word's length, or fail."""
        gevent.sleep(0.001)
        if left.get(word, 0) > 0:
            left[word] -= 1
            raise Unavailable(word)
        return number + len(word)

    made = composition(
        "test.plan", "A plan", plan, requires={"number": int, "items": list[int]}, timeout=600.0
    )

    def program(world: World) -> Any:
        node = world.node(capabilities=[work, made])
        assert node.compositions.faults(made) == []
        answer = node.request("test.plan", {"number": 5, "items": [1, 2]}, timeout=600.0)
        if answer.error is None:
            return answer.value, None
        assert answer.error.code == "unavailable"
        return None, answer.error.details["step"]

    value: tuple[Any, Any] = simulate(program, order).value
    return value


def has_parallel_failure(plan: Node, failing: dict[str, int]) -> bool:
    """Where strands fail at once, which of them is told depends on the order: that is drawn."""
    from packetflow.composition.plan import walk

    return bool(failing) and any(isinstance(node, Parallel) for _, node in walk(plan))


@settings(max_examples=PLANS, deadline=None)
@given(st.data())
def test_the_engine_does_what_the_interpreter_does(data: Any) -> None:
    plan = data.draw(plans())
    names = sorted({node.name for _, node in _walk(plan) if isinstance(node, Step) and node.name})
    failing = data.draw(st.dictionaries(st.sampled_from(names), st.integers(1, 3), max_size=3))
    reference = Interpreter(failing)
    try:
        expected: tuple[Any, Any] = (reference.run(plan, {"number": 5, "items": [1, 2]}), None)
    except Failed as failed:
        expected = (None, str(failed))
    found = by_engine(plan, failing, data.draw(st.integers(0, 1000)))
    if has_parallel_failure(plan, failing):
        # A strand that fails cancels its neighbours, so that what those would have used up of their failures is left.
        return
    assert found == expected


def _walk(plan: Node) -> Any:
    from packetflow.composition.plan import walk

    return walk(plan)
