"""Whole nodes in virtual time: everything that a node does, in an order that a seed draws."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import gevent
import pytest

from packetflow import Module, Reject, capability
from packetflow.otp import SpecError
from packetflow.testing import Deadlock, Endless, SimulationFailed, World, explore, simulate, simulation
from packetflow.wire.errors import NotFound, Overloaded, Rejected, Timeout, Unavailable


@capability("test.wait", timeout=60.0)
def wait(seconds: float, word: str = "") -> str:
    """Wait, then give the word back."""
    gevent.sleep(seconds)
    return word


@capability("test.wait_async", timeout=60.0)
async def wait_async(seconds: float) -> float:
    """The same on the loop of coroutines."""
    await asyncio.sleep(seconds)
    return seconds


@capability("test.in_thread", blocking=True)
def in_thread(number: int) -> int:
    """Done where others are not kept waiting."""
    return number * 2


@capability("test.crash")
def crash(seconds: float) -> int:
    """It does not go well."""
    gevent.sleep(seconds)
    raise ValueError("no oil")


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


# ---- random nodes ---------------------------------------------------------------------------------------------------------


def life_of_a_node(world: World) -> Any:
    """Random requests to a random node, from inside and by clients, while modules and connections come and go, and things
    crash. Whatever happens: each request has one answer in its time, and in the end nothing is left."""
    draw = world.random
    served = [wait, wait_async, in_thread, crash]
    modules = [Odd] if draw.random() < 0.7 else []
    node = world.node("node", capabilities=served, modules=modules, doors=True, config=random_limits(draw))
    world.network.latency = (0.0, draw.choice([0.0, 0.05, 0.5]))
    clients = [world.client(node, f"client-{number}") for number in range(draw.randint(1, 3))]
    asked: list[tuple[gevent.Greenlet[..., Any], float]] = []
    for _ in range(draw.randint(5, 25)):
        ways = [node.request, *(client.request for client in clients)]
        id, payload = random_request(draw)
        limit = draw.choice([0.5, 3.0, 20.0])
        asked.append((gevent.spawn(timed, world, draw.choice(ways), id, payload, limit), limit))
        if draw.random() < 0.3:
            gevent.sleep(draw.uniform(0.0, 2.0))
        accident(world, node, asked)
    ended = gevent.joinall([one for one, _ in asked], timeout=120)
    assert len(ended) == len(asked), "somebody has no answer"
    for one, limit in asked:
        if isinstance(one.value, gevent.GreenletExit):
            continue  # it was the caller itself that was killed
        took, answer = one.value
        assert (answer.error is None) != (answer.value is None) or answer.value == "", answer
        assert took < limit + 20, (took, limit)
    gevent.sleep(10)
    assert list(node.door.active()) == []
    assert node.call("test.wait", {"seconds": 0.0, "word": "alive"}) == "alive"
    node.stop(1.0)
    assert not node.door.in_flight
    assert not node.system.scheduler.processes


def timed(world: World, request: Any, id: str, payload: dict[str, Any], limit: float) -> Any:
    begun = world.clock().monotonic()
    answer = request(id, payload, timeout=limit)
    return world.clock().monotonic() - begun, answer


def random_limits(draw: Any) -> dict[str, Any]:
    if draw.random() < 0.5:
        return {}
    return {"limits": {"in_flight_node": draw.randint(1, 4), "queue": draw.randint(1, 3)}}


def random_request(draw: Any) -> tuple[str, dict[str, Any]]:
    return draw.choice(
        [
            ("test.wait", {"seconds": draw.uniform(0, 5), "word": draw.choice(["odd", "slow", "even"])}),
            ("test.wait_async", {"seconds": draw.uniform(0, 5)}),
            ("test.in_thread", {"number": 3}),
            ("test.crash", {"seconds": draw.uniform(0, 2)}),
            ("test.unknown", {}),
            ("test.wait", {"seconds": "not a number"}),
        ]
    )


def accident(world: World, node: Any, asked: list[tuple[gevent.Greenlet[..., Any], float]]) -> None:
    draw = world.random
    what = draw.randrange(12)
    if what == 0:
        world.network.cut(caller="client-0")
    elif what == 1:
        node.door.cancel(draw.choice(asked)[0])
    elif what == 2:
        draw.choice(asked)[0].kill(block=False)
    elif what == 3 and node.list_active_modules():
        node.change_module(draw.choice(["restart", "disable"]), "odd", "the test", False)
    elif what == 4 and "test.more" not in node.routes.catalogue.ids:
        node.register(capability("test.more")(one_more))


def one_more() -> int:
    """One more."""
    return 1


def test_two_hundred_lives_of_nodes() -> None:
    runs = explore(life_of_a_node, range(200))
    assert len({run.digest for run in runs}) == 200


def test_the_errors_of_such_lives_are_typed_ones() -> None:
    """The generator reaches what it should: refusals, timeouts, queues that are full, and good answers."""
    kinds: set[str] = set()

    def program(world: World) -> Any:
        node = world.node(
            capabilities=[wait], modules=[Odd], config={"limits": {"in_flight_node": 1, "queue": 1}}
        )
        asked = [
            gevent.spawn(node.request, "test.wait", {"seconds": 2.0, "word": word}, timeout=1.0)
            for word in ("odd", "even", "even", "even")
        ]
        gevent.joinall(asked)
        kinds.update(type(one.value.error).__name__ for one in asked)
        kinds.add(type(node.request("test.unknown").error).__name__)

    explore(program, range(20))
    assert kinds >= {Timeout.__name__, Overloaded.__name__, NotFound.__name__}
