"""Exits, links and monitors: what OTP's emulator suites and Elixir's process tests ask beyond the rules."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Down,
    Exit,
    NotAnActor,
    StartFailed,
    Stop,
    System,
    call,
    cast,
    demonitor,
    exit_signal,
    get_state,
    kill,
    link,
    monitor,
    statistics,
    stop,
    unlink,
)
from tests.otp.actors import Puppet, Trapper, crash, failure_of, seen, until


def in_turn(ref: Any, action: Any) -> Any:
    """Has an actor do something."""
    return call(ref, lambda server, caller: action(server))


def bonds(ref: Any) -> tuple[int, int, int]:
    """How many it is linked with, is watched by, and watches."""
    held = ref._process.bonds
    return (0, 0, 0) if held is None else (len(held.links), len(held.monitors), len(held.monitoring))


# ---- exits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [{"big": list(range(10_000))}, ("a", "tuple"), "text", 5, None])
def test_any_value_is_a_reason_and_goes_through_as_it_is(system: System, reason: object) -> None:
    ref, trapper = Puppet.start(system=system), Trapper.start(system=system)
    in_turn(trapper, lambda server: server.link(ref))
    watch = monitor(ref)
    exit_signal(ref, reason)
    assert watch.wait(0).reason is reason
    (told,) = call(trapper, seen)
    assert told.reason is reason


def test_an_exit_signal_to_oneself_can_be_trapped(system: System) -> None:
    ref = Trapper.start(system=system)
    for reason in ("garbage", "normal"):
        in_turn(ref, lambda server, reason=reason: exit_signal(server.ref, reason))
    assert call(ref, seen) == [Exit(ref, "garbage"), Exit(ref, "normal")]


@pytest.mark.parametrize("reason", ["normal", "garbage", "kill"])
def test_an_untrapped_exit_signal_to_oneself_ends_oneself(system: System, reason: str) -> None:
    ref, trapper = Puppet.start(system=system), Trapper.start(system=system)
    in_turn(trapper, lambda server: server.link(ref))
    went_on: list[int] = []
    cast(ref, lambda server: exit_signal(server.ref, reason) or went_on.append(1))
    until(lambda: ref not in system.processes())
    ended_with = "killed" if reason == "kill" else reason
    assert call(trapper, seen) == [Exit(ref, ended_with)]
    assert went_on == []


def test_an_exit_signal_to_oneself_cannot_be_caught(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)

    def catch(server: Any) -> None:
        try:
            exit_signal(server.ref, "die")
        except BaseException:  # noqa: BLE001 - what the test is about
            pass
        raise ValueError("comes too late")

    cast(ref, catch)
    assert watch.wait(5).reason == "die"


def test_the_first_of_two_exit_signals_counts(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    exit_signal(ref, "first")
    exit_signal(ref, "second")
    assert watch.wait(0).reason == "first"


def test_a_normal_exit_signal_is_a_message_to_who_traps_and_nothing_to_others(system: System) -> None:
    plain, trapper, sender = (cls.start(system=system) for cls in (Puppet, Trapper, Puppet))
    for ref in (plain, trapper):
        in_turn(sender, lambda server, ref=ref: exit_signal(ref, "normal"))
    assert call(plain, seen) == []
    assert call(trapper, seen) == [Exit(sender, "normal")]
    exit_signal(plain, "abnormal")
    assert plain not in system.processes()


def test_an_exit_that_comes_while_one_waits_for_io_is_the_end_of_it(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    went_on: list[int] = []
    asked = gevent.spawn(
        failure_of, call, ref, lambda server, caller: Event().wait(5) or went_on.append(1), None
    )
    until(lambda: statistics(ref).status == "busy")
    exit_signal(ref, ("you", "are", "dead"))
    assert asked.get(timeout=5).reason == ("you", "are", "dead")
    assert watch.wait(0).reason == ("you", "are", "dead")
    until(lambda: not system.scheduler.lingering)
    assert went_on == []


def test_killed_as_a_reason_can_be_trapped(system: System) -> None:
    """Only the signal "kill" itself can't: what links pass on is "killed", and a server may stop with "kill"."""
    trapper = Trapper.start(system=system)
    first, second = Puppet.start(system=system), Puppet.start(system=system)
    for ref in (first, second):
        in_turn(trapper, lambda server, ref=ref: server.link(ref))
    kill(first)
    cast(second, lambda server: Stop("kill"))
    until(lambda: second not in system.processes())
    assert call(trapper, seen) == [Exit(first, "killed"), Exit(second, "kill")]


def test_an_exit_signal_to_the_dead_does_nothing(system: System) -> None:
    ref = Puppet.start(system=system)
    kill(ref)
    exit_signal(ref, "again")
    kill(ref)
    assert system.processes() == []


# ---- links ------------------------------------------------------------------------------------------------------------


def test_a_link_is_there_once_however_often_it_is_made(system: System) -> None:
    first, second = Puppet.start(system=system), Puppet.start(system=system)
    for ref, other in ((first, second), (first, second), (second, first)):
        in_turn(ref, lambda server, other=other: link(other))
    assert bonds(first) == bonds(second) == (1, 0, 0)
    in_turn(second, lambda server: unlink(first))
    assert bonds(first) == bonds(second) == (0, 0, 0)
    in_turn(second, lambda server: unlink(first))
    kill(first)
    assert call(second, "alive") == "alive"


def test_a_link_with_oneself_is_none(system: System) -> None:
    ref = Trapper.start(system=system)
    in_turn(ref, lambda server: link(server.ref))
    in_turn(ref, lambda server: unlink(server.ref))
    assert bonds(ref) == (0, 0, 0)
    assert call(ref, seen) == []


def test_links_are_gone_with_the_dead(system: System) -> None:
    parent = Trapper.start(system=system)
    child = in_turn(parent, lambda server: Puppet.start_link())
    assert bonds(parent) == bonds(child) == (1, 0, 0)
    cast(child, crash(ValueError("died")))
    until(lambda: get_state(parent)["seen"])
    assert bonds(parent) == (0, 0, 0)
    assert str(call(parent, seen)[0].reason) == "died"
    grandchild = in_turn(parent, lambda server: Puppet.start_link())
    cast(parent, crash(ValueError("died too")))
    until(lambda: grandchild not in system.processes())


def test_no_exit_message_comes_after_unlink(system: System) -> None:
    trapper, other = Trapper.start(system=system), Puppet.start(system=system)

    def unlink_in_time(server: Any) -> None:
        link(other)
        unlink(other)
        exit_signal(other, "bang")

    in_turn(trapper, unlink_in_time)
    assert other not in system.processes()
    assert call(trapper, seen) == []


def test_whoever_a_failing_init_linked_itself_with_is_told(system: System) -> None:
    trapper = Trapper.start(system=system)

    def begin(server: Any) -> None:
        server.link(trapper)
        raise OSError("no")

    with pytest.raises(StartFailed) as failed:
        Puppet.start(begin, system=system)
    (told,) = call(trapper, seen)
    assert told.reason is failed.value.reason
    assert bonds(trapper) == (0, 0, 0)


# ---- monitors ---------------------------------------------------------------------------------------------------------


def test_one_may_be_killed_by_whom_it_watches(system: System) -> None:
    watcher, watched = Puppet.start(system=system), Puppet.start(system=system)
    in_turn(watcher, lambda server: server.monitor(watched))
    cast(watched, lambda server: exit_signal(watcher, "foo") or Stop("normal"))
    until(lambda: system.processes() == [])


def test_another_actor_cannot_end_a_watch(system: System) -> None:
    watcher, watched = Puppet.start(system=system), Puppet.start(system=system)
    watch = in_turn(watcher, lambda server: server.monitor(watched))
    with_another = in_turn(watched, lambda server: failure_of(demonitor, watch))
    assert isinstance(with_another, NotAnActor)
    stop(watched)
    assert call(watcher, seen) == [Down(watch, watched, "normal")]


def test_a_watch_is_ended_once_and_more_often_is_no_error(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    assert [demonitor(watch), demonitor(watch)] == [True, False]
    kill(ref)
    assert watch.wait(0) is None


def test_a_down_that_came_before_demonitor_stays_unless_it_is_flushed(system: System) -> None:
    watcher, watched = Puppet.start(system=system), Puppet.start(system=system)

    def watch_four_times(server: Any) -> list[Any]:
        watches = [server.monitor(watched) for _ in range(4)]
        assert server.demonitor(watches[0], flush=True) is True
        kill(watched)
        assert server.demonitor(watches[2], flush=True) is False
        assert server.demonitor(watches[3]) is False
        return watches

    watches = in_turn(watcher, watch_four_times)
    assert [down.monitor for down in call(watcher, seen)] == [watches[1], watches[3]]


def test_a_watch_of_oneself_tells_nothing(system: System) -> None:
    ref = Puppet.start(name="itself", system=system)
    watches = in_turn(ref, lambda server: [server.monitor(server.ref), server.monitor("itself")])
    assert call(ref, seen) == []
    for watch in watches:
        assert in_turn(ref, lambda server, watch=watch: server.demonitor(watch)) is True
    stop(ref)


def test_watches_are_gone_with_either_side(system: System) -> None:
    first, second = Puppet.start(system=system), Puppet.start(name="second", system=system)
    watch = in_turn(first, lambda server: server.monitor(second))
    assert (bonds(first), bonds(second)) == ((0, 0, 1), (0, 1, 0))
    in_turn(first, lambda server: server.demonitor(watch))
    assert bonds(first) == bonds(second) == (0, 0, 0)
    in_turn(first, lambda server: server.monitor("second"))
    stop(second)
    assert bonds(first) == (0, 0, 0)
    third = Puppet.start(system=system)
    in_turn(third, lambda server: server.monitor(first))
    kill(third)
    assert bonds(first) == (0, 0, 0)


def test_who_is_linked_or_watches_is_told_in_the_order_in_which_that_began(system: System) -> None:
    told: list[int] = []

    class Told(Trapper):
        def handle_info(self, message: Any) -> None:
            told.append(self.ref.id)

    target = Puppet.start(system=system)
    watchers = [Told.start(system=system) for _ in range(40)]
    for ref in watchers:
        in_turn(ref, lambda server: server.monitor(target) and None)
    for ref in watchers:
        in_turn(ref, lambda server: server.link(target))
    kill(target)
    until(lambda: len(told) == 80)
    # Each has its Down and its Exit in its mailbox, and the first told are the first to handle them.
    assert told == [ref.id for ref in watchers for _ in range(2)]


def test_two_may_watch_each_other(system: System) -> None:
    pair = [Puppet.start(system=system) for _ in range(2)]
    for ref, other in (pair, reversed(pair)):
        in_turn(ref, lambda server, other=other: server.monitor(other))
    assert bonds(pair[0]) == bonds(pair[1]) == (0, 1, 1)
    kill(pair[0])
    (down,) = call(pair[1], seen)
    assert (down.ref, down.reason) == (pair[0], "killed")
    assert bonds(pair[1]) == (0, 0, 0)


def test_many_watches_end_each_in_one_down_or_none(system: System) -> None:
    watcher = Puppet.start(system=system)
    targets = [Puppet.start(system=system) for _ in range(50)]
    watches = in_turn(watcher, lambda server: [server.monitor(ref) for ref in targets for _ in range(2)])
    ended = in_turn(watcher, lambda server: [server.demonitor(watch) for watch in watches[::2]])
    assert all(ended)
    for ref in targets:
        stop(ref)
    assert [down.monitor for down in call(watcher, seen)] == watches[1::2]


def test_a_name_that_is_free_again_can_be_taken_when_its_holders_down_comes(system: System) -> None:
    class Heir(Puppet):
        def handle_info(self, message: Any) -> None:
            self.system.register("throne", self.ref)
            super().handle_info(message)

    holder, heir = Puppet.start(name="throne", system=system), Heir.start(system=system)
    in_turn(heir, lambda server: server.monitor("throne"))
    exit_signal(holder, "bang")
    until(lambda: system.whereis("throne") == heir)


def test_one_of_an_earlier_incarnation_is_noproc_at_once(system: System) -> None:
    stranger = system.ref_from(("test", 99, 1))
    assert monitor(stranger).wait(0).reason == "noproc"


def test_a_watch_of_what_is_no_ref_is_an_error(system: System) -> None:
    for wrong in (1, ["bingo"], None):
        with pytest.raises((AttributeError, TypeError)):
            monitor(wrong)  # type: ignore[arg-type]
    watch = system.monitor("nobody")
    assert watch.wait(0) == Down(watch, "nobody", "noproc")
