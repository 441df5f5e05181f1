"""The parts put together by hand: a catalogue, a chain and a door, without configuration, supervision or transports.

python examples/usage/own_wiring.py
"""

from packetflow import Context, Module, Request, capability
from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.definition import definition_of
from packetflow.capabilities.surroundings import Surroundings
from packetflow.intelligence.chain import ModuleChain
from packetflow.intelligence.gate import RUNNING, Gate
from packetflow.intelligence.match import Match
from packetflow.node.coroutines import Coroutines
from packetflow.node.door import Door
from packetflow.node.routes import Routes
from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.telemetry.traces import Traces


@capability("word.length")
def length(word: str) -> int:
    """Count letters."""
    return len(word)


class Prints(Module):
    """Prints what passes."""

    def handle_request(self, request: Request, context: Context) -> None:
        """Print it."""
        print("passes:", dict(request.payload))


def main() -> None:
    clock, routes = Clock(), Routes(timeout=30.0)
    door = Door(routes, clock, Traces(clock, keep=100))
    gate = Gate("prints", Prints, match=Match(["word.*"]), priority=100)
    gate.module, gate.status = Prints(), RUNNING
    catalogue = Catalogue([Registered(definition_of(length), {}, Surroundings(Coroutines().run))])
    routes.swap(catalogue=catalogue, chain=ModuleChain([gate]))
    session = Session("somebody", routes.grants(["word.*"]))
    print(door.request("word.length", {"word": "hello"}, session).value)
    print(door.request("word.length", {}, session).error)


if __name__ == "__main__":
    main()
