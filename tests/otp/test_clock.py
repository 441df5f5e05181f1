"""One clock: what a system knows of time comes from it, so that a test can turn it by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import gevent
import pytest

from packetflow.otp import CallTimeout, ChildSpec, Clock, NoReply, Supervisor, System, call, monitor, tree
from tests.otp.actors import Puppet, crash, failure_of, seen, until


class Hand:
    """The hands of a clock that only a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> Clock:
        began = datetime(2030, 1, 1, tzinfo=UTC)
        return Clock(monotonic=lambda: self.now, utc=lambda: began + timedelta(seconds=self.now))


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def world(hand: Hand) -> Iterator[System]:
    made = System("by hand", clock=hand.clock())
    yield made
    made.shutdown()


def test_the_ordinary_clock_never_goes_back_and_knows_its_zone() -> None:
    clock = Clock()
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)
    assert clock.utc().tzinfo is UTC
    assert abs(clock.utc().timestamp() - time.time()) < 60


def test_ages_are_told_by_the_systems_clock(world: System, hand: Hand) -> None:
    ref = Puppet.start(system=world)
    hand.now += 86400
    assert tree(ref).age == 86400.0


def test_a_timer_is_due_by_the_systems_clock(world: System, hand: Hand) -> None:
    ref = Puppet.start(system=world)
    late = world.send_after(0.01, ref, "due")
    gevent.sleep(0.03)  # the loop looks, and the clock says no
    assert late.waiting
    hand.now += 0.01
    until(lambda: call(ref, seen) == ["due"])
    assert world.send_after(60.0, ref, "never").cancel() == 60.0


def test_a_call_times_out_by_the_systems_clock(world: System, hand: Hand) -> None:
    ref = Puppet.start(system=world)

    def later(server: Any, caller: Any) -> NoReply:
        return NoReply()

    waiting = gevent.spawn(failure_of, call, ref, later, 0.01)
    gevent.sleep(0.03)
    assert not waiting.ready()
    hand.now += 0.01
    assert isinstance(waiting.get(), CallTimeout)


def test_old_restarts_leave_the_window_by_the_systems_clock(world: System, hand: Hand) -> None:
    top = Supervisor.start([ChildSpec(Puppet, name="frail")], max_restarts=1, max_seconds=5, system=world)
    watch = monitor(top)

    def break_it() -> None:
        old = until(lambda: world.whereis("frail"))
        failure_of(call, old, crash(ValueError("boom")))
        until(lambda: world.whereis("frail") != old)

    for _ in range(3):
        break_it()
        hand.now += 6.0  # a long time for the window, and no time at all for the test
    assert watch.wait(0) is None
    break_it()
    failure_of(call, until(lambda: world.whereis("frail")), crash(ValueError("boom")))
    down = watch.wait(5)
    assert down is not None
    assert down.reason == "shutdown"
