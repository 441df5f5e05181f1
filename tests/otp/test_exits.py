"""otp.md, "Exits", and ruling 19 on kills."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Down,
    Exit,
    GenServer,
    NotAnActor,
    Ref,
    ServerExited,
    Stop,
    System,
    call,
    cast,
    demonitor,
    exit_signal,
    kill,
    link,
    monitor,
    statistics,
    stop,
)
from tests.otp.actors import Puppet, Trapper, crash, failure_of, seen, until


def linked(system: System, kind: type[Puppet] = Puppet) -> tuple[Ref, Ref]:
    first, second = Puppet.start(system=system), kind.start(system=system)
    call(first, lambda server, caller: server.link(second))
    return first, second


def is_dead(system: System, ref: Ref) -> bool:
    return ref not in system.processes()


# ---- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [0, 1])
def test_links_go_both_ways_and_pass_abnormal_exits_on(system: System, way: int) -> None:
    pair = linked(system)
    fault = ValueError("boom")
    watch = monitor(pair[1 - way])
    cast(pair[way], crash(fault))
    assert watch.wait(5).reason is fault


def test_a_link_does_not_pass_a_normal_exit_on(system: System) -> None:
    first, second = linked(system)
    stop(first)
    assert call(second, "alive") == "alive"
    assert statistics(second).links == 0


def test_a_link_passes_shutdown_on(system: System) -> None:
    first, second = linked(system)
    stop(first, "shutdown")
    assert is_dead(system, second)


def test_trap_exits_turns_an_exit_into_a_message(system: System) -> None:
    first, second = linked(system, Trapper)
    fault = ValueError("boom")
    cast(first, crash(fault))
    until(lambda: call(second, seen))
    assert call(second, seen) == [Exit(first, fault)]


def test_trap_exits_gets_normal_exits_too(system: System) -> None:
    first, second = linked(system, Trapper)
    stop(first)
    assert call(second, seen) == [Exit(first, "normal")]


def test_a_long_ring_of_links_ends_whole(system: System) -> None:
    ring = [Puppet.start(system=system) for _ in range(3000)]
    for left, right in zip(ring, ring[1:] + ring[:1], strict=True):
        call(left, lambda server, caller, right=right: server.link(right))
    kill(ring[17])
    assert system.processes() == []


def test_unlink_takes_the_link_away(system: System) -> None:
    first, second = linked(system)
    call(first, lambda server, caller: server.unlink(second))
    kill(first)
    assert call(second, "alive") == "alive"


def test_linking_the_dead_is_an_exit_signal_of_noproc(system: System) -> None:
    dead = Puppet.start(system=system)
    stop(dead)
    trapper = Trapper.start(system=system)
    call(trapper, lambda server, caller: server.link(dead))
    assert call(trapper, seen) == [Exit(dead, "noproc")]
    plain = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        call(plain, lambda server, caller: server.link(dead))
    assert failed.value.reason == "noproc"


def test_only_an_actor_can_link(system: System) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(NotAnActor):
        link(ref)


def test_start_link_links(system: System) -> None:
    parent = Puppet.start(system=system)
    child = call(parent, lambda server, caller: Puppet.start_link())
    kill(parent)
    assert is_dead(system, child)


# ---- exit signals and kills ------------------------------------------------------------------------------------------


def test_an_untrapped_exit_signal_ends_at_once_without_terminate(system: System) -> None:
    log: list[Any] = []
    ref = Puppet.start(None, log, system=system)
    exit_signal(ref, "because")
    assert is_dead(system, ref)
    assert log == []


def test_an_exit_signal_of_normal_does_nothing_to_who_does_not_trap(system: System) -> None:
    ref = Puppet.start(system=system)
    exit_signal(ref, "normal")
    assert call(ref, seen) == []


def test_kill_cannot_be_trapped(system: System) -> None:
    log: list[Any] = []
    ref = Trapper.start(None, log, system=system)
    watch = monitor(ref)
    kill(ref)
    assert watch.wait(5).reason == "killed"
    assert log == []


def test_a_killed_actor_is_dead_for_everybody_at_once(system: System) -> None:
    never = Event()
    ref = Puppet.start(name="victim", system=system)
    cast(ref, lambda server: never.wait() and None)
    cast(ref, "waits")
    until(lambda: statistics(ref).status == "busy")
    watch = monitor(ref)
    kill(ref)
    assert system.whereis("victim") is None
    assert watch.wait(0) == Down(watch, ref, "killed")
    assert Puppet.start(name="victim", system=system) is not None


def test_finally_blocks_of_a_killed_handler_run(system: System) -> None:
    never, log = Event(), []

    def guarded(server: Any) -> None:
        log.append("began")
        try:
            never.wait()
        finally:
            log.append("cleaned")

    ref = Puppet.start(None, log, system=system)
    cast(ref, guarded)
    until(lambda: log)
    kill(ref)
    until(lambda: len(log) > 1)
    assert log == ["began", "cleaned"]


def test_a_handler_that_swallows_the_kill_lingers_and_gets_it_again(system: System) -> None:
    never, log = Event(), []

    def stubborn(server: Any) -> None:
        try:
            never.wait()
        except gevent.GreenletExit:
            log.append("swallowed")
        never.wait()

    ref = Puppet.start(system=system)
    cast(ref, stubborn)
    gevent.idle()
    kill(ref)
    until(lambda: log)
    assert len(system.lingering()) == 1
    assert "stubborn" in system.lingering()[0][1]
    until(lambda: not system.lingering())
    assert log == ["swallowed"]


def test_a_killed_caller_gets_no_answer_before_it_ends(system: System) -> None:
    log: list[str] = []
    server = Puppet.start(system=system)

    def asks(me: Any) -> None:
        call(server, lambda other, caller: kill(me.ref))
        log.append("went on")

    caller = Puppet.start(system=system)
    cast(caller, asks)
    until(lambda: is_dead(system, caller) and not system.lingering())
    assert log == []
    assert call(server, "alive") == "alive"


def test_who_kills_itself_does_not_go_on(system: System) -> None:
    log: list[str] = []

    def suicide(server: Any, caller: Any) -> None:
        kill(server.ref)
        log.append("went on")

    ref = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        call(ref, suicide, None)
    assert failed.value.reason == "killed"
    assert log == []


def test_a_kill_during_init_leaves_nothing_and_fails_the_start(system: System) -> None:
    never = Event()

    starting = gevent.spawn(
        failure_of, Puppet.start, lambda server: never.wait() and None, name="half", system=system
    )
    until(lambda: system.whereis("half"))
    kill(system.find("half"))
    assert starting.get(timeout=5).reason == "killed"
    assert system.processes() == []


def test_a_starter_that_is_ended_takes_the_half_started_one_along(system: System) -> None:
    never = Event()
    starting = gevent.spawn(Puppet.start, lambda server: never.wait() and None, system=system)
    until(lambda: system.processes())
    starting.kill()
    assert system.processes() == []


# ---- monitors --------------------------------------------------------------------------------------------------------


def test_a_monitor_gives_one_down_and_is_one_way(system: System) -> None:
    target, watcher = Puppet.start(system=system), Puppet.start(system=system)
    watch = call(watcher, lambda server, caller: server.monitor(target))
    stop(target, "shutdown")
    assert call(watcher, seen) == [Down(watch, target, "shutdown")]
    other = Puppet.start(system=system)
    call(watcher, lambda server, caller: server.monitor(other))
    kill(watcher)
    assert call(other, "alive") == "alive"
    assert statistics(other).monitors == 0


def test_two_monitors_give_two_downs(system: System) -> None:
    target, watcher = Puppet.start(system=system), Puppet.start(system=system)
    call(watcher, lambda server, caller: [server.monitor(target) for _ in range(2)] and None)
    kill(target)
    assert [down.reason for down in call(watcher, seen)] == ["killed", "killed"]


def test_monitoring_the_dead_gives_down_at_once_with_noproc(system: System) -> None:
    target, watcher = Puppet.start(system=system), Puppet.start(system=system)
    stop(target)
    call(watcher, lambda server, caller: server.monitor(target) and None)
    call(watcher, lambda server, caller: server.monitor("nobody") and None)
    assert [(down.ref, down.reason) for down in call(watcher, seen)] == [
        (target, "noproc"),
        ("nobody", "noproc"),
    ]


def test_demonitor_ends_the_watch(system: System) -> None:
    target, watcher = Puppet.start(system=system), Puppet.start(system=system)
    watch = call(watcher, lambda server, caller: server.monitor(target))
    assert demonitor(watch) is True
    kill(target)
    assert call(watcher, seen) == []


def test_demonitor_with_flush_leaves_no_late_message(system: System) -> None:
    target = Puppet.start(system=system)

    def late(server: Any, caller: Any) -> bool:
        watch = server.monitor(target)
        kill(target)
        return server.demonitor(watch, flush=True)

    watcher = Puppet.start(system=system)
    assert call(watcher, late) is False
    assert call(watcher, seen) == []


def test_a_monitor_made_outside_of_an_actor_is_waited_for(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    assert watch.wait(0.001) is None
    gevent.spawn(stop, ref)
    assert watch.wait(5) == Down(watch, ref, "normal")


def test_the_reason_of_a_crash_is_the_exception_with_its_traceback(system: System) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    fault = ValueError("boom")
    cast(ref, crash(fault))
    down = watch.wait(5)
    assert down.reason is fault
    names = []
    at = fault.__traceback__
    while at is not None:
        names.append(at.tb_frame.f_code.co_name)
        at = at.tb_next
    assert names[0] == "handle_cast"
    assert names[-1] == "raise_it"


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "detail"), "odd"])
def test_a_stop_reason_reaches_the_monitors(system: System, reason: object) -> None:
    ref = Puppet.start(system=system)
    watch = monitor(ref)
    cast(ref, lambda server: Stop(reason))
    assert watch.wait(5).reason == reason


# ---- refs ------------------------------------------------------------------------------------------------------------


def test_a_ref_is_a_value(system: System) -> None:
    ref = Puppet.start(name="one", system=system)
    same = system.ref_from(ref.key())
    assert same == ref
    assert hash(same) == hash(ref)
    assert ref.key() == ("test", 1, ref.id)
    assert repr(ref) == f"<one test/{ref.id}>"
    with pytest.raises(AttributeError):
        ref.id = 7


def test_a_ref_of_an_earlier_incarnation_reaches_nobody() -> None:
    before, after = System("desk", incarnation=1), System("desk", incarnation=2)
    old = Puppet.start(system=before)
    new = Puppet.start(system=after)
    assert old.id == new.id
    assert old != new
    stale = after.ref_from(old.key())
    cast(stale, "lost")
    assert monitor(stale).wait(0).reason == "noproc"
    assert call(new, seen) == []
    before.shutdown()
    after.shutdown()


def test_a_ref_of_another_node_goes_through_the_one_hook(system: System) -> None:
    asked: list[Any] = []

    class Wire:
        def reaches(self, ref: Ref) -> bool:
            return ref.node == "far"

        def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
            return ("from", ref.node, message)

        def tell(self, ref: Ref, kind: str, message: Any) -> None:
            asked.append((kind, ref.id, message))

    system.remote = Wire()
    far = system.ref_from(("far", 9, 4))
    assert call(far, "hello") == ("from", "far", "hello")
    cast(far, "there")
    assert asked == [("cast", 4, "there")]


def test_a_ref_that_is_kept_does_not_keep_the_state(system: System) -> None:
    import weakref

    class Heavy:
        pass

    heavy = Heavy()
    gone = weakref.ref(heavy)

    class Holder(GenServer):
        def init(self, thing: object) -> None:
            self.thing = thing

        def handle_call(self, request: Any, caller: Any) -> Any:
            return request

    ref = Holder.start(heavy, system=system)
    call(ref, "used")
    del heavy
    stop(ref)
    assert gone() is None
    assert "Holder" in repr(ref)
