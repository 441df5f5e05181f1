"""Starts a module of the `modules/` folder outside a node: loaded as a node loads it, with a clock to turn by hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog
from structlog.testing import LogCapture

from packetflow.intelligence.loader import LoadedModule, load
from packetflow.otp.clock import Clock

MODULES = Path(__file__).parents[2] / "modules"


class HandClock(Clock):
    """A clock that stands until it is turned."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(monotonic=lambda: self.now)

    def turn(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class StandInContext:
    """What the modules here read of a context."""

    capability: str = "ticket.open"
    principal: str = "ana"
    tenant: str = ""
    duration: float = 0.002
    id: str = "0f" * 16


def loaded(name: str) -> LoadedModule:
    return load(name, [MODULES])


def part(module: Any, name: str) -> ModuleType:
    """A neighbour of the module's file, such as `masking`."""
    return sys.modules[type(module).__module__.rpartition(".")[0] + "." + name]


def started(name: str, clock: Clock | None = None, **config: Any) -> Any:
    """An instance of the module with this configuration. Raises pydantic's ValidationError for one that it refuses."""
    cls = loaded(name).cls
    module = cls()
    module.name = name
    module.config = cls.Config(**config)
    module.clock = clock or HandClock()
    module.lines = LogCapture()  # type: ignore[attr-defined]
    module.log = structlog.wrap_logger(None, processors=[module.lines])  # type: ignore[attr-defined]
    module.init(module.config)
    return module
