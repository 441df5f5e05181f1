"""Crashes at any turn, modules that change what they are only shown, and where somebody waits for ever."""

from __future__ import annotations

import json
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Intercept, Module, Transform, capability
from packetflow.otp import kill
from packetflow.testing import Deadlock, Endless, SimulationFailed, World, explore, simulate
from packetflow.wire.errors import Unavailable


@capability("test.wait", timeout=60.0)
def wait(seconds: float) -> float:
    """Wait."""
    gevent.sleep(seconds)
    return seconds


@capability("test.count")
def count(words: list[str]) -> list[str]:
    """Give them back."""
    return words


# ---- crashes -------------------------------------------------------------------------------------------------------------


def test_a_node_may_crash_at_any_turn_and_everybody_has_an_answer() -> None:
    crashed_at: set[int] = set()

    def program(world: World) -> Any:
        node = world.node("desk", capabilities=[wait], doors=True)
        world.network.latency = (0.0, 0.1)
        clients = [world.client(node, f"client-{number}") for number in range(3)]
        down = world.crash_within(node, 400)
        asked = [
            gevent.spawn(client.request, "test.wait", {"seconds": 0.5 * number}, timeout=5.0)
            for client in clients
            for number in range(3)
        ]
        gevent.joinall(asked)
        down.wait()
        for one in asked:
            assert (one.value.error is None) != (one.value.value is None)
        assert list(node.door.active()) == []
        assert not node.system.scheduler.processes
        again = world.node("desk", capabilities=[wait], doors=True)
        assert world.client(again).call("test.wait", {"seconds": 0.0}) == 0.0
        return sum(one.value.error is None for one in asked)

    for run in explore(program, range(60)):
        crashed_at.add(run.value)
    assert len(crashed_at) > 3, crashed_at  # before, between and after the answers


def test_a_crash_comes_also_where_nothing_else_is_to_come() -> None:
    def program(world: World) -> None:
        node = world.node("desk")
        world.crash_within(node, 1_000_000).wait()
        world.node("desk")

    simulate(program, 1)


def test_a_crash_that_was_not_due_before_the_end_does_not_come() -> None:
    def program(world: World) -> Event:
        return world.crash_within(world.node("desk"), 1_000_000)

    assert not any(simulate(program, seed).value.is_set() for seed in range(3))


def test_nothing_that_a_crashed_node_does_is_heard_of() -> None:
    """Its `finally` blocks run, and reach neither disk, network nor log."""

    def program(world: World) -> Any:
        other = world.node("other", capabilities=[count], doors=True)
        client = world.client(other, "desk", timeout=1.0)
        told: list[Any] = []

        @capability("test.careful", timeout=60.0)
        def careful() -> int:
            """Cleans up."""
            try:
                client.call("test.count", {"words": ["connected"]})
                gevent.sleep(30)
            finally:
                try:
                    node.disk.replace(node.data_folder.path / "late", b"late")
                except OSError as error:
                    told.append(error)
                node.log.error("late words")
            return 1

        node = world.node("desk", capabilities=[careful])
        asked = gevent.spawn(node.request, "test.careful")
        gevent.sleep(1)
        assert len(world.network.links) == 1
        world.crash(node)
        gevent.sleep(1)
        assert world.network.links == []
        assert asked.get().error is not None
        assert "crashed" in str(told)
        assert not (node.data_folder.path / "late").exists()
        assert "late words" not in world.log

    simulate(program, 1)


def test_who_asks_a_registry_that_is_being_started_anew_gets_a_typed_error() -> None:
    def program(world: World) -> bool:
        node = world.node(modules=[Proper])
        kill(node.system.whereis("chain"))
        try:
            node.change_module("disable", "proper", "test", False)
        except Unavailable as error:
            return error.retry_after == 1.0
        return False

    assert True in {run.value for run in explore(program, range(20))}


# ---- values that are only shown --------------------------------------------------------------------------------------------


class InRequest(Module):
    """Adds a word to the list that it was shown."""

    def handle_request(self, request: Any, context: Any) -> Any:
        request.payload["words"].append("mine")


class InResponse(Module):
    """The same with what comes back."""

    def handle_response(self, response: Any, context: Any) -> Any:
        response.value.append("mine")


class Proper(Module):
    """Makes new values."""

    def handle_request(self, request: Any, context: Any) -> Any:
        return Intercept(request.with_payload(words=[*request.payload["words"], "more"]))

    def handle_response(self, response: Any, context: Any) -> Any:
        return Transform(response.with_value([*response.value, "end"]))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (InRequest, r"module inrequest changed request.payload in place.*with_payload"),
        (InResponse, r"module inresponse changed response.value in place.*Transform"),
    ],
)
def test_a_module_that_changes_a_value_in_place_fails_the_simulation(module: type[Module], said: str) -> None:
    def program(world: World) -> None:
        node = world.node(capabilities=[count], modules=[module])
        node.request("test.count", {"words": ["a"]})
        assert any(
            json.loads(line)["event"].startswith("a module changed") for line in world.log.splitlines()
        )

    with pytest.raises(SimulationFailed, match=said):
        simulate(program, 1)


def test_a_module_that_makes_new_values_does_not() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[count], modules=[Proper])
        return node.call("test.count", {"words": ["a"]})

    assert simulate(program, 1).value == ["a", "more", "end"]


# ---- waits that do not end -------------------------------------------------------------------------------------------------


def test_a_deadlock_tells_where_the_program_waits() -> None:
    def program(world: World) -> None:
        world.node(doors=True)
        Event().wait()

    with pytest.raises(Deadlock, match=r"the program waits at test_accidents\.py:\d+ \(program\)"):
        simulate(program, 1)


def test_an_endless_program_tells_where_it_is() -> None:
    def program(world: World) -> None:
        world.node()
        while True:
            gevent.sleep(1)

    with pytest.raises(
        Endless, match=r"1,000 turns; the program waits at test_accidents\.py:\d+ \(program\)"
    ):
        simulate(program, 1, turns=1000)
