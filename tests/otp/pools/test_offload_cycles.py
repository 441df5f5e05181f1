"""Who waits for a pool stands in the graph of who waits for whom: for what its thread calls, and for a slot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow.otp import CallCycle, OffloadTimeout, Ref, System, ThreadPool, call, cast, offload, statistics
from tests.otp.actors import Puppet, failure_of, seen, until


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool(1, name="one thread")
    yield made
    made.close()


def offloads(pool: ThreadPool, function: Any, *arguments: Any) -> Any:
    """A message to a Puppet: have this done by the pool, and answer with the outcome or the error."""
    return lambda server, caller: failure_of(offload, function, *arguments, pool=pool)


def test_a_thread_that_calls_the_actor_that_waits_for_it_is_told(system: System, pool: ThreadPool) -> None:
    actor = Puppet.start(name="actor", system=system)
    failed = call(actor, offloads(pool, call, actor, "me", None))
    assert isinstance(failed, CallCycle)
    assert failed.chain == (actor, actor)
    assert call(actor, "still there") == "still there"
    assert statistics(actor).waits_for is None


def test_so_it_is_by_way_of_others(system: System, pool: ThreadPool) -> None:
    actor = Puppet.start(name="actor", system=system)
    other = Puppet.start(name="other", system=system)
    back = lambda server, caller: failure_of(call, actor, "back", None)  # noqa: E731
    failed = call(actor, lambda server, caller: offload(call, other, back, None, pool=pool))
    assert isinstance(failed, CallCycle)
    assert failed.chain == (other, actor, other)


def test_what_a_thread_calls_its_actor_is_seen_to_wait_for(system: System, pool: ThreadPool) -> None:
    actor, other = Puppet.start(system=system), Puppet.start(system=system)
    gate = gevent.event.Event()
    cast(other, lambda server: gate.wait() and None)
    until(lambda: statistics(other).status == "busy")
    asker = gevent.spawn(call, actor, lambda server, caller: offload(call, other, "slow", None, pool=pool))
    until(lambda: statistics(actor).waits_for == other)
    gate.set()
    assert asker.get(timeout=5) == "slow"
    assert statistics(actor).waits_for is None


def test_who_lost_patience_waits_for_nothing_that_its_thread_still_does(
    system: System, pool: ThreadPool
) -> None:
    actor, other = Puppet.start(name="actor", system=system), Puppet.start(name="other", system=system)
    gate = gevent.event.Event()
    cast(other, lambda server: gate.wait() and None)
    until(lambda: statistics(other).status == "busy")
    impatient = call(
        actor, lambda server, caller: failure_of(offload, call, other, "late", None, pool=pool, timeout=0.05)
    )
    assert isinstance(impatient, OffloadTimeout)
    assert statistics(actor).waits_for is None
    # So the other one may well wait for the actor.
    cast(other, lambda server: server.seen.append(call(actor, "no circle", 5.0)))
    gate.set()
    until(lambda: call(other, seen) == ["no circle"])
    until(lambda: pool.statistics().running == 0)


def test_a_line_behind_work_that_waits_for_the_one_in_line_is_a_circle(
    system: System, pool: ThreadPool
) -> None:
    """The first actor's thread calls the second, which wants that very thread."""
    first, second = Puppet.start(name="first", system=system), Puppet.start(name="second", system=system)
    inner: list[Any] = []
    wants_a_slot = lambda server, caller: inner.append(failure_of(offload, int, pool=pool)) or "done"  # noqa: E731
    assert call(first, lambda server, caller: offload(call, second, wants_a_slot, None, pool=pool)) == "done"
    (failed,) = inner
    assert isinstance(failed, CallCycle)
    assert failed.chain == (second, first, second)
    assert pool.statistics().waiting == 0


def test_the_circle_is_also_found_when_the_call_comes_last(system: System, pool: ThreadPool) -> None:
    first, second = Puppet.start(name="first", system=system), Puppet.start(name="second", system=system)
    lock = threading.Lock()
    lock.acquire()

    def calls_late() -> Any:
        lock.acquire()
        return failure_of(call, second, "hello", None)

    outer = gevent.spawn(call, first, offloads_value(pool, calls_late))
    until(lambda: pool.statistics().running == 1)
    waits = gevent.spawn(call, second, offloads_value(pool, int))
    until(lambda: pool.statistics().waiting == 1)
    assert statistics(second).waits_for == first
    lock.release()
    failed = outer.get(timeout=5)
    assert isinstance(failed, CallCycle)
    assert failed.chain == (first, second, first)
    assert waits.get(timeout=5) == 0


def offloads_value(pool: ThreadPool, function: Any) -> Any:
    return lambda server, caller: offload(function, pool=pool)


def test_a_slot_that_comes_free_by_itself_is_no_circle(system: System) -> None:
    pool = ThreadPool(2, name="two threads")
    lock = threading.Lock()
    lock.acquire()
    first, second, third = (Puppet.start(system=system) for _ in range(3))
    try:
        # One slot's work calls the second; the other one's waits for nobody.
        quiet = gevent.spawn(call, third, offloads_value(pool, lock.acquire))
        until(lambda: pool.statistics().running == 1)
        outer = gevent.spawn(
            call,
            first,
            lambda server, caller: offload(call, second, offloads_value(pool, int), None, pool=pool),
        )
        until(lambda: pool.statistics().waiting == 1)
        lock.release()
        assert outer.get(timeout=5) == 0
        assert quiet.get(timeout=5)
    finally:
        pool.close()


def test_who_is_killed_in_line_leaves_no_edge(system: System, pool: ThreadPool) -> None:
    lock = threading.Lock()
    lock.acquire()
    holder, waiter = Puppet.start(system=system), Puppet.start(system=system)
    held = gevent.spawn(call, holder, offloads_value(pool, lock.acquire))
    until(lambda: pool.statistics().running == 1)
    cast(waiter, lambda server: offload(int, pool=pool, timeout=0.02))
    until(lambda: pool.statistics().waiting == 1)
    until(lambda: pool.statistics().waiting == 0)
    assert waiter._process.waiting is None
    lock.release()
    assert held.get(timeout=5)


def test_a_thread_calls_in_its_actors_name(system: System, pool: ThreadPool) -> None:
    actor, other = Puppet.start(system=system), Puppet.start(system=system)
    callers: list[Ref | None] = []
    who = lambda server, caller: callers.append(caller.ref) or "seen"  # noqa: E731
    assert call(actor, lambda server, caller: offload(call, other, who, pool=pool)) == "seen"
    assert callers == [actor]
