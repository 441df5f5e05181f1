"""Timers and names: what OTP's emulator suites and Elixir's process tests ask beyond the single rules."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Clock,
    GenServer,
    NameTaken,
    NoProcess,
    SpecError,
    System,
    call,
    get_state,
    kill,
    send,
    statistics,
    stop,
)
from packetflow.otp.simulation.world import World, explore
from tests.otp.actors import Puppet, failure_of, seen, until


def in_turn(ref: Any, action: Any) -> Any:
    """Has an actor do something."""
    return call(ref, lambda server, caller: action(server))


# ---- timers -----------------------------------------------------------------------------------------------------------


def turned() -> tuple[System, list[float]]:
    now = [100.0]
    return System("turned", Clock(monotonic=lambda: now[0])), now


def test_a_timer_tells_the_time_left_until_it_fires_or_is_cancelled() -> None:
    system, now = turned()
    ref = Puppet.start(system=system)
    big = 2.0**31
    timer = system.send_after(big, ref, "never")
    assert timer.left == big
    now[0] += 200.0
    assert timer.left == big - 200.0
    assert timer.cancel() == big - 200.0
    assert timer.left is None
    assert timer.cancel() is None
    system.shutdown()


def test_a_very_long_wait_is_no_error(system: System) -> None:
    ref, sleeper = Puppet.start(system=system), Puppet.start(system=system)
    timer = system.send_after(2.0**40, ref, "never")
    asked = gevent.spawn(failure_of, call, sleeper, lambda server, caller: gevent.sleep(2.0**32), 2.0**32)
    until(lambda: statistics(sleeper).status == "busy")
    assert call(ref, "alive", 2.0**33) == "alive"
    kill(sleeper)
    assert asked.get(timeout=5).reason == "killed"
    assert timer.cancel() is not None


def test_a_timer_that_has_fired_has_no_time_left(system: System) -> None:
    ref = Puppet.start(system=system)
    timer = system.send_after(0, ref, "hello")
    until(lambda: get_state(ref)["seen"] == ["hello"])
    assert (timer.left, timer.cancel()) == (None, None)


def test_timers_of_any_delay_come_in_the_order_of_their_times(system: System) -> None:
    ref = Puppet.start(system=system)
    for delay, message in ((0.03, "last"), (0, "a0"), (0.012, "a3"), (0.004, "a1"), (0.008, "a2")):
        system.send_after(delay, ref, message)
    until(lambda: get_state(ref)["seen"][-1:] == ["last"])
    assert call(ref, seen) == ["a0", "a1", "a2", "a3", "last"]


@pytest.mark.parametrize("delay", [-4, float("inf"), float("nan"), "a", None])
def test_a_wrong_delay_is_told(system: System, delay: Any) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(SpecError) as refused:
        system.send_after(delay, ref, "hey")
    assert refused.value.field == "delay"
    assert len(system.scheduler.timers) == 0


def test_a_timer_for_a_name_reaches_whoever_holds_it_then(system: System) -> None:
    first = Puppet.start(name="name", system=system)
    system.send_after(0.01, "name", "for the heir")
    system.send_after(0.01, "nobody", "for nobody")
    stop(first)
    second = Puppet.start(name="name", system=system)
    until(lambda: get_state(second)["seen"] == ["for the heir"])


def test_many_timers_of_one_moment_all_come_and_those_cancelled_do_not(system: System) -> None:
    ref = Puppet.start(system=system)
    timers = [system.send_after(0.01, ref, number) for number in range(500)]
    for timer in timers[::2]:
        assert timer.cancel() is not None
    until(lambda: len(get_state(ref)["seen"]) == 250)
    assert sorted(call(ref, seen)) == list(range(1, 500, 2))


def test_one_who_fires_may_cancel_the_others() -> None:
    class Canceller(Puppet):
        def handle_info(self, message: Any) -> None:
            super().handle_info(message)
            for timer in self.timers:
                timer.cancel()

    def plan(server: Any) -> None:
        server.timers = [server.send_after(delay, delay) for delay in (0.005, 0.02, 0.02)]

    def program(world: World) -> Any:
        ref = Canceller.start(system=world.system())
        in_turn(ref, plan)
        gevent.sleep(0.04)
        return call(ref, seen)

    assert all(run.value == [0.005] for run in explore(program, range(20)))


def test_what_a_timer_for_the_dead_carries_is_dropped(system: System) -> None:
    ref = Puppet.start(system=system)
    system.send_after(0.005, ref, "late")
    kill(ref)
    until(lambda: len(system.scheduler.timers) == 0)
    assert system.processes() == []


# ---- names ------------------------------------------------------------------------------------------------------------


def test_a_name_is_given_once_to_one(system: System) -> None:
    first, second = Puppet.start(system=system), Puppet.start(system=system)
    system.register("a", first)
    assert system.whereis("a") == first
    with pytest.raises(NameTaken):
        system.register("a", second)
    with pytest.raises(ValueError, match="has the name 'a' already"):
        system.register("b", first)
    system.unregister("a")
    system.register("b", first)
    assert system.names() == ["b"]
    with pytest.raises(NoProcess):
        system.unregister("a")


def test_the_dead_and_strangers_get_no_name(system: System) -> None:
    other = System("other")
    dead, stranger = Puppet.start(system=system), Puppet.start(system=other)
    kill(dead)
    for ref in (dead, stranger):
        with pytest.raises(NoProcess):
            system.register("a", ref)
    assert system.names() == []
    other.shutdown()


@pytest.mark.parametrize("name", ["", 5, None, ("a",)])
def test_what_is_no_name_is_refused(system: System, name: Any) -> None:
    with pytest.raises(SpecError):
        system.register(name, Puppet.start(system=system))
    assert system.names() == []


def test_a_message_to_a_name_follows_it_to_its_next_holder(system: System) -> None:
    first, second = Puppet.start(name="n", system=system), Puppet.start(system=system)
    system.send("n", 1)
    system.unregister("n")
    system.send("n", "for nobody")
    system.register("n", second)
    system.cast("n", 2)
    assert (call(first, seen), call(second, seen)) == ([1], [2])


def test_processes_are_listed_in_the_order_of_their_start_and_the_dead_are_not(system: System) -> None:
    refs = [Puppet.start(system=system) for _ in range(100)]
    assert system.processes() == refs
    for ref in refs[::2]:
        kill(ref)
    assert system.processes() == refs[1::2]


def test_waiting_messages_are_counted_in_their_order(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    asked = gevent.spawn(call, ref, lambda server, caller: gate.wait(), None)
    until(lambda: statistics(ref).status == "busy")
    for number in range(5):
        send(ref, number)
        assert statistics(ref).mailbox == number + 1
    gate.set()
    asked.get(timeout=5)
    assert call(ref, seen) == list(range(5))
    assert statistics(ref).mailbox == 0


def test_what_an_actor_keeps_for_itself_is_its_own(system: System) -> None:
    """Erlang's process dictionary is an actor's attributes."""

    class Keeper(GenServer):
        def init(self) -> None:
            self.kept: dict[str, Any] = {}

        def handle_call(self, request: Any, caller: Any) -> Any:
            before = self.kept.get(request[0])
            self.kept[request[0]] = request[1]
            return before

    first, second = Keeper.start(system=system), Keeper.start(system=system)
    assert call(first, ("foo", "bar")) is None
    assert call(first, ("foo", "baz")) == "bar"
    assert call(second, ("foo", 1)) is None
    assert get_state(first) == {"kept": {"foo": "baz"}}
