"""Random plans with random failures: the engine does what a plain sequential interpreter does."""

from __future__ import annotations

import os
from typing import Any

import gevent
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow import capability
from packetflow.composition.building import (
    branch,
    composition,
    loop,
    map_reduce,
    parallel,
    pipeline,
    retry,
    saga,
    step,
)
from packetflow.composition.nodes import (
    Branch,
    Cel,
    Loop,
    MapReduce,
    Node,
    Parallel,
    Pipeline,
    Retry,
    Saga,
    Step,
    Value,
)
from packetflow.testing import World, simulate
from packetflow.wire.errors import Unavailable

PLANS = int(os.environ.get("PACKETFLOW_PLANS", "100"))


class Failed(Exception):
    """What the interpreter's step fails with."""

    not_undone: tuple[str, ...] = ()


class Interpreter:
    """Runs a plan in order, one thing at a time, in lines that are obviously right."""

    def __init__(self, failing: dict[str, int]) -> None:
        self.failing = dict(failing)
        self.calls: list[str] = []
        self.done: list[tuple[str, int]] = []  # what would be undone, and how often that is tried
        self.patience = 1

    def whole(self, node: Node, scope: dict[str, Any]) -> Any:
        """A plan to its end."""
        try:
            return self.run(node, scope)
        except Failed as failed:
            self.undo(0, failed)
            raise

    def undo(self, mark: int, failed: Failed) -> None:
        """Undo what was done since the mark, the last first."""
        done, self.done = self.done[mark:], self.done[:mark]
        for word, attempts in reversed(done):
            for attempt in range(1, attempts + 1):
                if self.does(f"undo {word}"):
                    break
                if attempt == attempts:
                    failed.not_undone += (word,)

    def does(self, word: str) -> bool:
        """Ask for a thing; whether it was done."""
        self.calls.append(word)
        if self.failing.get(word, 0) > 0:
            self.failing[word] -= 1
            return False
        return True

    def run(self, node: Node, scope: dict[str, Any]) -> Any:
        match node:
            case Step():
                return self.step(node, scope)
            case Pipeline():
                return self.in_order(node, scope)
            case Saga():
                before, self.patience = self.patience, node.attempts
                try:
                    return self.in_order(node, scope)
                finally:
                    self.patience = before
            case MapReduce():
                scope["result"] = [value for part in self.chunks(node, scope) for value in part]
                return scope["result"]
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
                    own, mark = dict(scope), len(self.done)
                    try:
                        value = self.run(node.body, own)
                    except Failed as failed:
                        if attempt == node.attempts and node.fallback is None:
                            raise
                        self.undo(mark, failed)
                        if failed.not_undone:
                            raise
                        if attempt == node.attempts:
                            assert node.fallback is not None
                            return self.run(node.fallback, scope)
                    else:
                        scope.update(own)
                        return value
        raise AssertionError(node)

    def in_order(self, node: Pipeline | Saga, scope: dict[str, Any]) -> Any:
        mark, value = len(self.done), None
        try:
            for each in node.steps:
                value = self.run(each, scope)
        except Failed as failed:
            self.undo(mark, failed)
            raise
        return value

    def chunks(self, node: MapReduce, scope: dict[str, Any]) -> Any:
        items = scope[node.over]
        for start in range(0, len(items), node.chunk):
            for attempt in range(1, node.attempts + 1):
                mark = len(self.done)
                try:
                    yield [
                        self.run(node.map, {**scope, node.item: item})
                        for item in items[start : start + node.chunk]
                    ]
                    break
                except Failed as failed:
                    if attempt == node.attempts:
                        raise
                    self.undo(mark, failed)
                    if failed.not_undone:
                        raise

    def step(self, node: Step, scope: dict[str, Any]) -> Any:
        word = node.inputs["word"].value  # type: ignore[union-attr]
        if not self.does(word):
            raise Failed(word)
        if node.compensate is not None:
            self.done.append((word, self.patience))
        value = scope["number"] + len(word)
        scope[node.outputs["result"]] = value
        return value


def steps(name: str) -> Any:
    """A step that reads `number`, and puts its result under a name of its own; perhaps it can be undone."""
    undo = step("test.work", inputs={"word": Value(f"undo {name}"), "number": Value(0)})
    return st.sampled_from([None, undo]).map(
        lambda compensate: step(
            "test.work",
            inputs={"word": Value(name), "number": Cel("number")},
            outputs={"result": f"r_{name}"},
            name=name,
            compensate=compensate,
        )
    )


@st.composite
def plans(draw: Any, depth: int = 3) -> Node:
    counter = draw(st.shared(st.builds(list), key="names"))

    def make(left: int, alone: bool = True) -> Node:
        # alone: not beside others, so that it may put `result`
        kind = draw(
            st.sampled_from(
                [
                    "step",
                    "step",
                    "pipeline",
                    "saga",
                    "parallel",
                    "branch",
                    "loop",
                    "retry",
                    *["map_reduce"] * alone,
                ]
                if left
                else ["step"]
            )
        )
        some = lambda: [make(left - 1, alone) for _ in range(draw(st.integers(1, 3)))]  # noqa: E731
        match kind:
            case "step":
                counter.append(0)
                return draw(steps(f"w{len(counter)}"))
            case "pipeline":
                return pipeline(*some())
            case "saga":
                return saga(*some(), attempts=draw(st.integers(1, 3)))
            case "map_reduce":
                attempts, chunk = draw(st.integers(1, 2)), draw(st.integers(1, 2))
                return map_reduce(
                    "items", make(left - 1, alone), concurrency=1, chunk=chunk, attempts=attempts
                )
            case "parallel":
                made = [pipeline(make(left - 1, False), name=f"p{n}") for n in range(draw(st.integers(1, 3)))]
                return parallel(*made)
            case "branch":
                limit = draw(st.integers(-5, 15))
                return branch(
                    f"number > {limit}",
                    then=make(left - 1, alone),
                    otherwise=(draw(st.booleans()) and make(left - 1, alone)) or None,
                )
            case "loop":
                return loop(make(left - 1, alone), over="items", max_iterations=10)
            case _:
                fallback = make(left - 1, alone) if draw(st.booleans()) else None
                return retry(
                    make(left - 1, alone),
                    attempts=draw(st.integers(1, 3)),
                    delay=0.5,
                    jitter=0.0,
                    fallback=fallback,
                )

    return make(depth)


def by_engine(plan: Node, failing: dict[str, int], order: int) -> tuple[Any, Any, list[str], list[str]]:
    """(the value, the step that failed, what could not be undone, what was asked for in order)"""
    left = dict(failing)
    calls: list[str] = []

    @capability("test.work")
    def work(word: str, number: int) -> int:
        """Add the word's length, or fail."""
        gevent.sleep(0.001)
        calls.append(word)
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
        answer = node.request("test.plan", {"number": 5, "items": [1, 2, 3]}, timeout=600.0)
        if answer.error is None:
            return answer.value, None, []
        assert answer.error.code == "unavailable"
        return None, answer.error.details["step"], list(answer.error.details.get("not_undone", ()))

    value, failed, not_undone = simulate(program, order).value
    return value, failed, not_undone, calls


def has_parallel_failure(plan: Node, failing: dict[str, int]) -> bool:
    """Where strands fail at once, which of them is told depends on the order: that is drawn."""
    from packetflow.composition.plan import walk

    return bool(failing) and any(isinstance(node, Parallel) for _, node in walk(plan))


@settings(max_examples=PLANS, deadline=None)
@given(st.data())
def test_the_engine_does_what_the_interpreter_does(data: Any) -> None:
    plan = data.draw(plans())
    done = {node.name for _, node in _walk(plan) if isinstance(node, Step) and node.name}
    names = sorted(done | {f"undo {name}" for name in done})
    failing = data.draw(st.dictionaries(st.sampled_from(names), st.integers(1, 3), max_size=3))
    reference = Interpreter(failing)
    try:
        expected: Any = (reference.whole(plan, {"number": 5, "items": [1, 2, 3]}), None, [])
    except Failed as failed:
        expected = (None, str(failed), list(failed.not_undone))
    *found, calls = by_engine(plan, failing, data.draw(st.integers(0, 1000)))
    if has_parallel_failure(plan, failing):
        # A strand that fails cancels its neighbours, so that what those would have used up of their failures is left.
        return
    assert tuple(found) == expected
    at_once = any(isinstance(node, Parallel) for _, node in _walk(plan))
    assert calls == reference.calls if not at_once else sorted(calls) == sorted(reference.calls)


def _walk(plan: Node) -> Any:
    from packetflow.composition.plan import walk

    return walk(plan)
