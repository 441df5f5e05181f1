"""Whole nodes in a simulation: their time is virtual, a seed draws every turn, and doors and clients share a network of ours."""

from __future__ import annotations

import io
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gevent

from packetflow.capabilities.definition import Capability
from packetflow.client import Client
from packetflow.client.concurrency import Address as ClientAddress
from packetflow.client.greenlets import Greenlets
from packetflow.node.blueprint import ModuleGiven
from packetflow.node.config import NodeConfig
from packetflow.node.node import Node
from packetflow.otp.errors import SpecError
from packetflow.otp.signals import die
from packetflow.otp.simulation import world as actors
from packetflow.otp.simulation.loop import SimulatedLoop
from packetflow.otp.simulation.network import Address, Network
from packetflow.otp.simulation.world import TURNS, Run
from packetflow.wire.errors import Cancelled


class World(actors.World):
    """What a simulated program is given: nodes and clients besides systems, time, chance and accidents."""

    def __init__(self, seed: int, loop: SimulatedLoop) -> None:
        super().__init__(seed, loop)
        self._log = io.StringIO()
        self._folder = tempfile.TemporaryDirectory(prefix="packetflow-world-", ignore_cleanup_errors=True)
        self._nodes: list[Node] = []
        self._clients: list[Client] = []

    @property
    def log(self) -> str:
        """What all nodes of this world have logged, a JSON line each."""
        return self._log.getvalue()

    def node(
        self,
        name: str = "node",
        *,
        capabilities: Iterable[Callable[..., Any] | Capability] = (),
        modules: Iterable[ModuleGiven] = (),
        config: Mapping[str, Any] | None = None,
        doors: bool = False,
    ) -> Node:
        """A node that has started. It ends with the world, and a node of the same name finds the same data folder.

        capabilities, modules: as `Node` takes them. config: as the configuration file has it. doors: whether it listens on
        the world's network, for `client`. Raises what `Node` and `Node.start` raise.
        """
        given = {section: dict(values) for section, values in (config or {}).items()}
        folder = Path(self._folder.name, name)
        given["node"] = {"name": name, "data_folder": str(folder), **given.get("node", {})}
        given["tcp"] = {"port": 0, "enabled": doors, **given.get("tcp", {})}
        given["http"] = {"port": 0, "enabled": False, **given.get("http", {})}
        made = SimulatedNode(
            NodeConfig.model_validate(given),
            capabilities=capabilities,
            modules=modules,
            clock=self.clock(),
            watchdog=False,
            log_stream=self._log,
        )
        self.adopt(made.system)
        self._nodes.append(made)
        return made.start()

    def client(self, node: Node, name: str = "client", **options: Any) -> Client:
        """A client of a node's tcp door. name: which side of the network it is on, for `network.part`. options: of `Client`.

        Raises LookupError if the node has no tcp door: give it `doors=True`.
        """
        address = self.address(node)
        url = f"tcp://{address[0]}:{address[1]}"
        made = Client(url, clock=self.clock(), concurrency=SimulatedSide(self.network, name), **options)
        self._clients.append(made)
        return made

    def address(self, node: Node) -> Address:
        """Where a node's tcp door is on the world's network. Raises LookupError if it has none."""
        for transport in node.transports:
            if transport.kind == "tcp":
                host, _, port = transport.address.rpartition(":")
                return host, int(port)
        raise LookupError(
            f"node {node.config.node.name!r} has no tcp door; world.node(..., doors=True) gives it one"
        )

    def crash(self, node: Node) -> None:
        """A node's end without a word: no drain, no goodbye, every connection is cut, every actor killed.

        Its data folder is free at once, for the next node of that name. (Requests under way are ended as if cancelled, so
        that their `finally` blocks run: a real crash would not even do that.)
        """
        for transport in node.transports:
            if transport.kind == "tcp":
                self.network.cut(self.address(node))
            transport.stop_accepting()
        for waiting in list(node.door.in_flight):
            if waiting is not gevent.getcurrent():
                node.door.cancel(waiting, Cancelled("the node has crashed"))
        for process in list(node.system.scheduler.processes.values()):
            die(process, "killed")
        node.stop(0.0)

    def close(self) -> None:
        """The end of the world: clients close, nodes stop, and what still runs is shut down."""
        self.kill_at_random(0.0)
        for client in self._clients:
            client.close()
        for node in reversed(self._nodes):
            node.stop(0.0)
        super().close()

    def discard(self) -> None:
        """Closes what is still open, and removes the folder."""
        super().discard()
        self._folder.cleanup()


class SimulatedNode(Node):
    """A node without the operator's door: that one is a socket of the file system, which leads out of the simulation."""

    doors = ("tcp", "http")


class SimulatedSide(Greenlets):
    """How a client waits and connects here. name: its own, on the network."""

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self._name = name

    def connect(self, address: ClientAddress, timeout: float) -> socket.socket:
        """A connected socket. Raises OSError."""
        if isinstance(address, str):
            raise ConnectionRefusedError(f"{address}: sockets of the file system lead out of a simulation")
        with gevent.Timeout(timeout, TimeoutError("timed out")):
            return self._network.connect(address, self._name)


def simulate(program: Callable[[World], Any], seed: int, *, turns: int = TURNS) -> Run:
    """Runs a program, which may start nodes, in a world of its own, in the order that the seed draws.

    It blocks the calling thread meanwhile. turns: how many it may make. Raises SimulationFailed (from what the program
    raised), Deadlock, Endless; each names the seed, which shows the same again.
    """
    return actors.simulate(program, seed, turns=turns, world=World)


def explore(program: Callable[[World], Any], seeds: Iterable[int], *, turns: int = TURNS) -> list[Run]:
    """Runs a program for each seed. Raises what the first that fails raises, which names the seed."""
    return [simulate(program, seed, turns=turns) for seed in seeds]


def simulation(
    seed: int | None = None, *, seeds: Iterable[int] = (), turns: int = TURNS
) -> Callable[[Callable[[World], Any]], Callable[[], list[Run]]]:
    """Makes a function of a world a test without arguments, which runs it for one seed or for several.

    @simulation(seeds=range(200))
    def test_one_answer_each(world): ...
    """
    wanted = [seed] if seed is not None else list(seeds)
    if not wanted:
        raise SpecError(
            "seeds", seeds, "one seed, or several: simulation(4711), simulation(seeds=range(200))"
        )

    def decorate(program: Callable[[World], Any]) -> Callable[[], list[Run]]:
        def test() -> list[Run]:
            return explore(program, wanted, turns=turns)

        test.__name__, test.__doc__, test.__module__ = program.__name__, program.__doc__, program.__module__
        return test

    return decorate
