"""otp.md, "Registry" (Elixir's Registry.lock): one at a time for each key."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    CallFailed,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    NoProcess,
    System,
    call,
    cast,
    kill,
    statistics,
    stop,
)
from packetflow.otp.simulation.world import World, explore
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.registries import puppet, registry_of

KINDS = pytest.mark.parametrize("kind", ["unique", "duplicate"])


@KINDS
def test_different_keys_do_not_wait_for_each_other(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    with registry.lock(1):
        done = gevent.spawn(lambda: _inside(registry, 2))
        assert done.get(timeout=5) == 2
    assert _inside(registry, 1) == 1


def _inside(registry: Any, key: Any, timeout: float | None = None) -> Any:
    with registry.lock(key, timeout):
        return key


@KINDS
def test_the_same_key_is_taken_in_the_order_of_asking(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    order: list[int] = []

    def enter(number: int) -> None:
        with registry.lock("k"):
            order.append(number)
            gevent.sleep(0)
            order.append(number)

    with registry.lock("k"):
        waiting = [gevent.spawn(enter, number) for number in range(3)]
        gevent.sleep(0.002)
        assert order == []
    gevent.joinall(waiting, raise_error=True)
    assert order == [0, 0, 1, 1, 2, 2]
    assert registry._locks._held == {}


@KINDS
def test_a_lock_is_given_back_when_the_one_inside_raises(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    waiting: list[Any] = []

    def oops() -> None:
        with registry.lock("k"):
            waiting.append(gevent.spawn(_inside, registry, "k"))
            gevent.sleep(0)
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        oops()
    assert waiting[0].get(timeout=5) == "k"


def holding(system: System, registry: Any, entered: Event) -> Any:
    """An actor inside of the lock "k" until it is killed."""

    def holds(server: Any) -> None:
        with registry.lock("k"):
            entered.set()
            gevent.sleep(60)

    actor = puppet(system)
    cast(actor, holds)
    entered.wait()
    return actor


@KINDS
def test_a_lock_is_given_back_when_the_one_inside_is_killed(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    actor = holding(system, registry, Event())
    waiting = gevent.spawn(_inside, registry, "k")
    gevent.sleep(0)
    assert not waiting.ready()
    kill(actor)
    assert waiting.get(timeout=5) == "k"
    assert registry._locks._held == {}


@KINDS
def test_one_who_dies_while_it_waits_is_passed_over(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    dies = puppet(system)
    with registry.lock("k"):
        cast(dies, lambda server: _inside(registry, "k") and None)
        gevent.sleep(0)
        waiting = gevent.spawn(_inside, registry, "k")
        gevent.sleep(0)
        kill(dies)
    assert waiting.get(timeout=5) == "k"
    assert registry._locks._held == {}


def test_one_who_dies_at_the_moment_it_gets_the_lock_passes_it_on(system: System) -> None:
    registry = registry_of("unique", system)
    dies = puppet(system)
    lock = registry.lock("k")
    lock.__enter__()
    cast(dies, lambda server: _inside(registry, "k") and None)
    gevent.sleep(0)
    waiting = gevent.spawn(_inside, registry, "k")
    gevent.sleep(0)
    lock.__exit__(None, None, None)  # it is the actor's now, which has not gone on yet
    kill(dies)
    assert waiting.get(timeout=5) == "k"
    assert registry._locks._held == {}


def test_a_wait_has_its_time(system: System) -> None:
    registry = registry_of("unique", system)
    with registry.lock("k"):
        waiting = gevent.spawn(failure_of, _inside, registry, "k", 0.002)
        assert isinstance(waiting.get(timeout=5), CallTimeout)
    assert _inside(registry, "k") == "k"
    assert registry._locks._held == {}


def test_the_one_inside_can_not_enter_again(system: System) -> None:
    registry = registry_of("unique", system)
    with registry.lock("k"), pytest.raises(RuntimeError, match="itself"), registry.lock("k"):
        pass
    assert _inside(registry, "k") == "k"


def test_a_lock_that_would_wait_for_itself_is_refused(system: System) -> None:
    """One is inside and calls the other, which wants in."""
    registry = registry_of("unique", system)
    one, two = puppet(system), puppet(system)
    outcome: list[Any] = []

    def wants_in(server: Any, caller: Any) -> Any:
        outcome.append(failure_of(_inside, registry, "k"))

    def calls(server: Any, caller: Any) -> Any:
        with registry.lock("k"):
            return server.call(two, wants_in)

    call(one, calls)
    assert isinstance(outcome[0], CallCycle)
    assert outcome[0].chain == (two, one, two)


def test_a_call_to_one_that_waits_for_the_lock_of_the_caller_is_refused(system: System) -> None:
    """Also where the lock has been handed on since that one began to wait."""
    registry = registry_of("unique", system)
    one, two = puppet(system), puppet(system)
    gate, outcome = Event(), []

    def first(server: Any) -> None:
        with registry.lock("k"):
            gate.wait()
            outcome.append(failure_of(server.call, two, 1, 1.0))

    with registry.lock("k"):
        cast(one, first)
        gevent.sleep(0)
        cast(two, lambda server: _inside(registry, "k") and None)
        gevent.sleep(0)
        assert statistics(two).waits_for == registry.ref
    until(lambda: statistics(two).waits_for == one)
    gate.set()
    until(lambda: outcome)
    assert isinstance(outcome[0], CallCycle)
    assert call(two, 5) == 5


def test_when_the_registry_ends_nobody_waits_any_more(system: System) -> None:
    registry = registry_of("unique", system)
    with registry.lock("k"):
        waiting = gevent.spawn(failure_of, _inside, registry, "k")
        gevent.sleep(0)
        kill(registry.ref)
        assert isinstance(waiting.get(timeout=5), NoProcess)
    assert registry._locks._held == {}
    registry_of("unique", system)
    assert _inside(registry, "k") == "k"


def test_inside_of_a_lock_an_actor_may_do_anything(system: System) -> None:
    registry = registry_of("unique", system)
    other = Puppet.start(system=system)

    def works(server: Any, caller: Any) -> Any:
        with registry.lock("k"):
            registry.register("k", 1)
            return server.call(other, 5)

    assert call(puppet(system), works) == 5
    assert registry.count() == 1


def crowd(world: World) -> int:
    """Actors that enter two locks in one order or the other, call each other inside, and are killed anywhere."""
    system = world.system()
    registry = registry_of("unique", system)
    inside: dict[str, list[Any]] = {"a": [], "b": []}
    entered, together = [0], []

    class Visitor(Puppet):
        def handle_call(self, request: Any, caller: Any) -> None:
            first, second, asked = request
            with registry.lock(first, 10.0):
                self.stay(first)
                try:
                    if asked is not None:
                        self.call(asked, (second, first, None), 10.0)
                    else:
                        with registry.lock(second, 10.0):
                            self.stay(second)
                except CallFailed:
                    pass  # a cycle, a timeout or a death: each is an end of the wait

        def stay(self, key: str) -> None:
            inside[key].append(self)
            entered[0] += 1
            if inside[key] != [self]:
                together.append(key)
            try:
                gevent.sleep(world.random.choice([0, 0.001]))
            finally:
                inside[key].remove(self)

    world.kill_at_random(0.02, lambda server: isinstance(server, Visitor))
    pool = DynamicSupervisor.start(max_restarts=10**6, system=system)
    refs = [DynamicSupervisor.start_child(pool, ChildSpec(Visitor)) for _ in range(4)]
    ends: list[Any] = []

    def ask() -> None:
        for _ in range(6):
            first, second = world.random.sample(["a", "b"], 2)
            living = [line.ref for line in DynamicSupervisor.which_children(pool) if line.ref is not None]
            if living:
                asked = world.random.choice([None, world.random.choice(living)])
                try:
                    call(world.random.choice(living), (first, second, asked), 30.0)
                except CallFailed:
                    pass  # it was killed, or another was
            ends.append(None)

    gevent.joinall([gevent.spawn(ask) for _ in refs], raise_error=True)
    world.kill_at_random(0.0)
    assert len(ends) == 24
    stop(pool)
    until(lambda: registry._locks._held == {})
    assert inside == {"a": [], "b": []}
    assert together == []
    return entered[0]


def test_in_whatever_order_a_lock_has_one_inside_and_nobody_waits_for_ever() -> None:
    runs = explore(crowd, range(60))
    assert sum(run.value for run in runs) > 60
