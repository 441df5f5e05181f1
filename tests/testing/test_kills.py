"""Any supervised process of a node is killed at any turn: the node goes on answering, and nothing is left behind."""

from __future__ import annotations

import gc
import os
from typing import Any

import gevent
import pytest

from packetflow import Module, capability
from packetflow.node.node import Node
from packetflow.otp import kill
from packetflow.otp.process import Process
from packetflow.testing import World, explore
from tests.otp.actors import until, workers_alive


@capability("test.echo", timeout=5.0)
def echo(word: str) -> str:
    """Give the word back, a little later."""
    gevent.sleep(0.01)
    return word


class Watching(Module):
    """Sees what passes."""

    def handle_request(self, request: Any, context: Any) -> None:
        gevent.sleep(0.001)


def supervised(node: Node) -> list[Process]:
    """All but the root, whose end is the node's."""
    root = node._root
    assert root is not None
    return [one for one in node.system.scheduler.processes.values() if one is not root._process]


def well(node: Node) -> bool:
    """Whether it answers, with its module in the chain."""
    asked = node.request("test.echo", {"word": "well?"}, timeout=2.0)
    return asked.ok and [one["name"] for one in node.modules() if one["enabled"]] == ["watching"]


def everybody_in_turn(world: World) -> Any:
    """Each process once, under load, each time waiting until all is well again."""
    node = world.node(capabilities=[echo], modules=[Watching], doors=True, config={"tcp": {"port": 7420}})
    client = world.client(node)
    answered: list[Any] = []
    names: set[str] = set()

    def load() -> None:
        while not node._stopping:
            answered.append(client.request("test.echo", {"word": "load"}, timeout=3.0))
            gevent.sleep(0.05)

    loading = gevent.spawn(load)
    for _ in range(8):
        victim = world.random.choice(supervised(node))
        names.add(victim.label())
        kill(victim.ref)
        gevent.sleep(world.random.uniform(0.0, 6.0))
        begun = world.clock().monotonic()
        while not well(node):
            gevent.sleep(0.1)
            assert world.clock().monotonic() - begun < 60, f"not well again after the end of {victim.label()}"
        gevent.sleep(6)  # the supervisors' intensity counts five seconds
    loading.kill()
    assert answered
    assert answered[-1].error is None
    assert len(node.transports) == 1
    node.stop(1.0)
    assert not node.system.scheduler.processes
    assert not node.system.scheduler.names
    return names


def test_whoever_is_killed_the_node_is_well_again() -> None:
    killed: set[str] = set()
    for run in explore(everybody_in_turn, range(40)):
        killed |= run.value
    assert {"storage", "Storage"} & killed or any("torage" in name for name in killed), killed
    assert len(killed) >= 8, killed


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_minute_of_random_kills_under_load_leaves_the_node_answering(tmp_path: Any) -> None:
    """The same with real time, sockets and files."""
    import random

    from packetflow.client import Client
    from packetflow.node.config import NodeConfig

    seconds = float(os.environ.get("PACKETFLOW_KILL_SECONDS", 20))
    config = NodeConfig.model_validate(
        {"node": {"name": "killed", "data_folder": str(tmp_path)}, "tcp": {"port": 0}, "http": {"port": 0}}
    )
    draw = random.Random(4711)
    before = len(os.listdir("/proc/self/fd"))
    with Node(config, capabilities=[echo], modules=[Watching]) as node:
        first = {process.label() for process in supervised(node)}
        good = 0

        def load() -> None:
            nonlocal good
            while True:
                try:
                    address = next(one.address for one in node.transports if one.kind == "tcp")
                except StopIteration:
                    gevent.sleep(0.01)
                    continue
                with Client(f"tcp://{address}", concurrency="gevent", timeout=3.0) as client:
                    while client.request("test.echo", {"word": "load"}).ok:
                        good += 1

        loading = [gevent.spawn(load) for _ in range(4)]
        end = node.clock.monotonic() + seconds
        while node.clock.monotonic() < end:
            kill(draw.choice(supervised(node)).ref)
            gevent.sleep(1.7)  # below the supervisors' intensity: three in five seconds
            until(lambda: well(node), 20)
        gevent.killall(loading)
        assert good > 10
        assert {process.label() for process in supervised(node)} == first
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)  # the hub's own
    gc.collect()
    assert not [
        one
        for one in workers_alive()
        if one.process is not None and one.process.scheduler is node.system.scheduler
    ]
