"""A door with a chain and capabilities of the test's own, without the rest of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.definition import definition_of
from packetflow.capabilities.surroundings import Surroundings
from packetflow.intelligence.chain import ModuleChain
from packetflow.intelligence.gate import RUNNING, Gate
from packetflow.intelligence.match import Match
from packetflow.intelligence.module import Module
from packetflow.node.door import Door
from packetflow.node.routes import Routes
from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.telemetry.traces import Traces
from packetflow.wire.values import Metadata, Response


def gate(module: Module, name: str, priority: int = 500, match: Any = None, **settings: Any) -> Gate:
    made = Gate(name, type(module), match=Match.of(match), priority=priority, **settings)
    made.module = module
    made.status = RUNNING
    return made


class Passing:
    """One door, ready to be asked."""

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        gates: Iterable[Gate] = (),
        grants: Iterable[str] = ("*",),
        limit: int = 1024,
        queue: int = 0,
        door: str = "local",
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.routes = Routes(30.0)
        self.traces = Traces(self.clock)
        self.door = Door(self.routes, self.clock, self.traces, limit=limit, queue=queue)
        definitions = [definition for function in functions if (definition := definition_of(function))]
        self.surroundings = Surroundings(lambda coroutine: None, self.clock)
        self.registered = [Registered(definition, {}, self.surroundings) for definition in definitions]
        self.routes.swap(catalogue=Catalogue(self.registered), chain=ModuleChain(gates))
        self.session = Session("ana", self.routes.grants(grants), door=door)

    def __call__(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> Response:
        return self.door.request(
            capability, payload if payload is not None else fields, self.session, Metadata(timeout=timeout)
        )

    def stages(self, response: Response) -> list[tuple[str, str]]:
        """(kind, where) of each span, the node's own ones aside."""
        spans = self.traces.as_data(response.trace)["spans"]
        return [
            (span["kind"], span["where"])
            for span in spans
            if span["kind"] in ("request", "run", "response", "plan")
        ]
