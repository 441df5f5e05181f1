"""The small face and routers in simulated worlds: whoever is killed before whichever turn, every message has one response."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    ActorSystem,
    CallFailed,
    ChildSpec,
    Hosting,
    Message,
    Response,
    Router,
    call,
    receive_response,
    send_request,
)
from packetflow.otp.actor_system.hosting import ActorProcess
from packetflow.otp.simulation.world import World, explore
from tests.otp.actor_system.test_kills import busybody
from tests.otp.actors import Puppet

HOSTING = [
    Hosting(max_restarts=100_000),
    Hosting(max_restarts=100_000, mailbox_limit=1, mailbox_full="drop_oldest"),
    Hosting(max_restarts=100_000, mailbox_limit=1, mailbox_full="block"),
    Hosting(max_restarts=100_000, mailbox_limit=1, mailbox_full="fail"),
]
GO = Message("last", "do", "go")


def orders(world: World, ids: list[str], depth: int = 0) -> Any:
    kinds: list[Any] = ["go", "wait", "crash"]
    if depth < 2:
        target_id = world.random.choice(ids)
        kinds += [(how, target_id, orders(world, ids, depth + 1)) for how in ("ask", "later")]
    return world.random.choice(kinds)


def play(world: World, victims: Any) -> tuple[int, ActorSystem, list[str]]:
    """Four senders and six actors, in two systems, with accidents. Returns how many responses were good."""
    system = world.system()
    root, below = ActorSystem(system, name="root"), ActorSystem(system, name="below")
    root.register("below", below)
    ids = []
    for number in range(6):
        home, prefix = (root, "") if number < 3 else (below, "below/")
        home.register(f"a{number}", busybody, (), HOSTING[number % 4])
        ids.append(f"{prefix}a{number}")
    responses: dict[str, Response] = {}

    def sender(name: int) -> None:
        for turn in range(10):
            id = f"{name}-{turn}"
            message = Message(id, "do", orders(world, ids))
            target_id = world.random.choice(ids)
            if world.random.random() < 0.4:
                response = root.future(target_id, message).get(2.0)
            else:
                response = root.send(target_id, message, timeout=2.0)
            assert id not in responses
            responses[id] = response

    world.kill_at_random(0.03, victims)
    gevent.joinall([gevent.spawn(sender, name) for name in range(4)], raise_error=True)
    world.kill_at_random(0.0)
    assert len(responses) == 40
    for id, response in responses.items():
        assert response.data in (id, None)
        assert response.success or response.error
    return sum(1 for response in responses.values() if response.success), root, ids


def kills_of_actors(world: World) -> int:
    good, root, ids = play(world, lambda server: isinstance(server, ActorProcess))
    gevent.sleep(10)
    assert [root.send(id, GO).data for id in ids] == ["last"] * 6  # all came back
    return good


def kills_of_anybody(world: World) -> int:
    good, root, ids = play(world, None)
    gevent.sleep(10)
    for id in ids:
        # Whose supervisors were struck is down for good, and that is told.
        response = root.send(id, GO)
        assert response.data == "last" or (response.code, response.error) == (
            "unavailable",
            f"Actor not running: {id}",
        )
    return good


@pytest.mark.parametrize("program", [kills_of_actors, kills_of_anybody])
def test_whoever_is_killed_at_whichever_turn_every_message_has_one_response(program: Any) -> None:
    runs = explore(program, range(40))
    assert sum(run.value for run in runs) > 400
    assert len({run.digest for run in runs}) == 40


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", [kills_of_actors, kills_of_anybody])
def test_the_same_for_a_thousand_seeds(program: Any) -> None:
    explore(program, range(1000, 1500))


def pool_in_trouble(world: World) -> int:
    """A pool that is resized and struck while it works: no request is lost, and in the end it has its size."""
    system = world.system()
    pool = Router.start(ChildSpec(Puppet), size=4, routing="least_busy", max_restarts=100_000, system=system)
    world.kill_at_random(0.03, lambda server: isinstance(server, Puppet))
    answered = 0

    def asker() -> None:
        nonlocal answered
        for number in range(20):
            try:
                assert receive_response(send_request(Router.route(pool), number), 2.0) == number
                answered += 1
            except CallFailed:
                gevent.sleep(0.001)

    askers = [gevent.spawn(asker) for _ in range(3)]
    for size in (1, 6, 2, 5):
        gevent.sleep(0.002)
        Router.resize(pool, size)
    gevent.joinall(askers, raise_error=True)
    world.kill_at_random(0.0)
    gevent.sleep(10)
    workers = Router.workers(pool)
    assert len(workers) == 5
    assert [call(worker, lambda server, caller: server.ref) for worker in workers] == workers
    return answered


def test_a_pool_survives_resizes_and_kills_at_whichever_turn() -> None:
    runs = explore(pool_in_trouble, range(40))
    assert sum(run.value for run in runs) > 1000
