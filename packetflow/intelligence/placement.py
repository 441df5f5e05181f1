"""A module's entry in the configuration, and the module that was made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from packetflow.intelligence.gate import Gate, OnError
from packetflow.intelligence.host import Hosted
from packetflow.intelligence.loader import LoadedModule
from packetflow.intelligence.manifest import ModuleError
from packetflow.intelligence.match import Match
from packetflow.intelligence.module import Module
from packetflow.otp import Ref


@dataclass(frozen=True)
class Placement:
    """Where a module stands and how it is treated there.

    name: of the instance. module: what it runs, by the name of its folder, as `package.module:Class`, or the class itself.
    """

    name: str
    module: str | type[Module]
    priority: int = 500
    match: Any = None
    scope: str = "all"
    on_error: OnError | None = None
    timeout: float = 1.0
    max_concurrency: int = 1
    enabled: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)

    def gate(self, loaded: LoadedModule) -> Gate:
        """The gate that it describes."""
        return Gate(
            self.name,
            loaded.cls,
            match=Match.of(self.match),
            priority=self.priority,
            scope=self.scope,
            timeout=self.timeout,
            on_error=self.on_error,
            limit=self.max_concurrency,
        )


class Placed:
    """A placement with its loaded module: behind its gate, and running under `supervisor` unless it is disabled."""

    def __init__(self, placement: Placement, loaded: LoadedModule, config: BaseModel, hosted: Hosted) -> None:
        self.placement = placement
        self.loaded = loaded
        self.config = config
        self.hosted = hosted
        self.gate = hosted.gate
        self.supervisor: Ref | None = None
        self.faults: deque[tuple[float, str]] = deque(maxlen=64)

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.placement.name

    @property
    def runs(self) -> str:
        """What it runs, for people."""
        module = self.placement.module
        return module if isinstance(module, str) else f"{module.__module__}:{module.__qualname__}"


def check_dependencies(placed: Sequence[Placed]) -> None:
    """Whether what the manifests ask of each other holds in this chain. Raises ModuleError that names every fault."""
    there: dict[str, Placed] = {}
    for one in placed:
        there.setdefault(one.loaded.manifest.name, one)
        there.setdefault(one.name, one)
    faults: list[str] = []
    for one in placed:
        wants = one.loaded.manifest.dependencies
        faults += [
            f"{one.name} needs {name}, which is not in the chain"
            for name in wants.requires
            if name not in there
        ]
        faults += [f"{one.name} conflicts with {name}" for name in wants.conflicts if name in there]
        faults += _out_of_order(one, wants.after, there, later=False)
        faults += _out_of_order(one, wants.before, there, later=True)
    if faults:
        raise ModuleError("; ".join(faults))


def _out_of_order(one: Placed, names: Iterable[str], there: Mapping[str, Placed], later: bool) -> list[str]:
    faults = []
    for name in names:
        other = there.get(name)
        if other is None or other is one:
            continue
        mine, its = one.gate.priority, other.gate.priority
        if (mine >= its) if later else (mine <= its):
            word = "before" if later else "after"
            faults.append(f"{one.name} (priority {mine}) has to stand {word} {name} (priority {its})")
    return faults
