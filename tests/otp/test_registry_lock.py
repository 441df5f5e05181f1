"""otp.md, "Registry" (Elixir's Registry.lock): one at a time for each key."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import CallCycle, CallTimeout, NoProcess, System, call, cast, kill, statistics
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
