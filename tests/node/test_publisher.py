"""Events reach every subscriber at least once: over failures, restarts and crashes; what nobody takes is a dead letter."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow import Node
from packetflow.node import publisher
from packetflow.node.config import NodeConfig
from packetflow.otp import kill
from packetflow.storage.outbox import Event
from packetflow.testing import World, explore
from tests.storage.places import wait_for


def node_in(folder: Path | None) -> Node:
    if folder is None:
        return Node(log_stream=io.StringIO())
    config = {"node": {"data_folder": str(folder)}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    return Node(NodeConfig.model_validate(config), log_stream=io.StringIO())


@pytest.fixture(params=["memory", "database"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    with node_in(None if request.param == "memory" else tmp_path) as node:
        yield node


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(publisher, "LONGEST_WAIT", 0.02)


class Receiver:
    """A subscriber that fails so many times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.got: list[Event] = []

    def __call__(self, event: Event) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody at home")
        self.got.append(event)

    @property
    def payloads(self) -> list[Any]:
        return [event.payload for event in self.got]


def test_every_subscriber_of_the_topic_gets_it_in_order(node: Node) -> None:
    orders, all_, other = Receiver(), Receiver(), Receiver()
    node.events.subscribe("orders", "order.*", orders)
    node.events.subscribe("all", "*", all_)
    node.events.subscribe("other", "ticket.*", other)
    for number in range(5):
        node.events.publish("order.paid", {"number": number}, origin="a test")
    wait_for(lambda: len(all_.got) == 5)
    assert orders.payloads == all_.payloads == [{"number": number} for number in range(5)]
    assert other.got == []
    wait_for(lambda: node.stores.outbox.next_due() is None)


def test_one_that_failed_is_tried_again_and_the_others_do_not_wait(node: Node) -> None:
    flaky = Receiver(failures=3)
    node.events.subscribe("flaky", "*", flaky)
    id = node.events.publish("a", 1)
    node.events.publish("b", 2)
    wait_for(lambda: len(flaky.got) == 2)
    again = next(event for event in flaky.got if event.id == id)
    assert again.attempts >= 1
    assert "ConnectionError: nobody at home" in again.last_error


def test_what_nobody_takes_for_good_is_a_dead_letter_and_can_be_replayed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ATTEMPTS", 3)
    broken = Receiver(failures=1_000)
    node.events.subscribe("broken", "*", broken)
    id = node.events.publish("order.paid", {"amount": 5}, origin="run 7")
    wait_for(node.stores.dead_letters.count)
    [letter] = node.letters.rows(10)
    assert (letter["id"], letter["kind"], letter["what"], letter["origin"]) == (
        id,
        "event",
        "order.paid",
        "run 7",
    )
    assert letter["reason"] == "broken: ConnectionError: nobody at home"
    assert node.stores.outbox.next_due() is None
    broken.failures = 0
    node.letters.replay(id[:8], "op")
    wait_for(lambda: broken.payloads == [{"amount": 5}])
    assert broken.got[0].id == id
    assert node.stores.dead_letters.count() == 0


def test_a_subscriber_that_does_not_come_back_is_given_up(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PATIENCE", 0.01)
    monkeypatch.setattr(publisher, "ATTEMPTS", 2)
    node.events.subscribe("asleep", "*", lambda event: gevent.sleep(60))
    node.events.publish("a", 1)
    wait_for(node.stores.dead_letters.count)
    assert "asleep took longer than 0.01 s" in node.letters.rows(1)[0]["reason"]


def test_a_killed_publisher_comes_back_and_goes_on(node: Node) -> None:
    receiver = Receiver(failures=2)
    node.events.subscribe("r", "*", receiver)
    node.events.publish("a", 1)
    first = node.system.whereis(publisher.PUBLISHER)
    assert first is not None
    kill(first)
    wait_for(lambda: node.system.whereis(publisher.PUBLISHER) not in (None, first))
    wait_for(lambda: receiver.payloads == [1])


def test_what_was_not_delivered_is_by_the_next_life_of_the_node(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        node.events.subscribe("away", "*", Receiver(failures=1_000))
        id = node.events.publish("order.paid", 1)
    receiver = Receiver()
    node = node_in(tmp_path)
    node.events.subscribe("here", "*", receiver)
    with node:
        wait_for(lambda: receiver.got)
        assert receiver.got[0].id == id


def test_every_event_whose_publishing_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    program = f"""
        import io, os, sys
        from packetflow import Node
        from packetflow.node.config import NodeConfig
        off = {{"enabled": False}}
        config = {{"node": {{"data_folder": {str(tmp_path / "data")!r}}}, "tcp": off, "http": off}}
        node = Node(NodeConfig.model_validate(config), log_stream=io.StringIO())
        node.events.subscribe("file", "*", lambda event: os.write(1, f"got {{event.id}}\\n".encode()))
        with node:
            os.write(1, b"ready\\n")
            for line in range(int(sys.argv[1])):
                os.write(1, f"put {{node.events.publish('a.b', 1)}}\\n".encode())
            node.wait() if len(sys.argv) > 2 else None
    """
    code = textwrap.dedent(program)
    put: set[str] = set()
    got: set[str] = set()
    for round_ in range(int(os.environ.get("PACKETFLOW_KILLS", "2"))):
        victim = subprocess.Popen([sys.executable, "-c", code, "100000", "wait"], stdout=subprocess.PIPE)
        assert victim.stdout is not None
        lines = [victim.stdout.readline() for _ in range(20 + 7 * round_)]
        victim.send_signal(signal.SIGKILL)
        lines += victim.stdout.readlines()
        victim.stdout.close()
        victim.wait()
        for line in lines:
            word, _, id = line.decode().strip().partition(" ")
            if line.endswith(b"\n") and id:
                (put if word == "put" else got).add(id)
    receiver = Receiver()
    node = node_in(tmp_path / "data")
    node.events.subscribe("file", "*", receiver)
    with node:
        wait_for(lambda: node.stores.outbox.next_due() is None)
    assert len(put) > 20
    assert put <= got | {event.id for event in receiver.got}


def test_in_a_simulation_every_event_arrives_whatever_is_killed(tmp_path: Path) -> None:
    def program(world: World) -> int:
        node = world.node("desk")
        receiver = Receiver(failures=3)
        node.events.subscribe("r", "*", receiver)
        ids = []
        for number in range(5):
            ids.append(node.events.publish("a", number))
            found = node.system.whereis(publisher.PUBLISHER)
            if found is not None and number % 2:
                kill(found)
        while {event.id for event in receiver.got} != set(ids):
            gevent.sleep(0.5)
        return len(set(ids))

    assert [run.value for run in explore(program, range(4))] == [5] * 4
