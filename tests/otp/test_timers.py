"""otp.md, "Timers", and ruling 26 on the timeouts of calls."""

from __future__ import annotations

import random
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import CallTimeout, SpecError, System, call, cast, stop
from packetflow.otp.timeouts import round_up
from tests.otp.actors import Puppet, seen, until


def test_send_after_sends_later(system: System) -> None:
    ref = Puppet.start(lambda server: server.send_after(0.001, "later") and None, system=system)
    until(lambda: call(ref, seen))
    assert call(ref, seen) == ["later"]


def test_cancel_tells_the_time_left_and_stops_it(system: System) -> None:
    ref = Puppet.start(system=system)
    timer = system.send_after(60, ref, "never")
    left = timer.cancel()
    assert left is not None
    assert 0 < left <= 60
    assert timer.cancel() is None
    assert not timer.waiting


def test_cancel_of_a_fired_one_tells_none(system: System) -> None:
    ref = Puppet.start(system=system)
    timer = system.send_after(0, ref, "now")
    until(lambda: not timer.waiting)
    assert timer.cancel() is None
    assert call(ref, seen) == ["now"]


def test_a_timer_for_somebody_dead_does_nothing(system: System) -> None:
    ref = Puppet.start(system=system)
    timer = system.send_after(0.001, ref, "lost")
    stop(ref)
    until(lambda: not timer.waiting)


def test_timers_fire_in_the_order_of_their_times_whatever_was_cancelled(system: System) -> None:
    draw = random.Random(1)
    ref = Puppet.start(system=system)
    timers = [system.send_after(draw.random() / 50, ref, number) for number in range(500)]
    due = [timer.due for timer in timers]
    kept = [number for number in range(500) if draw.random() < 0.3 or timers[number].cancel() is None]
    until(lambda: len(call(ref, seen)) == len(kept))
    assert call(ref, seen) == sorted(kept, key=lambda number: due[number])


def test_cancelled_timers_leave_nothing_behind(system: System) -> None:
    ref = Puppet.start(system=system)
    timers = [system.send_after(1000 + number, ref, "never") for number in range(1000)]
    for timer in timers[:-1]:
        timer.cancel()
    assert len(system.scheduler.timers) == 1
    assert len(system.scheduler.timers._heap) <= 128
    timers[-1].cancel()
    assert system.scheduler.timers._heap == []


@pytest.mark.parametrize(
    ("asked", "waits"),
    [(0, 0.001), (0.001, 0.001), (0.0011, 0.002), (0.3, 0.5), (5.0, 5.0), (5.1, 10.0), (3600, 5000)],
)
def test_a_timeout_is_rounded_up_to_its_class(asked: float, waits: float) -> None:
    assert round_up(asked) == waits


def test_the_error_tells_the_timeout_that_was_asked_for(system: System) -> None:
    never = Event()
    ref = Puppet.start(system=system)
    with pytest.raises(CallTimeout) as late:
        call(ref, lambda server, caller: never.wait(), timeout=0.0042)
    assert late.value.timeout == 0.0042


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True])
def test_a_wrong_timeout_is_named(system: System, timeout: Any) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(SpecError, match="timeout"):
        call(ref, "never", timeout=timeout)
    assert call(ref, "alive") == "alive"


def test_calls_of_many_timeouts_end_each_in_its_own(system: System) -> None:
    never = Event()
    ref = Puppet.start(system=system)
    cast(ref, lambda server: never.wait() and None)
    order: list[float] = []

    def client(timeout: float) -> None:
        with pytest.raises(CallTimeout):
            call(ref, "never", timeout=timeout)
        order.append(timeout)

    gevent.joinall(
        [gevent.spawn(client, timeout) for timeout in (0.05, 0.002, 0.02, 0.002, 0.005)], raise_error=True
    )
    assert order == sorted(order)


def test_answered_calls_are_compacted_while_one_of_their_class_waits(system: System) -> None:
    never = Event()
    blocked = Puppet.start(system=system)
    oldest = gevent.spawn(call, blocked, lambda server, caller: never.wait())
    ref = Puppet.start(system=system)

    def client() -> None:
        for _ in range(50):
            call(ref, lambda server, caller: gevent.sleep(0))

    gevent.joinall([gevent.spawn(client) for _ in range(40)], raise_error=True)
    assert len(system.scheduler.timeouts.by_asked[5.0].pending) <= 200
    oldest.kill()
