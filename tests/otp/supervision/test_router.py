"""A pool of equal workers: who gets a message, restarts, resizing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Backoff,
    ChildSpec,
    NoProcess,
    Ref,
    Router,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    call,
    cast,
    get_state,
    kill,
    statistics,
    stop,
)
from packetflow.otp.supervision.router import jump_hash
from tests.otp.actors import Puppet, crash, seen, until

SPEC = ChildSpec(Puppet)
KNOWN = [74, 74, 40, 40, 0, 46, 89]  # what other nodes and later versions have to come to as well


def pool_of(system: System, **options: Any) -> Ref:
    return Router.start(SPEC, system=system, **{"size": 3, **options})


def occupy(ref: Ref, gate: Event) -> None:
    cast(ref, lambda server: gate.wait() and None)
    until(lambda: statistics(ref).status == "busy")


def test_round_robin_takes_each_in_turn(system: System) -> None:
    pool = pool_of(system)
    workers = Router.workers(pool)
    assert len(set(workers)) == 3
    assert [Router.route(pool) for _ in range(7)] == [*workers, *workers, workers[0]]


def test_a_message_reaches_the_worker_that_was_picked(system: System) -> None:
    pool = pool_of(system)
    answers = [call(Router.route(pool), lambda server, caller: server.ref) for _ in range(3)]
    assert answers == Router.workers(pool)


def test_least_busy_takes_the_shortest_mailbox(system: System) -> None:
    gate = Event()
    pool = pool_of(system, routing="least_busy")
    first, second, third = Router.workers(pool)
    occupy(first, gate)
    occupy(third, gate)
    assert [Router.route(pool) for _ in range(2)] == [second, second]
    occupy(second, gate)
    cast(second, "waits")
    cast(third, "waits")
    assert Router.route(pool) == first
    gate.set()


def test_least_busy_goes_round_among_equals(system: System) -> None:
    pool = pool_of(system, routing="least_busy")
    assert Counter(Router.route(pool) for _ in range(9)) == dict.fromkeys(Router.workers(pool), 3)


def test_hash_keeps_a_key_at_its_worker_also_after_restarts(system: System) -> None:
    pool = pool_of(system, routing="hash", size=5)
    places = {key: Router.workers(pool).index(Router.route(pool, key)) for key in map(str, range(200))}
    assert set(places.values()) == set(range(5))
    before = Router.workers(pool)
    call(before[places["7"]], lambda server, caller: server.seen.append("state"))
    kill(before[places["7"]])
    until(lambda: len(Router.workers(pool)) == 5 and Router.workers(pool) != before)
    assert {key: Router.workers(pool).index(Router.route(pool, key)) for key in places} == places
    assert call(Router.route(pool, "7"), seen) == []


def test_the_hash_is_the_same_in_every_process_and_for_every_start() -> None:
    keys: list[Any] = ["customer-1", b"customer-1", 1, "1", -1, "", "\udc80"]
    assert [jump_hash(key, 100) for key in keys] == KNOWN


def test_hash_moves_few_keys_on_growth_and_spreads_them_evenly() -> None:
    keys = [f"key-{number}" for number in range(10_000)]
    for size in (1, 2, 10, 99):
        moved = [key for key in keys if jump_hash(key, size) != jump_hash(key, size + 1)]
        assert all(jump_hash(key, size + 1) == size for key in moved)  # only to the new one
        assert len(moved) == pytest.approx(len(keys) / (size + 1), rel=0.25)


@pytest.mark.parametrize("key", [None, True, 1.5, ["list"]])
def test_hash_needs_a_key_that_is_the_same_everywhere(system: System, key: Any) -> None:
    pool = pool_of(system, routing="hash")
    with pytest.raises(SpecError, match="key: given"):
        Router.route(pool, key)


@pytest.mark.parametrize("routing", ["round_robin", "least_busy"])
def test_the_other_ways_take_no_key(system: System, routing: Any) -> None:
    pool = pool_of(system, routing=routing)
    with pytest.raises(SpecError, match=f'key: given 1; accepted is None with routing="{routing}"'):
        Router.route(pool, 1)


def test_broadcast_tells_all(system: System) -> None:
    pool = pool_of(system)
    assert Router.broadcast(pool, "news") == 3
    assert [call(worker, seen) for worker in Router.workers(pool)] == [["news"]] * 3


def slow_to_return(system: System, **options: Any) -> tuple[Ref, list[Ref]]:
    """A pool whose second worker is down and comes back much later."""
    spec = ChildSpec(Puppet, backoff=Backoff(delay=1000, maximum=1000, jitter=0))
    pool = Router.start(spec, size=3, system=system, **options)
    workers = Router.workers(pool)
    kill(workers[1])
    return pool, workers


def test_workers_that_are_down_are_passed_over(system: System) -> None:
    pool, (first, _, third) = slow_to_return(system)
    assert [Router.route(pool) for _ in range(4)] == [first, third, first, third]
    assert Router.workers(pool) == [first, third]
    assert Router.broadcast(pool, "news") == 2


def test_a_key_whose_worker_is_down_goes_to_nobody_else(system: System) -> None:
    pool, (_, second, _) = slow_to_return(system, routing="hash")
    key = next(str(number) for number in range(100) if jump_hash(str(number), 3) == 1)
    for told in (second, pool):  # before its supervisor knows of it, and after
        with pytest.raises(NoProcess) as failed:
            Router.route(pool, key)
        assert failed.value.ref == told
        gevent.idle()


def test_where_nobody_runs_route_says_so(system: System) -> None:
    pool = Router.start(ChildSpec(Puppet, restart="transient"), size=2, system=system)
    for worker in Router.workers(pool):
        stop(worker)
    with pytest.raises(NoProcess):
        Router.route(pool)
    assert Router.workers(pool) == []
    assert Router.broadcast(pool, "anybody?") == 0


def test_a_crashing_worker_is_restarted_and_the_others_go_on(system: System) -> None:
    pool = pool_of(system)
    first, second, third = Router.workers(pool)
    watch = system.monitor(first)
    cast(first, crash(ValueError("bad")))
    assert watch.wait(5) is not None
    until(lambda: len(Router.workers(pool)) == 3)
    assert Router.workers(pool)[1:] == [second, third]
    assert Router.workers(pool)[0] != first


def test_past_the_intensity_the_pool_is_down(system: System) -> None:
    pool = pool_of(system, max_restarts=0)
    kill(Router.workers(pool)[0])
    until(lambda: pool not in system.processes())
    with pytest.raises(NoProcess):
        Router.route(pool)


def test_resize_starts_and_stops_the_last_ones(system: System) -> None:
    pool = pool_of(system)
    before = Router.workers(pool)
    Router.resize(pool, 5)
    assert Router.workers(pool)[:3] == before
    assert len(set(Router.workers(pool))) == 5
    watch = system.monitor(before[2])
    Router.resize(pool, 2)
    down = watch.wait(5)
    assert down is not None
    assert down.reason == "shutdown"
    assert Router.workers(pool) == before[:2]
    assert [Router.route(pool) for _ in range(4)] == [*before[:2], *before[:2]]
    assert Supervisor.count_children(pool).specs == 2
    Router.resize(pool, 2)
    assert Router.workers(pool) == before[:2]


def test_a_resize_that_fails_keeps_what_there_is(system: System) -> None:
    started: list[Any] = []

    def third_time_unlucky(server: Any) -> None:
        started.append(server)
        if len(started) == 4:
            raise OSError("no more")

    pool = Router.start(ChildSpec(Puppet, third_time_unlucky), size=2, system=system)
    with pytest.raises(StartFailed) as failed:
        Router.resize(pool, 5)
    assert isinstance(failed.value.reason, OSError)
    assert len(Router.workers(pool)) == 3
    assert len({Router.route(pool) for _ in range(6)}) == 3


def test_a_pool_stands_below_a_supervisor_and_has_a_name(system: System) -> None:
    Supervisor.start([Router.child(SPEC, size=2, name="pool")], system=system)
    assert len(Router.workers(system.find("pool"))) == 2
    assert set(get_state(system.find("pool"))) == {"0", "1"}


def test_a_subclass_says_how_many_and_of_what(system: System) -> None:
    class Puppets(Router):
        size = 6
        routing = "hash"

        @classmethod
        def worker(cls) -> ChildSpec:
            return ChildSpec(Puppet, None, ["told"])

    pool = Puppets.start(system=system)
    assert call(Router.route(pool, "any"), seen) == ["told"]
    assert len(Router.workers(pool)) == 6


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": True}, "size"),
        ({"routing": "random"}, "routing"),
        ({"worker": "Puppet"}, "worker"),
        ({"worker": ChildSpec(Puppet, name="one")}, "worker.name"),
        ({"worker": ChildSpec(Puppet, restart="temporary")}, "worker.restart"),
        ({"worker": None}, "worker"),
    ],
)
def test_wrong_options_are_named_before_anything_starts(system: System, options: Any, field: str) -> None:
    with pytest.raises(SpecError) as wrong:
        Router.start(**{"worker": SPEC, **options}, system=system)
    assert wrong.value.field == field
    assert system.processes() == []


def test_what_is_no_pool_is_refused(system: System) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(SpecError, match="accepted is the ref of a Router"):
        Router.route(ref)
    pool = pool_of(system)
    with pytest.raises(SpecError, match="size: given 0"):
        Router.resize(pool, 0)


def test_a_pool_of_another_node_is_asked_whose_turn_it_is(system: System) -> None:
    far = System("far")
    pool = Router.start(ChildSpec(Puppet, restart="transient"), size=3, system=far)
    hashed = pool_of(far, routing="hash")

    class Line:
        def reaches(self, ref: Ref) -> bool:
            return ref.node == "far"

        def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
            return call(far.ref_from(ref.key()), message, timeout)

        def tell(self, ref: Ref, kind: str, message: Any) -> None:
            cast(far.ref_from(ref.key()), message)

    system.remote = Line()
    from_here = system.ref_from(pool.key())
    assert [Router.route(from_here) for _ in range(3)] == Router.workers(pool) == Router.workers(from_here)
    assert Router.broadcast(from_here, "news") == 3
    assert [call(worker, seen) for worker in Router.workers(pool)] == [["news"]] * 3
    with pytest.raises(SpecError):
        Router.route(system.ref_from(hashed.key()))
    for worker in Router.workers(pool):
        stop(worker)
    with pytest.raises(NoProcess):
        Router.route(from_here)
    assert pool in far.processes()
    far.shutdown()
    with pytest.raises(NoProcess):
        Router.route(from_here)
