"""otp.md, "Server"."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    CallTimeout,
    Continue,
    GenServer,
    NameTaken,
    NoProcess,
    NoReply,
    Reply,
    ServerExited,
    StartFailed,
    Stop,
    Supervisor,
    System,
    call,
    cast,
    change_code,
    kill,
    reply,
    send,
    statistics,
    stop,
)
from packetflow.otp.supervision.child_spec import ChildSpec
from tests.otp.actors import Puppet, crash, failure_of, seen, until

# ---- init ------------------------------------------------------------------------------------------------------------


def test_start_returns_only_after_init_did(system: System) -> None:
    gate, order = Event(), []

    def begin(server: Any) -> None:
        gate.wait()
        order.append("init")

    gevent.spawn_later(0.001, gate.set)
    Puppet.start(begin, system=system)
    order.append("started")
    assert order == ["init", "started"]


def test_init_may_ignore_and_then_start_gives_none_and_leaves_nothing(system: System) -> None:
    assert Puppet.start(lambda server: IGNORE, name="shy", system=system) is None
    assert system.whereis("shy") is None
    assert system.processes() == []


def test_an_ignored_child_keeps_its_spec_with_no_ref(system: System) -> None:
    tree = Supervisor.start([ChildSpec(Puppet, lambda server: IGNORE, id="shy")], system=system)
    (line,) = Supervisor.which_children(tree)
    assert (line.id, line.ref, line.status) == ("shy", None, "undefined")


def test_init_may_stop_and_start_fails_with_that_reason(system: System) -> None:
    with pytest.raises(StartFailed) as failed:
        Puppet.start(lambda server: Stop("no room"), name="full", system=system)
    assert failed.value.reason == "no room"
    assert system.processes() == [] == system.names()


def test_an_init_that_raises_makes_start_fail_with_that_reason_and_leaves_nothing(system: System) -> None:
    fault = ValueError("bad")

    def owner(server: Any, caller: Any) -> object:
        server.trap_exits = True
        try:
            Puppet.start_link(crash(fault), name="bad")
        except StartFailed as error:
            return error.reason, error.__cause__
        return None

    ref = Puppet.start(system=system)
    assert call(ref, owner) == (fault, fault)
    assert system.whereis("bad") is None
    assert system.processes() == [ref]
    assert statistics(ref).links == 0
    assert call(ref, seen) == []  # and the starter got no exit signal


def test_an_init_that_overruns_is_dead_and_its_name_free_before_start_returns(system: System) -> None:
    never = Event()
    with pytest.raises(StartFailed) as failed:
        Puppet.start(lambda server: never.wait() and None, name="slow", system=system, timeout=0.01)
    assert failed.value.reason == "timeout"
    assert system.whereis("slow") is None
    assert system.processes() == []


def test_a_call_to_a_server_whose_init_fails_gets_the_reason(system: System) -> None:
    gate, fault = Event(), ValueError("late")

    def begin(server: Any) -> None:
        gate.wait()
        raise fault

    starter = gevent.spawn(lambda: failure_of(Puppet.start, begin, name="late", system=system))
    until(lambda: system.whereis("late"))
    caller = gevent.spawn(lambda: failure_of(system.call, "late", 1).reason)
    until(lambda: statistics(system.find("late")).mailbox == 1)
    gate.set()
    assert caller.get(timeout=5) is fault
    starter.get(timeout=5)


def test_an_init_that_returns_something_odd_fails(system: System) -> None:
    with pytest.raises(StartFailed, match="init returned 17"):
        Puppet.start(lambda server: 17, system=system)


# ---- messages --------------------------------------------------------------------------------------------------------


def test_messages_from_one_sender_arrive_in_order_whatever_their_kind(system: System) -> None:
    ref = Puppet.start(system=system)
    for number in range(0, 300, 2):
        cast(ref, number)
        send(ref, number + 1)
    assert call(ref, seen) == list(range(300))


def test_a_second_message_is_never_begun_before_the_first_is_done_also_when_it_waits(system: System) -> None:
    gate, log = Event(), []

    def slow(server: Any, caller: Any) -> str:
        log.append("begin")
        gate.wait()
        log.append("end")
        return "slow"

    def quick(server: Any, caller: Any) -> str:
        log.append("quick")
        return "quick"

    ref = Puppet.start(system=system)
    first = gevent.spawn(call, ref, slow)
    until(lambda: log)
    second = gevent.spawn(call, ref, quick)
    until(lambda: statistics(ref).mailbox == 1)
    assert log == ["begin"]
    gate.set()
    assert (first.get(timeout=5), second.get(timeout=5)) == ("slow", "quick")
    assert log == ["begin", "end", "quick"]


def test_the_answer_is_what_the_handler_returns(system: System) -> None:
    ref = Puppet.start(system=system)
    assert call(ref, lambda server, caller: None) is None
    assert call(ref, lambda server, caller: Reply("framed")) == "framed"


def test_an_answer_may_come_later(system: System) -> None:
    waiting: list[Any] = []

    def later(server: Any, caller: Any) -> NoReply:
        waiting.append(caller)
        return NoReply()

    ref = Puppet.start(system=system)
    asked = gevent.spawn(call, ref, later)
    until(lambda: waiting)
    assert call(ref, "meanwhile") == "meanwhile"
    reply(waiting[0], "at last")
    assert asked.get(timeout=5) == "at last"


def test_a_second_reply_is_dropped(system: System) -> None:
    def twice(server: Any, caller: Any) -> str:
        reply(caller, "first")
        reply(caller, "second")
        return "third"

    ref = Puppet.start(system=system)
    assert [call(ref, twice), call(ref, "next")] == ["first", "next"]


def test_a_call_to_the_dead_fails_at_once_with_noproc(system: System) -> None:
    ref = Puppet.start(system=system)
    stop(ref)
    with pytest.raises(NoProcess) as failed:
        call(ref, "anybody?", timeout=None)
    assert failed.value.reason == "noproc"


def test_a_call_to_an_unknown_name_fails_at_once_with_noproc(system: System) -> None:
    with pytest.raises(NoProcess):
        system.call("nobody", "anybody?", timeout=None)


def test_a_server_that_dies_during_a_call_fails_the_caller_with_its_reason(system: System) -> None:
    fault = ValueError("boom")
    ref = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        call(ref, crash(fault), timeout=None)
    assert failed.value.reason is fault
    assert failed.value.__cause__ is fault


def test_a_kill_fails_the_running_the_queued_and_the_postponed_call(system: System) -> None:
    never = Event()
    ref = Puppet.start(system=system)
    postponed = gevent.spawn(lambda: failure_of(call, ref, lambda s, c: NoReply(), None))
    running = gevent.spawn(lambda: failure_of(call, ref, lambda s, c: never.wait(), None))
    queued = gevent.spawn(lambda: failure_of(call, ref, "queued", None))
    until(lambda: statistics(ref).mailbox == 1)
    kill(ref)
    for one in (postponed, running, queued):
        assert one.get(timeout=5).reason == "killed"


def test_a_call_that_times_out_leaves_the_server_running_and_its_late_reply_is_never_seen(
    system: System,
) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    with pytest.raises(CallTimeout, match=r"within 0\.01 s"):
        call(ref, lambda server, caller: gate.wait() and "late", timeout=0.01)
    following = gevent.spawn(call, ref, "own")
    until(lambda: statistics(ref).mailbox == 1)
    gate.set()
    assert following.get(timeout=5) == "own"


def test_a_timeout_of_an_answer_that_comes_later(system: System) -> None:
    kept: list[Any] = []
    ref = Puppet.start(system=system)
    with pytest.raises(CallTimeout):
        call(ref, lambda server, caller: kept.append(caller) or NoReply(), timeout=0.01)
    reply(kept[0], "late")
    assert call(ref, "own") == "own"


def test_a_deadline_holds_besides_the_timeout(system: System) -> None:
    never = Event()
    ref = Puppet.start(system=system)
    with pytest.raises(CallTimeout):
        call(ref, lambda s, c: never.wait(), timeout=None, deadline=system.clock.monotonic() + 0.01)


def test_a_message_of_a_caller_that_is_gone_is_dropped_if_it_still_waits(system: System) -> None:
    gate, log = Event(), []
    ref = Puppet.start(system=system)
    cast(ref, lambda server: gate.wait() and None)
    with pytest.raises(CallTimeout):
        call(ref, lambda server, caller: log.append("vain"), timeout=0.01)
    gate.set()
    assert call(ref, "next") == "next"
    assert log == []


def test_cast_never_fails(system: System) -> None:
    ref = Puppet.start(system=system)
    stop(ref)
    cast(ref, "into the void")
    system.cast("nobody", "into the void")


def test_continue_comes_before_any_other_message(system: System) -> None:
    def begin(server: Any) -> Continue:
        cast(server.ref, "cast")
        return Continue("continued")

    ref = Puppet.start(begin, system=system)
    assert call(ref, lambda s, c: Continue(lambda s: s.seen.append("again"), reply="r")) == "r"
    assert call(ref, seen) == ["continued", "cast", "again"]


def test_an_idle_server_is_told(system: System) -> None:
    ref = Puppet.start(lambda server: NoReply(timeout=0.005), system=system)
    until(lambda: statistics(ref).handled == 2)
    assert call(ref, seen) == ["timeout"]


def test_a_message_cancels_the_idle_timeout(system: System) -> None:
    fired = Event()
    ref = Puppet.start(lambda server: NoReply(timeout=0.005), system=system)
    call(ref, "busy")
    system.scheduler.timers.after(0.02, lambda _: fired.set())
    fired.wait()
    assert call(ref, seen) == []


def test_a_handler_may_stop_and_reply(system: System) -> None:
    log: list[Any] = []
    ref = Puppet.start(None, log, name="short", system=system)
    assert call(ref, lambda server, caller: Stop("normal", reply="bye")) == "bye"
    assert log == [("terminate", "normal")]
    assert system.whereis("short") is None


def test_a_handler_that_stops_without_a_reply_fails_its_caller(system: System) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        call(ref, lambda server, caller: Stop("shutdown"))
    assert failed.value.reason == "shutdown"


def test_terminate_is_called_on_an_orderly_stop_with_the_reason(system: System) -> None:
    log: list[Any] = []
    stop(Puppet.start(None, log, system=system), ("shutdown", "because"))
    assert log == [("terminate", ("shutdown", "because"))]


def test_terminate_is_called_after_an_exception(system: System) -> None:
    log: list[Any] = []
    fault = ValueError("boom")
    ref = Puppet.start(None, log, system=system)
    cast(ref, crash(fault))
    until(lambda: log)
    assert log == [("terminate", fault)]


def test_terminate_is_not_called_on_a_kill(system: System) -> None:
    log: list[Any] = []
    kill(Puppet.start(None, log, system=system))
    gevent.idle()
    assert log == []


def test_stop_comes_after_the_messages_before_it(system: System) -> None:
    log: list[Any] = []
    ref = Puppet.start(None, log, system=system)
    cast(ref, "before")
    stop(ref)
    assert log == ["before", ("terminate", "normal")]


def test_a_terminate_that_raises_is_the_reason(system: System) -> None:
    class Clumsy(GenServer):
        def terminate(self, reason: object) -> None:
            raise OSError("disk")

    ref = Clumsy.start(system=system)
    with pytest.raises(ServerExited, match="disk"):
        stop(ref)


def test_stop_that_overruns_raises_and_the_server_still_stops(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    cast(ref, lambda server: gate.wait() and None)
    with pytest.raises(CallTimeout):
        stop(ref, timeout=0.01)
    gate.set()
    kill(ref)


def test_stop_that_overruns_while_the_server_is_busy_stops_it_all_the_same(system: System) -> None:
    ref = Puppet.start(system=system)
    gate = Event()
    cast(ref, lambda server: gate.wait() and None)
    watch = system.monitor(ref)
    with pytest.raises(CallTimeout):
        system.stop_process(ref, "normal", timeout=0.01)
    gate.set()
    down = watch.wait(5.0)
    assert down is not None
    assert down.reason == "normal"


def test_stop_of_the_dead_is_noproc(system: System) -> None:
    ref = Puppet.start(system=system)
    stop(ref)
    with pytest.raises(NoProcess):
        stop(ref)


def test_code_change_takes_the_state_over_and_keeps_the_ref(system: System) -> None:
    class New(Puppet):
        def code_change(self, old_version: object, state: dict[str, Any]) -> None:
            self.seen = [*state["seen"], ("from", old_version)]

    class Old(Puppet):
        version = 1

    ref = Old.start(name="one", system=system)
    cast(ref, "kept")
    change_code(ref, New)
    assert call(ref, seen) == ["kept", ("from", 1)]
    assert system.whereis("one") == ref


def test_a_code_change_that_raises_leaves_the_old_one_going(system: System) -> None:
    class Broken(Puppet):
        def code_change(self, old_version: object, state: dict[str, Any]) -> None:
            raise ValueError("no way")

    ref = Puppet.start(system=system)
    with pytest.raises(ValueError, match="no way"):
        change_code(ref, Broken)
    assert call(ref, seen) == []


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_has_one_holder(system: System) -> None:
    ref = Puppet.start(name="one", system=system)
    with pytest.raises(NameTaken) as taken:
        Puppet.start(name="one", system=system)
    assert taken.value.holder == ref
    other = Puppet.start(system=system)
    with pytest.raises(NameTaken):
        system.register("one", other)
    system.register("two", other)
    assert system.whereis("two") == other
    system.unregister("two")
    assert system.whereis("two") is None


def test_a_name_is_free_before_anyone_is_told_of_the_death(system: System) -> None:
    ref = Puppet.start(name="one", system=system)
    found = []

    def watch(server: Any) -> None:
        server.monitor(ref)

    class Watcher(Puppet):
        def handle_info(self, message: Any) -> None:
            found.append(self.system.whereis("one"))

    Watcher.start(watch, system=system)
    kill(ref)
    assert system.whereis("one") is None
    until(lambda: found)
    assert found == [None]


def test_systems_are_strangers(system: System) -> None:
    other = System("other")
    Puppet.start(name="one", system=system)
    assert other.whereis("one") is None
    ref = Puppet.start(name="one", system=other)
    assert ref != system.whereis("one")
    with pytest.raises(NoProcess):
        system.register("second", ref)
    other.shutdown()
