"""A node as it is in a simulation: without the operator's door, its modules watched, its log and disk the world's."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from packetflow.capabilities.context import Context
from packetflow.intelligence.chain import Hook, Hooks, ModuleChain
from packetflow.intelligence.gate import Gate
from packetflow.node.node import Node
from packetflow.testing.disk import NodeDisk
from packetflow.wire.values import Request, Response

PID = 1  # what a node here takes itself for: the same in every process


class SimulatedNode(Node):
    """The operator's door is left out: it is a socket of the file system, which leads out of the simulation."""

    doors = ("tcp", "http")
    disk: NodeDisk

    def __init__(self, *arguments: Any, log: NodeLog, **options: Any) -> None:
        super().__init__(*arguments, log_stream=log, **options)
        self.pid = PID
        self.voice = log
        self.findings: list[str] = []
        """What modules did that they must not, a sentence each."""

    def swap_chain(self, chain: ModuleChain) -> None:
        """Put a chain in place whose hooks are watched."""
        super().swap_chain(WatchedChain(chain, self._told))

    def _told(self, gate: Gate, what: str, cure: str) -> None:
        self.findings.append(f"module {gate.name} changed {what} in place; expected {cure}")
        self.log.error("a module changed a value in place", module=gate.name, value=what)


class WatchedChain(ModuleChain):
    """A chain that tells of hooks that change what they are only shown. Production does not look for that (design ruling 13)."""

    __slots__ = ("_told",)

    def __init__(self, gates: Iterable[Gate], told: Callable[[Gate, str, str], None]) -> None:
        super().__init__(gates)
        self._told = told

    def hooks(
        self, id: str, tags: Iterable[str], *, nested: bool, bare: Iterable[str] = ()
    ) -> tuple[Hooks, Hooks, Hooks]:
        """See ModuleChain."""
        requests, plans, responses = super().hooks(id, tags, nested=nested, bare=bare)
        return self._watched(requests), self._watched(plans), self._watched(responses)

    def _watched(self, hooks: Hooks) -> Hooks:
        return tuple((gate, self._watch(gate, hook)) for gate, hook in hooks)

    def _watch(self, gate: Gate, hook: Hook) -> Hook:
        def watched(thing: Any, context: Context) -> Any:
            what, value, cure = _shown(thing)
            before = repr(value)
            try:
                return hook(thing, context)
            finally:
                if repr(value) != before:
                    self._told(gate, what, cure)

        return watched


def _shown(thing: Any) -> tuple[str, Any, str]:
    """What of it a hook must not change, and what it does instead."""
    if isinstance(thing, Request):
        return "request.payload", thing.payload, "a new one: Intercept(request.with_payload(...))"
    if isinstance(thing, Response):
        return "response.value", thing.value, "a new one: Transform(response.with_value(...))"
    return "the plan", thing, "a new one: Optimize(...)"


class NodeLog(io.StringIO):
    """What a node says goes to the world's log, until it has crashed."""

    def __init__(self, into: io.StringIO) -> None:
        super().__init__()
        self._into: io.StringIO | None = into

    def write(self, text: str) -> int:
        """See TextIO."""
        if self._into is not None:
            self._into.write(text)
        return len(text)

    def crash(self) -> None:
        """It says nothing more."""
        self._into = None
