"""Whole nodes in a simulation: their time is virtual, a seed draws every turn, and doors and clients share a network of ours."""

from __future__ import annotations

import io
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from packetflow.capabilities.definition import Capability
from packetflow.client import Client
from packetflow.client.concurrency import Address as ClientAddress
from packetflow.client.greenlets import Greenlets
from packetflow.node.blueprint import ModuleGiven
from packetflow.node.config import LoadedConfig, NodeConfig, load_with_overlay
from packetflow.node.node import Node
from packetflow.otp.errors import SpecError
from packetflow.otp.signals import die
from packetflow.otp.simulation import world as actors
from packetflow.otp.simulation.loop import SimulatedLoop
from packetflow.otp.simulation.network import Address, Network
from packetflow.otp.simulation.world import TURNS, Run
from packetflow.testing.disk import NodeDisk, SimulatedDisk
from packetflow.testing.nodes import NodeLog, SimulatedNode
from packetflow.transports.listener import Listener as Transport
from packetflow.wire.errors import Cancelled

FOLDER = "FOLDER"
MACHINES_OWN = (
    "PACKETFLOW_",
    "XDG_CONFIG_HOME",
    "HOME",
)  # variables that tell where else to look for settings


class World(actors.World):
    """What a simulated program is given: nodes and clients besides systems, time, chance and accidents."""

    def __init__(self, seed: int, loop: SimulatedLoop) -> None:
        super().__init__(seed, loop)
        self._log = io.StringIO()
        self._folder = tempfile.TemporaryDirectory(prefix="packetflow-world-", ignore_cleanup_errors=True)
        self._nodes: list[SimulatedNode] = []
        self._disks: dict[str, SimulatedDisk] = {}
        self._chance = loop.chance()
        self._clients: list[Client] = []

    @property
    def log(self) -> str:
        """What all nodes of this world have logged, a JSON line each; the world's folder is written as FOLDER."""
        return self.told(self._log.getvalue())

    @property
    def folder(self) -> Path:
        """A folder for files of the program's own, such as a configuration; it ends with the world."""
        return Path(self._folder.name)

    def told(self, text: str) -> str:
        """A text that is the same in every process: without the name that the system gave the world's folder."""
        return text.replace(self._folder.name, FOLDER)

    def node(
        self,
        name: str = "node",
        *,
        capabilities: Iterable[Callable[..., Any] | Capability] = (),
        modules: Iterable[ModuleGiven] = (),
        config: Mapping[str, Any] | str | Path | None = None,
        doors: bool = False,
    ) -> Node:
        """A node that has started. It ends with the world, and a node of the same name finds the same data folder and disk.

        capabilities, modules: as `Node` takes them. config: as the configuration file has it, or the path of one: then what was
        changed at run time is kept and `reload` reads it again. doors: whether it listens on the world's network, for `client`.
        Raises what `Node` and `Node.start` raise, ConfigError.
        """
        disk = NodeDisk(self.disk(name))
        made = SimulatedNode(
            self._configured(name, config, doors, disk),
            capabilities=capabilities,
            modules=modules,
            clock=self.clock(),
            watchdog=False,
            log=NodeLog(self._log),
            disk=disk,
        )
        self.adopt(made.system)
        self._nodes.append(made)
        made.start()
        return made

    def _configured(
        self, name: str, config: Mapping[str, Any] | str | Path | None, doors: bool, disk: NodeDisk
    ) -> LoadedConfig | NodeConfig:
        folder = str(Path(self._folder.name, name))
        if isinstance(config, str | Path):
            flags = {
                "node.name": name, "node.data_folder": folder, "tcp.enabled": doors, "tcp.port": 0, "http.enabled": False,
            }  # fmt: skip
            # What else is set on this machine has no part in it: the same seed is the same everywhere.
            environment = {
                key: value for key, value in os.environ.items() if not key.startswith(MACHINES_OWN)
            }
            return load_with_overlay(config, environment, flags, disk=disk)[0]
        given = {section: dict(values) for section, values in (config or {}).items()}
        given["node"] = {"name": name, "data_folder": folder, **given.get("node", {})}
        given["tcp"] = {"port": 0, "enabled": doors, **given.get("tcp", {})}
        given["http"] = {"port": 0, "enabled": False, **given.get("http", {})}
        return NodeConfig.model_validate(given)

    def disk(self, name: str = "node") -> SimulatedDisk:
        """The disk that nodes of this name have: make it slow, full or faulty. It outlives them."""
        found = self._disks.get(name)
        if found is None:
            found = self._disks[name] = SimulatedDisk(self._loop)
        return found

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
                return _address(transport)
        raise LookupError(
            f"node {node.config.node.name!r} has no tcp door; world.node(..., doors=True) gives it one"
        )

    def crash(self, node: Node) -> None:
        """A node's end without a word: no drain, no goodbye, every connection is cut, every actor killed, and what its disk had
        not synced is lost, whole or in part, as the seed draws.

        Its data folder is free at once, for the next node of that name. Requests under way are ended as if cancelled: their
        `finally` blocks run, unlike in a real crash, but nothing that they do reaches the disk or the network any more.
        """
        self._strike_down(node)
        self._bury(node)

    def crash_within(self, node: Node, turns: int) -> Event:
        """The same, before one of the next `turns` turns, drawn by the seed, or when nothing is left to happen before that.

        Returns at once. What it returns is set when the node is down. Nothing happens if the world ends before.
        """
        down = Event()
        due = self._loop.turns + self._chance.randrange(turns)

        def bury() -> None:
            self._bury(node)
            down.set()

        def strike() -> None:
            if self._loop.turns >= due or self._loop.at_rest():
                self.before_turns(strike, False)
                self._strike_down(node)
                gevent.spawn(bury)

        self.before_turns(strike)
        return down

    def _strike_down(self, node: Node) -> None:
        assert isinstance(node, SimulatedNode)
        node.disk.crash()
        node.voice.crash()
        for transport in node.transports:
            self.network.cut(_address(transport))
            transport.stop_accepting()
        self.network.cut(caller=node.config.node.name)
        current = gevent.getcurrent()
        for waiting in list(node.door.in_flight):
            if waiting is not current:
                node.door.cancel(waiting, Cancelled("the node has crashed"))
        for process in list(node.system.scheduler.processes.values()):
            die(process, "killed")

    @staticmethod
    def _bury(node: Node) -> None:
        node.stop(0.0)
        while node.stores.open:  # its database leaves the file in the background
            gevent.sleep(0)

    def close(self) -> None:
        """The end of the world: clients close, nodes stop, and what still runs is shut down. Raises AssertionError if a module
        changed a value in place that it was only shown."""
        self._quiet()
        for client in self._clients:
            client.close()
        for node in reversed(self._nodes):
            node.stop(0.0)
        super().close()
        for node in self._nodes:
            for finding in node.findings:
                raise AssertionError(finding)

    def discard(self) -> None:
        """Closes what is still open, and removes the folder."""
        super().discard()
        self._folder.cleanup()


def _address(transport: Transport) -> Address:
    host, _, port = transport.address.rpartition(":")
    return host, int(port)


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
