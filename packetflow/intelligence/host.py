"""Hosts a module: a supervised actor that starts the instance, puts it behind its gate, and ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from packetflow.capabilities.contract import path_of
from packetflow.intelligence.gate import RESTARTING, RUNNING, Gate
from packetflow.intelligence.loader import LoadedModule
from packetflow.intelligence.manifest import ModuleError
from packetflow.intelligence.module import Module
from packetflow.otp import GenServer, Ref, cast
from packetflow.otp.clock import Clock


class Hosted:
    """What a host needs to start its module, again and again. changed(): the chain's hooks have to be bound anew."""

    def __init__(
        self,
        gate: Gate,
        loaded: LoadedModule,
        config: BaseModel,
        clock: Clock,
        log: Any,
        changed: Callable[[], None],
    ) -> None:
        self.gate = gate
        self.loaded = loaded
        self.config = config
        self.clock = clock
        self.log = log
        self.changed = changed
        self.starts = 0
        self.host: Ref | None = None

    def crash(self, why: str) -> None:
        """Have the host crash, so that its supervisor starts the module anew."""
        if self.host is not None:
            cast(self.host, ("crash", why))


class ModuleHost(GenServer):
    """The process of one module instance. Its supervisor restarts it; while it is down the gate answers by `on_error`."""

    hub_limit = 30.0  # a start may load a model, as long as the usual `timeouts.start`

    def init(self, hosted: Hosted) -> None:
        """Start the module. Raises what its `init` raises."""
        self._hosted = hosted
        module = hosted.loaded.cls()
        module.name = hosted.gate.name
        module.config = hosted.config
        module.clock = hosted.clock
        module.log = hosted.log
        module.init(hosted.config)
        self._module = module
        hosted.starts += 1
        hosted.host = self.ref
        hosted.gate.module = module
        hosted.gate.status = RUNNING
        if hosted.starts > 1:
            hosted.changed()

    def handle_cast(self, message: Any) -> None:
        """("crash", why): the module is unsound, and has to be started anew."""
        _, why = message
        raise ModuleError(f"module {self._hosted.gate.name}: {why}")

    def terminate(self, reason: object) -> None:
        """End the module in good order."""
        gate = self._hosted.gate
        if gate.module is self._module:
            gate.module = None
            gate.status = RESTARTING
            self._hosted.changed()
        self._module.terminate(reason)


def checked_config(cls: type[Module], name: str, given: Mapping[str, Any]) -> BaseModel:
    """A module's configuration by its `Config`. Raises ModuleError that names every faulty key."""
    try:
        return cls.Config.model_validate(dict(given))
    except ValidationError as error:
        faults = []
        for item in error.errors(include_url=False, include_input=True):
            key = path_of(item["loc"])
            if item["type"] == "extra_forbidden":
                faults.append(f"unknown key {key!r}; expected {', '.join(cls.Config.model_fields) or 'none'}")
            elif item["type"] == "missing":
                faults.append(f"{key} is required")
            else:
                faults.append(f"{key}: {item['msg']}, given {item['input']!r}")
        raise ModuleError(f"module {name}: config: {'; '.join(faults)}", name) from error
