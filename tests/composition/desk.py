"""Capabilities for the tests of plans, and a node that serves them in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from packetflow import capability
from packetflow.composition.building import composition
from packetflow.composition.nodes import Node as PlanNode
from packetflow.testing import World, simulate
from packetflow.wire.errors import RequestError, Unavailable


class Desk:
    """What was done, in order, and what fails: a name of a step -> how often it still fails."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: list[str] = []
        self.ended: list[str] = []
        self.failing: dict[str, int] = {}
        self.error: Callable[[str], RequestError] = Unavailable
        self.running = self.most = 0

    def capabilities(self) -> list[Any]:
        """`test.do` does a thing by its name and takes its time; `test.undo` undoes it; the others compute."""

        @capability("test.do", timeout=600.0)
        def do(word: str, seconds: float = 0.0) -> dict[str, Any]:
            """Do a thing."""
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                if seconds:
                    gevent.sleep(seconds)
                if self.failing.get(word, 0) > 0:
                    self.failing[word] -= 1
                    raise self.error(f"{word} can't be done")
                self.done.append(word)
                return {word: word}
            finally:
                self.running -= 1
                self.ended.append(word)

        @capability("test.undo", timeout=600.0)
        def undo(word: str, seconds: float = 0.0) -> None:
            """Undo it."""
            if seconds:
                gevent.sleep(seconds)
            if self.failing.get(f"undo {word}", 0) > 0:
                self.failing[f"undo {word}"] -= 1
                raise Unavailable(f"{word} can't be undone")
            self.done.append(f"undo {word}")

        @capability("test.double")
        def double(number: int) -> int:
            """Twice as much."""
            return number * 2

        @capability("test.total")
        def total(items: list[int]) -> int:
            """All together."""
            return sum(items)

        return [do, undo, double, total]


def run_plan(
    plan: PlanNode,
    scope: dict[str, Any] | None = None,
    prepare: Callable[[Desk], object] = lambda desk: None,
    timeout: float = 500.0,
    seed: int = 1,
) -> tuple[Any, Desk, float]:
    """A plan run as a composition on a node: (the response, what the desk saw, virtual seconds)."""
    seen: list[tuple[Any, Desk, float]] = []

    def program(world: World) -> None:
        desk = Desk(world)
        prepare(desk)
        given = dict(scope or {})
        made = composition("test.plan", "A plan", plan, requires=dict.fromkeys(given, Any), timeout=600.0)
        node = world.node(capabilities=[*desk.capabilities(), made])
        begun = world.clock().monotonic()
        answer = node.request("test.plan", given, timeout=timeout)
        took = world.clock().monotonic() - begun
        gevent.sleep(100)  # what goes on behind it
        assert list(node.door.active()) == []
        seen.append((answer, desk, took))

    simulate(program, seed)
    return seen[0]
