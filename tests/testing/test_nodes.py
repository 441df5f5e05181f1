"""Whole nodes in virtual time: everything that a node does, in an order that a seed draws."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import gevent
import pytest

from packetflow import Module, Reject, capability
from packetflow.otp import SpecError
from packetflow.testing import Deadlock, Endless, SimulationFailed, World, explore, simulate, simulation
from packetflow.wire.errors import Rejected, Timeout, Unavailable
from tests.testing.capabilities import crash, in_thread, wait, wait_async


class Odd(Module):
    """Refuses a word, and is slow with another."""

    def handle_request(self, request: Any, context: Any) -> Any:
        if request.payload.get("word") == "odd":
            return Reject("odd", "no odd words")
        if request.payload.get("word") == "slow":
            gevent.sleep(5)
        return None


def test_an_hour_of_a_node_takes_a_blink() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait])
        begun = world.clock().monotonic()
        for _ in range(60):
            assert node.call("test.wait", {"seconds": 59.0, "word": "done"}) == "done"
        return world.clock().monotonic() - begun

    run = simulate(program, 1)
    assert run.value == pytest.approx(3540.0)


def test_timeouts_of_requests_hold_in_virtual_time() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait, wait_async])
        for id in ("test.wait", "test.wait_async"):
            begun = world.clock().monotonic()
            assert isinstance(node.request(id, {"seconds": 50.0}, timeout=7.0).error, Timeout)
            assert 7.0 <= world.clock().monotonic() - begun < 7.2

    explore(program, range(20))


def test_threads_and_coroutines_are_turns_too() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[in_thread, wait_async])
        asked = [gevent.spawn(node.call, "test.in_thread", {"number": number}) for number in range(12)]
        asked += [gevent.spawn(node.call, "test.wait_async", {"seconds": 2.0}) for _ in range(3)]
        gevent.joinall(asked, raise_error=True)
        return [one.value for one in asked]

    first, again = simulate(program, 3), simulate(program, 3)
    assert first.value == [*range(0, 24, 2), 2.0, 2.0, 2.0]
    assert first == again


def test_a_world_that_has_ended_leaves_nothing() -> None:
    def program(world: World) -> None:
        node = world.node(capabilities=[wait, wait_async, in_thread], modules=[Odd], doors=True)
        world.client(node).call("test.wait", {"seconds": 0.5, "word": "even"})
        for id, payload in (("test.wait_async", {"seconds": 0.5}), ("test.in_thread", {"number": 1})):
            node.call(id, payload)

    seeds = range(900, 905)  # of no other test: a world that ended in a deadlock leaves who waits in it
    explore(program, seeds)
    gc.collect()
    assert [one for one in gc.get_objects() if type(one) is World and one.seed in seeds] == []


def test_a_cancelled_coroutine_cleans_up_before_the_node_is_down() -> None:
    def program(world: World) -> None:
        ended: list[str] = []

        @capability("test.careful", timeout=60.0)
        async def careful() -> int:
            """Takes its time to clean up."""
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(1.5)
                ended.append("cleaned up")
            return 1

        node = world.node(capabilities=[careful])
        asked = gevent.spawn(node.request, "test.careful", timeout=2.0)
        gevent.sleep(2.0 + world.random.uniform(0.1, 1.0))  # its time is over, and it has not cleaned up yet
        assert asked.ready()
        assert ended == []
        node.stop(0.0)
        assert ended == ["cleaned up"]

    explore(program, range(30))


def test_modules_are_in_it_with_their_limits() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait], modules=[Odd])
        assert isinstance(node.request("test.wait", {"seconds": 0.0, "word": "odd"}).error, Rejected)
        failed = node.request("test.wait", {"seconds": 0.0, "word": "slow"}).error
        assert isinstance(failed, Unavailable)  # a hook has a second
        assert "overran" in str(failed)
        return node.call("test.wait", {"seconds": 0.0, "word": "even"})

    assert {run.value for run in explore(program, range(10))} == {"even"}


def test_clients_reach_it_by_a_network_of_the_worlds_own() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait], doors=True)
        world.network.latency = (0.01, 0.5)
        clients = [world.client(node, f"client-{number}") for number in range(3)]
        asked = [
            gevent.spawn(clients[number % 3].call, "test.wait", {"seconds": 1.0, "word": str(number)})
            for number in range(9)
        ]
        gevent.joinall(asked, raise_error=True)
        assert node.stats()["in_flight"] == 0
        return [one.value for one in asked]

    for run in explore(program, range(10)):
        assert run.value == [str(number) for number in range(9)]
        assert run.seconds < 60


def test_a_connection_that_is_cut_is_told_and_the_next_request_connects_again() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait], doors=True)
        client = world.client(node)
        asked = gevent.spawn(client.request, "test.wait", {"seconds": 30.0})
        gevent.sleep(1)
        assert world.network.cut() == 1
        assert isinstance(asked.get().error, Unavailable)
        gevent.sleep(1)
        assert node.stats()["in_flight"] == 0  # a caller that is gone is worked for no more
        return client.call("test.wait", {"seconds": 0.0, "word": "again"})

    assert {run.value for run in explore(program, range(20))} == {"again"}


def test_parted_sides_hear_nothing_until_they_are_healed() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[wait], doors=True)
        near, far = world.client(node, "near"), world.client(node, "far")
        assert far.call("test.wait", {"seconds": 0.0, "word": "before"}) == "before"
        world.network.part("far", world.address(node))
        lost = far.request("test.wait", {"seconds": 0.0}, timeout=5.0)
        assert lost.error is not None
        assert near.call("test.wait", {"seconds": 0.0, "word": "near"}) == "near"
        refused = world.client(node, "far").request("test.wait", {"seconds": 0.0}, timeout=5.0)
        assert isinstance(refused.error, Unavailable)
        world.network.heal()
        return far.call("test.wait", {"seconds": 0.0, "word": "healed"})

    assert {run.value for run in explore(program, range(10))} == {"healed"}


def test_a_node_that_crashes_leaves_its_folder_to_the_next_of_its_name() -> None:
    def program(world: World) -> Any:
        first = world.node("desk", capabilities=[wait], doors=True)
        client = world.client(first)
        asked = gevent.spawn(client.request, "test.wait", {"seconds": 30.0})
        gevent.sleep(world.random.uniform(0.0, 2.0))
        world.crash(first)
        assert asked.get().error is not None
        second = world.node("desk", capabilities=[wait], doors=True)
        assert second.config.node.data_folder == first.config.node.data_folder
        return world.client(second).call("test.wait", {"seconds": 0.0, "word": "second"})

    assert {run.value for run in explore(program, range(30))} == {"second"}


def test_a_node_without_doors_has_no_address() -> None:
    def program(world: World) -> Any:
        with pytest.raises(LookupError, match="doors=True"):
            world.address(world.node())

    simulate(program, 1)


def test_a_folder_belongs_to_one_node_in_a_world_too() -> None:
    def program(world: World) -> Any:
        world.node("desk")
        world.node("desk")

    with pytest.raises(SimulationFailed, match="belongs to node desk"):
        simulate(program, 1)


def test_what_the_nodes_log_is_the_worlds_and_in_its_time() -> None:
    def program(world: World) -> Any:
        node = world.node(capabilities=[crash])
        gevent.sleep(3600)
        assert not node.request("test.crash", {"seconds": 0.0}).ok
        return world.log

    lines = [json.loads(line) for line in simulate(program, 1).value.splitlines()]
    assert lines
    assert all(line["time"].startswith("2000-01-01T01:") for line in lines)


def test_a_wait_for_ever_is_named() -> None:
    def program(world: World) -> Any:
        world.node()
        gevent.event.Event().wait()

    with pytest.raises(Deadlock, match="seed 5"):
        simulate(program, 5)


def test_a_failure_is_a_seed_that_shows_it_again() -> None:
    """Two requests read, wait and write: one of the writes is lost in some orders."""
    kept: dict[str, int] = {}

    @capability("test.add")
    def add(number: int) -> int:
        """Add to what is kept, without a lock."""
        before = kept["sum"]
        gevent.sleep(0)
        kept["sum"] = before + number
        return kept["sum"]

    def program(world: World) -> Any:
        kept["sum"] = 0
        node = world.node(capabilities=[add])
        gevent.joinall(
            [gevent.spawn(node.call, "test.add", {"number": 1}) for _ in range(2)], raise_error=True
        )
        assert kept["sum"] == 2, "an update was lost"

    with pytest.raises(SimulationFailed, match="an update was lost") as failed:
        explore(program, range(200))
    for _ in range(2):
        with pytest.raises(SimulationFailed) as again:
            simulate(program, failed.value.seed)
        assert str(again.value) == str(failed.value)


def test_endless_programs_are_ended() -> None:
    def program(world: World) -> Any:
        world.node()
        while True:
            gevent.sleep(0)

    with pytest.raises(Endless, match="500 turns"):
        simulate(program, 1, turns=500)


def test_a_function_of_a_world_becomes_a_test() -> None:
    seen: list[int] = []

    @simulation(seeds=range(3))
    def test_it(world: World) -> None:
        """What it shows."""
        seen.append(world.seed)

    assert test_it.__name__ == "test_it"
    assert len(test_it()) == 3
    assert seen == [0, 1, 2]
    with pytest.raises(SpecError, match="seeds"):
        simulation()
